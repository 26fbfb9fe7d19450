"""What `signvote export` writes is a torchvision model, which does what `signvote eval` says."""

from __future__ import annotations

import json
import pathlib
import subprocess

import numpy
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
safetensors = pytest.importorskip("safetensors.torch")
from torch import nn

import signvote.torch
from test_client import program

MEANS, DEVIATIONS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def test_an_exported_resnet_is_loaded_by_its_names_and_gives_the_same_loss(tmp_path: pathlib.Path) -> None:
    generator = numpy.random.default_rng(1)
    for name, count in [*((f"data_batch_{number}", 8) for number in range(1, 6)), ("test_batch", 20)]:
        labels = generator.integers(10, size=(count, 1), dtype=numpy.uint8)
        pixels = generator.integers(256, size=(count, 3072), dtype=numpy.uint8) // 2 + labels * 10
        (tmp_path / f"{name}.bin").write_bytes(numpy.concatenate([labels, pixels.astype(numpy.uint8)], axis=1).tobytes())
    test = numpy.frombuffer((tmp_path / "test_batch.bin").read_bytes(), numpy.uint8).reshape(-1, 3073)

    def program_says(*words: str) -> str:
        return subprocess.run([program(), *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    data = ["--model", "resnet18-32", "--data", "cifar-10", "--data-dir", str(tmp_path)]
    program_says("train", "--quiet", "--workers", "2", "--batch", "5", "--epochs", "1", "--run-dir", "run", *data)
    program_says("export", "run", "--out", "out.safetensors")
    said = json.loads(program_says("eval", "out.safetensors", "--json", *data))

    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    # Strict: every name and shape, running statistics included.
    exported = safetensors.load_file(tmp_path / "out.safetensors")
    model.load_state_dict(exported)
    model.eval()
    images = torch.from_numpy(test[:, 1:].astype(numpy.float32) / 255).reshape(-1, 3, 32, 32)
    images = (images - torch.tensor(MEANS).view(3, 1, 1)) / torch.tensor(DEVIATIONS).view(3, 1, 1)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(images), torch.from_numpy(test[:, 0].astype(numpy.int64)))
    assert abs(loss.item() - said["test_loss"]) < 1e-3 * said["test_loss"]

    # The directory of the run gives the same.
    loaded = torchvision.models.resnet18(num_classes=10)
    loaded.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert signvote.torch.load_run(loaded, tmp_path / "run") == 4
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in exported.items())
