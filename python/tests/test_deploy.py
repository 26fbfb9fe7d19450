"""The files in deploy/: the manifest against Kubernetes' schema, the script with stand-ins for Slurm's programs."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
# The fields of a JobSet that may be used here, by its API reference (jobset.x-k8s.io/v1alpha2).
JOBSET = {
    "spec": {"network", "failurePolicy", "replicatedJobs", "successPolicy", "startupPolicy", "suspend", "ttlSecondsAfterFinished"},
    "network": {"enableDNSHostnames", "subdomain", "publishNotReadyAddresses"},
    "failurePolicy": {"maxRestarts", "restartStrategy", "rules"},
    "replicatedJob": {"name", "replicas", "template", "dependsOn"},
}


def test_the_manifest_keeps_to_its_schema() -> None:
    yaml = pytest.importorskip("yaml")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    manifest = yaml.safe_load((DEPLOY / "jobset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = manifest["spec"]
    assert spec.keys() <= JOBSET["spec"]
    assert spec["network"].keys() <= JOBSET["network"]
    assert spec["failurePolicy"].keys() <= JOBSET["failurePolicy"]
    for replicated in spec["replicatedJobs"]:
        assert replicated.keys() <= JOBSET["replicatedJob"]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **replicated["template"]}
        kubernetes_validate.validate(job, "1.31", strict=True)
        pods, container = job["spec"]["completions"], job["spec"]["template"]["spec"]["containers"][0]
        assert f"--nnodes={pods}" in container["command"]
        first = f"{manifest['metadata']['name']}-{replicated['name']}-0-0.{manifest['metadata']['name']}"
        assert f"--rdzv-endpoint={first}:29500" in container["command"]
        job["spec"]["parallelism"] = "four"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(job, "1.31", strict=True)


def test_the_script_starts_a_rank_on_every_node(tmp_path: pathlib.Path) -> None:
    programs = {
        "scontrol": '[ "$1" = requeue ] && echo "requeue $2" || { echo node1; echo node2; }',
        "srun": 'printf "%s\\n" "$@"; exit "${FAILS:-0}"',
    }
    for name, does in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{does}\n")
        program.chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    env = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(DEPLOY / "slurm.sbatch")]
    said = subprocess.run([*script, "train.py", "--epochs", "5"], env=env, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    assert said[:2] == ["--kill-on-bad-exit=1", "torchrun"]
    assert said[said.index("--nnodes") + 1] == "2"
    assert said[said.index("--rdzv-endpoint") + 1] == "node1:29500"
    assert said[-4:-1] == ["train.py", "--epochs", "5"]
    for restarts, expected in [("0", "requeue 7"), ("10", "5")]:
        failing = {**env, "FAILS": "3", "SLURM_RESTART_COUNT": restarts}
        failed = subprocess.run([*script, "train.py", "5"], env=failing, check=False, capture_output=True, text=True)
        assert failed.returncode == 3
        assert failed.stdout.split("\n")[-2] == expected
    without = subprocess.run(script, env=env, check=False, capture_output=True, text=True)
    assert without.returncode == 2
    assert "usage" in without.stderr
