"""A domain of one file for the tests of the whole loop: films among an entity, letters among options, dubs by advice."""

from __future__ import annotations

from typing import Annotated, Any

import matinee as mt


class Film(mt.Entity, key="film"):
    """A title, with the age from which it may be watched."""

    film: int
    maturity: int
    stars: float


class Watched(mt.Fact, key="viewer"):
    """A viewer watched a film."""

    viewer: int
    film: int
    seconds: Annotated[float, mt.Range(ge=0)]


class Wrote(mt.Fact, key="account", personal=("account", "text")):
    """Somebody wrote to us."""

    account: str
    text: str
    stars: Annotated[int, mt.Range(ge=1, le=5)]


class Paid(mt.Fact, key="account", personal=("account",), unique=("payment",)):
    """An account paid, in minor units; each payment once."""

    account: str
    payment: str
    amount_minor: int
    currency: str


class Faulty:
    """A guard that fails for the unit "faulty"."""

    name = "faulty"
    reason = "for the test"

    def mask(self, request: Any, candidates: Any) -> Any:
        if request.unit == "faulty":
            raise RuntimeError("the guard's own fault")
        return candidates.ids == candidates.ids


class NotByMail:
    """Keeps mail, and for "nobody" every option, out."""

    name = "not by mail"
    reason = "for the test"

    def mask(self, request: Any, candidates: Any) -> Any:
        return (candidates.ids != "mail") & (request.unit != "nobody")


habit = mt.Features(
    "viewer",
    name="habit",
    plays=mt.count(Watched, "30d"),
    seconds=mt.sum(Watched.seconds, "30d"),
    mean=mt.mean(Watched.seconds, "7d"),
    last=mt.last(Watched.film),
    ago=mt.recency(Watched),
)
voice = mt.Features("account", name="voice", letters=mt.count(Wrote, "30d"))
said = mt.Features("account", name="said", text=mt.last(Wrote.text))

front = mt.Decision(
    "front",
    unit="viewer",
    among="film",
    reward=mt.did(Watched, within="6h", where=Watched.seconds > 1200),
    guards=[mt.maturity(limit="age")],
    reward_unit="plays",
)
letter = mt.Decision(
    "letter",
    unit="account",
    among=["none", "mail", "call"],
    reward=mt.count(Wrote, within="1d"),
    guards=[Faulty()],
    fallback="none",
    consent="letters",
)
dub = mt.Decision("dub", unit="account", among=["none", "mail", "call"], guards=[NotByMail()], mode="advise")
reach = mt.Decision("reach", unit="account", among=["none", "mail", "call"], guards=[NotByMail()], fallback="none")
domain = mt.Domain(
    name="films", facts=[Film, Watched, Wrote, Paid], features=[habit, voice, said], decisions=[front, letter, dub, reach]
)
