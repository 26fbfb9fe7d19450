"""What the examples train on: 10,000 images of Fashion-MNIST, and 2,000 to test on, that come with the repository."""

import gzip
import pathlib

import torch
from torch import nn
from torch.utils.data import TensorDataset

DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "fashion-mnist-10k"


def load(name: str, directory: pathlib.Path = DATA) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, 784 values each, and labels: of "train" or "t10k"."""
    images, labels = (
        torch.frombuffer(bytearray(gzip.decompress((directory / f"{name}-{kind}-ubyte.gz").read_bytes())), dtype=torch.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    return images[16:].view(-1, 784).float().div(255).sub(0.2860).div(0.3530), labels[8:].long()


def dataset(name: str) -> TensorDataset:
    return TensorDataset(*load(name))


def mlp() -> nn.Module:
    """The same for every rank."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
