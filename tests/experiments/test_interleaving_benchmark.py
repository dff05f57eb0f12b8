"""The interleaving benchmark at its smallest size: the score it sizes is the readout's, and the order is as it should be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import interleaving


def test_its_rows_are_whole() -> None:
    rows = interleaving.main(
        [
            "--members",
            "600",
            "--visits",
            "4",
            "--noises",
            ".2,1.5",
            "--repeats",
            "40",
            "--null-members",
            "200",
            "--null-repeats",
            "40",
        ]
    )
    by = {(r["dataset"], r["system"]): r for r in rows}
    world = "noise 0.2 against 1.5, 4 visits"
    assert by[world, "matinee"]["users"] < by[world, "A/B with CUPED"]["users"] < by[world, "A/B"]["users"]
    assert by[world, "matinee"]["power"] > 0.7
    # Where members click by place only, credit by plain ranks finds a difference that is not there; ours does not.
    assert by["indifferent", "rank credit"]["false_alarms"] > 0.2
    assert by["indifferent", "matinee"]["false_alarms"] <= 0.15
    assert all({"seconds", "cpu_seconds", "peak_mb"} <= set(r) for r in rows)


def test_the_mean_activity_is_that_of_the_draws() -> None:
    drawn = np.minimum(2.5, np.exp(np.random.default_rng(0).normal(size=400_000) - 0.5))
    assert interleaving._mean_activity(1.0, 2.5) == pytest.approx(drawn.mean(), abs=0.005)


def test_sizes_follow_the_formula() -> None:
    scores = np.random.default_rng(0).normal(0.3, 1.0, 5000)
    found = interleaving._needed(scores, float(scores.var(ddof=1)))
    assert found.users == pytest.approx((1.96 + 1.645) ** 2 * scores.var() / scores.mean() ** 2, rel=0.01)
