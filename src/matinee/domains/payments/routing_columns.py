"""What a routing model reads of a payment: amount, hour, and the crossing of what is yes or no about it.

Approval rules of processors look like "below 200, first attempt, not this network, in the afternoon": conjunctions.
Greedy trees find the first condition of such a rule only by luck, since alone it gains nothing. So the flags and the
networks are crossed beforehand, up to three at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from matinee.exceptions import UnknownColumnError

Array = np.ndarray[Any, Any]
Payments = Mapping[str, Array]  # one array a column, see `payments`
REQUIRED = ("amount_minor", "at", "number", "card", "three_d")
EXTRAS = ("weekday", "country", "number", "gap_seconds", "previous")
MOST_LEVELS = 6
FEWEST_ROWS = 100


@dataclass
class Columns:
    """Turns payments into numbers, always in the same way.

    Attributes:
        cards: Card networks that have a column of their own.
        crossed: Products of basic columns, each a tuple of their names.
        extras: Further columns that were found to be worth reading, of `EXTRAS`.
        levels: Levels of the extras that are words.
    """

    cards: list[str]
    crossed: list[tuple[str, ...]]
    extras: list[str] = field(default_factory=list)
    levels: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def learn(cls, frame: pl.DataFrame, extras: Sequence[str] = ()) -> Columns:
        """The columns for a frame of payments: crossings that occur in at least 100 rows."""
        cards = _levels(frame, "card")
        levels = {name: _levels(frame, name) for name in extras if name in ("country", "previous")}
        made = cls(cards, [], list(extras), levels)
        basic = made._basic(payments(frame))
        groups = {n: "card" if n.startswith("card=") else n for n in basic if n not in ("amount_minor", "hour")}
        for size in (2, 3):
            for names in combinations(groups, size):
                if len({groups[n] for n in names}) < size:
                    continue
                if _product(basic, names).sum() >= FEWEST_ROWS:
                    made.crossed.append(names)
        return made

    def plain(self, payments: Payments) -> dict[str, Array]:
        """Amount, hour, flags and networks, without crossings; one array a column."""
        return {**self._basic(payments), **self._extra(payments)}

    def full(self, payments: Payments) -> dict[str, Array]:
        """The same with crossings."""
        basic = self._basic(payments)
        return {**basic, **{"×".join(n): _product(basic, n) for n in self.crossed}, **self._extra(payments)}

    def _basic(self, payments: Payments) -> dict[str, Array]:
        return {
            "amount_minor": payments["amount_minor"],
            "hour": payments["hour"],
            "three_d": payments["three_d"],
            "first": (payments["number"] <= 1).astype(np.float64),
            **{f"card={c}": (payments["card"] == c).astype(np.float64) for c in self.cards},
        }

    def _extra(self, payments: Payments) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in self.extras:
            if name in self.levels:
                column = payments[name]
                found |= {f"{name}={v}": (column == v).astype(np.float64) for v in self.levels[name]}
            else:
                found[name] = payments[name]
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "cards": self.cards,
            "crossed": [list(c) for c in self.crossed],
            "extras": self.extras,
            "levels": self.levels,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Columns:
        """What `to_json` gave."""
        return cls(data["cards"], [tuple(c) for c in data["crossed"]], data["extras"], data["levels"])


def payments(frame: pl.DataFrame) -> Payments:
    """A frame of attempts as arrays of one length: numbers as float64, words as objects.

    Raises:
        UnknownColumnError: If a column that every payment must have is missing.
    """
    for name in REQUIRED:
        if name not in frame.columns:
            raise UnknownColumnError("the payments", name, frame.columns)
    found: dict[str, Array] = {
        "amount_minor": frame["amount_minor"].cast(pl.Float64).to_numpy(),
        "hour": frame["at"].dt.hour().cast(pl.Float64).to_numpy(),
        "weekday": frame["at"].dt.weekday().cast(pl.Float64).to_numpy(),
        "three_d": frame["three_d"].cast(pl.Float64).fill_null(0.0).to_numpy(),
        "number": frame["number"].cast(pl.Float64).fill_null(1.0).to_numpy(),
        "card": frame["card"].to_numpy(),
    }
    if "gap_seconds" in frame.columns:
        found["gap_seconds"] = frame["gap_seconds"].cast(pl.Float64).fill_null(-1.0).to_numpy()
    return found | {n: frame[n].to_numpy() for n in ("country", "previous") if n in frame.columns}


def payment(context: Mapping[str, Any], at: datetime) -> Payments:
    """One payment from what is known when it is to be charged; the unknown is as null was in training."""

    def one(value: Any) -> Array:
        return np.array([value], object if isinstance(value, str) or value is None else np.float64)

    gap = context.get("gap_seconds")
    return {
        "amount_minor": one(float(context["amount_minor"])),
        "hour": one(float(at.hour)),
        "weekday": one(float(at.isoweekday())),
        "three_d": one(float(context.get("three_d") or 0.0)),
        "number": one(float(context.get("number") or 1.0)),
        "card": one(context.get("card")),
        "gap_seconds": one(-1.0 if gap is None else float(gap)),
        "country": one(context.get("country")),
        "previous": one(context.get("previous")),
    }


def _levels(frame: pl.DataFrame, name: str) -> list[str]:
    counts = frame[name].drop_nulls().value_counts(sort=True)
    common = counts.filter(pl.col("count") >= FEWEST_ROWS).head(MOST_LEVELS)
    return sorted(str(v) for v in common[name].to_list())


def _product(basic: Mapping[str, Array], names: Sequence[str]) -> Array:
    found = basic[names[0]]
    for name in names[1:]:
        found = found * basic[name]
    return found
