"""The hook in DistributedDataParallel over Gloo, against Algorithm 1."""

from __future__ import annotations

import pathlib

import pytest

pytest.importorskip("torch")

import ranks
import scenarios
import signvote


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_vote_is_that_of_algorithm_1(world: int) -> None:
    ranks.on_ranks(world, scenarios.all_scenarios)


def test_a_rank_that_dies_is_named(tmp_path: pathlib.Path) -> None:
    ranks.on_ranks(3, scenarios.a_rank_dies, 30.0, str(tmp_path / "report"), timeout=30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.0", "report.1"]


def test_what_makes_no_sense_is_told() -> None:
    assert scenarios.SignSGDState().compression_stats()["ratio"] == 1.0
    for wrong, expected in [({"momentum": 1.0}, "below 1"), ({"tie_policy": "x"}, "coin, hold or positive")]:
        with pytest.raises(signvote.MisuseError, match=expected):
            scenarios.SignSGDState(**wrong)
