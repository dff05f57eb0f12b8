"""A small domain whose choices are pages of two rows, and which says how they are shown. Gates load it afresh."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np

import matinee as mt
from matinee.showing import About, Kinds, PageRow, Progress, Showing

ROW_CHANCE = 1.0
EVERYTHING: list[int] | None = None  # in place of what members watched


class Title(mt.Entity, key="title"):
    title: int
    name: str
    genre: str
    maturity: int


class Member(mt.Entity, key="member"):
    member: int
    kids: bool = False
    maturity: int | None = None


class Licence(mt.Fact, key="title", scheduled=True):
    title: int
    starts: datetime
    ends: datetime | None = None


class Played(mt.Fact, key="member"):
    member: int
    title: int
    seconds: float


taste = mt.Features("member", name="taste", last=mt.history(Played.title, 50))
profile = mt.Features("member", name="profile", maturity_limit=mt.state(Member.maturity), kids=mt.state(Member.kids))


class Limited(mt.maturity):
    """The maturity guard, with the member's own limit; what was watched is read beside it."""

    @property
    def needs(self) -> list[mt.Features]:
        return [profile]


page = mt.Decision(
    "page", title="Small page", unit="member", among="title", slots=8, reward=mt.did(Played, within="6h"),
    reward_unit="plays", guards=[mt.licensed(Licence), Limited()], consent="personalization", sheltered="kids",
)  # fmt: skip
plain = mt.Decision("plain", unit="member", among=["yes", "no"])


def rows(studio: Any, choice: Any, request: Any) -> list[PageRow]:
    """Two rows of four."""
    found = []
    for k in range(0, len(choice.action), 4):
        some = tuple(choice.action[k : k + 4])
        why = () if request is None else tuple(f"since {i} is good" for i in some)
        kind = "First row" if k == 0 else "Second row"
        found.append(PageRow(f"Row {k // 4 + 1} for member {choice.unit}", kind, ROW_CHANCE, some, why))
    return found


def history(request: Any) -> list[int]:
    """What the member watched; nothing of who is not profiled."""
    if request.context.get("profiled") is False:
        return []
    return EVERYTHING if EVERYTHING is not None else list(range(int(request.unit) % 2, 12, 2))


def kinds(studio: Any) -> Kinds:
    """Genres."""
    frame = studio.as_of(Title).sort("title")
    war = np.array([g == "War" for g in frame["genre"].to_list()], float)
    return Kinds(
        "genre", ("Drama", "War"), frame["title"].to_numpy(), np.stack([1 - war, war], axis=1),
        lambda p, q: float(np.abs(p - q).sum()), "distance",
    )  # fmt: skip


def about(studio: Any, title: Any) -> About:
    """The next two titles are like it; it was shown three times of ten."""
    return About(((title + 1, 0.5), (title + 2, 0.25)), "near@1", (Progress("page@1", 3.0, 10, 0.05, 2),))


def names(studio: Any, ids: Iterable[Any]) -> dict[Any, str]:
    """What people call a title."""
    return {i: f"Film {i}" for i in ids}


domain = mt.Domain(
    "small-pages",
    facts=[Title, Member, Licence, Played],
    features=[taste, profile],
    decisions=[page, plain],
    names={"title": names},
    showings={"page": Showing(rows, history, kinds, {"device": ("tv", "phone")})},
    about={"title": about},
)
