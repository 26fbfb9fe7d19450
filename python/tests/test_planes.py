"""Kernels on tensors: PyTorch's operations and the native ones make the same bits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import signvote
from signvote.torch import _plain, _planes


def drawn(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator)
    values[torch.rand(count, generator=generator) < 0.1] = 0.0
    values[::97] = float("nan")
    values[1::97] = float("inf")
    values[2::97] = 1e-42
    return values


def empty(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.full((_planes.words(count),), 77, dtype=torch.int64) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("abstain_on", ["momentum", "gradient"])
@pytest.mark.parametrize("count", [1, 64, 1000])
def test_both_ways_of_packing_agree(count: int, abstain_on: str) -> None:
    for beta in (0.0, 0.9):
        one, other = torch.zeros(count), torch.zeros(count)
        for step in range(3):
            gradient = drawn(count, step)
            native, plain = empty(count), empty(count)
            counts = _planes.momentum_pack(gradient, one, beta, *native, abstain_on)
            same = _plain.momentum_pack(gradient, other, beta, *plain, abstain_on)
            assert counts.tolist() == same.tolist()
            assert torch.equal(one.view(torch.int32), other.view(torch.int32))
            assert all(torch.equal(a, b) for a, b in zip(native, plain, strict=True))
    one, other = torch.zeros(count), torch.zeros(count)
    for step in range(3):
        gradient = drawn(count, step)
        native, plain = empty(count), empty(count)
        _planes.lion_pack(gradient, one, (0.9, 0.99), *native, abstain_on)
        _plain.lion_pack(gradient, other, (0.9, 0.99), *plain, abstain_on)
        assert torch.equal(one, other)
        assert all(torch.equal(a, b) for a, b in zip(native, plain, strict=True))


@pytest.mark.parametrize("tie", ["coin", "hold", "positive"])
def test_both_ways_of_deciding_agree(tie: str) -> None:
    count = 1000
    for voters in (1, 2, 4, 5):
        ballots = []
        for voter in range(voters):
            planes = empty(count)
            _planes.momentum_pack(drawn(count, voter), torch.zeros(count), 0.0, *planes)
            ballots.append(planes if voter else (planes[0], None))
        native, plain = empty(count), empty(count)
        coins = None
        if tie == "coin":
            coins = torch.empty(_planes.words(count), dtype=torch.int64)
            signvote.coins([(0, count)], coins, seed=3, step=4)
        held = _planes.decide(ballots, count, *native, tie, coins, 2)
        assert held == _plain.decide(ballots, count, *plain, tie, coins, 2)
        assert all(torch.equal(a, b) for a, b in zip(native, plain, strict=True))
        one, other = torch.empty(count), torch.empty(count)
        _planes.unpack(*native, one)
        _plain.unpack(*plain, other)
        assert torch.equal(one, other)
        x = drawn(count, 9).nan_to_num(0, 1, -1)
        same = x.clone()
        _planes.apply(x, *native, 0.01, 0.1)
        _plain.descend(same, other, 0.01, 0.1)
        assert torch.equal(x, same)


def test_planes_with_few_bits_are_short() -> None:
    for used in (0, 1, 7, 49, 50, 100):
        plane = torch.zeros(100, dtype=torch.int64)
        plane[:used] = torch.arange(1, used + 1)
        compacted = _planes.compact(plane)
        assert compacted.numel() == _planes.compact_length(100, used)
        again = torch.full_like(plane, 5)
        _planes.expand(compacted, used, again)
        assert torch.equal(plane, again)
    with pytest.raises(signvote.MisuseError, match="do not exist"):
        _planes.expand(torch.tensor([100, 1]), 1, torch.zeros(100, dtype=torch.int64))


def test_tensors_are_taken_as_they_lie() -> None:
    values = torch.tensor([1.0, -2.0, 0.0], dtype=torch.bfloat16, requires_grad=True)
    signs, abstain = empty(3)
    assert signvote.pack(values, signs, abstain) == (1, 0)
    assert (signs.item(), abstain.item()) == (0b010, 0b100)
    meta = torch.ones(3, device="meta")
    with pytest.raises(signvote.DeviceError, match="is on meta"):
        signvote.pack(meta, signs, abstain)
