"""How a page is laid out: its size, how rows and places are looked at, what weighs how much, what contracts ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import matinee as mt
from matinee.checks import must

MOST = 40  # rows, and titles a row
KINDS = {
    "continue": 4.0, "picked": 1.3, "top": 1.1, "because": 1.15, "new": 1.1, "leaving": 1.0, "genre": 1.0, "pair": 1.0,
    "mood": 1.05, "era": 0.9, "provider": 0.9, "again": 0.8,
}  # fmt: skip
"""Kinds of rows, and how much more a title is played for standing in one: their default weights."""


@dataclass(frozen=True)
class Contract:
    """What was agreed with a provider: at least, or at most, so many rows of its own titles.

    Attributes:
        provider: Its name, as in the titles' `provider`.
        at_least: Rows it is owed, where there are titles to fill them.
        at_most: Rows it may have; None for any number.
        within: The rows it is owed stand among the first so many; 0 for anywhere on the page.
    """

    provider: str
    at_least: int = 0
    at_most: int | None = None
    within: int = 0

    def __post_init__(self) -> None:
        must(self.at_least, "at_least", typ=int, ge=0)
        must(self.within, "within", typ=int, ge=0)
        if self.at_most is not None and must(self.at_most, "at_most", typ=int, ge=0) < self.at_least:
            raise mt.MatineeError(f"at_most == {self.at_most}, must be >= at_least == {self.at_least}")


@dataclass(frozen=True)
class Layout:
    """The size of a page and what its construction weighs.

    Attributes:
        rows, columns: At most so many; 40 x 40 is the largest page.
        least: A row of fewer titles is not shown, "continue watching" apart.
        row_decay, column_decay: How likely the next row, the next place is looked at after this one.
        temperature: A title is drawn with a chance in proportion to its worth to the power of 1 / temperature.
        floor: Share of each draw that is spread evenly over the titles the row chooses from.
        row_temperature: The same for rows; 0 takes the best row always.
        calibration: How strongly the page leans to the mix of what the member watches; 0 not at all.
        diversity: What a row is still worth when a row of the same genre is on the page already.
        stability: How much more a row, and a title in it, is worth for having been there on the last visit.
        fatigue: How much of its worth a title loses with each time it was shown lately and not played, as an exponent.
        depth: A row chooses among so many times its columns.
        kinds: Weights of the kinds of rows; a kind that is not named has its default.
        contracts: What was agreed with providers.
    """

    rows: int = 12
    columns: int = 20
    least: int = 4
    row_decay: float = 0.9
    column_decay: float = 0.9
    temperature: float = 0.25
    floor: float = 0.02
    row_temperature: float = 0.0
    calibration: float = 0.5
    diversity: float = 0.6
    stability: float = 0.2
    fatigue: float = 0.1
    depth: int = 2
    kinds: Mapping[str, float] = field(default_factory=dict)
    contracts: tuple[Contract, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            must(getattr(self, name), name, typ=int, ge=1, le=MOST)
        must(self.least, "least", typ=int, ge=1)
        must(self.depth, "depth", typ=int, ge=1)
        for name in ("row_decay", "column_decay", "temperature"):
            must(float(getattr(self, name)), name, gt=0)
        for name in ("row_decay", "column_decay", "floor", "diversity"):
            must(float(getattr(self, name)), name, ge=0, le=1)
        for name in ("row_temperature", "calibration", "stability", "fatigue"):
            must(float(getattr(self, name)), name, ge=0)
        for kind, weight in self.kinds.items():
            must(kind, "kind of row", one_of=list(KINDS))
            must(float(weight), f"weight of {kind!r}", ge=0)
        owed = sum(c.at_least for c in self.contracts)
        if owed > self.rows:
            raise mt.MatineeError(f"contracts ask for {owed} rows, must be at most the page's {self.rows}")

    def weight(self, kind: str) -> float:
        """Weight of a kind of row."""
        return float(self.kinds.get(kind, KINDS[kind]))

    @property
    def slots(self) -> int:
        """Places of the whole page."""
        return self.rows * self.columns

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same layout."""
        return {**asdict(self), "kinds": dict(self.kinds), "contracts": [asdict(c) for c in self.contracts]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The layout that `to_json` described."""
        contracts = tuple(Contract(**c) for c in values.get("contracts", ()))
        return cls(**{**values, "contracts": contracts})
