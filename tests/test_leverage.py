"""The leverage report: what it says of a studio whose clock we hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import matinee as mt
from matinee.releases import Arm

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Played(mt.Fact, key="member"):
    member: int


class Billed(mt.Fact, key="member"):
    member: int


ask = mt.Decision("ask", unit="member", among=["yes", "no"])
tell = mt.Decision("tell", unit="member", among=["yes", "no"])


class Days:
    """A clock that stands at a day."""

    def __init__(self) -> None:
        self.day = 0.0

    def __call__(self) -> datetime:
        return BEGAN + timedelta(days=self.day)


def released(studio: mt.Studio, decision: str) -> None:
    name = studio.save_policy(decision, mt.Uniform())
    studio.releases.put(decision, "release", [Arm("live", name, 1.0, "live")], salt="s", guards=(), note="", by="tests")


def test_the_first_release_is_counted_from_the_first_fact_by_the_studios_clock(tmp_path: Path) -> None:
    clock = Days()
    with mt.open(tmp_path / "s", clock=clock) as studio:
        assert studio.leverage().days_to_first_release is None
        clock.day = 2.0
        studio.use(mt.Domain("viewing", facts=[Played], decisions=[ask]))
        assert studio.leverage().days_to_first_release is None, "nothing is released"
        clock.day = 5.0
        studio.use(mt.Domain("billing", facts=[Billed], decisions=[tell]))
        clock.day = 9.5
        released(studio, "tell")
        clock.day = 20.0
        released(studio, "ask")
        assert studio.leverage().days_to_first_release == pytest.approx(7.5)
        assert {"measure": "days from first fact to first release", "value": "7.50"} in studio.leverage().rows()
        studio.use(mt.Domain("viewing", facts=[Played], decisions=[ask]))  # as at each start
        assert studio.leverage().days_to_first_release == pytest.approx(7.5)


def test_a_clock_that_went_back_is_no_negative_time(tmp_path: Path) -> None:
    clock = Days()
    with mt.open(tmp_path / "s", clock=clock) as studio:
        clock.day = 3.0
        studio.use(mt.Domain("viewing", facts=[Played], decisions=[ask]))
        clock.day = 1.0
        released(studio, "ask")
        assert studio.leverage().days_to_first_release == 0.0


def test_a_studio_without_facts_of_its_own_has_no_such_days(tmp_path: Path) -> None:
    with mt.open(tmp_path / "s", clock=Days()) as studio:
        studio.use(mt.Domain("asking", decisions=[ask]))
        released(studio, "ask")
        assert studio.leverage().days_to_first_release is None


def test_what_the_registry_remembers_is_stamped_by_the_studios_clock(tmp_path: Path) -> None:
    clock = Days()
    with mt.open(tmp_path / "s", clock=clock) as studio:
        studio.use(mt.Domain("asking", decisions=[ask]))
        clock.day = 4.0
        released(studio, "ask")
        studio.registry.remember("key", "verb", {})
        studio.evaluate("ask", mt.Uniform())
        stamps = {table: studio.registry.query(f"SELECT max(at) FROM {table}")[0][0] for table in ("runs", "releases", "evidence")}
        assert stamps == dict.fromkeys(stamps, clock().timestamp())
