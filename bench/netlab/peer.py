"""One host's part in an exchange over PyTorch's Gloo, timed; netlab.py starts one on every host.

Needs torch, and signvote's package for its hook. Rank 0 prints one JSON object. A round begins at a barrier and is counted from when the last process has begun until
the last has ended (all are on one machine and have one clock), so neither the barrier nor a late start is held against Gloo.
"""

import argparse
import gc
import hashlib
import json
import os
import statistics
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import resnet50

MIB = 1 << 20
# As DistributedDataParallel cuts a gradient: one small bucket first, then 25 MB each.
FIRST_BUCKET, BUCKET = MIB, 25 * MIB
# In DistributedDataParallel.
HOOKS = ["vote", "ddp-fp32", "ddp-fp16", "powersgd-1", "powersgd-2", "powersgd-4"]


def cpu_seconds():
    return time.process_time()


def traffic():
    with open("/proc/self/net/dev") as file:
        for line in file:
            name, _, counts = line.partition(":")
            if name.strip() == "eth0":
                fields = counts.split()
                return int(fields[0]), int(fields[8])
    return 0, 0


def busy_seconds():
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4] - fields[7]) / os.sysconf("SC_CLK_TCK")


class Dense:
    """The whole gradient, summed as f32 or as f16."""

    def __init__(self, dim, half):
        self.half = half
        rank, workers = dist.get_rank(), dist.get_world_size()
        index = torch.arange(dim, dtype=torch.int32)
        # Small integers: every order of their sum is exact in f32.
        part = lambda of: ((index * 7 + of * 13) % 17 - 8).float()
        self.gradient = part(rank)
        self.expected = sum((part(of) for of in range(workers)), torch.zeros(dim))
        if half:
            self.expected /= workers
        self.work = self.gradient.clone()
        self.halves = torch.empty(dim, dtype=torch.float16) if half else None
        self.workers = workers

    def prepare(self):
        self.work.copy_(self.gradient)

    def exchange(self, mode):
        pieces, waiting = self.pieces(mode), []
        for start, end in pieces:
            if self.half:
                # As torch's fp16_compress_hook: cast, divide, sum, cast back.
                half = self.halves[start:end].copy_(self.work[start:end])
                half.div_(self.workers)
                waiting.append(dist.all_reduce(half, async_op=True))
            else:
                waiting.append(dist.all_reduce(self.work[start:end], async_op=True))
        for (start, end), work in zip(pieces, waiting):
            work.wait()
            if self.half:
                self.work[start:end].copy_(self.halves[start:end])

    def pieces(self, mode):
        dim = self.work.numel()
        if mode == "whole":
            return [(0, dim)]
        cuts = [0, min(dim, FIRST_BUCKET // 4)]
        while cuts[-1] < dim:
            cuts.append(min(dim, cuts[-1] + BUCKET // 4))
        return list(zip(cuts, cuts[1:]))

    def check(self):
        # An f16 has 11 bits, and its sum is rounded at every hop.
        allowed = self.workers * 8 / 1024 if self.half else 0.0
        worst = (self.work - self.expected).abs().max().item()
        if worst > allowed:
            raise SystemExit(f"the sum is wrong by {worst}, allowed are {allowed}")

    def report(self):
        return {}


class Given(torch.autograd.Function):
    """A loss whose gradient is given: backward costs nothing but handing it out."""

    @staticmethod
    def forward(context, gradient, parameter):
        context.gradient = gradient
        return parameter.view(-1)[0]

    @staticmethod
    def backward(context, _):
        return None, context.gradient


class Shapes(torch.nn.Module):
    """ResNet-50's parameters. No step is ever made, so each is at the same time the gradient that is exchanged for it: fifteen of
    these fit into one machine's memory."""

    def __init__(self, gradients):
        super().__init__()
        self.gradients = torch.nn.ParameterList(torch.nn.Parameter(gradient) for gradient in gradients)

    def forward(self):
        return sum(Given.apply(parameter.detach(), parameter) for parameter in self.gradients)


class Hooked:
    """DistributedDataParallel on ResNet-50's parameters, with gradients that are at hand, and one of: its own all-reduce, torch's fp16
    and PowerSGD hooks, and signvote's.

    PowerSGD's hook starts its second and third all-reduce from callbacks of the one before. Gloo matches collectives by their order, and
    with several buckets under way that order differs from process to process ("distributed collective mismatch"): so one bucket
    is finished before the next begins. Both 25 MB buckets and a single one are tried, and the faster way is kept.

    What backward costs without any exchange (handing the gradients to the buckets) is measured by the same model under a hook
    that does nothing, and subtracted.
    """

    def __init__(self, gradients, kind, mode):
        from torch.distributed.algorithms.ddp_comm_hooks import debugging_hooks, default_hooks
        from torch.nn.parallel import DistributedDataParallel

        # Not synchronised: what would be rank 0's parameters everywhere are everyone's own gradients.
        options = {"gradient_as_bucket_view": True, "init_sync": False}
        if mode == "whole":
            options["bucket_cap_mb"] = 1000
        self.kind = kind
        self.model = DistributedDataParallel(Shapes(gradients), **options)
        if kind == "vote":
            import signvote.torch

            self.model.register_comm_hook(signvote.torch.SignSGDState(), signvote.torch.majority_vote_hook)
        elif kind == "ddp-fp16":
            self.model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        elif kind.startswith("powersgd"):
            self.model.register_comm_hook(*power_sgd(int(kind.rpartition("-")[2])))
        self.alone = lambda: DistributedDataParallel(Shapes(gradients), **options)
        self.noop = debugging_hooks.noop_hook
        self.backward_ms = 0.0

    def prepare(self):
        # The loss is made outside of the time: a real model's forward would have made its own.
        self.model.zero_grad(set_to_none=True)
        self.loss = self.model()

    def exchange(self, _mode):
        self.loss.backward()

    def warm_up(self):
        for _ in range(4):
            self.prepare()
            self.exchange(None)

    def measure_backward(self):
        """Over all processes, as an exchange is: on few cores they are in each other's way here, too."""
        bare = Hooked.__new__(Hooked)
        bare.model = self.alone()
        bare.model.register_comm_hook(None, self.noop)
        self.backward_ms = statistics.median(together(timed(bare, None, 16))[2:])

    def check(self):
        digest = hashlib.blake2b(digest_size=8)
        for parameter in self.model.parameters():
            digest.update(parameter.grad.numpy().tobytes())
        digests = [None] * dist.get_world_size()
        dist.all_gather_object(digests, digest.hexdigest())
        if len(set(digests)) != 1:
            raise SystemExit(f"the ranks' gradients differ: {digests}")
        total = sum(parameter.grad.abs().sum().item() for parameter in self.model.parameters())
        if not 0.0 < total < float("inf"):
            raise SystemExit("the gradient came back empty or not finite")
        if self.kind == "vote":
            self.check_verdict()

    def check_verdict(self):
        """Every rank's gradients are always the same, and so their momentum's signs: the verdict is the majority of those."""
        everyone = zip(*(gradients_of(rank) for rank in range(dist.get_world_size())))
        for parameter, gradients in zip(self.model.parameters(), everyone):
            total = sum(gradient.sign() for gradient in gradients)
            # A tie is a coin's.
            wrong = ((parameter.grad != total.sign()) & (total != 0)) | (parameter.grad.abs() != 1)
            if wrong.any():
                raise SystemExit(f"{int(wrong.sum())} coordinates are not the majority")

    def report(self):
        return {"backward_ms": self.backward_ms}


def power_sgd(rank_of_approximation):
    """A state and the hook. Its first steps are dense, as few of them as it allows."""
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

    state = power.PowerSGDState(
        process_group=None, matrix_approximation_rank=rank_of_approximation, start_powerSGD_iter=2,
        use_error_feedback=True, warm_start=True,
    )

    def one_after_the_other(state, bucket):
        done = power.powerSGD_hook(state, bucket)
        done.wait()
        return done

    return state, one_after_the_other


def gradients_of(rank):
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(shape, generator=generator) for shape in resnet50.shapes()]


def timed(system, mode, rounds):
    """(begin, end) of each round on this process, on the machine's clock."""
    spans = []
    for _ in range(rounds):
        system.prepare()
        dist.barrier()
        began = time.monotonic()
        system.exchange(mode)
        spans.append((began, time.monotonic()))
    return spans


def together(spans):
    """Milliseconds of each round, over all processes."""
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, spans)
    return [
        (max(end for _, end in row) - max(begin for begin, _ in row)) * 1e3 for row in zip(*everyone)
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--system", choices=["fp32", "fp16", *HOOKS], required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--master", required=True)
    parser.add_argument("--port", type=int, default=29500)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of rounds that are timed")
    parser.add_argument("--least", type=int, default=2, help="rounds that are timed in any case")
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--mode", choices=["whole", "buckets", "faster"], default="faster")
    parser.add_argument("--timeout", type=float, default=300.0)
    flags = parser.parse_args()

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://{flags.master}:{flags.port}", rank=flags.rank, world_size=flags.workers,
        timeout=timedelta(seconds=flags.timeout),
    )
    mode, tried = flags.mode, {}
    if flags.system in HOOKS:
        gradients = gradients_of(flags.rank)
        system = None
        for way in ("buckets", "whole") if mode == "faster" else (mode,):
            del system
            gc.collect()
            system = Hooked(gradients, flags.system, way)
            system.warm_up()
            tried[way] = statistics.median(together(timed(system, way, 3)))
        faster = min(tried, key=tried.get)
        if faster != way:
            del system
            gc.collect()
            system = Hooked(gradients, flags.system, faster)
            system.warm_up()
        mode = faster
        system.measure_backward()
        trial = [tried[mode]]
    else:
        system = Dense(flags.dim, flags.system == "fp16")
        # The first round opens windows and touches memory: not timed. A second, if it is short, for the same reason.
        trial = together(timed(system, "whole" if mode == "faster" else mode, 1))
        if trial[0] < 2e3:
            together(timed(system, "whole", 1))
        if mode == "faster":
            each = 3 if trial[0] < 2e3 else 1
            for way in ("buckets", "whole"):
                tried[way] = statistics.median(together(timed(system, way, each)))
            mode = min(tried, key=tried.get)
            trial = [tried[mode]]
        else:
            trial = together(timed(system, mode, 1)) if trial[0] < 2e3 else trial
    # Every process has the same figures, and so comes to the same number.
    rounds = int(min(flags.most, max(flags.least, flags.budget * 1e3 / max(trial[-1], 1.0))))

    before = (cpu_seconds(), traffic(), busy_seconds())
    spans = timed(system, mode, rounds)
    after = (cpu_seconds(), traffic(), busy_seconds())
    times = together(spans)
    system.check()

    own = {
        "cpu": after[0] - before[0],
        "up": after[1][1] - before[1][1],
        "down": after[1][0] - before[1][0],
        "busy": after[2] - before[2],
        "report": system.report(),
    }
    everyone = [None] * flags.workers
    dist.all_gather_object(everyone, own)
    if flags.rank == 0:
        backward = max(row["report"].get("backward_ms", 0.0) for row in everyone)
        result = {
            "times_ms": [max(0.0, time_ms - backward) for time_ms in times],
            "backward_ms": backward,
            "mode": mode,
            "tried_ms": tried,
            "cpu_ms": sum(row["cpu"] for row in everyone) / rounds * 1e3,
            "busy_ms": max(row["busy"] for row in everyone) / rounds * 1e3,
            "bytes_up": max(row["up"] for row in everyone) / rounds,
            "bytes_down": max(row["down"] for row in everyone) / rounds,
            "torch": torch.__version__,
        }
        print(json.dumps(result), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
