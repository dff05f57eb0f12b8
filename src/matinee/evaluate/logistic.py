"""A logistic regression for one-hot designs: exact Newton steps whose Hessian is counted, never multiplied out.

Reward models of logs are mostly categories (user features, the action) and a few numbers. Written as a dense matrix a
million rows of 60 columns are half a gigabyte and each Newton step multiplies it out; here a category is one code a
row, its blocks of the Hessian are weighted counts, and rows of the same cell can be added up before fitting.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from matinee.checks import must
from matinee.evaluate.logged import Floats
from matinee.exceptions import BadInputError, UnknownColumnError

if TYPE_CHECKING:
    import polars as pl

MAX_STEPS = 60


@dataclass(frozen=True, eq=False)
class Design:
    """Rows of a one-hot design: codes of the categories and columns of numbers.

    Args:
        codes: One array a category, each shape (n,), values in 0..levels-1; -1 is "none of them".
        levels: Number of levels of each category.
        dense: Numbers, shape (n, d).
        drop_first: The first level of each category is the reference and has no coefficient.
    """

    codes: tuple[NDArray[np.int64], ...]
    levels: tuple[int, ...]
    dense: Floats
    drop_first: bool = False

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.dense.shape[0])

    @property
    def width(self) -> int:
        """Coefficients: intercept, numbers, then every level of every category (dropped ones stay 0)."""
        return int(1 + self.dense.shape[1] + sum(self.levels))

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which coefficients are fitted, shape (width,)."""
        free = np.ones(self.width, dtype=np.bool_)
        if self.drop_first:
            free[self.starts] = False
        return free

    @property
    def starts(self) -> list[int]:
        """Where the coefficients of each category start."""
        first = 1 + self.dense.shape[1]
        return [first + sum(self.levels[:i]) for i in range(len(self.levels))]

    def logits(self, coefficients: Floats) -> Floats:
        """Linear score of each row, shape (n,)."""
        d = self.dense.shape[1]
        score: Floats = self.dense @ coefficients[1 : 1 + d] + coefficients[0]
        for codes, start, levels in zip(self.codes, self.starts, self.levels, strict=True):
            score += np.append(coefficients[start : start + levels], 0.0)[codes]  # -1 reads the appended 0
        return score

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Design:
        """The design of some of the rows."""
        return Design(tuple(c[keep] for c in self.codes), self.levels, self.dense[keep], self.drop_first)


def fit_logistic(
    design: Design,
    successes: Floats,
    trials: Floats,
    *,
    strength: float = 100.0,
    start: Floats | None = None,
    tolerance: float = 1e-7,
) -> Floats:
    """Coefficients that minimise log-loss + |coefficients|^2 / (2 strength), the intercept unpenalised.

    Newton's method with halving; a row is `trials` observations with `successes` ones, so that repeated, bootstrapped
    or weighted rows are counts, not copies.

    Args:
        design: The rows.
        successes: Weighted count of ones, shape (n,).
        trials: Weighted count of observations, shape (n,); rows of 0 are allowed.
        strength: Inverse penalty, "C" elsewhere.
        start: Coefficients to start from, shape (width,); those of a similar fit save most steps.
        tolerance: Stop when half the squared Newton decrement, in log-loss, is below this.

    Returns:
        Coefficients, shape (width,): intercept, numbers, then levels in the order of the categories.

    Example:
        >>> arm = Design((np.array([0, 1]),), (2,), np.zeros((2, 0)), drop_first=True)
        >>> found = fit_logistic(arm, np.array([20.0, 30.0]), np.array([100.0, 100.0]), strength=1e9)
        >>> special.expit(arm.logits(found)).round(3)
        array([0.2, 0.3])
    """
    must(strength, "strength", gt=0)
    total = float(trials.sum())
    if total <= 0:
        raise BadInputError("trials.sum() == 0, must be > 0: a model needs rows to learn from")
    free = design.free
    penalty = np.full(design.width, 1.0 / strength)
    penalty[0] = 0.0
    if start is None:
        now = np.zeros(design.width)
        now[0] = special.logit((float(successes.sum()) + 0.5) / (total + 1.0))
    else:
        now = start.copy()
    active = trials > 0
    if not active.all():
        design, successes, trials = design.rows(active), successes[active], trials[active]
    counter = _Counter(design)

    def loss(at: Floats, score: Floats) -> float:
        return float(trials @ np.logaddexp(0.0, score) - successes @ score + 0.5 * penalty @ (at * at))

    score = design.logits(now)
    best = loss(now, score)
    for _ in range(MAX_STEPS):
        chance = special.expit(score)
        gradient = counter.gradient(trials * chance - successes) + penalty * now
        hessian = counter.hessian(trials * chance * (1.0 - chance))
        hessian[np.diag_indices_from(hessian)] += penalty + 1e-10
        step = np.zeros(design.width)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        decrement = float(gradient @ step)
        if decrement < 2 * tolerance:
            return now - step
        size = 1.0
        while size > 1e-6:
            tried = now - size * step
            score = design.logits(tried)
            after = loss(tried, score)
            if after <= best - 1e-4 * size * decrement:
                break
            size /= 2
        now, best = tried, after
    return now


def _count(codes: NDArray[np.int64], weights: Floats, bins: int) -> Floats:
    return np.bincount(codes, weights, bins).astype(np.float64, copy=False)


class _Counter:
    """Gradient and Hessian of a design as weighted counts; what does not change between steps is kept."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.wide = np.concatenate([np.ones((design.n, 1)), design.dense], axis=1)
        # -1 counts into one extra bin at the end, which is cut off.
        self.codes = [np.where(c < 0, k, c) for c, k in zip(design.codes, design.levels, strict=True)]
        self.bins = [k + 1 for k in design.levels]
        self.pairs = {
            (i, j): self.codes[i] * self.bins[j] + self.codes[j]
            for i in range(len(self.codes))
            for j in range(i + 1, len(self.codes))
        }

    def gradient(self, weights: Floats) -> Floats:
        blocks = [weights @ self.wide]
        for codes, bins in zip(self.codes, self.bins, strict=True):
            blocks.append(_count(codes, weights, bins)[:-1])
        return np.concatenate(blocks)

    def hessian(self, weights: Floats) -> Floats:
        width, starts = self.design.width, self.design.starts
        d = self.wide.shape[1]
        full = np.zeros((width, width))
        weighted = self.wide * weights[:, None]
        full[:d, :d] = weighted.T @ self.wide
        for i, (codes, bins, start) in enumerate(zip(self.codes, self.bins, starts, strict=True)):
            here = slice(start, start + bins - 1)
            for column in range(d):
                counted = _count(codes, weighted[:, column], bins)[:-1]
                full[column, here] = full[here, column] = counted
            diagonal = np.arange(start, start + bins - 1)
            full[diagonal, diagonal] = full[0, here]
            for j in range(i + 1, len(self.codes)):
                other = slice(starts[j], starts[j] + self.bins[j] - 1)
                table = _count(self.pairs[i, j], weights, bins * self.bins[j]).reshape(bins, self.bins[j])
                full[here, other] = table[:-1, :-1]
                full[other, here] = table[:-1, :-1].T
        return full


@dataclass(eq=False)
class OneHotLogistic:
    """Logistic regression on a frame: words, booleans and integers as categories, floats as numbers.

    Follows the `Model` protocol's `fit` and `score`, so it serves wherever a reward model is asked for.

    Args:
        strength: Inverse L2 penalty.
        drop_first: Leave out the first level of each category.

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"action": ["a"] * 100 + ["b"] * 100})
        >>> y = np.array([1.0] * 20 + [0.0] * 80 + [1.0] * 50 + [0.0] * 50)
        >>> OneHotLogistic().fit(X, y).score(pl.DataFrame({"action": ["a", "b"]})).round(2)
        array([0.2, 0.5])
    """

    strength: float = 100.0
    drop_first: bool = False
    coefficients: Floats | None = field(default=None, init=False, repr=False)
    names: dict[str, list[object] | None] = field(default_factory=dict, init=False, repr=False)

    kind = "one-hot-logistic"

    def fit(self, X: pl.DataFrame, y: Floats, *, weight: Floats | None = None, seed: int = 0) -> Self:
        """Fit to rewards in [0, 1]; `seed` is not needed: the optimum is unique."""
        y = np.asarray(y, dtype=np.float64)
        if y.min(initial=0.0) < 0 or y.max(initial=0.0) > 1:
            raise BadInputError("y outside [0, 1], must be a probability or an event; use a regression for money")
        self.names = {name: None if X[name].dtype.is_float() else _levels(X[name]) for name in X.columns}
        trials = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
        self.coefficients = fit_logistic(self._design(X), y * trials, trials, strength=self.strength)
        return self

    def score(self, X: pl.DataFrame) -> Floats:
        """Probability of each row, shape (rows,); a level not seen in fitting counts as none."""
        if self.coefficients is None:
            raise BadInputError("model == unfitted OneHotLogistic, must be fitted before it scores")
        chances: Floats = special.expit(self._design(X).logits(self.coefficients))
        return chances

    def fresh(self) -> Self:
        """An unfitted copy."""
        return copy.copy(self)

    def _design(self, X: pl.DataFrame) -> Design:
        for name in self.names:
            if name not in X.columns:
                raise UnknownColumnError("the frame to score", name, X.columns)
        numbers = [name for name, levels in self.names.items() if levels is None]
        codes, sizes = [], []
        for name, levels in self.names.items():
            if levels is not None:
                codes.append(_codes(X[name], levels))
                sizes.append(len(levels))
        dense = X.select(numbers).to_numpy().astype(np.float64) if numbers else np.zeros((X.height, 0))
        if not np.isfinite(dense).all():
            raise BadInputError("X holds NaN or null in a column of numbers, must be filled before fitting")
        return Design(tuple(codes), tuple(sizes), np.ascontiguousarray(dense), self.drop_first)


def _levels(column: pl.Series) -> list[object]:
    return list(column.drop_nulls().unique().sort().to_list())


def _codes(column: pl.Series, levels: Sequence[object]) -> NDArray[np.int64]:
    import polars as pl

    # Words are compared as words: an Enum of the fitting frame and a plain string of a later one are the same level.
    words = column.cast(pl.String)
    table = pl.DataFrame({"level": [str(_plain(one)) for one in levels], "code": np.arange(len(levels))})
    found = pl.DataFrame({"level": words}).join(table, on="level", how="left", maintain_order="left")["code"]
    return found.fill_null(-1).to_numpy().astype(np.int64)


def _plain(level: object) -> object:
    return str(level).lower() if isinstance(level, bool) else level


def aggregate(
    codes: Sequence[NDArray[np.int64]], levels: Sequence[int], successes: Floats, trials: Floats
) -> tuple[tuple[NDArray[np.int64], ...], Floats, Floats]:
    """Rows of the same cell added up: codes of the cells that occur, their successes and their trials.

    Example:
        >>> codes, ones, count = aggregate([np.array([0, 1, 1])], [2], np.array([1.0, 0.0, 1.0]), np.ones(3))
        >>> codes[0].tolist(), ones.tolist(), count.tolist()
        ([0, 1], [1.0, 1.0], [1.0, 2.0])
    """
    shape = tuple(levels)
    cells = np.ravel_multi_index(tuple(codes), shape)
    found, inverse = np.unique(cells, return_inverse=True)
    k = len(found)
    cells_of = tuple(c.astype(np.int64) for c in np.unravel_index(found, shape))
    return cells_of, _count(inverse, successes, k), _count(inverse, trials, k)
