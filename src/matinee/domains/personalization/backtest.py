"""Back-test of the recommenders: one global cut in time, each later event predicted from what came before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import matinee as mt
from matinee.domains.personalization.features import HISTORY
from matinee.domains.personalization.home import events, home, recommenders
from matinee.domains.personalization.recommenders import Recommender
from matinee.domains.personalization.time_split import CUT, Answers, TimeCut
from matinee.results import Table

if TYPE_CHECKING:
    import polars as pl

MOST_TARGETS = 60  # a member's first so many events after the cut: a marathon is not sixty members


@dataclass(frozen=True)
class Row:
    """One recommender's standing."""

    system: str
    hr10: float
    ndcg10: float
    low: float
    high: float
    coverage10: float
    debiased_ndcg10: float


@dataclass(frozen=True)
class TimeSplit(Table):
    """The recommenders side by side; accuracy beside coverage and popularity-debiased accuracy, always."""

    cut: datetime
    members: int
    targets: int
    unknown: int
    results: tuple[Row, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "system": r.system, "hr10": r.hr10, "ndcg10": r.ndcg10, "interval": (r.low, r.high),
                "coverage10": r.coverage10, "debiased ndcg10": r.debiased_ndcg10,
            }
            for r in self.results
        ]  # fmt: skip

    def notes(self) -> Sequence[str]:
        return [
            f"{self.targets:,} events of {self.members:,} members after {self.cut:%Y-%m-%d}, each from its own prefix",
            "mean over members, 95% interval from a bootstrap over members",
            f"{self.unknown:,} events left out: their title was never seen before the cut",
        ]


def backtest(studio: mt.Studio, step: Callable[..., None] = lambda *_a: None) -> TimeSplit:
    """Fit on everything before the cut, predict what came after, one event at a time.

    Raises:
        MatineeError: If fewer than 20 members have events on both sides of the cut.
    """
    return split(events(studio.source(home)), recommenders(), step=step)


def split(
    rows: pl.DataFrame,
    systems: dict[str, Recommender],
    *,
    cut: float = CUT,
    step: Callable[..., None] = lambda *_a: None,
) -> TimeSplit:
    """The same on rows `member`, `title`, `at`, for any recommenders."""
    asked = TimeCut.of(rows, cut, most_targets=MOST_TARGETS)
    found = []
    for name, one in systems.items():
        step(1, f"fitting {name}")
        answers = Answers.of(one.fit(asked.histories), asked, most_events=HISTORY)
        low, high = answers.interval(answers.gain())
        found.append(
            Row(
                name, answers.mean(answers.hit()), answers.mean(answers.gain()), low, high, answers.coverage,
                answers.debiased(),
            )
        )  # fmt: skip
    unknown = int((asked.plays_before() == 0).sum())
    return TimeSplit(asked.at, len(asked.members), len(asked.targets), unknown, tuple(found))
