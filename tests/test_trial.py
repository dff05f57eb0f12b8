"""Reading a release as an experiment: the arms' intervals at few units, who is counted, and when there is nothing to read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from scipy import stats

import matinee as mt
from matinee.exceptions import RefusedError
from matinee.releases import Arm

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


class Bought(mt.Fact, key="member"):
    member: int


offer = mt.Decision("offer", unit="member", among=["red", "blue"], reward=mt.did(Bought, within="6h"))


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def studio(tmp_path: Path, clock: Clock) -> Iterator[mt.Studio]:
    """Two policies share the units half and half since an hour."""
    with mt.open(tmp_path / "s", clock=clock) as made:
        made.use(mt.Domain("shop", facts=[Bought], decisions=[offer]))
        old, new = (made.save_policy("offer", p) for p in (mt.Uniform(), mt.Mixture({mt.Uniform(): 1.0})))
        arms = [Arm("live", old, 0.5, "live"), Arm("challenger", new, 0.5, "challenger")]
        made.releases.put("offer", "release", arms, salt="s", guards=(), note="", by="tests")
        clock.now += timedelta(days=40)
        yield made


def decided(studio: mt.Studio, arm: str, bought: list[list[bool]]) -> None:
    """Choices of members of an arm, one list a member: whether each was followed by a purchase."""
    policy = {"live": "offer@1", "challenger": "offer@2"}[arm]
    first = 0 if arm == "live" else 10_000
    made, rows = [], []
    for m, answers in enumerate(bought):
        for k, yes in enumerate(answers):
            at = BEGAN + timedelta(days=1, hours=12 * k)
            made.append(mt.Choice(
                id=f"{arm}-{m}-{k}", decision="offer", unit=first + m, at=at, policy=policy, arm=arm,
                candidates=["red", "blue"], action=["red"], propensities=[0.5],
            ))  # fmt: skip
            if yes:
                after = at + timedelta(hours=1)
                rows.append({"member": first + m, "choice": made[-1].id, "at": after, "known": after})
    studio.log(made)
    if rows:
        studio.append(Bought, pl.DataFrame(rows))


def test_the_interval_of_few_units_is_as_wide_as_students(studio: mt.Studio) -> None:
    decided(studio, "live", [[True], [False], [True]])
    decided(studio, "challenger", [[True, True], [False]])
    live, challenger = studio.trial("offer").arms
    assert (live["units"], live["value"]) == (3, pytest.approx(2 / 3))
    half = stats.t.ppf(0.975, 2) * (1 / 3 / 3) ** 0.5
    assert (live["low"], live["high"]) == (pytest.approx(2 / 3 - half), pytest.approx(2 / 3 + half))
    # A ratio: three choices of two members. Its variance by the delta method: parts (2 - 4/3, 0 - 2/3) / 1.5.
    assert (challenger["units"], challenger["value"]) == (2, pytest.approx(2 / 3))
    error = ((2 * (2 / 3 / 1.5) ** 2) / 2) ** 0.5
    assert challenger["high"] - 2 / 3 == pytest.approx(stats.t.ppf(0.975, 1) * error)


def test_one_unit_has_no_interval_and_no_comparison(studio: mt.Studio) -> None:
    decided(studio, "live", [[True], [False]])
    decided(studio, "challenger", [[True, False, True]])
    found = studio.trial("offer")
    challenger = found.arms[1]
    assert (challenger["units"], challenger["value"], challenger["low"]) == (1, None, None)
    assert found.readout is None


def test_units_and_not_choices_are_held_against_the_shares(studio: mt.Studio) -> None:
    """500 members an arm are as promised, although one arm's came twice; 500 against 900 are not."""
    decided(studio, "live", [[m % 2 == 0] for m in range(500)])
    decided(studio, "challenger", [[m % 2 == 0, False] for m in range(500)])
    found = studio.trial("offer").readout
    assert found is not None
    assert found.ratio is not None
    assert found.ratio.counts == {"live": 500, "challenger": 500}
    assert found.ratio.passed
    decided(studio, "live", [[False]] * 900)
    found = studio.trial("offer").readout
    assert found is not None
    assert found.ratio is not None
    assert found.ratio.counts == {"live": 900, "challenger": 500}
    assert not found.ratio.passed
    assert "the arms do not have the shares they were promised" in str(found)


def test_what_came_before_the_release_or_is_not_complete_is_not_read(studio: mt.Studio, clock: Clock) -> None:
    with pytest.raises(RefusedError, match="no choice since release 1 of 'offer' has a complete reward"):
        studio.trial("offer")
    decided(studio, "live", [[True], [True]])
    clock.now = BEGAN + timedelta(days=1, hours=1)
    with pytest.raises(RefusedError, match="complete reward"):
        studio.trial("offer")
    clock.now = BEGAN + timedelta(days=40)
    assert studio.trial("offer").arms[0]["units"] == 2
    live = studio.releases.live("offer")
    assert live is not None
    studio.releases.put("offer", "release", live.arms, salt="s", guards=(), note="", by="tests")
    with pytest.raises(RefusedError, match="no choice since release 2"):
        studio.trial("offer")
