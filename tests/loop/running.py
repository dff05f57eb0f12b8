"""A clock of the test's own, a studio of the small domain, and its history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import matinee as mt
from loop import small_domain
from loop.small_domain import Film, Watched, domain
from matinee.releases import LIVE, Arm

FILE = Path(small_domain.__file__)
FILMS = 6


class Clock:
    """Begins now and moves when told: releases are stamped by the wall clock, so the past would not do."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def open_films(folder: Path, clock: Clock) -> mt.Studio:
    """A studio of the small domain, which the gate's fresh process finds in its file."""
    return mt.open(folder, clock=clock).use(domain, module=FILE)


def history(studio: mt.Studio, clock: Clock, viewers: int = 60) -> None:
    """Six films with one to six stars, and a month of what each viewer watched."""
    began = clock() - timedelta(days=30)
    numbers = list(range(1, FILMS + 1))
    studio.append(
        Film,
        pl.DataFrame({
            "film": numbers, "maturity": [0, 0, 0, 12, 16, 18], "stars": [float(n) for n in numbers],
            "at": [began] * FILMS, "known": [began] * FILMS,
        }),
    )  # fmt: skip
    rows = [(v, 1 + (v + k) % FILMS, 300.0 * (1 + (v * k) % 7), began + timedelta(hours=13 * k + v % 12))
            for v in range(viewers) for k in range(v % 9)]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["viewer", "film", "seconds", "at"], orient="row")
    studio.append(Watched, frame.with_columns(known=pl.col("at") + timedelta(minutes=5)))


def decide_many(studio: mt.Studio, clock: Clock, n: int, viewers: int = 60) -> list[mt.Choice]:
    """Choices at the front for grown-ups, each watched through when a film of four stars or more was shown, mostly."""
    made = []
    for k in range(n):
        clock.forward(seconds=30)
        choice = studio.decide("front", k % viewers, {"age": 18})
        film = choice.action[0]
        clock.forward(seconds=30)
        liked = (film >= 4) != (k % 5 == 0)
        studio.record(choice, "watched", {"viewer": k % viewers, "film": film, "seconds": 1800.0 if liked else 60.0})
        made.append(choice)
    return made


def live_without_gates(studio: mt.Studio, decision: str, policy: mt.Policy) -> str:
    """Make a policy live at once: a gate starts a process, which only the tests of the gates need to see."""
    name = studio.save_policy(decision, policy)
    guards = studio.decision(decision).guard_names
    studio.releases.put(decision, "release", [Arm("live", name, 1.0, LIVE)], salt=name, guards=guards, note="", by="tests")
    studio.refresh()
    return name
