"""Strong generalisation: taste of members never seen in training, from part of what they liked.

    python -m benchmarks.strong_generalization --ratings ml-1m/ratings.parquet [--test-users FILE]
        [--peer-python PATH] [--json FILE]

Ratings of 4 and more are plays; members with five or more are kept; all models learn from training members only. Of each
held-out member 80 % are given, the other 20 % are to be found among all titles not given. What is chosen (the weight of
a blend, a peer's settings) is chosen on the validation members. `over_ease` is the difference in ndcg100 to EASE on the
same members with its 95 % interval, `ratio` the quotient of the two means.

Rows that also read titles rated below 4 are a track of their own (`track`: "low ratings too") and compare with nothing
else. Accuracy stands beside coverage of the catalogue, accuracy with popular targets thinned out (`debiased_ndcg100`)
and novelty (mean information of the first 20 titles in bits: how unlikely a member is to have played them).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, main, measured
from benchmarks.peers import lists_of
from matinee.domains.personalization.recommenders import Histories, Popular, Recommender
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.recommenders.gram import gram_matrix, invert
from matinee.domains.personalization.recommenders.together import Together
from matinee.evaluate.metrics import coverage, debiased_events, hits, list_ndcg, recall

Array = np.ndarray[Any, Any]
SEED = 98765
LIKED = 4
FEWEST = 5
DEEP = 100
WEIGHTS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
DRAWS = 2000  # of the bootstrap over members


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ratings", type=Path, required=True, help="Parquet: user, item, rating, pos (rank in time)")
    parser.add_argument("--test-users", type=Path, help="ids, one a line: exactly these are the test members")
    parser.add_argument("--held-out", type=int, default=500, help="validation members, and test members without a file")
    parser.add_argument("--peer-python", default="", help="an interpreter that has implicit and RecTools")
    parser.add_argument("--seed", type=int, default=0, help="of the first vectors of the factors")
    parser.add_argument("--smoke", action="store_true", help="narrow factors, no peers: does it run at all")


@dataclass(frozen=True)
class Held:
    """Held-out members: what is given of each, and what is to be found.

    Attributes:
        given: The plays given, in their order.
        low: Titles that the same members rated below 4.
        targets: Positions of the titles to be found, member by member.
        offsets: Where each member's targets begin, and the end.
    """

    given: Histories
    low: Histories
    targets: Array
    offsets: Array

    @property
    def totals(self) -> Array:
        """Targets of each member."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Split:
    """Training members' plays and low ratings, and two sets of held-out members, all in one catalogue."""

    train: Histories
    low: Histories
    validation: Held
    test: Held

    @classmethod
    def of(cls, ratings: pl.DataFrame, held_out: int, test_users: Sequence[int] | None = None) -> Split:
        """By the protocol: a permutation of the sorted members; the last are the test, those before the validation."""
        liked = ratings.filter(pl.col("rating") >= LIKED).sort("user", "pos", maintain_order=True)
        counts = liked.group_by("user").len().filter(pl.col("len") >= FEWEST)
        liked = liked.filter(pl.col("user").is_in(counts["user"].implode()))
        users = np.sort(counts["user"].to_numpy())
        if test_users is not None:
            test = np.intersect1d(users, np.asarray(test_users, users.dtype))
            if not len(test):
                raise mt.MatineeError(
                    f"--test-users: none of {len(test_users):,} ids has {FEWEST} ratings of {LIKED} and more, must be "
                    "users of --ratings"
                )
            rest = np.random.RandomState(SEED).permutation(np.setdiff1d(users, test))  # the protocol's
        else:
            order = np.random.RandomState(SEED).permutation(users)
            rest, test = order[:-held_out], order[-held_out:]
        if len(rest) < 2 * held_out:
            raise mt.MatineeError(f"--held-out {held_out} of {len(users):,} members leaves too few to learn from")
        learning, checking = rest[:-held_out], rest[-held_out:]
        low = ratings.filter(pl.col("rating") < LIKED).sort("user", "pos", maintain_order=True)
        titles = np.unique(liked.filter(pl.col("user").is_in(learning.tolist()))["item"].to_numpy())

        def histories(frame: pl.DataFrame, who: Array) -> Histories:
            rows = pl.DataFrame({"user": np.sort(who)}).join(
                frame.group_by("user", maintain_order=True).agg("item"), on="user", how="left", maintain_order="left"
            )
            made = Histories.of_sequences([x or [] for x in rows["item"].to_list()], rows["user"].to_list())
            return made.against(titles)

        def held(who: Array) -> Held:
            every = histories(liked, who)
            rng = np.random.RandomState(SEED)
            sought = np.zeros(len(every.items), np.bool_)
            for begin, length in zip(every.offsets[:-1], every.lengths, strict=True):
                if length >= FEWEST:
                    sought[begin + rng.choice(length, int(0.2 * length), replace=False)] = True
            given, targets = _some(every, ~sought), _some(every, sought)
            return Held(given, histories(low, who), targets.items, targets.offsets)

        return cls(histories(liked, learning), histories(low, learning), held(checking), held(test))


def _some(histories: Histories, kept: Array) -> Histories:
    """The events marked."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[histories.offsets]
    return Histories(histories.titles, histories.items[kept], offsets, histories.members, histories.day[kept])


def standard(scores: Array) -> Array:
    """Each row with mean 0 and deviation 1, so that scores of different models add."""
    scores = scores - scores.mean(axis=1, keepdims=True)
    return np.asarray(scores / np.maximum(scores.std(axis=1, keepdims=True), 1e-12))


def best(scores: Array, given: Histories, k: int = DEEP) -> Array:
    """Lists of the k best titles not given, best first, shape (members, k); -1 where there are fewer."""
    scores = np.array(scores, np.float32)
    rows = np.repeat(np.arange(len(given)), given.lengths)
    scores[rows, given.items] = -np.inf
    k = min(k, scores.shape[1])
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    value = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    return np.asarray(np.where(np.isfinite(np.take_along_axis(value, order, axis=1)), found, -1))


@dataclass(frozen=True)
class Judged:
    """A system's lists on some members and what they are worth."""

    ndcg: Array
    row: Row

    @classmethod
    def of(cls, lists: Array, held: Held, train: Histories) -> Judged:
        """All metrics; members without targets are left out."""
        n, deep = len(train.titles), lists.shape[1]
        has = held.totals > 0
        hit = hits(lists, held.targets, held.offsets, n)
        gain = list_ndcg(hit, held.totals, deep)[has]
        fair = debiased_events(held.targets)
        edges = np.concatenate([[0], np.cumsum(fair)])[held.offsets]
        thinned = hits(lists, held.targets[fair], edges, n)
        share = np.bincount(train.items, minlength=n) / max(len(train), 1)
        first = lists[:, : min(20, deep)]
        bits = -np.log2(np.maximum(share, 0.5 / max(len(train), 1)))
        row: Row = {f"recall{k}": float(np.nanmean(recall(hit, held.totals, min(k, deep))[has])) for k in (20, 50)}
        row |= {
            "ndcg100": float(gain.mean()), "standard_error": float(gain.std() / np.sqrt(len(gain))),
            "ndcg10": float(np.nanmean(list_ndcg(hit, held.totals, min(10, deep))[has])),
            "coverage10": coverage(lists[:, :10], n),
            "debiased_ndcg100": float(np.nanmean(list_ndcg(thinned, np.diff(edges), deep))),
            "novelty20": float(bits[first[first >= 0]].mean()),
        }  # fmt: skip
        return cls(gain, row)


def paired(gain: Array, base: Array) -> Row:
    """Difference of means on the same members with a bootstrap interval, and the quotient of the means."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(gain), (DRAWS, len(gain)))
    difference = (gain - base)[drawn].mean(axis=1)
    quotient = gain[drawn].mean(axis=1) / base[drawn].mean(axis=1)
    return {
        "over_ease": float((gain - base).mean()),
        "over_ease_low": float(np.quantile(difference, 0.025)), "over_ease_high": float(np.quantile(difference, 0.975)),
        "ratio": float(gain.mean() / base.mean()),
        "ratio_low": float(np.quantile(quotient, 0.025)), "ratio_high": float(np.quantile(quotient, 0.975)),
    }  # fmt: skip


class TwoSided:
    """Windowed autoencoder whose inputs also list the titles rated low: a second block of inputs, predicting plays.

    The Gram matrix of both blocks (rows weighed by length) is halved and the windowed part of plays added to their
    block, which keeps it positive definite; each block has dropout and ridge of its own.
    """

    def __init__(self, dropout: tuple[float, float] = (0.33, 0.4), ridge: tuple[float, float] = (300.0, 200.0)) -> None:
        self.dropout, self.ridge = dropout, ridge

    def fit(self, plays: Histories, low: Histories) -> TwoSided:
        """Solve for the columns of plays."""
        n = len(plays.titles)
        both = gram_matrix(_beside(plays, low), length_power=0.6)
        both *= 0.5 * len(_beside(plays, low).items) / np.trace(both)
        both[:n, :n] += 0.5 * gram_matrix(plays, length_power=0.6, near=1.0)
        counts = np.diag(both).astype(np.float64)
        p, ridge = (np.repeat(x, n) for x in (self.dropout, self.ridge))
        penalty = p / (1 - p) * counts + ridge
        both[np.diag_indices(2 * n)] += penalty.astype(np.float32)
        weights = invert(both)[:, :n] * -penalty[:n].astype(np.float32)
        weights[np.arange(n), np.arange(n)] = 0.0
        self.weights = weights
        return self

    def scores_of(self, plays: Histories, low: Histories) -> Array:
        """Scores of plays, shape (members, titles)."""
        from scipy.sparse import csr_array

        both = _beside(plays, low)
        given = csr_array(
            (np.ones(len(both.items), np.float32), both.items, both.offsets), (len(both), len(both.titles))
        )
        return np.asarray(given @ self.weights)


def _beside(plays: Histories, low: Histories) -> Histories:
    """One catalogue of twice the titles: those played, then the same as rated low."""
    n = len(plays.titles)
    who = np.concatenate([np.repeat(np.arange(len(h)), h.lengths) for h in (plays, low)])
    order = np.argsort(who, kind="stable")
    items = np.concatenate([plays.items, low.items + n])[order]
    offsets = np.searchsorted(who[order], np.arange(len(plays) + 1)).astype(np.int64)
    return Histories(np.arange(2 * n), items, offsets, plays.members, np.zeros(len(items)))


def run(args: argparse.Namespace) -> list[Row]:
    chosen = None if args.test_users is None else [int(x) for x in args.test_users.read_text().split()]
    split = Split.of(pl.read_parquet(args.ratings), args.held_out, chosen)
    train, test, validation = split.train, split.test, split.validation
    dataset = f"{args.ratings.parent.name}, {len(train):,} members learnt from, {int((test.totals > 0).sum())} tested"
    rows: list[Row] = []
    gains: dict[tuple[str, str], Array] = {}

    def judge(name: str, cost: Row, lists: Array, track: str = "plays only", **more: Any) -> None:
        found = Judged.of(lists, test, train)
        gains[name, track] = found.ndcg
        rows.append({"system": name, "dataset": dataset, "track": track} | cost | found.row | more)

    def fitted(name: str, one: Recommender) -> tuple[Recommender, Row]:
        cost: Row = {}
        with measured(cost):
            one.fit(train)
        return one, cost

    def plain(name: str, one: Recommender, **more: Any) -> tuple[Recommender, Row]:
        one, cost = fitted(name, one)
        judge(name, cost, best(one.scores_of(test.given), test.given), **more)
        return one, cost

    Factors(width=4, sweeps=1).fit(train.rows(np.arange(2)))  # compiled before anything is timed
    Together(fewest=1).fit(train.rows(np.arange(2)))
    narrow = {"width": 16, "sweeps": 3} if args.smoke else {}
    plain("popularity", Popular())
    plain("EASE", Together.ease(500.0))
    plain("DLAE", Together.dlae(0.33, 500.0))
    taste, cost = plain("matinee", Together(ridge=300.0, fewest=1))
    factors, more = plain("matinee iALS", Factors(seed=args.seed, **narrow))
    judge(*_blended("matinee + iALS", (taste, factors), (cost, more), split))
    sided = TwoSided()
    cost = {}
    with measured(cost):
        sided.fit(train, split.low)
    judge("matinee", cost, best(sided.scores_of(test.given, test.low), test.given), track="low ratings too")
    if args.peer_python and not args.smoke:
        for name, found in lists_of(args.peer_python, train, validation.given, test.given, DEEP).items():
            if isinstance(found, str):
                rows.append({"system": name, "dataset": dataset, "absent": found})
                continue
            best_of = max(found, key=lambda one: Judged.of(one.validation, validation, train).row["ndcg100"])
            judge(name, best_of.cost, best_of.test, settings=best_of.settings)
    for row in rows:
        if "ndcg100" in row and row["track"] == "plays only":
            row |= paired(gains[row["system"], row["track"]], gains["EASE", "plays only"])
    return rows


def _blended(
    name: str, parts: tuple[Recommender, Recommender], costs: tuple[Row, Row], split: Split
) -> tuple[str, Row, Array]:
    """Standardised scores added, with the weight that is best on the validation members."""

    def both(held: Held) -> tuple[Array, Array]:
        a, b = (standard(p.scores_of(held.given)) for p in parts)
        return a, b

    cost: Row = {}
    with measured(cost):
        a, b = both(split.validation)
        value: Callable[[float], float] = lambda w: float(  # noqa: E731
            Judged.of(best((1 - w) * a + w * b, split.validation.given), split.validation, split.train).ndcg.mean()
        )
        weight = max(WEIGHTS, key=value)
    a, b = both(split.test)
    lists = best((1 - weight) * a + weight * b, split.test.given)
    # Fitting both and choosing the weight: what a member of this row costs to have.
    total = {k: cost[k] + sum(c[k] for c in costs) for k in ("seconds", "cpu_seconds")}
    return name, total | {"peak_mb": max(cost["peak_mb"], *(c["peak_mb"] for c in costs)), "weight": weight}, lists


COLUMNS = [
    "system", "track", "recall20", "recall50", "ndcg100", "standard_error", "ratio", "over_ease", "over_ease_low",
    "over_ease_high", "ndcg10", "coverage10", "debiased_ndcg100", "novelty20", "cpu_seconds", "peak_mb", "settings", "absent",
]  # fmt: skip

if __name__ == "__main__":
    main("strong_generalization", run, options, columns=COLUMNS)
