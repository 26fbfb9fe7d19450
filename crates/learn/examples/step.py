"""A gradient of ResNet-18 for 32 x 32 images: the engines of this crate beside PyTorch on the same CPU, in turns.

    cargo build --release -p signvote-learn --features tch --example step
    python crates/learn/examples/step.py target/release/examples/step

PyTorch's step is forward, loss and backward on one batch of the same shape, channels in the order that both have by default.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import time

import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))

from beside_pytorch import small_resnet  # noqa: E402

BATCH, THREADS, STEPS, TURNS = 32, 2, 10, 5


def pytorch() -> float:
    """Median of STEPS steps, in milliseconds."""
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        model.zero_grad()
        cross_entropy(model(images), labels).backward()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def engine(program: str, name: str) -> float:
    words = [program, name, "resnet18-32", str(BATCH), str(THREADS), str(STEPS)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[0])


torch.set_num_threads(THREADS)
model = small_resnet().train()
images = torch.rand(BATCH, 3, 32, 32)
labels = torch.arange(BATCH) % 10
pytorch()
rows: dict[str, list[float]] = {"PyTorch": [], "tch": [], "burn": []}
for _ in range(TURNS):
    rows["PyTorch"].append(pytorch())
    for name in ["tch", "burn"]:
        rows[name].append(engine(sys.argv[1], name))
base = statistics.median(rows["PyTorch"])
for name, times in rows.items():
    ratios = [own / theirs for own, theirs in zip(times, rows["PyTorch"])]
    print(f"{name:8} {statistics.median(times):8.1f} ms  {statistics.median(ratios):5.2f} x PyTorch")
