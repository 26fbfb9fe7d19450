"""Triton's kernels make the bits of the native ones: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import signvote
from signvote.torch import _planes, _triton
from test_planes import drawn, empty

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COUNTS = [1, 64, 2048, 2049, 5000]


def there(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.to(DEVICE, copy=True) for tensor in tensors]


def same(native: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(native.view(torch.uint8), other.cpu().view(torch.uint8))


@pytest.mark.parametrize("abstain_on", ["momentum", "gradient"])
@pytest.mark.parametrize("count", COUNTS)
def test_packing(count: int, abstain_on: str) -> None:
    for beta in (0.0, 0.9):
        momentum = torch.zeros(count)
        (other,) = there(momentum)
        for step in range(3):
            gradient, planes = drawn(count, step), empty(count)
            signs, abstain = there(*empty(count))
            counts = _planes.momentum_pack(gradient, momentum, beta, *planes, abstain_on)
            found = _triton.momentum_pack(*there(gradient), other, beta, signs, abstain, abstain_on)
            assert counts.tolist() == found.tolist()
            assert same(momentum, other) and same(planes[0], signs) and same(planes[1], abstain)
    momentum = torch.zeros(count)
    (other,) = there(momentum)
    for step in range(3):
        gradient, planes = drawn(count, step), empty(count)
        signs, abstain = there(*empty(count))
        _planes.lion_pack(gradient, momentum, (0.9, 0.99), *planes, abstain_on)
        _triton.lion_pack(*there(gradient), other, (0.9, 0.99), signs, abstain, abstain_on)
        assert same(momentum, other) and same(planes[0], signs) and same(planes[1], abstain)


@pytest.mark.parametrize("tie", ["coin", "hold", "positive"])
@pytest.mark.parametrize("voters", [1, 2, 5])
def test_deciding_unpacking_and_applying(voters: int, tie: str) -> None:
    for count in COUNTS:
        ballots = []
        for voter in range(voters):
            planes = empty(count)
            _planes.momentum_pack(drawn(count, voter), torch.zeros(count), 0.0, *planes)
            ballots.append(planes if voter % 2 else (planes[0], None))
        coins = None
        if tie == "coin":
            coins = torch.empty(_planes.words(count), dtype=torch.int64)
            signvote.coins([(0, count)], coins, seed=3, step=4)
        signs, hold = empty(count)
        other_signs, other_hold = there(*empty(count))
        held = _planes.decide(ballots, count, signs, hold, tie, coins, 1)
        moved = [(there(cast)[0], None if out is None else there(out)[0]) for cast, out in ballots]
        thrown = None if coins is None else there(coins)[0]
        assert held == _triton.decide(moved, count, other_signs, other_hold, tie, thrown, 1)
        assert same(signs, other_signs) and same(hold, other_hold)
        for held_too in (None, hold):
            there_too = None if held_too is None else other_hold
            one, (other,) = torch.empty(count), there(torch.empty(count))
            _planes.unpack(signs, held_too, one)
            _triton.unpack(other_signs, there_too, other)
            assert same(one, other)
            x = drawn(count, 9)
            (y,) = there(x)
            _planes.apply(x, signs, held_too, 0.01, 0.1)
            _triton.apply(y, other_signs, there_too, 0.01, 0.1)
            # Which NaN a NaN becomes is not specified.
            assert same(x.nan_to_num(nan=7.0), y.nan_to_num(nan=7.0))


@pytest.mark.skipif(DEVICE != "cuda", reason="there is no GPU: the kernels have run in Triton's interpreter")
def test_a_gpu_is_used_where_there_is_one() -> None:
    gradient, momentum = torch.randn(10_000, device="cuda"), torch.zeros(10_000, device="cuda")
    signs, abstain = there(*empty(10_000))
    counts = _planes.momentum_pack(gradient, momentum, 0.9, signs, abstain)
    assert counts.device.type == "cuda"
    assert counts.tolist() == [0, 0]
