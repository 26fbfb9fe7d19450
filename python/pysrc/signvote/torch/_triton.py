"""The kernels on CUDA tensors, in Triton. The bits are those of the native ones: no operation is fused with another.

Each program instance takes some words of a plane, and the 64 coordinates of each in a row of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._plain import rest

# Words of one program instance: 64 coordinates each.
WORDS = 32
TIES = {"hold": 0, "positive": 1, "coin": 2}


@triton.jit
def _fold(bits: Any, lane: Any) -> Any:
    # No two of them share a bit, so that the sum is their union.
    return tl.sum(bits.to(tl.int64) << lane[None, :].to(tl.int64), axis=1)


@triton.jit
def _finite(values: Any) -> Any:
    # False for NaN, too.
    return tl.abs(values) < float("inf")


@triton.jit
def _store_ballot(
    votes: Any, sound: Any, gradient: Any, inside: Any, word: Any, lane: Any, signs: Any, abstain: Any, counts: Any,
    coordinates: Any, ON_GRADIENT: tl.constexpr,
) -> None:  # fmt: skip
    out = (sound == 0) | (votes == 0)
    if ON_GRADIENT:
        out = out | (gradient == 0)
    out = out & inside
    negative = (votes < 0) & (out == 0) & inside
    whole = word.to(tl.int64) * 64 < coordinates
    tl.store(signs + word, _fold(negative, lane), mask=whole)
    tl.store(abstain + word, _fold(out, lane), mask=whole)
    tl.atomic_add(counts, tl.sum(tl.sum(out.to(tl.int64), axis=1), axis=0))
    unsound = (sound == 0) & inside
    tl.atomic_add(counts + 1, tl.sum(tl.sum(unsound.to(tl.int64), axis=1), axis=0))


@triton.jit
def _momentum_pack(
    gradient: Any, momentum: Any, signs: Any, abstain: Any, counts: Any, coordinates: Any, beta: Any, rest_: Any,
    ON_GRADIENT: tl.constexpr, WORDS: tl.constexpr,
) -> None:  # fmt: skip
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 64)
    at = word[:, None].to(tl.int64) * 64 + lane[None, :]
    inside = at < coordinates
    g = tl.load(gradient + at, mask=inside, other=0.0)
    old = tl.load(momentum + at, mask=inside, other=0.0)
    moved = old * beta + g * rest_
    sound = _finite(g) & _finite(moved)
    v = tl.where(sound, moved, old)
    tl.store(momentum + at, v, mask=inside)
    _store_ballot(v, sound, g, inside, word, lane, signs, abstain, counts, coordinates, ON_GRADIENT)


@triton.jit
def _lion_pack(
    gradient: Any, momentum: Any, signs: Any, abstain: Any, counts: Any, coordinates: Any, beta_1: Any, rest_1: Any,
    beta_2: Any, rest_2: Any, ON_GRADIENT: tl.constexpr, WORDS: tl.constexpr,
) -> None:  # fmt: skip
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 64)
    at = word[:, None].to(tl.int64) * 64 + lane[None, :]
    inside = at < coordinates
    g = tl.load(gradient + at, mask=inside, other=0.0)
    old = tl.load(momentum + at, mask=inside, other=0.0)
    votes = old * beta_1 + g * rest_1
    moved = old * beta_2 + g * rest_2
    sound = _finite(g) & _finite(votes) & _finite(moved)
    tl.store(momentum + at, tl.where(sound, moved, old), mask=inside)
    _store_ballot(votes, sound, g, inside, word, lane, signs, abstain, counts, coordinates, ON_GRADIENT)


@triton.jit
def _decide(
    cast: Any, out: Any, coins: Any, signs: Any, hold: Any, counts: Any, coordinates: Any, words: Any, ballots: Any, least: Any,
    ABSTAINS: tl.constexpr, TIE: tl.constexpr, WORDS: tl.constexpr,
) -> None:  # fmt: skip
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 64)
    whole = word < words
    inside = (word[:, None].to(tl.int64) * 64 + lane[None, :]) < coordinates
    shift = lane[None, :].to(tl.int64)
    negative = tl.zeros((WORDS, 64), tl.int32)
    voted = tl.zeros((WORDS, 64), tl.int32)
    for ballot in range(ballots):
        row = ballot * words
        votes = (tl.load(cast + row + word, mask=whole, other=0)[:, None] >> shift) & 1
        if ABSTAINS:
            voting = 1 - ((tl.load(out + row + word, mask=whole, other=0)[:, None] >> shift) & 1)
            votes = votes & voting
            voted += voting.to(tl.int32)
        else:
            voted += 1
        negative += votes.to(tl.int32)
    held = voted < least
    tied = (2 * negative == voted) & (held == 0)
    verdict = 2 * negative > voted
    if TIE == 0:
        held = held | tied
    if TIE == 2:
        thrown = (tl.load(coins + word, mask=whole, other=0)[:, None] >> shift) & 1
        verdict = verdict | (tied & (thrown == 1))
    held = held & inside
    verdict = verdict & (held == 0) & inside
    tl.store(signs + word, _fold(verdict, lane), mask=whole)
    tl.store(hold + word, _fold(held, lane), mask=whole)
    tl.atomic_add(counts, tl.sum(tl.sum(held.to(tl.int64), axis=1), axis=0))


@triton.jit
def _verdict(signs: Any, hold: Any, word: Any, lane: Any, whole: Any, HOLDS: tl.constexpr) -> Any:
    shift = lane[None, :].to(tl.int64)
    bits = (tl.load(signs + word, mask=whole, other=0)[:, None] >> shift) & 1
    values = 1 - 2 * bits
    if HOLDS:
        values = values * (1 - ((tl.load(hold + word, mask=whole, other=0)[:, None] >> shift) & 1))
    return values.to(tl.float32)


@triton.jit
def _unpack(signs: Any, hold: Any, to: Any, coordinates: Any, HOLDS: tl.constexpr, WORDS: tl.constexpr) -> None:
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 64)
    whole = word.to(tl.int64) * 64 < coordinates
    at = word[:, None].to(tl.int64) * 64 + lane[None, :]
    tl.store(to + at, _verdict(signs, hold, word, lane, whole, HOLDS), mask=at < coordinates)


@triton.jit
def _apply(
    x: Any, signs: Any, hold: Any, coordinates: Any, lr: Any, weight_decay: Any, HOLDS: tl.constexpr, WORDS: tl.constexpr
) -> None:
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    lane = tl.arange(0, 64)
    whole = word.to(tl.int64) * 64 < coordinates
    at = word[:, None].to(tl.int64) * 64 + lane[None, :]
    inside = at < coordinates
    old = tl.load(x + at, mask=inside, other=0.0)
    move = _verdict(signs, hold, word, lane, whole, HOLDS) + old * weight_decay
    tl.store(x + at, old - move * lr, mask=inside)


def _launch(kernel: Any, signs: Tensor, *arguments: Any, **constants: Any) -> None:
    """Runs a kernel over all words of ``signs``, on the device where they are."""
    with torch.cuda.device_of(signs):
        kernel[(triton.cdiv(signs.numel(), WORDS),)](*arguments, WORDS=WORDS, enable_fp_fusion=False, **constants)


def momentum_pack(gradient: Tensor, momentum: Tensor, beta: float, signs: Tensor, abstain: Tensor, abstain_on: str) -> Tensor:
    counts = torch.zeros(2, dtype=torch.int64, device=gradient.device)
    on_gradient = abstain_on == "gradient"
    planes = (gradient, momentum, signs, abstain, counts, gradient.numel())
    _launch(_momentum_pack, signs, *planes, beta, rest(beta), ON_GRADIENT=on_gradient)
    return counts


def lion_pack(
    gradient: Tensor, momentum: Tensor, betas: tuple[float, float], signs: Tensor, abstain: Tensor, abstain_on: str
) -> Tensor:
    counts = torch.zeros(2, dtype=torch.int64, device=gradient.device)
    on_gradient = abstain_on == "gradient"
    planes = (gradient, momentum, signs, abstain, counts, gradient.numel())
    _launch(_lion_pack, signs, *planes, betas[0], rest(betas[0]), betas[1], rest(betas[1]), ON_GRADIENT=on_gradient)
    return counts


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
    cast = torch.stack([votes for votes, _ in ballots])
    abstains = any(out is not None for _, out in ballots)
    out = torch.stack([torch.zeros_like(signs) if out is None else out for _, out in ballots]) if abstains else cast
    counts = torch.zeros(1, dtype=torch.int64, device=signs.device)
    sizes = (coordinates, signs.numel(), len(ballots), max(1, min_voters))
    coins = signs if coins is None else coins
    _launch(_decide, signs, cast, out, coins, signs, hold, counts, *sizes, ABSTAINS=abstains, TIE=TIES[tie])
    return int(counts)


def unpack(signs: Tensor, hold: Tensor | None, out: Tensor) -> None:
    _launch(_unpack, signs, signs, signs if hold is None else hold, out, out.numel(), HOLDS=hold is not None)


def apply(x: Tensor, signs: Tensor, hold: Tensor | None, lr: float, weight_decay: float) -> None:
    held = signs if hold is None else hold
    _launch(_apply, signs, x, signs, held, x.numel(), lr, weight_decay, HOLDS=hold is not None)
