"""The kernels in PyTorch's own operations, for any device: the bits are those of the native ones."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 64


def momentum_pack(gradient: Tensor, momentum: Tensor, beta: float, signs: Tensor, abstain: Tensor, abstain_on: str) -> Tensor:
    moved = _mix(momentum, gradient, beta)
    sound = gradient.isfinite() & moved.isfinite()
    momentum.copy_(torch.where(sound, moved, momentum))
    return _fold_signs(momentum, gradient, sound, signs, abstain, abstain_on)


def lion_pack(
    gradient: Tensor, momentum: Tensor, betas: tuple[float, float], signs: Tensor, abstain: Tensor, abstain_on: str
) -> Tensor:
    votes, moved = _mix(momentum, gradient, betas[0]), _mix(momentum, gradient, betas[1])
    sound = gradient.isfinite() & votes.isfinite() & moved.isfinite()
    momentum.copy_(torch.where(sound, moved, momentum))
    return _fold_signs(votes, gradient, sound, signs, abstain, abstain_on)


def rest(beta: float) -> float:
    """1 − β as the kernels take it: β in float32, the difference in float64, rounded once to float32."""
    return float(torch.tensor(1.0 - float(torch.tensor(beta, dtype=torch.float32)), dtype=torch.float32))


def _mix(momentum: Tensor, gradient: Tensor, beta: float) -> Tensor:
    return momentum.mul(beta).add_(gradient.mul(rest(beta)))


def _fold_signs(values: Tensor, gradient: Tensor, sound: Tensor, signs: Tensor, abstain: Tensor, abstain_on: str) -> Tensor:
    out = ~sound | (values == 0)
    if abstain_on == "gradient":
        out |= gradient == 0
    fold((values < 0) & ~out, signs)
    fold(out, abstain)
    return torch.stack((out.sum(), (~sound).sum()))


def fold(bits: Tensor, plane: Tensor) -> None:
    """Packs booleans into a plane."""
    padded = torch.zeros(plane.numel() * BITS, dtype=torch.int64, device=bits.device)
    padded[: bits.numel()] = bits
    shifts = torch.arange(BITS, dtype=torch.int64, device=bits.device)
    # No two of them share a bit, so that the sum is their union; bit 63 makes it negative.
    plane.copy_((padded.view(-1, BITS) << shifts).sum(dim=1))


def unfold(plane: Tensor, coordinates: int) -> Tensor:
    """The bits of a plane, 0 or 1."""
    shifts = torch.arange(BITS, dtype=torch.int64, device=plane.device)
    return ((plane.unsqueeze(1) >> shifts) & 1).view(-1)[:coordinates]


def decide(
    ballots: list[tuple[Tensor, Tensor | None]],
    coordinates: int,
    signs: Tensor,
    hold: Tensor,
    tie: str,
    coins: Tensor | None,
    min_voters: int,
) -> int:
    """``coins``: a plane of them, where ties are thrown for."""
    negative = torch.zeros(coordinates, dtype=torch.int64, device=signs.device)
    voted = torch.full_like(negative, len(ballots))
    for cast, abstain in ballots:
        votes = unfold(cast, coordinates)
        if abstain is not None:
            out = unfold(abstain, coordinates)
            votes = votes & ~out
            voted -= out
        negative += votes
    held = voted < max(1, min_voters)
    tied = (2 * negative == voted) & ~held
    verdict = 2 * negative > voted
    if tie == "hold":
        held |= tied
    elif coins is not None:
        verdict |= tied & unfold(coins, coordinates).bool()
    fold(verdict & ~held, signs)
    fold(held, hold)
    return int(held.sum())


def unpack(signs: Tensor, hold: Tensor | None, out: Tensor) -> None:
    values = 1 - 2 * unfold(signs, out.numel())
    if hold is not None:
        values *= 1 - unfold(hold, out.numel())
    out.copy_(values)


def descend(x: Tensor, sign: Tensor, lr: float, weight_decay: float) -> None:
    """x = x − η·(s + λ·x) in that order, each operation rounded, none fused."""
    x.sub_(x.mul(weight_decay).add_(sign).mul_(lr))
