"""A small domain for tests of the console: titles, licences, plays; a home page and a retry. Gates load it afresh."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import matinee as mt

TITLES = (
    "Half a Lighthouse",
    "Glass Harbour",
    "The Weight of Bells",
    "Ninety Days of Rain",
    "Hotel Miramar",
    "Signal Box",
)


class Title(mt.Entity, key="title"):
    title: int
    name: str
    provider: str
    maturity: int


class Licence(mt.Fact, key="title", scheduled=True):
    title: int
    starts: datetime
    ends: datetime


class Played(mt.Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, mt.Range(ge=0)]


taste = mt.Features("member", name="taste", plays=mt.count(Played, "90d"), last=mt.last(Played.title))
home = mt.Decision(
    "home",
    unit="member",
    among="title",
    slots=2,
    title="home page ranking",
    reward=mt.did(Played, within="6h"),
    reward_unit="plays",
    guards=[mt.licensed(Licence), mt.at_most(1, per="provider")],
)
options = mt.grid(wait=["1h", "1d"], route=["north", "east"])
retry = mt.Decision("retry", unit="invoice", among=options + [mt.stop], fallback="stop")  # noqa: RUF005  # not a list


def names(studio: Any, ids: Iterable[Any]) -> dict[Any, str]:
    """What people call a title."""
    return {i: TITLES[int(i)] for i in ids}


def reason(studio: Any, request: Any, candidate: Any) -> str:
    """Why, for the member."""
    return "Played most this week" if int(candidate) % 2 else ""


domain = mt.Domain(
    "small",
    facts=[Title, Licence, Played],
    features=[taste],
    decisions=[home, retry],
    names={"title": names},
    reasons={"home": reason},
)
