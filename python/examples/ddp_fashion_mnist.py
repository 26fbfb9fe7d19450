"""Trains an mlp on Fashion-MNIST with DistributedDataParallel, as ever or by majority vote.

    torchrun --nproc-per-node 4 ddp_fashion_mnist.py --vote

The data, 10,000 images to train on and 2,000 to test on, come with the repository; --data names another directory.
It says how many bytes the interface has carried: on loopback, with all ranks on one host, all that they have sent each other.
"""

import argparse
import os
import pathlib
import time

import torch
import torch.distributed as dist
from fashion_mnist import DATA, load, mlp
from torch.nn.parallel import DistributedDataParallel

import signvote.torch


def bytes_on(interface: str) -> int:
    lines = pathlib.Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.split(":")[0].strip() == interface)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vote", action="store_true", help="vote on signs; otherwise average gradients, with Adam")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="images of one rank in a step")
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--interface", default=os.environ.get("GLOO_SOCKET_IFNAME", "lo"))
    flags = parser.parse_args()

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(1)
    (images, labels), (tests, answers) = load("train", flags.data), load("t10k", flags.data)
    model = mlp()
    ddp = DistributedDataParallel(model)
    if flags.vote:
        ddp.register_comm_hook(signvote.torch.SignSGDState(), signvote.torch.majority_vote_hook)
        optimizer = signvote.torch.SignSGD(ddp.parameters(), lr=1e-3)
    else:
        optimizer = torch.optim.Adam(ddp.parameters(), lr=1e-3)
    per_epoch = len(images) // (flags.batch * world)
    steps = flags.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    dist.barrier()
    before, begun = bytes_on(flags.interface), time.monotonic()
    for step in range(steps):
        shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(step // per_epoch))
        mine = shuffled[(step % per_epoch * world + rank) * flags.batch :][: flags.batch]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(ddp(images[mine]), labels[mine]).backward()
        optimizer.step()
        schedule.step()
    dist.barrier()
    seconds, carried = time.monotonic() - begun, bytes_on(flags.interface) - before
    accuracy = (model(tests).argmax(dim=1) == answers).float().mean().item()
    if rank == 0:
        print(f"test accuracy {accuracy:.2%}, {steps} steps in {seconds:.1f} s, {carried / steps:,.0f} bytes a step")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
