#!/usr/bin/env python3
"""Trains one model on hosts of a shaped network, with signvote and with PyTorch's DistributedDataParallel over Gloo, and writes test
accuracy over wall time for each.

Needs root, `ip`, `tc`, full Fashion-MNIST and a Python with torch (--python). See README.md beside this file.
"""

import argparse
import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import lab
from lab import Failure, Lab, mbit, one_stream_mbit, wait_for
from netlab import ROOT, burst_of, queue_of, signvote_version, write

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLES = 60_000

# What each system is trained with. Learning rates were chosen without a shaped network, by test accuracy after as many epochs, from
# those that README.md lists: for DistributedDataParallel in one process with the whole batch, which makes the same steps.
CONFIGS = {
    "mlp": {
        "signvote-central": {"eta": 3e-4},
        "signvote-sharded": {"eta": 3e-4},
        "ddp-fp32-sgd": {"method": "fp32", "optimizer": "sgd", "lr": 0.05},
        "ddp-fp32-adam": {"method": "fp32", "optimizer": "adam", "lr": 1e-3},
        "ddp-fp16-sgd": {"method": "fp16", "optimizer": "sgd", "lr": 0.05},
        "ddp-powersgd": {"method": "powersgd", "optimizer": "sgd", "lr": 0.05, "powersgd-rank": 1},
        "local-sgd-8": {"method": "local", "optimizer": "sgd", "lr": 0.05, "local-steps": 8},
    },
    "cnn": {
        "signvote-central": {"eta": 1e-3},
        "signvote-sharded": {"eta": 1e-3},
        "ddp-fp32-sgd": {"method": "fp32", "optimizer": "sgd", "lr": 0.05},
        "ddp-fp32-adam": {"method": "fp32", "optimizer": "adam", "lr": 2e-3},
        "ddp-fp16-sgd": {"method": "fp16", "optimizer": "sgd", "lr": 0.05},
        "ddp-powersgd": {"method": "powersgd", "optimizer": "sgd", "lr": 0.05, "powersgd-rank": 1},
        "local-sgd-8": {"method": "local", "optimizer": "sgd", "lr": 0.05, "local-steps": 8},
    },
}
SYSTEMS = list(CONFIGS["mlp"])
TARGETS = {"mlp": [0.80, 0.83, 0.85, 0.86, 0.87, 0.88, 0.885, 0.89], "cnn": [0.80, 0.85, 0.87, 0.88, 0.89, 0.90, 0.905, 0.91]}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Training:
    def __init__(self, flags):
        self.flags = flags
        self.left_out = {}
        self.topology_works = self.shards_work = False
        told = lambda command: subprocess.run(
            [flags.signvote, command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout
        ours = any(system.startswith("signvote") for system in flags.systems)
        if ours:
            if not os.path.exists(flags.signvote):
                raise Failure(f"{flags.signvote} is not there: cargo build --release")
            worker, server = told("worker"), told("server")
            self.topology_works = "--topology" in server
            self.shards_work = self.topology_works and "--shard-listen" in worker
        if ours and not self.shards_work:
            self.left_out["signvote-sharded"] = "this signvote has no `server --topology sharded`"
        if not os.path.exists(os.path.join(flags.data_dir, "train-images-idx3-ubyte.gz")):
            raise Failure(f"full Fashion-MNIST is not in {flags.data_dir}: apt install dataset-fashion-mnist, or --data-dir")
        self.systems = [system for system in flags.systems if system not in self.left_out]
        for system, why in self.left_out.items():
            if system in flags.systems:
                say(f"{system} is left out: {why}")
        per_epoch = SAMPLES // (flags.workers * flags.batch)
        self.steps = flags.steps or int(flags.epochs * per_epoch)

    def config(self, system):
        config = dict(CONFIGS[self.flags.model][system])
        for assignment in self.flags.set:
            name, _, value = assignment.partition("=")
            which, _, key = name.rpartition(".")
            if which == system:
                config[key] = value
        return config

    def run(self, net, system):
        run = self.signvote if system.startswith("signvote") else self.ddp
        return run(net, system, self.config(system))

    def patience(self):
        return 300.0 + (self.flags.max_seconds * 1.5 if self.flags.max_seconds else self.steps * 3.0)

    def ddp(self, net, system, config):
        flags = self.flags
        words = [flags.python, os.path.join(HERE, "ddp_train.py")]
        for name, value in config.items():
            words += [f"--{name}", value]
        words += [
            "--model", flags.model, "--hidden", flags.hidden, "--batch", flags.batch, "--steps", self.steps,
            "--schedule", flags.schedule, "--snapshot-every", flags.snapshot_every, "--seed", flags.seed,
            "--data-dir", flags.data_dir, "--workers", flags.workers, "--master", net.address(1),
            "--max-seconds", flags.max_seconds,
        ]
        environment = {"GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
        ranks = [
            net.start(number, [*words, "--rank", number - 1], environment=environment) for number in net.numbers()
        ]
        wait_for(ranks, self.patience())
        told = json.loads(ranks[0].output().strip().splitlines()[-1])
        commands = [f"GLOO_SOCKET_IFNAME=eth0 OMP_NUM_THREADS=1 {plain(words)} --rank K"]
        return {**told, "commands": commands}

    def signvote(self, net, system, config):
        flags = self.flags
        scratch = tempfile.mkdtemp(prefix="netlab-")
        try:
            return self.signvote_in(scratch, net, system, config)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def signvote_in(self, scratch, net, system, config):
        flags = self.flags
        run_dir = os.path.join(scratch, "run")
        address = f"{net.address(1)}:7700"
        topology = ["--topology", system.split("-")[1]] if self.topology_works else []
        serve = [
            flags.signvote, "server", "--listen", address, "--insecure", "--workers", flags.workers, *topology,
            "--rounds", self.steps, "--batch", flags.batch, "--eta", config["eta"], "--schedule", flags.schedule,
            "--save-every", flags.snapshot_every, "--seed", flags.seed,
        ]
        for name, value in config.items():
            if name != "eta":
                serve += [f"--{name}", value]
        name = flags.model
        if name == "mlp" and flags.hidden != "256":
            name += "-" + flags.hidden.replace(",", "-")
        model = ["--model", name]
        work = [
            flags.signvote, "worker", "--connect", address, *model, "--data", "fashion-mnist", "--data-dir", flags.data_dir
        ]
        shard = lambda number: ["--shard-listen", f"{net.address(number)}:7701", "--insecure"] if system == "signvote-sharded" else []
        server = net.start(1, [*serve, "--run-dir", run_dir, "--quiet"])
        workers = [net.start(number, [*work, *shard(number), "--quiet"]) for number in net.numbers()]
        began, committed, saved = None, (0, 0.0), []
        events = Lines(os.path.join(run_dir, "events.jsonl"))
        until = time.monotonic() + self.patience()
        while True:
            over = not server.running()
            for line in events.new():
                event = json.loads(line)
                if event["event"] == "started":
                    began = event["time"]
                elif event["event"] == "committed":
                    committed = (event["round"], event["time"])
                elif event["event"] == "saved" and event["round"] > 0:
                    # The file is replaced, never changed: a second name keeps this one for later.
                    kept = os.path.join(scratch, f"{event['round']}.safetensors")
                    if os.path.exists(kept):
                        continue
                    os.link(event["path"] if os.path.isabs(event["path"]) else os.path.join(run_dir, "model.safetensors"), kept)
                    saved.append((committed[1] - began, event["round"], kept))
            if over:
                break
            if time.monotonic() > until:
                raise Failure("signvote is not done in time")
            time.sleep(0.01)
        wait_for([server, *workers], 60)
        seconds = committed[1] - began
        judged = subprocess.run(
            [
                flags.python, os.path.join(HERE, "ddp_train.py"), "--model", flags.model, "--hidden", flags.hidden,
                "--data-dir", flags.data_dir, "--evaluate", *(path for _, _, path in saved),
            ],
            stdout=subprocess.PIPE, text=True, check=True,
        )
        judged = [json.loads(line) for line in judged.stdout.splitlines()]
        curve = [
            {"seconds": round(at, 4), "step": step, "accuracy": row["accuracy"]} for (at, step, _), row in zip(saved, judged)
        ]
        shards = f" --shard-listen {net.address(0)[:-1]}K:7701 --insecure" if system == "signvote-sharded" else ""
        commands = [plain(serve), plain(work) + shards]
        return {"curve": curve, "seconds": seconds, "steps": saved[-1][1], "dim": judged[-1]["dim"], "commands": commands}

    def all(self):
        flags = self.flags
        burst = flags.burst or burst_of(mbit(flags.rate))
        queue = flags.queue_ms or queue_of(mbit(flags.rate))
        result = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": lab.machine(),
            "hosts": flags.workers,
            "rate_mbit": mbit(flags.rate),
            "burst_bytes": burst,
            "queue_ms": queue,
            "congestion": flags.congestion,
            "model": flags.model,
            "hidden": flags.hidden if flags.model == "mlp" else None,
            "batch": flags.batch,
            "steps": self.steps,
            "steps_per_epoch": SAMPLES // (flags.workers * flags.batch),
            "schedule": flags.schedule,
            "seed": flags.seed,
            "signvote": signvote_version(flags.signvote),
            "load_before": os.getloadavg()[0],
            "left_out": self.left_out,
            "runs": [],
        }
        with Lab(flags.workers, flags.congestion) as net:
            net.shape(flags.rate, burst, queue)
            result["one_stream_mbit"] = round(one_stream_mbit(net, sys.executable), 1)
            for system in self.systems:
                net.shape(flags.rate, burst, queue)
                try:
                    told = self.run(net, system)
                except Failure as failure:
                    say(f"{system} fails: {failure}")
                    result["runs"].append({"system": system, "failed": str(failure)})
                    continue
                finally:
                    net.stop_all()
                result.setdefault("torch", told.get("torch"))
                result["torch"] = result["torch"] or told.get("torch")
                row = {
                    "system": system,
                    "config": self.config(system),
                    "dim": told["dim"],
                    "steps": told["steps"],
                    "seconds": round(told["seconds"], 3),
                    "ms_per_step": round(told["seconds"] / told["steps"] * 1e3, 2),
                    "best_accuracy": max(point["accuracy"] for point in told["curve"]),
                    "last_accuracy": told["curve"][-1]["accuracy"],
                    "curve": told["curve"],
                    "commands": told["commands"],
                }
                say(
                    f"{system:<17} {row['steps']} steps in {row['seconds']:.1f} s, {row['ms_per_step']:.1f} ms each;"
                    f" test accuracy {row['last_accuracy']:.2%}"
                )
                result["runs"].append(row)
                result["seconds_to"] = reached(result)
                if flags.json:
                    write(flags.json, result)
        return result


class Lines:
    """The lines of a file that another program is writing, each once and whole."""

    def __init__(self, path):
        self.path, self.read, self.rest = path, 0, ""

    def new(self):
        try:
            with open(self.path) as file:
                file.seek(self.read)
                text = file.read()
                self.read = file.tell()
        except FileNotFoundError:
            return []
        *lines, self.rest = (self.rest + text).split("\n")
        return lines


def plain(words):
    """A command for people: programs by their names, wherever they lay."""
    words = [str(word) for word in words]
    words[0] = os.path.basename(words[0])
    return shlex.join(word.replace(HERE + "/", "").replace(ROOT + "/", "") for word in words)


def reached(result):
    """Per accuracy and system the wall seconds until a snapshot was first as good; null where none was."""
    targets = TARGETS[result["model"]]
    return {
        f"{target:.3f}": {
            row["system"]: next((point["seconds"] for point in row["curve"] if point["accuracy"] >= target), None)
            for row in result["runs"] if "curve" in row
        }
        for target in targets
    }


def table(result):
    machine = result["machine"]
    model = f"{result['model']} {result['hidden'] or ''}".strip()
    dim = next((row["dim"] for row in result["runs"] if "dim" in row), 0)
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}; {result['date']}",
        f"{model}, {dim:,} parameters, full Fashion-MNIST; {result['hosts']} hosts with one worker each, {result['rate_mbit']:.0f} Mb/s;"
        f" batch {result['batch']} a worker, {result['steps']} steps ({result['steps'] / result['steps_per_epoch']:.1f} epochs), {result['schedule']}",
        f"load average before: {result['load_before']:.2f}; torch {result.get('torch')}",
        "",
    ]
    targets = [target for target, row in result.get("seconds_to", {}).items() if any(row.values())]
    lines.append(f"{'':<17} {'a step':>9} {'accuracy':>8}   wall seconds to " + " ".join(f"{float(target):>8.1%}" for target in targets))
    for row in result["runs"]:
        if "failed" in row:
            lines.append(f"{row['system']:<17} failed: {row['failed'].splitlines()[0]}")
            continue
        cells = []
        for target in targets:
            seconds = result["seconds_to"][target].get(row["system"])
            cells.append(f"{seconds:>8.1f}" if seconds is not None else f"{'–':>8}")
        lines.append(f"{row['system']:<17} {row['ms_per_step']:>6.1f} ms {row['last_accuracy']:>8.2%}   {'':<15} " + " ".join(cells))
    dense = ["ddp-fp32-sgd", "ddp-fp32-adam"]
    for row in result["runs"]:
        if not row["system"].startswith("signvote") or "failed" in row:
            continue
        cells = []
        for target in targets:
            of = result["seconds_to"][target]
            best = min((of[name] for name in dense if of.get(name) is not None), default=None)
            own = of.get(row["system"])
            cells.append(f"{best / own:>7.1f}×" if best and own else f"{'–':>8}")
        lines.append(f"{row['system']:<17} sooner than the faster of DDP fp32:".ljust(53) + " ".join(cells))
    lines.append("")
    for row in result["runs"]:
        for command in row.get("commands", []):
            lines.append(f"{row['system']}: {command}")
    for system, why in result["left_out"].items():
        lines.append(f"{system} is left out: {why}")
    return "\n".join(lines)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: [word for word in text.split(",") if word]
    parser.add_argument("--model", choices=["mlp", "cnn"], default="mlp")
    parser.add_argument("--hidden", default="1024,1024", help="hidden units of the mlp")
    parser.add_argument("--systems", type=listed, default=SYSTEMS, metavar="NAME,…", help=", ".join(SYSTEMS))
    parser.add_argument("--workers", type=int, default=4, help="hosts, with one worker each")
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--batch", type=int, default=32, help="examples of each worker in a step")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=0, help="instead of --epochs")
    parser.add_argument("--max-seconds", type=float, default=0.0, help="ends a training of DDP that takes longer; 0: none")
    parser.add_argument("--schedule", choices=["cosine", "constant"], default="cosine", help="of the learning rate, for all")
    parser.add_argument("--snapshot-every", type=int, default=24, help="steps from one evaluated model to the next")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="SYSTEM.NAME=VALUE", help="another setting, as ddp-fp32-sgd.lr=0.1")
    parser.add_argument("--burst", type=int)
    parser.add_argument("--queue-ms", type=int)
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--signvote", default=os.path.join(ROOT, "target/release/signvote"), metavar="PATH")
    parser.add_argument("--python", default="/opt/netlab-venv/bin/python", metavar="PATH", help="a Python with torch")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--table", metavar="FILE", help="print the table of a --json FILE and train nothing")
    flags = parser.parse_args()
    unknown = [system for system in flags.systems if system not in SYSTEMS]
    if unknown:
        parser.error(f"there is no system {unknown[0]}: {', '.join(SYSTEMS)}")
    return flags


def main():
    flags = parsed()
    if flags.table:
        with open(flags.table) as file:
            print(table(json.load(file)))
        return 0
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        raise Failure("network namespaces need root, and `ip` and `tc` of iproute2")
    lab.ended_by_signals()
    result = Training(flags).all()
    print(table(result))
    return 1 if any("failed" in row for row in result["runs"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"train: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("train: stopped; the hosts are removed", file=sys.stderr)
        sys.exit(130)
