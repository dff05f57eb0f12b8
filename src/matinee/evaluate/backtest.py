"""Back-tests in time: fit on what was known at an origin, judge on what came after it, roll the origin forward."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from matinee.checks import must
from matinee.evaluate.logged import Floats, Ints, cluster_codes, numbers
from matinee.evaluate.metrics import Metric
from matinee.evaluate.reward_model import RewardModel
from matinee.exceptions import BadInputError
from matinee.results import Table, number

if TYPE_CHECKING:
    import polars as pl

RESAMPLES = 400
FEWEST_CLUSTERS = 20


@dataclass(frozen=True)
class Score(Table):
    """One metric with its interval, or why there is none.

    Attributes:
        metric: Its name.
        value, low, high: The metric and its 95% interval; None when refused.
        n, clusters: Rows and independent clusters judged.
        refused: Why there is no number.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    refused: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row."""
        return [{"metric": self.metric, "value": self.value, "interval": (self.low, self.high), "n": self.n}]


def score_metric(
    name: str,
    metric: Metric,
    truth: ArrayLike,
    score: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """A metric of predictions with an interval by resampling clusters.

    Weights of clusters are drawn (Bayesian bootstrap, exponential), so that no resample lacks an event; the interval
    is the metric's own value shifted by the 2.5% and 97.5% quantiles of its resampled deviations.

    Args:
        name: What to call it.
        metric: A function of (truth, score, weight).
        truth, score: Shape (n,).
        cluster: Rows that depend on each other share a label.
        seed: Of the draws.
        resamples: How many.

    Example:
        >>> from matinee.evaluate.metrics import brier
        >>> found = score_metric("brier", brier, [0.0, 1.0] * 50, [0.4, 0.6] * 50)
        >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
        (0.16, 0.16, 0.16)
    """
    y = numbers(truth, "truth")
    s = numbers(score, "score", y.shape)
    codes, clusters = cluster_codes(cluster, len(y))
    if clusters < FEWEST_CLUSTERS:
        reason = f"{clusters} independent clusters, must be >= {FEWEST_CLUSTERS}"
        return Score(name, None, None, None, len(y), clusters, reason)
    value = metric(y, s, np.ones(len(y)))
    if np.isnan(value):
        return Score(name, None, None, None, len(y), clusters, "only one kind of outcome, must hold both")
    rng = np.random.default_rng(seed)
    drawn = np.array([metric(y, s, _drawn(rng, codes, clusters)) for _ in range(resamples)])
    low, high = np.quantile(drawn - np.median(drawn), [0.025, 0.975])
    return Score(name, value, value + float(low), value + float(high), len(y), clusters)


def _drawn(rng: np.random.Generator, codes: Ints | None, clusters: int) -> Floats:
    weight = rng.standard_exponential(clusters)
    return weight if codes is None else weight[codes]


@dataclass(frozen=True)
class Origin:
    """One origin of a back-test.

    Attributes:
        at: The moment: rows known before it were learned from, rows that happened after it were judged.
        learned, judged: Row counts.
        scores: One score a metric, in the order asked.
    """

    at: datetime
    learned: int
    judged: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Backtest(Table):
    """A model judged at several origins, and over all of them.

    Attributes:
        origins: Oldest first.
        overall: Each metric over the rows of all origins together.
        predictions: What was predicted, in the order judged: a frame with row, origin, truth, score.
    """

    origins: tuple[Origin, ...]
    overall: tuple[Score, ...]
    predictions: pl.DataFrame

    def rows(self) -> list[dict[str, Any]]:
        """One row an origin and metric, then one a metric over all."""
        rows: list[dict[str, Any]] = []
        parts: list[tuple[str, int | None, int, tuple[Score, ...]]]
        parts = [(o.at.strftime("%Y-%m-%d"), o.learned, o.judged, o.scores) for o in self.origins]
        parts.append(("all", None, sum(o.judged for o in self.origins), self.overall))
        for origin, learned, judged, scores in parts:
            rows += [
                {
                    "origin": origin,
                    "learned from": learned,
                    "judged": judged,
                    "metric": s.metric,
                    "value": s.value,
                    "interval": (s.low, s.high),
                }
                for s in scores
            ]
        return rows

    def notes(self) -> Sequence[str]:
        """Refusals, by origin."""
        return tuple(
            f"no {s.metric} at {o.at:%Y-%m-%d}: {s.refused}" for o in self.origins for s in o.scores if s.refused
        )


def rolling_origins(start: datetime, end: datetime, every: timedelta) -> list[datetime]:
    """Moments from start, before end, a step apart.

    Example:
        >>> [o.day for o in rolling_origins(datetime(2025, 1, 1), datetime(2025, 1, 20), timedelta(days=7))]
        [1, 8, 15]
    """
    if every <= timedelta(0):
        raise BadInputError(f"every == {every}, must be > 0")
    if not start < end:
        raise BadInputError(f"start == {start}, must be < end == {end}")
    return [start + i * every for i in range(-(-(end - start) // every))]


def backtest(
    model: RewardModel,
    X: pl.DataFrame,
    y: ArrayLike,
    *,
    at: Sequence[datetime] | pl.Series,
    known: Sequence[datetime] | pl.Series | None = None,
    origins: Sequence[datetime],
    horizon: timedelta,
    metrics: Mapping[str, Metric],
    cluster: ArrayLike | None = None,
    window: timedelta | None = None,
    fewest: int = 50,
    seed: int = 0,
) -> Backtest:
    """Fit at each origin on the labels known by then, judge on what happened in the horizon after it.

    A row is learned from only if its outcome was *known* at the origin, not merely begun: labels that arrive late
    would otherwise leak the future.

    Args:
        model: With `fit` and `score`; a copy is fitted at each origin.
        X: Features as of each row's `at`, n rows.
        y: Labels, shape (n,).
        at: When each row's question was asked.
        known: When its label became known; `at` where it is known at once.
        origins: Moments to stand at.
        horizon: Rows asked from the origin on, within this time, whose label was not known at the origin, are judged.
        metrics: Name to function of (truth, score, weight).
        cluster: Rows that depend on each other share a label.
        window: Learn only from rows asked within this time before the origin; None: all.
        fewest: Origins with fewer rows to learn from are an error: move the first origin.
        seed: Of fits and of intervals.

    Raises:
        BadInputError: Shapes differ, a label is known before its question, an origin has too little to learn from.

    Example:
        >>> import polars as pl
        >>> from matinee.evaluate.logistic import OneHotLogistic
        >>> from matinee.evaluate.metrics import auc
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=4_000)
        >>> y = (rng.random(4_000) < 1 / (1 + np.exp(-x))).astype(float)
        >>> at = [datetime(2025, 1, 1) + timedelta(hours=i) for i in range(4_000)]
        >>> found = backtest(OneHotLogistic(), pl.DataFrame({"x": x}), y, at=at, horizon=timedelta(days=30),
        ...                  origins=[datetime(2025, 3, 1), datetime(2025, 4, 1)], metrics={"auc": auc})
        >>> [o.judged for o in found.origins], 0.7 < found.overall[0].value < 0.8
        ([719, 719], True)
    """
    import polars as pl

    labels = numbers(y, "y")
    n = len(labels)
    must(fewest, "fewest", typ=int, ge=1)
    asked, learnt = _instants(at, "at", n), _instants(at if known is None else known, "known", n)
    if X.height != n:
        raise BadInputError(f"X has {X.height} rows, must be {n}, one for each label")
    if (learnt < asked).any():
        raise BadInputError(f"known[{int(np.argmax(learnt < asked))}] is before at, must not be: a label answers later")
    if not origins or not metrics:
        raise BadInputError("origins and metrics must each hold at least one")
    if cluster is not None:
        cluster = np.asarray(cluster)
    done: list[Origin] = []
    parts: list[pl.DataFrame] = []
    for origin in sorted(origins):
        now = _instants([origin], "origins", 1)[0]
        train = learnt <= now
        if window is not None:
            train &= asked >= now - _micros(window)
        # A row asked before the origin whose label is not known yet is neither learned from nor judged.
        test = (asked >= now) & (asked < now + _micros(horizon)) & ~train
        if train.sum() < fewest:
            raise BadInputError(f"origin {origin} has {int(train.sum())} rows to learn from, must be >= {fewest}")
        rows = np.flatnonzero(test)
        if not len(rows):
            raise BadInputError(f"origin {origin} has no rows within {horizon} after it, must have some to judge")
        fitted = copy.deepcopy(model)
        fitted.fit(X[np.flatnonzero(train)], labels[train], seed=seed)
        score = numbers(fitted.score(X[rows]), "model.score(X)", (len(rows),))
        owner = None if cluster is None else np.asarray(cluster)[rows]
        scores = _scores(metrics, labels[rows], score, owner, seed)
        done.append(Origin(origin, int(train.sum()), len(rows), scores))
        parts.append(pl.DataFrame({"row": rows, "truth": labels[rows], "score": score}).with_columns(origin=origin))
    whole = pl.concat(parts)
    # Horizons may overlap: the same row judged twice is one dependent pair, not two facts.
    owner = whole["row"].to_numpy() if cluster is None else np.asarray(cluster)[whole["row"].to_numpy()]
    overall = _scores(metrics, whole["truth"].to_numpy(), whole["score"].to_numpy(), owner, seed)
    return Backtest(tuple(done), overall, whole)


def _scores(
    metrics: Mapping[str, Metric], truth: Floats, score: Floats, cluster: ArrayLike | None, seed: int
) -> tuple[Score, ...]:
    return tuple(score_metric(name, m, truth, score, cluster=cluster, seed=seed) for name, m in metrics.items())


def _instants(values: Sequence[datetime] | pl.Series, name: str, n: int) -> Ints:
    """Microseconds since 1970, shape (n,)."""
    import polars as pl

    series = values if isinstance(values, pl.Series) else pl.Series(name, values)
    if not isinstance(series.dtype, pl.Datetime):
        raise BadInputError(f"{name} == {series.dtype}, must be datetimes")
    if len(series) != n:
        raise BadInputError(f"{name} has {len(series)} values, must be {n}")
    if series.null_count():
        raise BadInputError(f"{name}[{int(series.is_null().arg_max() or 0)}] == None, must be a datetime")
    return series.dt.epoch("us").to_numpy().astype(np.int64)


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def describe(scores: Sequence[Score]) -> str:
    """`auc 0.741 [0.72, 0.76]`, one metric after the other, for a line of prose."""
    return "; ".join(
        f"{s.metric} {number(s.value)} [{number(s.low)}, {number(s.high)}]" if s.refused is None else f"{s.metric} –"
        for s in scores
    )
