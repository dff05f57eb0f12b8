"""Relevance: a recommender's scores turned into chances, on one scale for all members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders import Histories, Recommender

Array = np.ndarray[Any, Any]
TERMS = ("constant", "log rank", "score", "log history")
RIDGE = 1.0  # on weights of terms scaled to at most 1
FEWEST = 20  # hits without which nothing can be learnt
MOST_MEMBERS = 1000
LEAST_SCORE = -3.0  # standard deviations: what is out, or far below all others, counts as that
DEPTH = 200  # titles a member that the fit looks at


@dataclass(frozen=True)
class Relevance:
    """The chance that a member wants a title, from its rank and score among all the titles a recommender knows.

    A logistic regression on log(rank), the score in standard deviations of the member's own scores, and the log of the
    history's length. Nothing in it depends on which titles happen to be allowed: leaving a title out never changes what
    another is worth, so that what is logged of a draw is enough to repeat it.

    Attributes:
        weights: One for each of `TERMS`.
    """

    weights: Array = field(default_factory=lambda: np.array([-1.0, -0.6, 0.3, 0.0]))

    def of(self, scores: Array, history: int) -> Array:
        """Chances for all titles of one member, shape (titles,).

        Args:
            scores: Of every title the recommender knows, shape (titles,); minus infinity for a title that is out.
            history: How many events the member's history has.
        """
        w = self.weights
        spread, middle = _scale(scores)
        z = w[2] * _standard(scores, spread, middle) + (w[0] + w[3] * np.log1p(history))
        z[descending(scores)] += w[1] * _logs(len(scores))
        return np.asarray(1 / (1 + np.exp(-z)))

    @staticmethod
    def _terms(scores: Array, history: int) -> Array:
        out = np.empty((len(scores), len(TERMS)))
        out[:, 0] = 1
        out[descending(scores), 1] = _logs(len(scores))
        out[:, 2] = _standard(scores, *_scale(scores))
        out[:, 3] = np.log1p(history)
        return out

    @classmethod
    def fit(cls, cases: Sequence[tuple[Array, int, Array]]) -> Relevance:
        """From members whose later titles are known.

        Args:
            cases: One a member: scores of every title (minus infinity for those in the history), length of the history,
                positions of the titles that came later.

        Raises:
            MatineeError: If fewer than 20 of the later titles are among the best 200 of their members.
        """
        rows, hits = [], []
        for scores, history, later in cases:
            terms = cls._terms(scores, history)
            best = descending(scores)[:DEPTH]
            best = best[np.isfinite(scores[best])]
            rows.append(terms[best])
            hits.append(np.isin(best, later))
        x = np.concatenate(rows) if rows else np.zeros((0, len(TERMS)))
        y = np.concatenate(hits).astype(np.float64) if hits else np.zeros(0)
        if y.sum() < FEWEST:
            raise mt.MatineeError(f"{int(y.sum())} later titles are among the best {DEPTH}, must be at least {FEWEST}")
        return cls(_logistic(x, y))

    @classmethod
    def learn(cls, recommender: Recommender, earlier: Histories, everything: Histories, *, seed: int = 0) -> Relevance:
        """From what at most 1,000 members played after the recommender had been fitted; the default where that is little.

        Args:
            recommender: Fitted on `earlier` and nothing else.
            earlier: Histories up to some moment.
            everything: The same histories and what came after.
        """
        rng = np.random.default_rng(seed)
        both = np.flatnonzero(np.isin(everything.members, earlier.members))
        cases = []
        for row in rng.permutation(both)[:MOST_MEMBERS].tolist():
            own = earlier.history(int(np.searchsorted(earlier.members, everything.members[row])))
            later = np.setdiff1d(everything.history(row), own)
            if not len(own) or not len(later):
                continue
            scores = np.array(recommender.scores(own), np.float64)
            scores[np.isin(recommender.titles, own)] = -np.inf
            cases.append((scores, len(own), np.flatnonzero(np.isin(recommender.titles, later))))
        try:
            return cls.fit(cases)
        except mt.MatineeError:
            return cls()

    def arrays(self) -> Mapping[str, Array]:
        """For saving."""
        return {"relevance": self.weights}


def descending(values: Array) -> Array:
    """Positions from the largest value to the smallest, in float32; of equal values the first comes first.

    A radix sort: a fifth of the time of a stable sort of floats.
    """
    from matinee.domains.personalization.page.kernels import falling

    order = np.empty(len(values), np.int64)
    falling((np.asarray(values, np.float32) + np.float32(0)).view(np.uint32), order)  # type: ignore[no-untyped-call]  # -0 is 0
    return order


@lru_cache(maxsize=8)
def _logs(n: int) -> Array:
    """log(1), log(2), ... log(n)."""
    return np.asarray(np.log(np.arange(1, n + 1)))


def _scale(scores: Array) -> tuple[float, float]:
    """Standard deviation and mean of the scores that are numbers."""
    finite = scores[np.isfinite(scores)]
    return (float(finite.std()), float(finite.mean())) if len(finite) else (0.0, 0.0)


def _standard(scores: Array, spread: float, middle: float) -> Array:
    """Scores in standard deviations; -3 for what is out."""
    if spread <= 0:
        return np.where(np.isfinite(scores), 0.0, LEAST_SCORE)
    return np.maximum((scores - middle) / spread, LEAST_SCORE)


def _logistic(x: Array, y: Array, steps: int = 30) -> Array:
    """Newton's method on the ridge-penalised likelihood; the constant is not penalised."""
    scale = np.maximum(np.abs(x).max(axis=0), 1e-9)
    z = x / scale
    w = np.zeros(x.shape[1])
    penalty = RIDGE * np.diag([0.0, *np.ones(x.shape[1] - 1)])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(z @ w)))
        gradient = z.T @ (p - y) + penalty @ w
        curvature = (z * (p * (1 - p))[:, None]).T @ z + penalty + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(curvature, gradient)
        w = w - step
        if float(np.abs(step).max()) < 1e-10:
            break
    return np.asarray(w / scale)
