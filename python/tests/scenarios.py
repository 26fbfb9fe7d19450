"""What ranks do in tests: each function runs on every rank of a process group."""

from __future__ import annotations

import copy
import os
import random
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import reference
import signvote.torch
from signvote.torch import SignSGDState, majority_vote_hook


class Net(nn.Module):
    """Odd sizes, so that no tensor ends with a word; a convolution whose memory may be in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc1 = nn.Linear(3 * 4 * 4, 37)
        self.fc2 = nn.Linear(37, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(torch.relu(self.conv(images)).flatten(1))))


def batch(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    images = torch.randn(8, 1, 6, 6, generator=generator)
    return images, torch.randint(5, (8,), generator=generator)


def loss_of(module: nn.Module, step: int, rank: int) -> torch.Tensor:
    images, labels = batch(step, rank)
    return nn.functional.cross_entropy(module(images), labels)


def model(seed: int = 1) -> Net:
    torch.manual_seed(seed)
    return Net()


def gradients(module: nn.Module) -> dict[str, np.ndarray]:
    return {
        name.removeprefix("module."): parameter.grad.float().numpy().copy()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def of_all_ranks(own: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    everyone: list[dict[str, np.ndarray] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    return everyone  # type: ignore[return-value]


class Reference:
    """The momentum of every rank, and what they decide."""

    def __init__(self, beta: float, tie: str) -> None:
        self.beta, self.tie = beta, tie
        self.momenta: list[dict[str, np.ndarray]] = [{} for _ in range(dist.get_world_size())]

    def verdict(self, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        everyone = of_all_ranks(own)
        for momentum, gradient in zip(self.momenta, everyone, strict=True):
            for name, values in gradient.items():
                before = momentum.get(name, np.zeros_like(values))
                momentum[name] = reference.momentum_step(before, values, self.beta)
        names = everyone[0]
        return {
            name: reference.majority([reference.ballot(momentum[name]) for momentum in self.momenta], self.tie) for name in names
        }


def with_hook(module: nn.Module, state: SignSGDState, **options: object) -> DistributedDataParallel:
    # Buckets of 100 bytes: from the second step on there are four, of different lengths.
    ddp = DistributedDataParallel(module, bucket_cap_mb=0.0001, **options)
    ddp.register_comm_hook(state, majority_vote_hook)
    return ddp


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values.astype(np.float32)), name


def assert_equal_on_all_ranks(module: nn.Module) -> None:
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    everyone = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, flat.contiguous())
    assert all(torch.equal(other, flat) for other in everyone)


def follows_the_reference(tie: str, slow: bool = False) -> None:
    """Step by step, with the optimizer's step on top: verdicts and parameters are those of Algorithm 1."""
    rank = dist.get_rank()
    state = SignSGDState(momentum=0.9, tie_policy=tie)
    if slow:
        slow_down(state, rank)
    module = model()
    ddp = with_hook(module, state)
    algorithm = Reference(0.9, tie)
    optimizer = signvote.torch.SignSGD(ddp.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(6):
        alone = copy.deepcopy(module)
        alone.zero_grad()
        loss_of(alone, step, rank).backward()
        expected = algorithm.verdict(gradients(alone))
        x = {name: parameter.detach().numpy().copy() for name, parameter in module.named_parameters()}
        optimizer.zero_grad()
        loss_of(ddp, step, rank).backward()
        assert_same(gradients(module), expected)
        optimizer.step()
        for name, parameter in module.named_parameters():
            moved = reference.descend(x[name], expected[name], 0.01, 0.1)
            assert np.array_equal(parameter.detach().numpy(), moved), name
    assert_equal_on_all_ranks(module)
    assert len(state._flats) >= 4, "buckets"
    stats = state.compression_stats()
    assert stats["steps"] == 6
    if dist.get_world_size() > 1:
        assert stats["ratio"] > 5, stats


def slow_down(state: SignSGDState, rank: int) -> None:
    """Every rank finishes its votes at times of its own."""
    rng, finish = random.Random(rank), state._election.finish

    def late(sent: object) -> object:
        time.sleep(rng.random() * 0.03)
        return finish(sent)  # type: ignore[arg-type]

    state._election.finish = late  # type: ignore[method-assign, assignment]


def coins_are_the_same_for_all() -> None:
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.0, seed=3))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(ddp, step, rank).backward()
        for values in gradients(module).values():
            assert set(np.unique(values)) <= {-1.0, 0.0, 1.0}
        optimizer.step()
    assert_equal_on_all_ranks(module)


def accumulates() -> None:
    """With no_sync() the vote is on what has accumulated."""
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.9, tie_policy="hold"))
    algorithm = Reference(0.9, "hold")
    for step in range(3):
        alone = copy.deepcopy(module)
        alone.zero_grad()
        for part in range(3):
            loss_of(alone, 3 * step + part, rank).backward()
        expected = algorithm.verdict(gradients(alone))
        module.zero_grad()
        with ddp.no_sync():
            for part in range(2):
                loss_of(ddp, 3 * step + part, rank).backward()
        loss_of(ddp, 3 * step + 2, rank).backward()
        assert_same(gradients(module), expected)


class Partly(nn.Module):
    """A frozen layer, one that is not used, and one that only some ranks use."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.net.fc1.requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.sometimes = nn.Linear(5, 5)

    def forward(self, images: torch.Tensor, often: bool) -> torch.Tensor:
        out = self.net(images)
        return self.sometimes(out) if often else out


def some_parameters_are_unused_or_frozen() -> None:
    rank = dist.get_rank()
    torch.manual_seed(1)
    module = Partly()
    frozen = module.net.fc1.weight.detach().clone()
    ddp = with_hook(module, SignSGDState(momentum=0.0, tie_policy="hold"), find_unused_parameters=True)
    for step in range(3):
        images, labels = batch(step, rank)
        module.zero_grad()
        nn.functional.cross_entropy(ddp(images, rank == 0), labels).backward()
        assert module.unused.weight.grad is None or not module.unused.weight.grad.any()
        # Who has not used it abstains, and the one vote of rank 0 decides.
        assert module.sometimes.weight.grad is not None
        assert set(np.unique(module.sometimes.weight.grad.numpy())) <= {-1.0, 0.0, 1.0}
        assert module.sometimes.weight.grad.abs().sum() > 0
    assert torch.equal(module.net.fc1.weight, frozen)


def half_precision(dtype: torch.dtype) -> None:
    rank = dist.get_rank()
    module = model().to(dtype)
    ddp = with_hook(module, SignSGDState(momentum=0.9, tie_policy="hold"))
    algorithm = Reference(0.9, "hold")
    for step in range(3):
        images, labels = batch(step, rank)
        alone = copy.deepcopy(module)
        alone.zero_grad()
        nn.functional.cross_entropy(alone(images.to(dtype)).float(), labels).backward()
        expected = algorithm.verdict(gradients(alone))
        module.zero_grad()
        nn.functional.cross_entropy(ddp(images.to(dtype)).float(), labels).backward()
        assert all(parameter.grad.dtype == dtype for parameter in module.parameters())  # type: ignore[union-attr]
        assert_same(gradients(module), expected)


def a_scaler_is_accounted_for() -> None:
    """Momentum is kept without the scale, verdicts come with it, and what is not finite on one rank skips the step on all."""
    rank = dist.get_rank()
    module = model()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    ddp = with_hook(module, SignSGDState(momentum=0.9, tie_policy="hold", grad_scaler=scaler))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    algorithm = Reference(0.9, "hold")
    for step in range(6):
        before = copy.deepcopy(module)
        alone = copy.deepcopy(module)
        alone.zero_grad()
        loss_of(alone, step, rank).backward()
        bad = step == 3
        optimizer.zero_grad()
        loss = loss_of(ddp, step, rank)
        if bad and rank == 0:
            loss = loss * float("inf")
        scale = scaler.get_scale()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if not bad:
            expected = algorithm.verdict(gradients(alone))
            assert_same(gradients(module), expected)
        scaler.step(optimizer)
        scaler.update()
        if bad:
            assert scaler.get_scale() == scale / 2
            for one, other in zip(module.parameters(), before.parameters(), strict=True):
                assert torch.equal(one, other)
            return
    raise AssertionError("the step with the infinite loss never came")


def is_saved_and_resumed() -> None:
    rank = dist.get_rank()

    def run(steps: range, module: Net, state: SignSGDState) -> DistributedDataParallel:
        ddp = with_hook(module, state)
        optimizer = signvote.torch.SignSGD(ddp.parameters(), lr=0.01)
        for step in steps:
            optimizer.zero_grad()
            loss_of(ddp, step, rank).backward()
            optimizer.step()
        return ddp

    whole = run(range(8), model(), SignSGDState())
    state = SignSGDState()
    first = run(range(4), model(), state)
    saved = copy.deepcopy({"model": first.module.state_dict(), "vote": state.state_dict(first)})
    assert set(saved["vote"]["momentum"]) == {name for name, _ in model().named_parameters()}
    again, state = model(seed=2), SignSGDState()
    again.load_state_dict(saved["model"])
    state.load_state_dict(saved["vote"], again)
    run(range(4, 8), again, state)
    for one, other in zip(whole.module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    saved["vote"]["momentum"]["more"] = torch.zeros(1)
    try:
        state.load_state_dict(saved["vote"], again)
    except signvote.MisuseError as error:
        assert "more" in str(error)
    else:
        raise AssertionError("a parameter that does not exist was taken")


def begins_with_averages() -> None:
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.9, tie_policy="hold", start_iter=2))
    algorithm = Reference(0.9, "hold")
    for step in range(4):
        alone = copy.deepcopy(module)
        alone.zero_grad()
        loss_of(alone, step, rank).backward()
        own = gradients(alone)
        expected = algorithm.verdict(own)
        module.zero_grad()
        loss_of(ddp, step, rank).backward()
        if step < 2:
            everyone = of_all_ranks(own)
            for name, values in gradients(module).items():
                mean = np.mean([other[name] for other in everyone], axis=0)
                assert np.allclose(values, mean, rtol=1e-4, atol=1e-7), name
        else:
            assert_same(gradients(module), expected)


def channels_last() -> None:
    rank = dist.get_rank()
    module = model().to(memory_format=torch.channels_last)
    state = SignSGDState(momentum=0.9, tie_policy="hold")
    ddp = with_hook(module, state)
    algorithm = Reference(0.9, "hold")
    for step in range(3):
        alone = copy.deepcopy(module)
        alone.zero_grad()
        loss_of(alone, step, rank).backward()
        expected = algorithm.verdict(gradients(alone))
        module.zero_grad()
        loss_of(ddp, step, rank).backward()
        assert_same(gradients(module), expected)
    kept = state.state_dict(ddp)["momentum"]["conv.weight"].numpy()
    assert np.array_equal(kept, algorithm.momenta[rank]["conv.weight"])


def optimizers_vote_by_themselves(name: str) -> None:
    """Without DistributedDataParallel: the optimizer votes with the ranks, to the same bits as the hook."""
    rank = dist.get_rank()
    by_itself, hooked = model(), model()
    if name == "Signum":
        optimizer = signvote.torch.Signum(by_itself.parameters(), lr=0.01, weight_decay=0.1, transport="c10d", tie_policy="hold")
        ddp = with_hook(hooked, SignSGDState(momentum=0.9, tie_policy="hold"))
        other = signvote.torch.SignSGD(ddp.parameters(), lr=0.01, weight_decay=0.1)
        for step in range(5):
            optimizer.zero_grad()
            loss_of(by_itself, step, rank).backward()
            optimizer.step()
            other.zero_grad()
            loss_of(ddp, step, rank).backward()
            other.step()
        for one, two in zip(by_itself.parameters(), hooked.parameters(), strict=True):
            assert torch.equal(one, two)
    else:
        lion = signvote.torch.Lion(by_itself.parameters(), lr=0.01, weight_decay=0.1, transport="c10d")
        for step in range(5):
            lion.zero_grad()
            loss_of(by_itself, step, rank).backward()
            lion.step()
    assert_equal_on_all_ranks(by_itself)


def momentum_twice_is_warned_of() -> None:
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.9))
    optimizer = signvote.torch.Signum(ddp.parameters(), lr=0.01)
    loss_of(ddp, 0, rank).backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
        optimizer.step()
    messages = [str(warning.message) for warning in caught]
    assert len([message for message in messages if "second time" in message]) == 1, messages


def a_rank_dies(timeout: float, report: str) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    module = model()
    ddp = with_hook(module, SignSGDState())
    dead = world - 1
    for step in range(3):
        if step == 2 and rank == dead:
            os._exit(0)
        begun = time.monotonic()
        try:
            loss_of(ddp, step, rank).backward()
        except Exception as error:
            assert f"rank {dead} is gone or hangs" in str(error), error
            assert time.monotonic() - begun < timeout
            with open(f"{report}.{rank}", "w") as file:
                file.write(type(error).__name__)
            # Nobody is left to say goodbye to.
            os._exit(0)
    raise AssertionError("nothing was noticed")


def nothing_is_voted_on_what_is_not_finite() -> None:
    """Without a scaler such a step is no step, on any rank."""
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.9))
    loss = loss_of(ddp, 0, rank)
    if rank == 0:
        loss = loss * float("nan")
    loss.backward()
    assert all(not values.any() for values in gradients(module).values())


def one_bucket_is_not_finite(scaler: torch.amp.GradScaler | None) -> None:
    """It is zero on every rank, where nobody skips the step; the others are as decided."""
    rank = dist.get_rank()
    module = model()
    ddp = with_hook(module, SignSGDState(momentum=0.9, grad_scaler=scaler))
    loss_of(ddp, 0, rank).backward()
    module.zero_grad()
    if rank == 0:
        module.fc2.bias.register_hook(lambda gradient: gradient * float("nan"))
    loss_of(ddp, 1, rank).backward()
    assert not module.fc2.bias.grad.any()
    assert set(np.unique(module.conv.weight.grad.numpy())) <= {-1.0, 1.0}


def a_scaler_leaves_no_rank_alone() -> None:
    """An optimizer that votes is not skipped by the rank whose gradients are not finite: all take the step, and it is none."""
    rank = dist.get_rank()
    scaled, plain = model(), model()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one = signvote.torch.Signum(scaled.parameters(), lr=0.01, transport="c10d", tie_policy="hold")
    other = signvote.torch.Signum(plain.parameters(), lr=0.01, transport="c10d", tie_policy="hold")
    for step in range(3):
        one.zero_grad()
        scaler.scale(loss_of(scaled, step, rank)).backward()
        scaler.step(one)
        scaler.update()
        other.zero_grad()
        loss_of(plain, step, rank).backward()
        other.step()
    for a, b in zip(scaled.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    before = copy.deepcopy(scaled)
    one.zero_grad()
    scaler.scale(loss_of(scaled, 3, rank) * (float("inf") if rank == 0 else 1.0)).backward()
    scaler.step(one)
    scaler.update()
    for a, b in zip(scaled.parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b)
    one.zero_grad()
    scaler.scale(loss_of(scaled, 4, rank)).backward()
    scaler.step(one)
    assert_equal_on_all_ranks(scaled)
    assert not torch.equal(scaled.fc1.weight, before.fc1.weight)


SCENARIOS: list[tuple[Callable[..., None], tuple[object, ...]]] = [
    (follows_the_reference, ("hold",)),
    (follows_the_reference, ("positive", True)),
    (coins_are_the_same_for_all, ()),
    (accumulates, ()),
    (some_parameters_are_unused_or_frozen, ()),
    (half_precision, (torch.bfloat16,)),
    (half_precision, (torch.float16,)),
    (a_scaler_is_accounted_for, ()),
    (is_saved_and_resumed, ()),
    (begins_with_averages, ()),
    (channels_last, ()),
    (optimizers_vote_by_themselves, ("Signum",)),
    (optimizers_vote_by_themselves, ("Lion",)),
    (momentum_twice_is_warned_of, ()),
    (nothing_is_voted_on_what_is_not_finite, ()),
    (one_bucket_is_not_finite, (None,)),
    (one_bucket_is_not_finite, (torch.amp.GradScaler("cpu", enabled=False),)),
    (a_scaler_leaves_no_rank_alone, ()),
]


def all_scenarios() -> None:
    """One after the other, in the same processes: starting those takes longest."""
    for scenario, arguments in SCENARIOS:
        try:
            scenario(*arguments)
        except BaseException as error:
            error.add_note(f"in {scenario.__name__}{arguments}")
            raise
