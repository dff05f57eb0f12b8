from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.times import EPOCH
from matinee.worlds import PrototypeRetry
from matinee.worlds.retry import (
    DO_NOT_HONOUR,
    EXPIRED,
    FUNDS,
    HARD,
    HOLD,
    PAYDAYS,
    PAYS,
    TECHNICAL,
    Declined,
    days_since_payday,
    days_since_payday_of,
    shown_code,
    shown_codes,
    success,
    success_of,
)


def days(at: datetime) -> float:
    return (at - EPOCH).total_seconds() / 86_400


@pytest.mark.parametrize(
    ("at", "payday", "since"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), "1st", 0.0),
        (datetime(2026, 2, 28, 12, tzinfo=UTC), "1st", 27.5),
        (datetime(2026, 3, 14, tzinfo=UTC), "15th", 27.0),
        (datetime(2026, 3, 26, 6, tzinfo=UTC), "26th", 0.25),
        (datetime(2026, 1, 25, tzinfo=UTC), "26th", 30.0),
        (datetime(2026, 3, 5, tzinfo=UTC), "weekly", 0.0),  # a Thursday
        (datetime(2026, 3, 4, tzinfo=UTC), "weekly", 6.0),
    ],
)
def test_days_since_payday_by_the_calendar(at: datetime, payday: str, since: float) -> None:
    index = PAYDAYS.index(payday)
    assert days_since_payday_of(days(at), index, 3) == pytest.approx(since)
    assert days_since_payday(np.array([days(at)]), np.array([index]), np.array([3])) == pytest.approx(since)


@given(st.floats(0, 40_000), st.integers(0, 3), st.sampled_from([3, 4]))
def test_payday_of_one_is_payday_of_many(day: float, payday: int, weekday: int) -> None:
    many = days_since_payday(np.array([day]), np.array([payday]), np.array([weekday]))
    assert days_since_payday_of(day, payday, weekday) == pytest.approx(many.item())
    assert 0 <= many.item() < 32


def one(reason: int, **hidden: float) -> Declined:
    values = {"level": 0.8, "tau": 5.0, "quality": 0.4, "ready": 2.0, "payday": 0, "weekday": 3} | hidden
    return Declined(np.array([reason]), **{name: np.array([value]) for name, value in values.items()})


def at_day(declined: Declined, t: float, number: int = 0, first: float | None = None) -> float:
    start = days(datetime(2026, 3, 1, tzinfo=UTC)) if first is None else first
    many = success(declined, np.array([start]), np.array([t]), np.array([number])).item()
    assert success_of(declined, 0, start, t, number) == pytest.approx(many)
    return float(many)


def test_known_answers_of_section_9() -> None:
    # On the payday itself, before a third of the day is over: level 0.8, not weekly, + .03, times 1.1.
    assert at_day(one(FUNDS), 0.0) == pytest.approx((0.8 + 0.03) * 1.1)
    assert at_day(one(FUNDS), 5.1 + 0.4 - 0.5 + 0.1, first=None) == pytest.approx((0.8 * np.exp(-1) + 0.03) * 1.1)
    assert at_day(one(FUNDS), 0.5) == pytest.approx((0.8 * np.exp(-0.4 / 5) + 0.03) * 0.95)
    assert at_day(one(DO_NOT_HONOUR), 1.0, number=2) == pytest.approx(0.4 * 0.6 * 0.86**2)
    assert at_day(one(DO_NOT_HONOUR), 20.0) == pytest.approx(0.4 * 1.25)
    assert [at_day(one(HOLD), t) for t in (1.9, 2.0)] == [0.0, 0.85]
    assert [at_day(one(TECHNICAL), t) for t in (1.9, 2.0)] == [0.0, 0.93]
    assert [at_day(one(EXPIRED), t) for t in (1.9, 2.0)] == [0.0, 0.9]
    assert at_day(one(HARD), 27.0) == 0.0
    assert at_day(one(PAYS), 0.0) == 1.0


def test_weekly_pay_is_less_sure() -> None:
    thursday = days(datetime(2026, 3, 5, tzinfo=UTC))
    assert at_day(one(FUNDS, payday=3), 0.0, first=thursday) == pytest.approx((0.8 * 0.8 + 0.03) * 1.1)


@pytest.mark.parametrize(
    ("schedule", "recovered", "attempts", "day"),
    [
        ([8, 16, 24], 0.558, 2.2, 12.7),
        ([1, 3, 5, 7], 0.545, 3.0, 3.2),
        ([5 / 1440, 1 / 24, 5 / 24, 1, 2, 4], 0.521, 4.5, 1.0),
        ([k * 14 / 8 for k in range(1, 9)], 0.698, 4.5, 5.3),
        ([k * 3.5 for k in range(1, 9)], 0.722, 4.2, 9.8),
        ([k * 1.4 for k in range(1, 21)], 0.821, 7.5, 6.7),
    ],
    ids=["Kill Bill", "days 1 3 5 7", "Yuno", "8 in 14 days", "8 in 28 days", "20 in 28 days"],
)
def test_fixed_schedules_recover_what_the_prototype_measured(
    schedule: list[float], recovered: float, attempts: float, day: float
) -> None:
    found = PrototypeRetry(40_000, seed=1).schedule(schedule)
    assert found.recovered == pytest.approx(recovered, abs=0.02)
    assert found.attempts == pytest.approx(attempts, abs=0.2)
    assert found.day == pytest.approx(day, abs=0.2)


def test_codes_shown_follow_their_shares() -> None:
    rng = np.random.default_rng(0)
    codes = shown_codes(np.full(20_000, FUNDS), rng.random(20_000), rng.random(20_000))
    assert np.mean(codes == "51") == pytest.approx(0.82, abs=0.01)
    assert set(codes) == {"51", "05"}
    assert shown_code(HOLD, 0.1, 0.9) == "62"
    assert shown_codes(np.array([PAYS]), np.zeros(1), np.zeros(1)).item() == "00"
