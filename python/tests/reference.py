"""Algorithm 1 of Bernstein et al. (2018), written plainly in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Signs = npt.NDArray[np.int8]


def rest(beta: float) -> np.float32:
    return np.float32(1.0 - float(np.float32(beta)))


def momentum_step(momentum: Floats, gradient: Floats, beta: float) -> Floats:
    """v = β·v + (1 − β)·g, each operation rounded to float32."""
    return (np.float32(beta) * momentum + rest(beta) * gradient).astype(np.float32)


def ballot(momentum: Floats) -> Signs:
    """+1, −1, and 0 where it abstains."""
    return np.sign(momentum).astype(np.int8)


def majority(ballots: list[Signs], tie: str) -> Signs:
    """+1, −1, and 0 where the vote is to hold. A tie among those who vote is held, or positive."""
    total = np.sum([ballot.astype(np.int32) for ballot in ballots], axis=0)
    verdict = np.sign(total).astype(np.int8)
    if tie == "positive":
        voted = np.sum([ballot != 0 for ballot in ballots], axis=0)
        verdict[(total == 0) & (voted > 0)] = 1
    return verdict


def descend(x: Floats, verdict: Signs, lr: float, weight_decay: float) -> Floats:
    """x = x − η·(s + λ·x), each operation rounded to float32."""
    move = verdict.astype(np.float32) + np.float32(weight_decay) * x
    return x - np.float32(lr) * move


def unpacked(plane: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.bool_]:
    """The bits of a plane."""
    return np.unpackbits(plane.view(np.uint8), bitorder="little")[:count].astype(bool)
