"""One cut in time: what is learnt from, each later event asked about from its own prefix, and how the answers are judged.

Leave-one-out lets a model see the future of other members; a global cut does not ("Time to Split", arXiv 2507.16289).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders import Histories, Recommender
from matinee.evaluate.metrics import debiased_events, hit_rate, ndcg

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
CUT = 0.9  # quantile of all event times
FEW_PLAYS = 5  # a title of fewer plays before the cut is cold
BLOCK = 256  # prefixes scored at a time
DRAWS = 500  # of the bootstrap over members


@dataclass(frozen=True)
class TimeCut:
    """Events before and after a cut in time.

    Attributes:
        at: The cut; events up to it are learnt from.
        before: The events up to it, as rows.
        histories: The same as histories.
        titles, owner, days: Every event of members who have one after the cut, member by member in order of time, each
            of shape (events,); `owner` counts these members from 0.
        members: Their ids, shape (members,).
        targets: Places of the events asked about.
    """

    at: datetime
    before: pl.DataFrame
    histories: Histories
    titles: Array
    owner: Array
    days: Array
    members: Array
    targets: Array

    @classmethod
    def of(cls, rows: pl.DataFrame, cut: float = CUT, *, most_targets: int | None = None, fewest: int = 20) -> TimeCut:
        """At a quantile of all times.

        Args:
            rows: Events as `member`, `title`, `at`; equal times keep the order of the rows.
            cut: The quantile.
            most_targets: Ask about the first so many events of a member only; None for all.
            fewest: Members with events after the cut that there must be.

        Raises:
            MatineeError: If there are no rows, or too few members after the cut.
        """
        import polars as pl

        if not len(rows):
            raise mt.MatineeError("there are no plays or ratings yet, must have some to test on: import or append them")
        at = rows.select(pl.col("at").quantile(cut, "nearest")).item()
        before = rows.filter(pl.col("at") <= at)
        members = np.sort(rows.filter(pl.col("at") > at)["member"].unique().to_numpy())
        if len(members) < fewest:
            raise mt.MatineeError(
                f"{len(members)} members have events after {at:%Y-%m-%d}, must be at least {fewest} for a back-test"
            )
        theirs = rows.filter(pl.col("member").is_in(members.tolist())).sort("member", "at", maintain_order=True)
        owner = np.searchsorted(members, theirs["member"].to_numpy())
        after = (theirs["at"] > at).to_numpy()
        place = np.cumsum(after) - 1
        first = np.searchsorted(owner[after], np.arange(len(members)))
        asked = after if most_targets is None else after & (place - first[owner] < most_targets)
        days = theirs["at"].cast(pl.Int64).to_numpy() / 86_400e6
        titles = theirs["title"].to_numpy()
        return cls(at, before, Histories.of(before), titles, owner, days, members, np.flatnonzero(asked))

    def plays_before(self) -> Array:
        """Events of each target's title up to the cut, shape (targets,)."""
        counts = np.bincount(self.histories.items, minlength=len(self.histories.titles))
        known = self.histories.titles
        wanted = self.titles[self.targets]
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[at] == wanted, counts[at], 0)

    def warm_members(self) -> Array:
        """Whether each target's member has an event up to the cut, shape (targets,)."""
        warm = np.isin(self.members, self.histories.members)
        return np.asarray(warm[self.owner[self.targets]])

    def prefixes(self, most_events: int | None = None) -> Iterator[tuple[slice, Histories]]:
        """The prefix of each target, some targets at a time: their places among the targets, and the histories."""
        every, items = np.unique(self.titles, return_inverse=True)
        starts = np.searchsorted(self.owner, self.owner[self.targets])
        if most_events is not None:
            starts = np.maximum(starts, self.targets - most_events)
        for begin in range(0, len(self.targets), BLOCK):
            some = slice(begin, min(begin + BLOCK, len(self.targets)))
            lengths = self.targets[some] - starts[some]
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            at = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(starts[some], lengths)
            yield some, Histories(every, items.reshape(-1)[at], offsets, np.arange(len(lengths)), self.days[at])


@dataclass(frozen=True)
class Answers:
    """What one recommender said about each target.

    Attributes:
        rank: Place of the target among all titles not in the prefix, 1 the best, ties in the middle; shape (targets,).
            More than there are titles where it does not know the title.
        known: Whether it knows the target's title, shape (targets,).
        owner: Member of each target, shape (targets,).
        title: Id of each target's title, shape (targets,).
        shown: Ids of all titles that stood in any list of ten.
        catalogue: Titles before the cut.
    """

    rank: Array
    known: Array
    owner: Array
    title: Array
    shown: Array
    catalogue: int

    @classmethod
    def of(cls, one: Recommender, cut: TimeCut, *, most_events: int | None = None) -> Answers:
        """Ask a fitted recommender; `most_events` is how long a history it is given."""
        n = len(one.titles)
        wanted = cut.titles[cut.targets]
        at = np.minimum(np.searchsorted(one.titles, wanted), max(n - 1, 0))
        known = one.titles[at] == wanted if n else np.zeros(len(wanted), np.bool_)
        rank = np.full(len(wanted), n + 1)
        shown = np.zeros(n, np.bool_)
        for some, prefix in cut.prefixes(most_events):
            scores = one.scores_of(prefix)
            inside = prefix.against(one.titles)
            rows = np.arange(len(scores))
            own = scores[rows, at[some]].copy()
            scores[np.repeat(rows, inside.lengths), inside.items] = -np.inf
            scores[rows[known[some]], at[some][known[some]]] = own[known[some]]  # it may be played again
            ahead, ties = (scores > own[:, None]).sum(axis=1), (scores == own[:, None]).sum(axis=1) - 1
            rank[some] = np.where(known[some], 1 + ahead + ties // 2, n + 1)
            lists = np.argpartition(-scores, min(10, n - 1), axis=1)[:, :10]
            shown[lists[np.isfinite(np.take_along_axis(scores, lists, axis=1))]] = True
        return cls(rank, known, cut.owner[cut.targets], wanted, one.titles[shown], len(cut.histories.titles))

    def mean(self, value: Array, among: Array | None = None) -> float:
        """Mean over members of their means over targets; NaN where there is none."""
        per = self.by_member(value, self.known if among is None else among)
        return float(per.mean()) if len(per) else float("nan")

    def by_member(self, value: Array, among: Array) -> Array:
        """Each member's mean over some targets, shape (members that have one,)."""
        owner = self.owner[among]
        counts = np.bincount(owner)
        return np.bincount(owner, weights=value[among])[counts > 0] / counts[counts > 0]

    def gain(self, k: int = 10) -> Array:
        """Discounted gain of each target, shape (targets,)."""
        return ndcg(self.rank, k)

    def hit(self, k: int = 10) -> Array:
        """Whether each target stands among the first k, shape (targets,)."""
        return hit_rate(self.rank, k)

    def interval(self, value: Array, among: Array | None = None) -> tuple[float, float]:
        """The 95% interval of `mean` from a bootstrap over members."""
        per = self.by_member(value, self.known if among is None else among)
        if not len(per):
            return float("nan"), float("nan")
        means = per[np.random.default_rng(0).integers(0, len(per), (DRAWS, len(per)))].mean(axis=1)
        return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))

    def debiased(self) -> float:
        """Mean gain over targets with those of the most wanted titles thinned out."""
        fair = np.zeros(len(self.title), np.bool_)
        fair[np.flatnonzero(self.known)] = debiased_events(self.title[self.known])
        return float(self.gain()[fair].mean()) if fair.any() else 0.0

    @property
    def coverage(self) -> float:
        """Share of the titles before the cut that stood in some list of ten."""
        return len(self.shown) / max(self.catalogue, 1)
