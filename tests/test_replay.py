"""A policy along the log is shown what it would have been shown, and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matinee as mt
from matinee.replay import walk

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Bought(mt.Fact, key="member"):
    member: int


habit = mt.Features("member", name="habit", bought=mt.count(Bought, "30d"))
offer = mt.Decision("offer", unit="member", among=["red", "blue"], reward=mt.did(Bought, within="6h"))


class RedForBuyers:
    """One for red, for whoever bought something."""

    name, needs = "", (habit,)

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        return mt.Scores(np.where(candidates.ids == "red", float(request.features["bought"] or 0), 0.0))


def choice(number: int, at: datetime, **context: Any) -> mt.Choice:
    return mt.Choice(
        id=f"c-{number}", decision="offer", unit=7, at=at, policy="coin", candidates=["blue", "red"], action=["red"],
        propensities=[0.5], context=context,
    )  # fmt: skip


def test_each_choice_is_seen_as_of_its_own_time_and_without_a_profile_where_none_was_allowed(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    with mt.open(tmp_path / "s", clock=lambda: NOON + 9 * hour) as studio:
        studio.use(mt.Domain("shop", facts=[Bought], features=[habit], decisions=[offer]))
        studio.log([choice(1, NOON - hour), choice(2, NOON + hour), choice(3, NOON + hour, profiled=False)])
        studio.append(Bought, [{"member": 7, "at": NOON, "known": NOON}])
        frame = studio.choices("offer").sort("id")
        walked = walk(studio, offer, mt.Softmax(RedForBuyers(), temperature=1.0), frame, 1, 0)
    after = 1 / (1 + np.exp(-1))
    assert walked.chance[:, 0] == pytest.approx([0.5, after, 0.5])
    assert [m[0, 1] for m in walked.matrices] == pytest.approx([0.5, after, 0.5])
    assert walked.alone is None, "one slot stands alone anyway"
