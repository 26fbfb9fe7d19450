"""Trains an mlp on Fashion-MNIST with Hugging Face Accelerate, by majority vote.

torchrun --nproc-per-node 2 accelerate_fashion_mnist.py
"""

import argparse

import torch
from accelerate import Accelerator
from fashion_mnist import dataset, load, mlp
from torch.utils.data import DataLoader

from signvote.accelerate import MajorityVoteKwargs
from signvote.torch import SignSGD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    # The vote. No clip_grad_norm_(): it would scale a vector of signs by 1/√d.
    accelerator.ddp_handler = MajorityVoteKwargs()
    model = mlp()
    optimizer = SignSGD(model.parameters(), lr=1e-3)
    loader = DataLoader(dataset("train"), batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.optimizer, flags.epochs * len(loader))
    for _ in range(flags.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(model(images), labels))
            optimizer.step()
            schedule.step()
    images, labels = load("t10k")
    accuracy = (accelerator.unwrap_model(model)(images).argmax(dim=1) == labels).float().mean().item()
    accelerator.print(f"test accuracy {accuracy:.2%}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
