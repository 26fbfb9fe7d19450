"""Planes of bits on tensors: native kernels in the CPU's memory, Triton's on CUDA, PyTorch's own operations elsewhere.

A plane is a tensor of int64, one bit a coordinate, lowest bit first. The bits are the same everywhere.
"""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch
from torch import Tensor

from .. import _native
from .._native import MisuseError
from . import _plain
from ._plain import BITS

__all__ = [
    "BITS",
    "AbstainOn",
    "Tie",
    "apply",
    "compact",
    "compact_length",
    "decide",
    "expand",
    "lion_pack",
    "momentum_pack",
    "unpack",
    "words",
]

AbstainOn = Literal["momentum", "gradient"]
Tie = Literal["coin", "hold", "positive"]


def words(coordinates: int) -> int:
    """Words of a plane of so many coordinates."""
    return -(-coordinates // BITS)


def _elsewhere(tensor: Tensor) -> Any:
    """The kernels for memory that is not the CPU's."""
    if tensor.device.type == "cuda":
        with contextlib.suppress(ModuleNotFoundError):
            from . import _triton

            return _triton
    return _plain


def _is_native(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.int64)


def momentum_pack(
    gradient: Tensor, momentum: Tensor, beta: float, signs: Tensor, abstain: Tensor, abstain_on: AbstainOn = "momentum"
) -> Tensor:
    """Moves ``momentum`` by ``gradient`` and packs its signs: v = β·v + (1 − β)·g. All flat, float32 and int64.

    Returns two numbers on the tensors' device: how many coordinates abstain, and how many of them are not finite.
    """
    if not _is_native(gradient):
        counts: Tensor = _elsewhere(gradient).momentum_pack(gradient, momentum, beta, signs, abstain, abstain_on)
        return counts
    return torch.tensor(_native.momentum_pack(gradient, momentum, beta, signs, abstain, abstain_on=abstain_on))


def lion_pack(
    gradient: Tensor,
    momentum: Tensor,
    betas: tuple[float, float],
    signs: Tensor,
    abstain: Tensor,
    abstain_on: AbstainOn = "momentum",
) -> Tensor:
    """Packs the signs of c = β₁·m + (1 − β₁)·g, and then moves m = β₂·m + (1 − β₂)·g; as :func:`momentum_pack`."""
    if not _is_native(gradient):
        counts: Tensor = _elsewhere(gradient).lion_pack(gradient, momentum, betas, signs, abstain, abstain_on)
        return counts
    return torch.tensor(_native.lion_pack(gradient, momentum, betas, signs, abstain, abstain_on=abstain_on))


def decide(
    ballots: list[tuple[Tensor, Tensor | None]],
    coordinates: int,
    signs: Tensor,
    hold: Tensor,
    tie: Tie,
    coins: Tensor | None,
    min_voters: int,
) -> int:
    """The majority of ``ballots`` into ``signs`` and ``hold``; returns how many coordinates are held."""
    if not _is_native(signs):
        held: int = _elsewhere(signs).decide(ballots, coordinates, signs, hold, tie, coins, min_voters)
        return held
    return _native.decide(ballots, coordinates, signs, hold, tie=tie, coins=coins, min_voters=min_voters)


def unpack(signs: Tensor, hold: Tensor | None, out: Tensor, scale: float = 1.0) -> None:
    """Writes a verdict into ``out``, flat and of any floating type: ±``scale``, and 0 where it holds."""
    if _is_native(out):
        _native.unpack(signs, hold, out)
    else:
        _elsewhere(out).unpack(signs, hold, out)
    if scale != 1.0:
        out.mul_(scale)


def apply(x: Tensor, signs: Tensor, hold: Tensor | None, lr: float, weight_decay: float) -> None:
    """Moves ``x``, of any shape and floating type, by a verdict: x = x − η·(s + λ·x)."""
    if _is_native(x) and x.is_contiguous():
        _native.apply(x, signs, hold, lr, weight_decay)
        return
    if x.device.type == "cuda" and x.dtype == torch.float32 and x.is_contiguous() and (kernels := _elsewhere(x)) is not _plain:
        kernels.apply(x, signs, hold, lr, weight_decay)
        return
    verdict = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    unpack(signs, hold, verdict.view(-1))
    _plain.descend(x, verdict, lr, weight_decay)


def compact(plane: Tensor) -> Tensor:
    """A plane with few bits in it, as the indices of its words that are not zero, then those words; or as it is, if that is not
    longer. Its length follows from the number of those words: :func:`compact_length`."""
    index = plane.nonzero().view(-1)
    return plane if 2 * index.numel() >= plane.numel() else torch.cat((index, plane[index]))


def compact_length(words: int, used: int) -> int:
    """Words that :func:`compact` makes of a plane of ``words`` with ``used`` words that are not zero."""
    return min(2 * used, words)


def expand(compacted: Tensor, used: int, plane: Tensor) -> None:
    """Undoes :func:`compact`; ``plane`` is the result."""
    if 2 * used >= plane.numel():
        plane.copy_(compacted)
        return
    plane.zero_()
    index = compacted[:used]
    if used and not (int(index.min()) >= 0 and int(index.max()) < plane.numel()):
        raise MisuseError("a rank has sent abstentions for coordinates that do not exist")
    plane[index] = compacted[used : 2 * used]
