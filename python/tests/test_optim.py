"""The optimizers in one process."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

import reference

torch = pytest.importorskip("torch")

import signvote
from scenarios import Net, loss_of, model
from signvote.torch import Lion, SignSGD, Signum


def train(module: Net, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(module, step, 0).backward()
        optimizer.step()


def equal(one: Net, other: Net) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_signum_is_that_of_the_reference() -> None:
    module = model()
    optimizer = Signum(module.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    x = [parameter.detach().numpy().copy() for parameter in module.parameters()]
    momenta = [np.zeros_like(values) for values in x]
    for step in range(5):
        train(module, optimizer, range(step, step + 1))
        for index, parameter in enumerate(module.parameters()):
            momenta[index] = reference.momentum_step(momenta[index], parameter.grad.numpy(), 0.9)
            x[index] = reference.descend(x[index], reference.ballot(momenta[index]), 0.01, 0.1)
            assert np.array_equal(parameter.detach().numpy(), x[index])


@pytest.mark.parametrize("make", [Signum, SignSGD, Lion])
def test_kernels_and_foreach_make_the_same_step(make: type[torch.optim.Optimizer]) -> None:
    one, other = model(), model()
    train(one, make(one.parameters(), lr=0.01, weight_decay=0.1), range(5))
    train(other, make(other.parameters(), lr=0.01, weight_decay=0.1, foreach=True), range(5))
    assert equal(one, other)


@pytest.mark.parametrize("abstain_on", ["momentum", "gradient"])
@pytest.mark.parametrize("make", [Signum, SignSGD, Lion])
def test_they_agree_on_what_is_zero_or_not_finite(make: type[torch.optim.Optimizer], abstain_on: str) -> None:
    first = torch.linspace(-1, 1, 100)
    second = first.roll(1)
    second[::7], second[3] = 0.0, float("inf")
    ends = []
    for foreach in (None, True):
        x = torch.ones(100, requires_grad=True)
        optimizer = make([x], lr=0.01, foreach=foreach, abstain_on=abstain_on)
        for gradient in (first, second, first):
            x.grad = gradient.clone()
            optimizer.step()
        ends.append(x.detach())
    assert torch.equal(*ends)
    assert ends[0].isfinite().all()


def test_momentum_stays_float32_when_it_is_loaded() -> None:
    x = torch.ones(10, dtype=torch.bfloat16, requires_grad=True)
    x.grad = torch.linspace(-1, 1, 10).bfloat16()
    optimizer = Signum([x])
    optimizer.step()
    again = Signum([x])
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    kept, loaded = optimizer.state[x]["momentum"], again.state[x]["momentum"]
    assert loaded.dtype == torch.float32
    assert torch.equal(kept, loaded)
    again.step()
    assert torch.equal(kept, optimizer.state[x]["momentum"]), "it is a copy"


@pytest.mark.parametrize("make", [Signum, Lion])
def test_saved_and_resumed_it_goes_on_as_if_nothing_had_been(make: type[torch.optim.Optimizer]) -> None:
    whole, first = model(), model()
    train(whole, make(whole.parameters(), lr=0.01), range(8))
    optimizer = make(first.parameters(), lr=0.01)
    train(first, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file)
    again = model(seed=2)
    again.load_state_dict(saved["model"])
    optimizer = make(again.parameters(), lr=0.5)
    optimizer.load_state_dict(saved["optimizer"])
    train(again, optimizer, range(4, 8))
    assert equal(whole, again)


def test_groups_have_options_of_their_own() -> None:
    module, alone = model(), model()
    groups = [
        {"params": module.conv.parameters(), "lr": 0.1, "weight_decay": 0.5},
        {"params": [*module.fc1.parameters(), *module.fc2.parameters()]},
    ]
    train(module, Signum(groups, lr=0.01), range(1))
    train(alone, Signum(alone.parameters(), lr=0.01), range(1))
    assert torch.equal(module.fc1.weight, alone.fc1.weight)
    assert not torch.equal(module.conv.weight, alone.conv.weight)


def test_schedulers_closures_and_scalers_work() -> None:
    module, plain = model(), model()
    optimizer = Signum(module.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    before = module.fc1.weight.detach().clone()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(module, 0, 0)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert torch.allclose((module.fc1.weight - before).abs().max(), torch.tensor(0.01))
    scheduler.step()
    assert scheduler.get_last_lr() == [0.005]

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = model()
    optimizer = Signum(scaled.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(scaled, step, 0)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(plain, Signum(plain.parameters(), lr=0.01), range(3))
    assert equal(scaled, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_step_by_the_sign(dtype: torch.dtype) -> None:
    x = torch.zeros(10, dtype=dtype, requires_grad=True)
    x.grad = torch.arange(-5, 5).to(dtype)
    SignSGD([x], lr=0.5).step()
    assert torch.equal(x.detach(), -0.5 * torch.sign(torch.arange(-5, 5)).to(dtype))


def test_memory_in_another_order_is_no_obstacle() -> None:
    one, other = model(), copy.deepcopy(model()).to(memory_format=torch.channels_last)
    train(one, Signum(one.parameters(), lr=0.01), range(3))
    optimizer = Signum(other.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(other, step, 0).backward()
        # The arithmetic of a convolution differs in the last bit between memory formats.
        for a, b in zip(other.parameters(), one.parameters(), strict=True):
            assert a.grad.shape == b.shape
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in other.parameters())


def test_what_makes_no_sense_is_told() -> None:
    parameters = list(model().parameters())
    for make, wrong, expected in [
        (Signum, {"lr": -1.0}, "lr"),
        (Signum, {"momentum": 1.0}, "momentum"),
        (Lion, {"betas": (0.9, 1.0)}, "betas"),
        (Signum, {"transport": "c10d"}, "init_process_group"),
    ]:
        with pytest.raises(signvote.MisuseError, match=expected):
            make(parameters, **wrong)
