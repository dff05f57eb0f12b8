"""What a routing model reads of a payment: amount, hour, and the crossing of what is yes or no about it.

Approval rules of processors look like "below 200, first attempt, not this network, in the afternoon": conjunctions.
Greedy trees find the first condition of such a rule only by luck, since alone it gains nothing. So the flags and the
networks are crossed beforehand, up to three at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from matinee.exceptions import UnknownColumnError

Array = np.ndarray[Any, Any]
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
        basic = made._basic(frame)
        groups = {n: "card" if n.startswith("card=") else n for n in basic if n not in ("amount_minor", "hour")}
        for size in (2, 3):
            for names in combinations(groups, size):
                if len({groups[n] for n in names}) < size:
                    continue
                if _product(basic, names).sum() >= FEWEST_ROWS:
                    made.crossed.append(names)
        return made

    def plain(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Amount, hour, flags and networks, without crossings."""
        return pl.DataFrame({**self._basic(frame), **self._extra(frame)})

    def full(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The same with crossings."""
        basic = self._basic(frame)
        return pl.DataFrame({**basic, **{"×".join(n): _product(basic, n) for n in self.crossed}, **self._extra(frame)})

    def _basic(self, frame: pl.DataFrame) -> dict[str, Array]:
        for name in REQUIRED:
            if name not in frame.columns:
                raise UnknownColumnError("the payments", name, frame.columns)
        card = frame["card"]
        return {
            "amount_minor": frame["amount_minor"].cast(pl.Float64).to_numpy(),
            "hour": frame["at"].dt.hour().cast(pl.Float64).to_numpy(),
            "three_d": frame["three_d"].cast(pl.Float64).fill_null(0.0).to_numpy(),
            "first": (frame["number"] == 1).cast(pl.Float64).fill_null(1.0).to_numpy(),
            **{f"card={c}": (card == c).cast(pl.Float64).fill_null(0.0).to_numpy() for c in self.cards},
        }

    def _extra(self, frame: pl.DataFrame) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in self.extras:
            if name in self.levels:
                column = frame[name]
                found |= {
                    f"{name}={v}": (column == v).cast(pl.Float64).fill_null(0.0).to_numpy() for v in self.levels[name]
                }
            elif name == "weekday":
                found[name] = frame["at"].dt.weekday().cast(pl.Float64).to_numpy()
            else:
                found[name] = frame[name].cast(pl.Float64).fill_null(-1.0).to_numpy()
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


def _levels(frame: pl.DataFrame, name: str) -> list[str]:
    counts = frame[name].drop_nulls().value_counts(sort=True)
    common = counts.filter(pl.col("count") >= FEWEST_ROWS).head(MOST_LEVELS)
    return sorted(str(v) for v in common[name].to_list())


def _product(basic: Mapping[str, Array], names: Sequence[str]) -> Array:
    found = basic[names[0]]
    for name in names[1:]:
        found = found * basic[name]
    return found
