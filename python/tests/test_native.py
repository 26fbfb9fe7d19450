"""The native half: kernels against plain NumPy, and what is said about wrong arguments."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import reference
import signvote

LENGTHS = [1, 63, 64, 65, 1000, 70_001]


def planes(count: int) -> tuple[np.ndarray, np.ndarray]:
    words = signvote.words(count)
    # Whatever was there before is overwritten.
    return np.full(words, 0xABCD, np.uint64), np.full(words, 0x1234, np.uint64)


def values(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal(count).astype(np.float32)
    drawn[rng.random(count) < 0.1] = 0.0
    return drawn


@pytest.mark.parametrize("count", LENGTHS)
def test_momentum_and_ballot_are_those_of_the_reference(count: int) -> None:
    momentum, expected = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for step in range(3):
        gradient = values(count, step)
        signs, abstain = planes(count)
        abstained, non_finite = signvote.momentum_pack(gradient, momentum, 0.9, signs, abstain)
        expected = reference.momentum_step(expected, gradient, 0.9)
        assert np.array_equal(momentum.view(np.uint32), expected.view(np.uint32))
        cast = reference.ballot(expected)
        assert np.array_equal(reference.unpacked(signs, count), cast < 0)
        assert np.array_equal(reference.unpacked(abstain, count), cast == 0)
        assert (abstained, non_finite) == (np.sum(cast == 0), 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pack_takes_both_widths(dtype: str) -> None:
    drawn = values(1000, 3).astype(dtype)
    drawn[5] = np.nan
    signs, abstain = planes(1000)
    abstained, non_finite = signvote.pack(drawn, signs, abstain)
    assert non_finite == 1
    assert np.array_equal(reference.unpacked(signs, 1000), drawn < 0)
    assert abstained == np.sum(drawn == 0) + 1


def packed(ballot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    signs, abstain = planes(len(ballot))
    signvote.pack(ballot.astype(np.float32), signs, abstain)
    return signs, abstain


@pytest.mark.parametrize("tie", ["hold", "positive"])
@pytest.mark.parametrize("voters", [1, 2, 3, 8])
def test_the_majority_is_that_of_the_reference(voters: int, tie: str) -> None:
    count = 1000
    cast = [reference.ballot(values(count, 10 + voter)) for voter in range(voters)]
    ballots = [packed(ballot) for ballot in cast]
    signs, hold = planes(count)
    holds = signvote.decide(ballots, count, signs, hold, tie=tie)
    expected = reference.majority(cast, tie)
    verdict = np.empty(count, np.float32)
    signvote.unpack(signs, hold, verdict)
    assert np.array_equal(verdict, expected)
    assert holds == np.sum(expected == 0)
    x = values(count, 1)
    moved = x.copy()
    signvote.apply(moved, signs, hold, 0.01, 0.1)
    assert np.array_equal(moved, reference.descend(x, expected, 0.01, 0.1))


def thrown(parts: list[tuple[int, int]], **where: int) -> np.ndarray:
    count = sum(length for _, length in parts)
    plane, _ = planes(count)
    signvote.coins(parts, plane, **{"seed": 7, "step": 3, **where})
    return reference.unpacked(plane, count)


def test_coins_are_fair_and_the_same_for_all() -> None:
    parts = [(0, 64_000)]
    first = thrown(parts)
    assert np.array_equal(first, thrown(parts))
    assert abs(first.mean() - 0.5) < 0.01
    for other in (thrown(parts, seed=8), thrown(parts, step=4), thrown([(1, 64_000)])):
        assert abs(np.mean(first == other) - 0.5) < 0.01


def test_a_tensor_has_the_same_coins_wherever_it_lies() -> None:
    one, two, three = thrown([(1, 1000)]), thrown([(2, 77)]), thrown([(3, 300)])
    assert np.array_equal(thrown([(2, 77), (1, 1000), (3, 300)]), np.concatenate((two, one, three)))
    assert np.array_equal(thrown([(3, 300), (2, 77), (1, 1000)]), np.concatenate((three, two, one)))
    # A part of it, as a rank throws it that tallies that part.
    whole, some = np.concatenate((one, three)), np.zeros(5, np.uint64)
    signvote.coins([(1, 1000), (3, 300)], some, seed=7, step=3, first_word=14)
    assert np.array_equal(reference.unpacked(some, 320), whole[14 * 64 : 14 * 64 + 320])


def test_a_coin_turns_ties_and_nothing_else() -> None:
    count = 1000
    cast = [reference.ballot(values(count, 10 + voter)) for voter in range(4)]
    ballots = [packed(ballot) for ballot in cast]
    coins, _ = planes(count)
    signvote.coins([(0, count)], coins, seed=1, step=1)
    signs, hold = planes(count)
    holds = signvote.decide(ballots, count, signs, hold, tie="coin", coins=coins)
    total, voted = np.sum(cast, axis=0, dtype=int), np.sum(np.abs(cast), axis=0, dtype=int)
    expected = np.where(total == 0, np.where(reference.unpacked(coins, count), -1, 1), np.sign(total))
    expected[voted == 0] = 0
    verdict = np.empty(count, np.float32)
    signvote.unpack(signs, hold, verdict)
    assert np.array_equal(verdict, expected)
    assert holds == np.sum(voted == 0)
    with pytest.raises(signvote.MisuseError, match="coins="):
        signvote.decide(ballots, count, signs, hold, tie="coin")


def test_lion_votes_before_its_momentum_moves() -> None:
    count = 300
    momentum, gradient = values(count, 1), values(count, 2)
    before = momentum.copy()
    signs, abstain = planes(count)
    signvote.lion_pack(gradient, momentum, (0.9, 0.99), signs, abstain)
    votes = reference.momentum_step(before, gradient, 0.9)
    assert np.array_equal(reference.unpacked(signs, count), votes < 0)
    assert np.array_equal(momentum, reference.momentum_step(before, gradient, 0.99))


def wrong(function: str, **change: object) -> str:
    """What is said about a call that would be right but for this change."""
    arguments: dict[str, object] = {
        "gradient": np.ones(100, np.float32),
        "momentum": np.zeros(100, np.float32),
        "beta": 0.9,
        "signs": np.zeros(2, np.uint64),
        "abstain": np.zeros(2, np.uint64),
    }
    with pytest.raises(getattr(signvote, function)) as caught:
        signvote.momentum_pack(**{**arguments, **change})  # type: ignore[arg-type]
    assert isinstance(caught.value, signvote.SignvoteError)
    return str(caught.value)


def test_wrong_arguments_are_told_what_to_do() -> None:
    assert wrong("DtypeError", gradient=np.ones(100)) == "gradient: expected float32, got float64"
    assert "got list" in wrong("DtypeError", gradient=[1.0] * 100)
    assert wrong("DtypeError", signs=np.zeros(2, np.int32)) == "signs: expected uint64 or int64, got int32"
    assert wrong("ShapeError", momentum=np.zeros(99, np.float32)) == "momentum: expected 100 coordinates, got 99"
    assert wrong("ShapeError", abstain=np.zeros(3, np.uint64)) == "abstain: expected 2 words, got 3"
    assert "in one piece" in wrong("MemoryLayoutError", gradient=np.ones(200, np.float32)[::2])
    frozen = np.zeros(100, np.float32)
    frozen.flags.writeable = False
    assert "cannot be written to" in wrong("MemoryLayoutError", momentum=frozen)
    both = np.zeros(2, np.uint64)
    assert "cannot be written to" in wrong("MemoryLayoutError", signs=both, abstain=both)
    assert "below 1" in wrong("MisuseError", beta=1.0)
    assert "momentum or gradient" in wrong("MisuseError", abstain_on="never")


def test_an_address_where_nobody_listens_is_told() -> None:
    with pytest.raises(signvote.LostError, match="127.0.0.1:9"):
        signvote.Client("127.0.0.1:9", [("w", [3])], lambda terms: np.zeros(3, np.float32), patience=0.2)
    with pytest.raises(signvote.MisuseError, match="belong together"):
        signvote.Client("127.0.0.1:9", [("w", [3])], lambda terms: np.zeros(3, np.float32), certs="/tmp")
    with pytest.raises(signvote.IdentityError, match=r"ca\.crt"):
        signvote.Client("127.0.0.1:9", [("w", [3])], lambda terms: None, certs="/nowhere", identity="ada")


def test_other_threads_run_meanwhile() -> None:
    count = 30_000_000
    gradient, momentum = np.ones(count, np.float32), np.zeros(count, np.float32)
    signs, abstain = planes(count)
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    signvote.momentum_pack(gradient, momentum, 0.9, signs, abstain)
    during = ticks
    done.set()
    thread.join()
    assert during > 2


def test_importing_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import signvote; print(signvote.__version__)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; sys.modules['torch'] = None; import signvote.torch"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'signvote[torch]'" in failed.stderr
