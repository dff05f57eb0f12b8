"""Metrics of predictions and of rankings, in NumPy, vectorised over rows.

Predictions: `auc`, `log_loss`, `brier`. Rankings of one target each: `rank_of`, then `hit_rate`, `ndcg`,
`reciprocal_rank`. Lists with several targets: `hits`, then `recall`, `list_ndcg`.
Beside accuracy: `coverage`, `debiased_events`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matinee.checks import must
from matinee.evaluate.logged import Floats, Ints, numbers
from matinee.exceptions import BadInputError

Metric = Callable[[Floats, Floats, Floats], float]
"""A metric of (truth, score, weight)."""


def _inputs(truth: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y = numbers(truth, "truth")
    s = numbers(score, "score", y.shape)
    w = np.ones_like(y) if weight is None else numbers(weight, "weight", y.shape)
    if w.min(initial=0.0) < 0:
        raise BadInputError(f"weight.min() == {w.min():.6g}, must be >= 0")
    if w.sum() <= 0:
        raise BadInputError("weight.sum() == 0, must be > 0: a metric needs rows")
    return y, s, w


def _binary(y: Floats) -> None:
    if not np.isin(y, (0.0, 1.0)).all():
        raise BadInputError("truth holds values other than 0 and 1, must be events")


def auc(truth: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Chance that a random event scores above a random non-event, ties counted half; NaN when one kind is absent.

    Args:
        truth: 0 or 1, shape (n,).
        score: Any order, shape (n,).
        weight: Weight of each row, shape (n,).

    Example:
        >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    y, s, w = _inputs(truth, score, weight)
    _binary(y)
    order = np.argsort(s, kind="stable")
    s, ones, zeros = s[order], (w * y)[order], (w * (1 - y))[order]
    total = ones.sum() * zeros.sum()
    if total == 0:
        return float("nan")
    starts = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    tied_ones, tied_zeros = np.add.reduceat(ones, starts), np.add.reduceat(zeros, starts)
    below = np.concatenate([[0.0], np.cumsum(tied_zeros)[:-1]])
    return float((tied_ones @ (below + 0.5 * tied_zeros)) / total)


def log_loss(truth: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None, *, clip: float = 1e-15) -> float:
    """Mean of -ln(probability given to what happened); probabilities are kept `clip` away from 0 and 1.

    Example:
        >>> round(log_loss([1, 0], [0.5, 0.5]), 4)
        0.6931
    """
    y, p, w = _inputs(truth, score, weight)
    return float(w @ log_losses(y, p, clip=clip) / w.sum())


def log_losses(truth: Floats, score: Floats, *, clip: float = 1e-15) -> Floats:
    """-ln(probability given to what happened), row by row, shape (n,)."""
    _probable(score)
    p = np.clip(score, clip, 1 - clip)
    losses: Floats = -(truth * np.log(p) + (1 - truth) * np.log1p(-p))
    return losses


def brier(truth: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared distance of the probability from what happened.

    Example:
        >>> brier([1, 0], [0.75, 0.25])
        0.0625
    """
    y, p, w = _inputs(truth, score, weight)
    _probable(p)
    return float(w @ (p - y) ** 2 / w.sum())


def _probable(score: Floats) -> None:
    if score.min(initial=0.0) < 0 or score.max(initial=0.0) > 1:
        raise BadInputError(f"score in [{score.min():.6g}, {score.max():.6g}], must be probabilities in [0, 1]")


def rank_of(scores: ArrayLike, target: ArrayLike, *, allowed: NDArray[np.bool_] | None = None) -> Ints:
    """Rank of one target item a row, 1 the best; of equal scores the target comes last, so a constant gains nothing.

    Args:
        scores: Score of every item, shape (rows, items); minus infinity is allowed.
        target: Item of each row, shape (rows,).
        allowed: Items that compete, shape (rows, items); the target always does. None: all.

    Example:
        >>> rank_of([[0.1, 0.9, 0.5]], [2])
        array([2])
    """
    table = np.asarray(scores, dtype=np.float64)
    items = np.asarray(target, dtype=np.int64)
    if table.ndim != 2 or items.shape != table.shape[:1]:
        raise BadInputError(
            f"target.shape == {items.shape}, must be ({table.shape[0]},), one item for each row of scores"
        )
    if np.isnan(table).any():
        raise BadInputError("scores hold NaN, must be numbers: an item without a score has -inf")
    if len(items) and (items.min() < 0 or items.max() >= table.shape[1]):
        raise BadInputError(f"target in [{items.min()}, {items.max()}], must be items 0..{table.shape[1] - 1}")
    own = table[np.arange(len(items)), items][:, None]
    ahead = table >= own
    if allowed is not None:
        ahead = ahead & allowed
    ahead[np.arange(len(items)), items] = False
    ranks: Ints = ahead.sum(axis=1).astype(np.int64) + 1
    return ranks


def hit_rate(rank: ArrayLike, k: int) -> Floats:
    """1 where the target is among the first k, row by row, shape (rows,); its mean is HR@k.

    Example:
        >>> hit_rate([1, 11], 10)
        array([1., 0.])
    """
    must(k, "k", typ=int, ge=1)
    return (np.asarray(rank) <= k).astype(np.float64)


def ndcg(rank: ArrayLike, k: int) -> Floats:
    """1 / log2(1 + rank) where the target is among the first k, else 0, row by row; its mean is NDCG@k.

    Example:
        >>> ndcg([1, 3, 11], 10)
        array([1. , 0.5, 0. ])
    """
    must(k, "k", typ=int, ge=1)
    ranks = np.asarray(rank, dtype=np.float64)
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def reciprocal_rank(rank: ArrayLike) -> Floats:
    """1 / rank, row by row; its mean is MRR.

    Example:
        >>> reciprocal_rank([1, 4])
        array([1.  , 0.25])
    """
    return 1.0 / np.asarray(rank, dtype=np.float64)


def hits(lists: ArrayLike, targets: ArrayLike, offsets: ArrayLike, items: int) -> NDArray[np.bool_]:
    """Which entries of each list are among its row's targets, shape (rows, k).

    Args:
        lists: Item ids of each list, best first, shape (rows, k); -1 is an empty slot.
        targets: Target items of all rows, one row after the other, ids in 0..items-1.
        offsets: Where each row's targets start, and the end, shape (rows + 1,).
        items: Number of items.

    Example:
        >>> hits([[3, 1], [0, 2]], targets=[1, 2, 0], offsets=[0, 1, 3], items=4).tolist()
        [[False, True], [True, True]]
    """
    table = np.asarray(lists, dtype=np.int64)
    wanted, edges = np.asarray(targets, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
    if table.ndim != 2 or edges.shape != (table.shape[0] + 1,) or edges[-1] != len(wanted):
        raise BadInputError(
            f"offsets.shape == {edges.shape}, must be ({len(table) + 1},), ending with the number of targets"
        )
    owner = np.repeat(np.arange(table.shape[0]), np.diff(edges))
    keys = owner * items + wanted
    asked = np.arange(table.shape[0])[:, None] * items + table
    return np.isin(asked, keys) & (table >= 0)


def recall(hit: NDArray[np.bool_], totals: ArrayLike, k: int) -> Floats:
    """Share of a row's targets among the first k, out of min(k, targets), row by row; rows without targets are NaN.

    Args:
        hit: From `hits`, shape (rows, at least k).
        totals: Number of targets of each row, shape (rows,).
        k: Length of the list.

    Example:
        >>> recall(np.array([[True, False, True]]), [5], 2)
        array([0.5])
    """
    must(k, "k", typ=int, ge=1, le=hit.shape[1])
    most = np.minimum(np.asarray(totals, dtype=np.float64), k)
    shares: Floats = np.divide(hit[:, :k].sum(axis=1), most, out=np.full(len(hit), np.nan), where=most > 0)
    return shares


def list_ndcg(hit: NDArray[np.bool_], totals: ArrayLike, k: int) -> Floats:
    """Discounted gain of the first k over the best possible for the row's number of targets, row by row.

    Example:
        >>> list_ndcg(np.array([[True, False, False]]), [1], 3)
        array([1.])
    """
    must(k, "k", typ=int, ge=1, le=hit.shape[1])
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discounts)])
    most = np.minimum(np.asarray(totals, dtype=np.int64), k)
    ideal = best[most]
    gains: Floats = np.divide(hit[:, :k] @ discounts, ideal, out=np.full(len(hit), np.nan), where=ideal > 0)
    return gains


def coverage(lists: ArrayLike, items: int) -> float:
    """Share of the catalogue that stands in at least one list.

    Example:
        >>> coverage([[0, 1], [1, 2]], items=6)
        0.5
    """
    must(items, "items", typ=int, ge=1)
    shown = np.unique(np.asarray(lists, dtype=np.int64))
    return float(np.count_nonzero((shown >= 0) & (shown < items)) / items)


def debiased_events(target: ArrayLike, *, seed: int = 0) -> NDArray[np.bool_]:
    """Which target events to keep so that a few blockbusters do not decide a ranking metric, shape (events,).

    Popularity of an item is its number of events; cap = int(Q3 + 1.5 (Q3 - Q1)) over items; of an item above the cap a
    random `cap` of its events are kept (RecTools). Metrics are then averaged over the events kept.

    Example:
        >>> kept = debiased_events([0] * 50 + [1, 1, 2, 2, 3, 3, 4, 4])
        >>> int(kept[:50].sum()), int(kept[50:].sum())
        (2, 8)
    """
    items, codes, counts = np.unique(np.asarray(target), return_inverse=True, return_counts=True)
    if not len(items):
        return np.zeros(0, dtype=np.bool_)
    low, high = np.quantile(counts, [0.25, 0.75])
    cap = int(high + 1.5 * (high - low))
    # A random order, then the place of each event among those of its item.
    order = np.random.default_rng(seed).permutation(len(codes))
    grouped = order[np.argsort(codes.reshape(-1)[order], kind="stable")]
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(codes), dtype=np.int64)
    place[grouped] = np.arange(len(codes)) - starts
    return place < cap
