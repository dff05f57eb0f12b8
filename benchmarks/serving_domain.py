"""The studio that `benchmarks.serving` serves: titles with vectors, members with histories, and two decisions.

"top" is the dear one: from a member's raw history of up to 200 titles, the best 100 of the whole catalogue, guarded and
drawn with exact propensities. "route" is the cheap one: one of four options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.scorers import register

HISTORY = 200
PROPOSED = 300


class Film(mt.Entity, key="film"):
    """A title: its age mark and who licenses it."""

    film: int
    maturity: int
    provider: str


class Seen(mt.Fact, key="viewer"):
    """A viewer watched a film."""

    viewer: int
    film: int
    seconds: float


history = mt.Features("viewer", name="history", seen=mt.history(Seen.film, HISTORY))


@register
class Nearest:
    """Scores a film by its match with the mean vector of the history: one pass over the catalogue."""

    kind: ClassVar[str] = "benchmark-nearest"

    def __init__(self, vectors: np.ndarray[Any, Any], name: str = "") -> None:
        self.vectors, self.name = vectors, name
        self._ids = np.arange(1, len(vectors) + 1)
        self._last: tuple[mt.Request, np.ndarray[Any, Any]] | None = None  # what was matched, and with all titles

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The history."""
        return [history]

    def _match(self, request: mt.Request) -> np.ndarray[Any, Any]:
        last = self._last
        if last is not None and last[0] is request:  # proposed from a moment ago, scored now
            return last[1]
        seen = request.features.get("seen") or []
        if len(seen):
            taste = np.add.reduce(self.vectors[np.asarray(seen) - 1]) / len(seen)
            match = self.vectors @ taste
        else:
            match = np.zeros(len(self.vectors), np.float32)
        self._last = (request, match)
        return np.asarray(match)

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        """One score a candidate."""
        return mt.Scores(self._match(request)[candidates.ids - 1].astype(np.float64))

    def propose(self, request: mt.Request, candidates: mt.Candidates) -> np.ndarray[Any, Any] | None:
        """The best of the catalogue."""
        if len(candidates) <= PROPOSED:
            return None
        match = self._match(request)
        if len(candidates) != len(self._ids) or not np.array_equal(candidates.ids, self._ids):
            match = match[candidates.ids - 1]
        return np.argpartition(match, -PROPOSED)[-PROPOSED:]

    def save(self, folder: Path) -> None:
        """The vectors as one array."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        return cls(np.load(folder / "vectors.npy"))


top = mt.Decision(
    "top",
    unit="viewer",
    among="film",
    slots=100,
    reward=mt.did(Seen, within="48h"),
    guards=[mt.maturity(limit="age"), mt.at_most(40, per="provider")],
)
route = mt.Decision("route", unit="invoice", among=["alder", "birch", "cedar", "dogwood"])
domain = mt.Domain(name="serving", facts=[Film, Seen], features=[history], decisions=[top, route])
