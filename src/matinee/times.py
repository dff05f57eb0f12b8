"""Instants are UTC microseconds, durations are words ("7d"). Naive timestamps are refused, never guessed at."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from matinee.exceptions import MatineeError

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration(text: str | timedelta) -> timedelta:
    """A length of time from words: `"90s"`, `"5m"`, `"48h"`, `"7d"`, `"2w"`, `"1d12h"`.

    Raises:
        MatineeError: If the text is no duration, or is not positive.

    Example:
        >>> duration("1d12h")
        datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(text, timedelta):
        length = text
    else:
        parts = _DURATION.findall(str(text).strip())
        if not parts or "".join(n + u for n, u in parts) != str(text).strip():
            raise MatineeError(f'duration == {text!r}, must be a number and a unit such as "90s", "5m", "48h", "7d"')
        length = timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in parts))
    if length <= timedelta(0):
        raise MatineeError(f"duration == {text!r}, must be > 0")
    return length


def duration_us(text: str | timedelta) -> int:
    """The duration in whole microseconds."""
    return duration(text) // timedelta(microseconds=1)


def instant(value: datetime | str, name: str = "at") -> datetime:
    """An aware UTC datetime from one, or from ISO 8601 text with an offset.

    Raises:
        MatineeError: If it has no time zone (which one is meant cannot be guessed) or is not a time.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise MatineeError(f"{name} == {value!r}, must be a time such as '2026-11-22T18:00:00Z'") from None
    if not isinstance(value, datetime):
        raise MatineeError(f"{name} == {value!r}, must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise MatineeError(f"{name} == {value.isoformat()!r} has no time zone, must carry one (UTC: add '+00:00')")
    return value.astimezone(UTC)


def to_us(value: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (value - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=int(us))


def utc_now() -> datetime:
    """The wall clock. Called at the edge only, and passed in from there."""
    return datetime.now(UTC)
