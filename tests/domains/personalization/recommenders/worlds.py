"""Small worlds of plays with known answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(events: list[tuple[int, int, float]]) -> pl.DataFrame:
    """Events as member, title, day."""
    return pl.DataFrame(
        {
            "member": [m for m, _, _ in events],
            "title": [t for _, t, _ in events],
            "at": pl.Series([START + timedelta(days=d) for _, _, d in events], dtype=pl.Datetime("us", "UTC")),
        },
        schema_overrides={"member": pl.Int64, "title": pl.Int64},
    )


def checkerboard(members: int = 40, titles: int = 12) -> pl.DataFrame:
    """Even members play all even titles but one, odd members all odd ones but one."""
    events = []
    for m in range(members):
        own = [t for t in range(titles) if t % 2 == m % 2]
        lacking = own[(m // 2) % len(own)]
        events += [(m, t, m + 0.01 * k) for k, t in enumerate(x for x in own if x != lacking)]
    return frame(events)
