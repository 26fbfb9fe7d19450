"""One host's part in a training with PyTorch's DistributedDataParallel over Gloo; train.py starts one on every host.

Model, start, data and scaling are those of `signvote train`: the mlp or cnn with PyTorch's default initialisation, Fashion-MNIST with
pixels scaled to mean 0 and deviation 1, every epoch one permutation that is cut into the workers' batches. Rank 0 prints one JSON
object. Snapshots are taken while the training runs and evaluated after it, so that no evaluation is in the time.

With --evaluate it evaluates model files of signvote instead, so that one program judges all.
"""

import argparse
import gzip
import json
import math
import os
import struct
import time
from datetime import timedelta

import numpy
import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

MEAN, DEVIATION = 0.2860, 0.3530


def images_and_labels(directory, part):
    def read(name, header):
        with gzip.open(os.path.join(directory, name)) as file:
            return numpy.frombuffer(file.read(), dtype=numpy.uint8, offset=header)

    labels = torch.from_numpy(read(f"{part}-labels-idx1-ubyte.gz", 8).astype(numpy.int64))
    pixels = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(len(labels), 1, 28, 28)
    # Bytes; scaled batch by batch, as signvote does.
    return torch.from_numpy(pixels.copy()), labels


def scaled(pixels):
    return (pixels.float() / 255.0 - MEAN) / DEVIATION


class Mlp(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        sizes = [784, *hidden, 10]
        self.count = len(sizes) - 1
        for number, (inputs, outputs) in enumerate(zip(sizes, sizes[1:]), 1):
            setattr(self, f"fc{number}", torch.nn.Linear(inputs, outputs))

    def forward(self, x):
        x = x.flatten(1)
        for number in range(1, self.count):
            x = functional.relu(getattr(self, f"fc{number}")(x))
        return getattr(self, f"fc{self.count}")(x)


class Cnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = torch.nn.Linear(64 * 7 * 7, 128)
        self.fc2 = torch.nn.Linear(128, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


def made(flags):
    return Cnn() if flags.model == "cnn" else Mlp([int(size) for size in flags.hidden.split(",")])


def dimension(model):
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def accuracy(model, state, test):
    model.load_state_dict(state)
    pixels, labels = test
    right = 0
    for start in range(0, len(labels), 1000):
        part = slice(start, start + 1000)
        right += (model(scaled(pixels[part])).argmax(1) == labels[part]).sum().item()
    return right / len(labels)


def model_file(path):
    """A safetensors file with f32 only: the length of a JSON header, the header, the tensors."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    state = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(content, dtype="<f4", offset=8 + length + begin, count=(end - begin) // 4)
        state[name] = torch.from_numpy(values.copy()).reshape(entry["shape"])
    return state


class Batches:
    def __init__(self, samples, flags):
        self.samples, self.flags = samples, flags
        self.steps_per_epoch = samples // (flags.workers * flags.batch)
        self.epoch, self.order = None, None

    def indices(self, step):
        flags, epoch = self.flags, step // self.steps_per_epoch
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(flags.seed * 1_000_003 + epoch)
            self.epoch, self.order = epoch, torch.randperm(self.samples, generator=generator)
        start = step % self.steps_per_epoch * flags.workers * flags.batch + flags.rank * flags.batch
        return self.order[start : start + flags.batch]


def hook(model, flags):
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

    if flags.method == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    if flags.method == "powersgd":
        state = power.PowerSGDState(
            process_group=None, matrix_approximation_rank=flags.powersgd_rank, start_powerSGD_iter=flags.powersgd_start,
            use_error_feedback=True, warm_start=True,
        )

        # One bucket at a time: the hook's later all-reduces are begun from callbacks, in an order that differs from process to
        # process when several buckets are under way, and Gloo tells collectives apart by their order.
        def one_after_the_other(state, bucket):
            done = power.powerSGD_hook(state, bucket)
            done.wait()
            return done

        model.register_comm_hook(state, one_after_the_other)


def train(flags):
    torch.set_num_threads(1)
    torch.manual_seed(flags.seed)
    pixels, labels = images_and_labels(flags.data_dir, "train")
    dist.init_process_group(
        "gloo", init_method=f"tcp://{flags.master}:{flags.port}", rank=flags.rank, world_size=flags.workers,
        timeout=timedelta(seconds=300),
    )
    module = made(flags)
    averager = None
    if flags.method == "local":
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

        # The same start everywhere comes from the same seed.
        model, averager = module, PeriodicModelAverager(period=flags.local_steps, warmup_steps=0)
    else:
        model = DistributedDataParallel(module, gradient_as_bucket_view=True)
        hook(model, flags)
    if flags.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=flags.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=flags.lr, momentum=0.9)
    batches = Batches(len(labels), flags)
    steps = flags.steps or math.ceil(flags.epochs * batches.steps_per_epoch)

    # Between two averages every host has a model of its own: only averages are shown.
    every = flags.snapshot_every if not averager else math.ceil(flags.snapshot_every / flags.local_steps) * flags.local_steps
    snapshots = []
    dist.barrier()
    began = time.monotonic()
    for step in range(steps):
        # As signvote's cosine: from η down to 0.
        rate = flags.lr * 0.5 * (1.0 + math.cos(math.pi * step / steps)) if flags.schedule == "cosine" else flags.lr
        for group in optimizer.param_groups:
            group["lr"] = rate
        which = batches.indices(step)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(scaled(pixels[which])), labels[which]).backward()
        optimizer.step()
        done = step + 1
        if averager:
            # Its step counts from 0; moved by one, it averages after every H-th step, and after the last.
            averager.step = done if done < steps else 0
            averager.average_parameters(model.parameters())
        if done % every == 0 or done == steps:
            if flags.rank == 0:
                state = {name: value.clone() for name, value in module.state_dict().items()}
                snapshots.append((time.monotonic() - began, done, state))
            late = torch.tensor([float(flags.max_seconds > 0 and time.monotonic() - began > flags.max_seconds)])
            dist.broadcast(late, 0)
            if late.item():
                break
    dist.barrier()
    seconds = time.monotonic() - began
    dist.destroy_process_group()
    if flags.rank != 0:
        return
    # The other processes are gone or going: the machine is free for it.
    torch.set_num_threads(os.cpu_count())
    test = images_and_labels(flags.data_dir, "t10k")
    judge = made(flags)
    curve = [
        {"seconds": round(at, 4), "step": step, "accuracy": accuracy(judge, state, test)} for at, step, state in snapshots
    ]
    result = {
        "curve": curve, "seconds": seconds, "steps": snapshots[-1][1], "dim": dimension(judge), "torch": torch.__version__
    }
    print(json.dumps(result), flush=True)


def evaluate(flags):
    torch.set_num_threads(os.cpu_count())
    test = images_and_labels(flags.data_dir, "t10k")
    judge = made(flags)
    for path in flags.evaluate:
        print(json.dumps({"path": path, "accuracy": accuracy(judge, model_file(path), test), "dim": dimension(judge)}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["fp32", "fp16", "powersgd", "local"], default="fp32")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--schedule", choices=["cosine", "constant"], default="cosine")
    parser.add_argument("--model", choices=["mlp", "cnn"], default="mlp")
    parser.add_argument("--hidden", default="1024,1024")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=0, help="instead of --epochs")
    parser.add_argument("--max-seconds", type=float, default=0.0)
    parser.add_argument("--snapshot-every", type=int, default=25)
    parser.add_argument("--local-steps", type=int, default=8)
    parser.add_argument("--powersgd-rank", type=int, default=1)
    parser.add_argument("--powersgd-start", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--master", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=29500)
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--evaluate", nargs="+", metavar="FILE")
    flags = parser.parse_args()
    if flags.evaluate:
        evaluate(flags)
    else:
        train(flags)


if __name__ == "__main__":
    main()
