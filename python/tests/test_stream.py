"""One stream of gradients by every way to vote: parameters to the bit those of the Rust worker (crates/cli/tests/stream.rs)."""

from __future__ import annotations

import pathlib
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import ranks
import signvote.torch
from scenarios import with_hook
from signvote.torch import SignSGD, SignSGDState, Signum
from test_client import Server, flat, threads  # noqa: F401 (a fixture)

EXPECTED = pathlib.Path(__file__).resolve().parents[2] / "crates/cli/tests/stream.f32"
WORKERS, ROUNDS, ETA, LAMBDA = 3, 24, 0.01, 0.125
MASK = (1 << 64) - 1


def draw(key: int, count: int) -> np.ndarray:
    """SplitMix64's numbers for a key, as ``coin_word``."""
    with np.errstate(over="ignore"):
        z = np.uint64(key & MASK) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(bits: np.ndarray) -> np.ndarray:
    return ((bits >> np.uint64(40)).astype(np.int64) - (1 << 23)).astype(np.float32) / np.float32(1 << 23)


def model() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(37, 21), nn.ReLU(), nn.Linear(21, 5))
    nn.utils.vector_to_parameters(torch.from_numpy(uniform(draw(-1, flat(module).numel()))), module.parameters())
    return module


def gradient(round: int, slot: int, count: int) -> torch.Tensor:
    bits = draw(round << 8 | slot, count)
    return torch.from_numpy(np.where(bits % np.uint64(8) == 0, np.float32(0), uniform(bits)))


def loss_of(module: nn.Module, round: int, slot: int) -> torch.Tensor:
    """A loss with this gradient, wherever the module is."""
    values = torch.cat([parameter.reshape(-1) for parameter in module.parameters()])
    return values @ gradient(round, slot, values.numel())


class Inner(nn.Module):
    """The loss as a module's output, which is what DistributedDataParallel wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, round: int, slot: int) -> torch.Tensor:
        return loss_of(self.inner, round, slot)


def check(module: nn.Module) -> None:
    found, expected = flat(module).numpy(), np.fromfile(EXPECTED, np.float32)
    assert found.shape == expected.shape
    differ = np.flatnonzero(found.view(np.uint32) != expected.view(np.uint32))
    assert not differ.size, f"coordinates {differ[:5]}: {found[differ[:5]]}, and the Rust worker has {expected[differ[:5]]}"


def by_the_hook() -> None:
    module, slot = model(), torch.distributed.get_rank() + 1
    ddp = with_hook(Inner(module), SignSGDState(momentum=0.9, tie_policy="hold"))
    optimizer = SignSGD(module.parameters(), lr=ETA, weight_decay=LAMBDA)
    for round in range(ROUNDS):
        optimizer.zero_grad()
        ddp(round, slot).backward()
        optimizer.step()
    check(module)


def by_the_optimizer() -> None:
    module, slot = model(), torch.distributed.get_rank() + 1
    optimizer = Signum(module.parameters(), lr=ETA, momentum=0.9, weight_decay=LAMBDA, transport="c10d", tie_policy="hold")
    for round in range(ROUNDS):
        optimizer.zero_grad()
        loss_of(module, round, slot).backward()
        optimizer.step()
    check(module)


@pytest.mark.parametrize("scenario", [by_the_hook, by_the_optimizer])
def test_ranks_end_where_the_rust_worker_does(scenario) -> None:
    ranks.on_ranks(WORKERS, scenario)


def test_workers_of_a_server_end_where_the_rust_worker_does(
    tmp_path: pathlib.Path,
    threads: list[threading.Thread],  # noqa: F811
) -> None:
    rules = f"--eta {ETA} --schedule constant --weight-decay {LAMBDA} --tie hold --batch 4 --chunk 64 --deadline never"
    server = Server(tmp_path, "--workers", str(WORKERS), "--rounds", str(ROUNDS), *rules.split())
    modules = [model() for _ in range(WORKERS)]

    def vote(slot: int, module: nn.Module) -> None:
        client = signvote.torch.Client(server.address, module, slot=slot)
        optimizer = Signum(module.parameters(), transport=client)
        while not client.finished:
            optimizer.zero_grad()
            loss_of(module, client.round, slot).backward()
            optimizer.step()
        client.close()

    for slot, module in enumerate(modules, 1):
        threads.append(threading.Thread(target=vote, args=(slot, module)))
        threads[-1].start()
    for thread in threads:
        thread.join(timeout=60)
    server.ended()
    for module in modules:
        check(module)
