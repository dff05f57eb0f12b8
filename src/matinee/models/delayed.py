"""Outcomes that come late: the chance of a positive, and of one still to come, learned from what is not over yet.

A member who finishes a title may come back tomorrow or in twelve days. Waiting for all windows to close throws the newest
choices away; counting what has not come yet as a no teaches that new titles are bad. The model of Chapelle (2014) does
neither: a positive comes with chance p(x) = sigmoid(w x), and if it comes, after a time that is exponential with rate
lambda(x) = exp(v x). What was seen after d days has likelihood p lambda exp(-lambda d); what was not seen for e days,

    1 - p + p exp(-lambda e)

since it may be no positive, or one still to come. Both are fitted together by maximum likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from matinee.checks import must
from matinee.exceptions import BadInputError

Array = np.ndarray[Any, Any]
FEWEST = 20  # positives


@dataclass
class DelayedFeedback:
    """Chance and delay of a positive, from columns of numbers (Chapelle, 2014).

    Attributes:
        l2: Penalty on squared weights of standardised columns; not on the two constants.
        window: Days after which nothing comes any more; None: it may come at any time.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> comes, delay, elapsed = rng.random(4000) < 0.4, rng.exponential(5.0, 4000), rng.uniform(0, 10, 4000)
        >>> seen = comes & (delay <= elapsed)
        >>> model = DelayedFeedback().fit(np.zeros((4000, 1)), np.where(seen, delay, np.nan), elapsed)
        >>> bool(seen.mean() < 0.25), round(float(model.chance(np.zeros((1, 1)))[0]), 1)
        (True, 0.4)
    """

    l2: float = 1.0
    window: float | None = None
    _weights: Array | None = field(default=None, init=False, repr=False)
    _scale: tuple[Array, Array] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        must(self.l2, "l2", ge=0)
        if self.window is not None:
            must(self.window, "window", gt=0)

    def fit(self, X: ArrayLike, delay: ArrayLike, elapsed: ArrayLike) -> Self:
        """Learn from choices of which some are not over.

        Args:
            X: What was known at the choice, shape (rows, columns), finite.
            delay: Days until the positive came, shape (rows,); NaN where none came so far.
            elapsed: Days since the choice, shape (rows,), > 0.

        Raises:
            BadInputError: If shapes differ, a value is out of bounds, or fewer than 20 positives came.
        """
        x, d, e = np.asarray(X, np.float64), np.asarray(delay, np.float64), np.asarray(elapsed, np.float64)
        if x.ndim != 2 or d.shape != (len(x),) or e.shape != (len(x),):
            raise BadInputError(
                f"X, delay and elapsed have shapes {x.shape}, {d.shape}, {e.shape}, must have a row each"
            )
        came = np.isfinite(d)
        if not np.isfinite(x).all() or not (e > 0).all():
            raise BadInputError("X must be finite and elapsed > 0 in every row")
        if (d[came] < 0).any() or (d[came] > e[came]).any():
            raise BadInputError(
                "delay, must lie between 0 and elapsed where a positive came: nothing is known before it happens"
            )
        if self.window is not None:
            # What came after the window is no positive, and nobody waits longer than it.
            came &= ~(d > self.window)
            e = np.minimum(e, self.window)
        if came.sum() < FEWEST:
            raise BadInputError(
                f"{int(came.sum())} positives came, must be at least {FEWEST} to tell chance from delay"
            )
        mean, spread = x.mean(axis=0), x.std(axis=0)
        self._scale = mean, np.where(spread > 0, spread, 1.0)
        z, k = self._design(x), x.shape[1] + 1
        t = np.where(came, np.nan_to_num(d), e)
        start = np.zeros(2 * k)
        start[0], start[k] = special.logit(np.clip(came.mean(), 0.01, 0.99)), -np.log(max(t[came].mean(), 1e-3))
        free = np.ones(2 * k)
        free[[0, k]] = 0.0

        def loss(theta: Array) -> tuple[float, Array]:
            u, rate = z @ theta[:k], np.exp(np.clip(z @ theta[k:], -20, 20))
            p, gone = special.expit(u), np.exp(-rate * t)
            waiting = np.maximum(1 - p + p * gone, 1e-300)
            value = -np.where(came, special.log_expit(u) + np.log(rate) - rate * t, np.log(waiting)).sum()
            du = np.where(came, 1 - p, -p * (1 - p) * (1 - gone) / waiting)
            dv = np.where(came, 1 - rate * t, -p * gone * rate * t / waiting)
            slope = -np.concatenate([z.T @ du, z.T @ dv]) + self.l2 * free * theta
            return float(value + 0.5 * self.l2 * (free * theta**2).sum()), slope

        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
        self._weights = found.x
        return self

    def chance(self, X: ArrayLike) -> Array:
        """Chance that a positive ever comes, or within the window; shape (rows,)."""
        p, rate = self._parts(X)
        return p if self.window is None else p * -np.expm1(-rate * self.window)

    def still_to_come(self, X: ArrayLike, elapsed: ArrayLike) -> Array:
        """Chance that one comes, given that none came so far: what an unfinished choice counts; shape (rows,).

        Args:
            X: As in `fit`.
            elapsed: Days since the choice, shape (rows,), >= 0. From the window's end on it is zero.
        """
        p, rate = self._parts(X)
        e = np.asarray(elapsed, np.float64)
        left = np.exp(-rate * e)
        last = 0.0 if self.window is None else np.exp(-rate * self.window)
        found: Array = np.where(left > last, p * (left - last) / np.maximum(1 - p + p * left, 1e-300), 0.0)
        return found

    def expected(self, X: ArrayLike, delay: ArrayLike, elapsed: ArrayLike) -> Array:
        """A label a row: 1 where the positive came, else the chance that it is still to come."""
        d = np.asarray(delay, np.float64)
        came = np.isfinite(d) & ((d <= self.window) if self.window is not None else True)
        return np.where(came, 1.0, self.still_to_come(X, elapsed))

    def _design(self, x: Array) -> Array:
        assert self._scale is not None
        return np.column_stack([np.ones(len(x)), (x - self._scale[0]) / self._scale[1]])

    def _parts(self, X: ArrayLike) -> tuple[Array, Array]:
        if self._weights is None:
            raise BadInputError("the model is not fitted, must be: fit(X, delay, elapsed)")
        z = self._design(np.asarray(X, np.float64))
        k = z.shape[1]
        return special.expit(z @ self._weights[:k]), np.exp(np.clip(z @ self._weights[k:], -20, 20))
