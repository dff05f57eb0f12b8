"""Durations in words, instants with a zone, microseconds there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.exceptions import MatineeError
from matinee.times import duration, duration_us, from_us, instant, to_us


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("5min", 300), ("48h", 172_800), ("1d12h", 129_600), ("2w", 1_209_600), ("0.5h", 1800)],
)
def test_durations(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)
    assert duration_us(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-7d", "0d", "soon", "1y", "1d-2h", timedelta(0), timedelta(-1)])
def test_what_is_no_duration_is_refused(text: str | timedelta) -> None:
    with pytest.raises(MatineeError, match="duration == "):
        duration(text)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_microseconds_there_and_back(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


def test_another_zone_becomes_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert instant(datetime(2026, 1, 1, 1, tzinfo=berlin)) == datetime(2026, 1, 1, tzinfo=UTC)
    assert instant("2026-01-01T01:00:00+01:00").isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2026, 1, 1), "has no time zone"),
        ("2026-01-01", "has no time zone"),
        ("yesterday", "must be a time such as"),
        (7, "not int"),
    ],
)
def test_what_is_no_instant_is_refused(value: object, words: str) -> None:
    with pytest.raises(MatineeError, match=f"known == .*{words}"):
        instant(value, "known")  # type: ignore[arg-type]  # what is tried
