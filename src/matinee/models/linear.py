"""Linear models: ridge regression for amounts, logistic regression for probabilities. Numbers, flags and categories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from matinee.checks import must
from matinee.exceptions import BadInputError, RefusedError
from matinee.models.design import Design, log_loss, minimise, squared
from matinee.models.kernels import compiled
from matinee.models.protocol import MatrixLearner, must_be_binary
from matinee.models.signature import Array, Matrix, Vector
from matinee.models.storage import Saved

if TYPE_CHECKING:
    import polars as pl

_MOST_SPREAD = 512  # coefficients up to which the covariance is kept (2 MB)


@compiled
def _sum_terms(
    X: Matrix, out: Vector, intercept: float, category: Array, centre: Array, slope: Array, missing: Array,
    first_level: Array, level: Array, sigmoid: bool,
) -> None:  # fmt: skip
    for i in range(X.shape[0]):
        z = intercept
        for f in range(X.shape[1]):
            x = X[i, f]
            if category[f]:
                z += level[first_level[f] + (0 if math.isnan(x) else int(x) + 2)]
            else:
                z += missing[f] if math.isnan(x) else (x - centre[f]) * slope[f]
        if sigmoid:
            z = 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))
        out[i] = z


@dataclass(kw_only=True, repr=False, eq=False)
class _Additive(MatrixLearner):
    """What ridge and logistic regression share: an intercept and one term a column."""

    l2: float = 1.0
    """Penalty l2/2 * sum of squared coefficients of standardised columns, against the summed loss."""
    min_rows: int = 5
    """A level on fewer rows shares its coefficient with the other rare ones, and with levels never seen."""
    categories: tuple[str, ...] = ()
    """Integer columns whose values are names; text columns are categories anyway."""

    _sigmoid: ClassVar[bool]

    def __post_init__(self) -> None:
        must(self.l2, "l2", typ=(int, float), ge=0)
        must(self.min_rows, "min_rows", typ=int, ge=1)
        self.categories = tuple(self.categories)
        self._design: Design | None = None
        self._coefficients = np.zeros(0)
        self._covariance: Matrix | None = None
        self._tables: Any = ()

    def _learn(self, matrix: Matrix, y: Vector, weight: Vector, seed: int) -> None:
        design = Design.learn(self.signature, matrix, weight, self.min_rows)
        mean = float(weight @ y / weight.sum())
        loss, start = (log_loss, math.log(mean / (1 - mean))) if self._sigmoid else (squared, mean)
        coefficients, hessian = minimise(design, matrix, y, weight, loss, self.l2, start)
        covariance: Matrix | None = None
        if hessian is not None and design.width <= _MOST_SPREAD:
            covariance = np.asarray(np.linalg.pinv(hessian, hermitian=True), np.float64)
        self._take(design, coefficients, covariance)
        if not self._sigmoid and covariance is not None:
            residual = y - self.score_array(matrix)
            covariance *= float(weight @ residual**2 / weight.sum())

    def _take(self, design: Design, coefficients: Vector, covariance: Matrix | None) -> None:
        self._design, self._coefficients, self._covariance = design, coefficients, covariance
        # Position -1, "no coefficient", reads the zero put at the end.
        padded = np.append(coefficients, 0.0)
        slope = padded[design.number_at] / np.where(design.scale > 0, design.scale, 1.0)
        self._tables = (
            float(coefficients[0]), design.category, design.centre, slope, padded[design.missing_at],
            design.first_level, padded[design.level_at], self._sigmoid,
        )  # fmt: skip

    def score_array(self, matrix: Array) -> Vector:
        X = self._checked(matrix)
        out = np.empty(len(X))
        _sum_terms(X, out, *self._tables)
        return out

    def spread(self, matrix: Array) -> Vector:
        """Standard deviation of each row's score given the data, shape (rows,): for policies that draw from beliefs.

        Laplace approximation at the fitted coefficients, from the penalised curvature; for probabilities by the delta
        method. It is the uncertainty of the mean, not of an outcome.

        Raises:
            RefusedError: If the model has more than 512 coefficients.
        """
        X = self._checked(matrix)
        assert self._design is not None
        if self._covariance is None:
            raise RefusedError(
                f"the model has {self._design.width:,} coefficients, must have at most {_MOST_SPREAD} for its spread"
            )
        rows = self._design.full(X)
        std: Vector = np.sqrt(np.maximum(((rows @ self._covariance) * rows).sum(axis=1), 0.0))
        if self._sigmoid:
            p = self.score_array(X)
            std = std * p * (1 - p)
        return std

    def contributions(self, X: pl.DataFrame) -> pl.DataFrame:
        """What each column adds to each row's score before the link (log-odds for `Logistic`).

        One column a column of the model, and "base"; a row sums to the score before the link.
        """
        import polars as pl

        return pl.DataFrame(
            self.contributions_array(self.encode(X)), schema=[*self.signature.names, "base"], orient="row"
        )

    def contributions_array(self, matrix: Array) -> Matrix:
        """The same of an encoded matrix, shape (rows, columns + 1): the base, the intercept, stands last."""
        matrix = self._checked(matrix)
        intercept, category, centre, slope, missing, first, level, _ = self._tables
        terms = np.where(np.isnan(matrix), missing, (matrix - centre) * slope)
        for f in np.flatnonzero(category):
            codes = np.where(np.isnan(matrix[:, f]), -2.0, matrix[:, f])
            terms[:, f] = level[first[f] + codes.astype(np.int64) + 2]
        return np.column_stack([terms, np.full(len(matrix), intercept)])

    def _checked(self, matrix: Array) -> Matrix:
        columns = len(self.signature.columns)
        X = np.ascontiguousarray(matrix, np.float64)
        if X.ndim != 2 or X.shape[1] != columns:
            raise BadInputError(f"matrix has shape {X.shape}, must have shape (rows, {columns})")
        return X

    def _state(self) -> dict[str, Any]:
        assert self._design is not None
        arrays = self._design.to_arrays() | {"coefficients": self._coefficients}
        if self._covariance is not None:
            arrays["covariance"] = self._covariance
        return {"arrays": arrays}

    def _restore(self, saved: Saved) -> None:
        arrays = dict(saved.arrays)
        coefficients, covariance = arrays.pop("coefficients"), arrays.pop("covariance", None)
        self._take(Design(**arrays, width=len(coefficients)), coefficients, covariance)


@dataclass(kw_only=True, repr=False, eq=False)
class Linear(_Additive):
    """Ridge regression: the mean of an amount.

    Score: intercept + sum of slope * number + weight of each category's level (Hoerl and Kennard, 1970). A missing
    number counts as the mean, plus a weight of its own if training saw it missing.

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"hours": [0.0, 1.0, 2.0, 3.0], "tv": [True, False, True, False]})
        >>> Linear(l2=1e-6).fit(X, np.array([1.0, 3.0, 5.0, 7.0])).score(X).round(3).tolist()
        [1.0, 3.0, 5.0, 7.0]
    """

    kind: ClassVar[str] = "linear"
    scale: ClassVar[str] = "amount"
    _sigmoid: ClassVar[bool] = False


@dataclass(kw_only=True, repr=False, eq=False)
class Logistic(_Additive):
    """Logistic regression with an L2 penalty: the probability of a yes.

    P(y = 1) = 1 / (1 + exp(-z)) with z as in `Linear`. The intercept carries no penalty, so the mean score over the
    training rows is the share of yes.

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"device": ["tv"] * 50 + ["phone"] * 50})
        >>> y = np.array([1] * 40 + [0] * 10 + [1] * 10 + [0] * 40)
        >>> Logistic(l2=1e-9).fit(X, y).score(pl.DataFrame({"device": ["tv", "phone", "fridge"]})).round(3).tolist()
        [0.8, 0.2, 0.5]
    """

    kind: ClassVar[str] = "logistic"
    scale: ClassVar[str] = "probability"
    _sigmoid: ClassVar[bool] = True

    def _check(self, y: Vector) -> None:
        must_be_binary(y)
