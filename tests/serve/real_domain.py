"""A domain of one file for the tests that serve a real studio."""

from __future__ import annotations

import matinee as mt


class Film(mt.Entity, key="film"):
    """A title, with the age from which it may be watched."""

    film: int
    maturity: int


class Watched(mt.Fact, key="viewer"):
    """A viewer watched a film."""

    viewer: int
    film: int
    seconds: float


habit = mt.Features(
    "viewer",
    name="habit",
    plays=mt.count(Watched, "30d"),
    seconds=mt.sum(Watched.seconds, "30d"),
    last=mt.last(Watched.film),
)

front = mt.Decision(
    "front",
    unit="viewer",
    among="film",
    slots=3,
    reward=mt.did(Watched, within="48h", where=Watched.seconds > 1200),
    guards=[mt.maturity(limit="age")],
)
domain = mt.Domain(name="films", facts=[Film, Watched], features=[habit], decisions=[front])
