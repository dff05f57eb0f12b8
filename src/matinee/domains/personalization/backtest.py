"""Back-test of the recommenders: one global cut in time, each later event predicted from what came before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.home import events, home, recommenders
from matinee.domains.personalization.recommenders import Histories, Recommender
from matinee.evaluate.metrics import debiased_events, hit_rate, ndcg
from matinee.results import Table

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
CUT = 0.9  # quantile of all event times
MOST_TARGETS = 60  # a member's first so many events after the cut: a marathon is not sixty members
DRAWS = 500  # of the bootstrap over members


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
    import polars as pl

    if not len(rows):
        raise mt.MatineeError("there are no plays or ratings yet, must have some to test on: import or append them")
    at = rows.select(pl.col("at").quantile(cut, "nearest")).item()
    before = rows.filter(pl.col("at") <= at)
    histories = Histories.of(before)
    later = rows.filter(pl.col("at") > at).sort("member", "at", maintain_order=True)
    known = pl.Series(histories.titles)
    unknown = len(later.filter(~pl.col("title").is_in(known.implode())))
    members = later["member"].unique().sort()
    if len(members) < 20:
        raise mt.MatineeError(
            f"{len(members)} members have events after {at:%Y-%m-%d}, must be at least 20 for a back-test"
        )
    prefix = {int(k[0]): v["title"].to_list() for k, v in before.partition_by("member", as_dict=True).items()}
    targets = {int(k[0]): v["title"].to_list() for k, v in later.partition_by("member", as_dict=True).items()}
    found = []
    for name, one in systems.items():
        step(1, f"fitting {name}")
        found.append(_row(name, one.fit(histories), histories, prefix, targets))
    kept = sum(min(MOST_TARGETS, len(t)) for t in targets.values())
    return TimeSplit(at, len(members), kept, unknown, tuple(found))


def _row(
    name: str, one: Recommender, histories: Histories, prefix: dict[int, list[int]], targets: dict[int, list[int]]
) -> Row:
    index = {int(t): i for i, t in enumerate(one.titles.tolist())}
    who, ranks, wanted, shown = [], [], [], set()
    for m, (member, ahead) in enumerate(sorted(targets.items())):
        history = list(prefix.get(member, []))
        for title in ahead[:MOST_TARGETS]:
            if title in index:
                scores = np.array(one.scores(history[-100:]), np.float64)
                seen = [index[t] for t in set(history) if t in index and t != title]
                scores[seen] = -np.inf
                target = index[title]
                above, ties = int((scores > scores[target]).sum()), int((scores == scores[target]).sum()) - 1
                who.append(m)
                ranks.append(above + ties // 2)  # mid-rank: a tie is neither luck nor bad luck
                wanted.append(title)
                shown |= set(np.argpartition(-scores, 10)[:10].tolist())
            history.append(title)
    rank, of = np.array(ranks), np.array(who)
    gain, hit = ndcg(rank + 1, 10), hit_rate(rank + 1, 10)
    per = np.bincount(of, weights=gain) / np.maximum(np.bincount(of), 1)
    per = per[np.bincount(of) > 0]
    rng = np.random.default_rng(0)
    means = per[rng.integers(0, len(per), (DRAWS, len(per)))].mean(axis=1)
    fair = debiased_events(np.array(wanted))
    hits = np.bincount(of, weights=hit)[np.bincount(of) > 0] / np.bincount(of)[np.bincount(of) > 0]
    return Row(
        name, float(hits.mean()), float(per.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)),
        len(shown) / len(histories.titles), float(gain[fair].mean()) if fair.any() else 0.0,
    )  # fmt: skip
