"""The design matrix of the linear models: standardised numbers, missing flags, one-hot levels; and its minimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matinee.exceptions import RefusedError
from matinee.models.kernels import compiled
from matinee.models.signature import CATEGORY, Array, Matrix, Signature, Vector

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    Loss = Callable[[Vector, Vector], tuple[Vector, Vector, Vector]]

_DENSE = 1_000  # up to this many coefficients Newton's method, whose matrix is dense; above it L-BFGS
_STEPS = 100


@dataclass(frozen=True)
class Design:
    """How an encoded matrix becomes the columns of a regression.

    The coefficients stand in the order: intercept, one a number, one a number that has missing values, one a level.
    A code of a category is looked up in `level_at[first_level[column] + code + 2]`: entry 0 is for null, 1 for unseen
    levels, which share a coefficient with the levels too rare to have their own; -1 means no coefficient.

    Attributes:
        category: Whether each column is one, shape (columns,).
        centre, scale: Of each number, shape (columns,); scale 0 for one that never varies.
        number_at, missing_at: Coefficient of each number and of its missing flag, -1 where there is none.
        first_level: Start of each category in `level_at`.
        level_at: Coefficient of each level.
        width: Number of coefficients.
    """

    category: Array
    centre: Array
    scale: Array
    number_at: Array
    missing_at: Array
    first_level: Array
    level_at: Array
    width: int

    @classmethod
    def learn(cls, signature: Signature, matrix: Matrix, weight: Vector, min_rows: int) -> Design:
        """The design for these rows; a level on fewer than `min_rows` of them has no coefficient of its own."""
        n = len(signature.columns)
        category = np.array([c.kind == CATEGORY for c in signature.columns], np.bool_)
        centre, scale = np.zeros(n), np.zeros(n)
        number_at, missing_at = np.full(n, -1), np.full(n, -1)
        first_level, level_at = np.zeros(n, np.int64), list[int]()
        width = 1
        for i in np.flatnonzero(~category):
            there = ~np.isnan(matrix[:, i])
            mass = weight[there].sum()
            if mass > 0:
                centre[i] = (weight[there] * matrix[there, i]).sum() / mass
                deviation = np.sqrt((weight[there] * (matrix[there, i] - centre[i]) ** 2).sum() / mass)
                if deviation > 1e-9 * max(1e-300, abs(centre[i])):
                    scale[i], number_at[i] = deviation, width
                    width += 1
        for i in np.flatnonzero(~category):
            missing = np.isnan(matrix[:, i])
            if missing.any() and not missing.all():
                missing_at[i] = width
                width += 1
        for i in np.flatnonzero(category):
            levels = len(signature.columns[i].levels)
            counts = np.bincount(cls._slots(matrix[:, i]), minlength=levels + 2)
            own = counts >= min_rows
            places = np.full(levels + 2, -1)
            places[own] = width + np.arange(own.sum())
            width += int(own.sum())
            if (counts[~own] > 0).any():
                places[~own] = width
                width += 1
            first_level[i] = len(level_at)
            level_at += places.tolist()
        levels_at = np.array(level_at or [-1], np.int64)
        return cls(category, centre, scale, number_at, missing_at, first_level, levels_at, width)

    @property
    def dense_width(self) -> int:
        """Coefficients of the intercept, the numbers and their missing flags, which come first."""
        return 1 + int((self.number_at >= 0).sum()) + int((self.missing_at >= 0).sum())

    def dense(self, matrix: Matrix) -> Matrix:
        """Intercept, standardised numbers (0 where missing) and missing flags, shape (rows, dense_width)."""
        out = np.zeros((len(matrix), self.dense_width))
        out[:, 0] = 1.0
        for i in np.flatnonzero(self.number_at >= 0):
            out[:, self.number_at[i]] = np.nan_to_num((matrix[:, i] - self.centre[i]) / self.scale[i])
        for i in np.flatnonzero(self.missing_at >= 0):
            out[:, self.missing_at[i]] = np.isnan(matrix[:, i])
        return out

    def levels(self, matrix: Matrix) -> csr_matrix:
        """One-hot levels, sparse, shape (rows, width - dense_width)."""
        from scipy.sparse import csr_matrix

        where = [self.first_level[i] + self._slots(matrix[:, i]) for i in np.flatnonzero(self.category)]
        if not where:
            return csr_matrix((len(matrix), 0))
        at = self.level_at[np.stack(where, axis=1)]
        rows, columns = np.nonzero(at >= 0)
        shape = (len(matrix), self.width - self.dense_width)
        return csr_matrix((np.ones(len(rows)), (rows, at[rows, columns] - self.dense_width)), shape)

    def full(self, matrix: Matrix) -> Matrix:
        """The whole design, dense, shape (rows, width)."""
        out = np.zeros((len(matrix), self.width))
        _fill(
            matrix, self.category, self.centre, self.scale, self.number_at, self.missing_at, self.first_level,
            self.level_at, out,
        )  # fmt: skip
        return out

    @staticmethod
    def _slots(codes: Vector) -> Array:
        return (np.nan_to_num(codes, nan=-2.0) + 2).astype(np.int64)

    def to_arrays(self) -> dict[str, Array]:
        """Arrays for the model's file."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__ if name != "width"}


@compiled
def _fill(
    X: Matrix, category: Array, centre: Array, scale: Array, number_at: Array, missing_at: Array, first_level: Array,
    level_at: Array, out: Matrix,
) -> None:  # fmt: skip
    for i in range(X.shape[0]):
        out[i, 0] = 1.0
        for f in range(X.shape[1]):
            x = X[i, f]
            if category[f]:
                at = level_at[first_level[f] + (0 if math.isnan(x) else int(x) + 2)]
                if at >= 0:
                    out[i, at] = 1.0
            elif math.isnan(x):
                if missing_at[f] >= 0:
                    out[i, missing_at[f]] = 1.0
            elif number_at[f] >= 0:
                out[i, number_at[f]] = (x - centre[f]) / scale[f]


def squared(y: Vector, z: Vector) -> tuple[Vector, Vector, Vector]:
    """Half the squared error, its gradient and its curvature in z."""
    return 0.5 * (y - z) ** 2, z - y, np.ones_like(z)


def log_loss(y: Vector, z: Vector) -> tuple[Vector, Vector, Vector]:
    """Log-loss of 0/1 targets, its gradient and its curvature in z = log-odds."""
    from scipy.special import expit

    p = expit(z)
    return np.logaddexp(0.0, z) - y * z, p - y, p * (1 - p)


def minimise(
    design: Design, matrix: Matrix, y: Vector, weight: Vector, loss: Loss, l2: float, start: float
) -> tuple[Vector, Matrix | None]:
    """Coefficients that minimise sum(weight * loss) + l2/2 * |coefficients without the intercept|^2.

    Newton's method with halved steps; above 1,000 coefficients L-BFGS. Both stop when the gradient vanishes.

    Returns:
        The coefficients, and the matrix of second derivatives there (None above 1,000).
    """
    dense, sparse = design.dense(matrix), design.levels(matrix)
    k = dense.shape[1]
    ridge = np.full(design.width, float(l2))
    ridge[0] = 0.0

    def at(b: Vector) -> tuple[float, Vector, Vector]:
        z = dense @ b[:k] + sparse @ b[k:]
        value, slope, curve = loss(y, z)
        pull = weight * slope
        gradient = np.concatenate([dense.T @ pull, sparse.T @ pull]) + ridge * b
        return float(weight @ value + 0.5 * ridge @ (b * b)), gradient, weight * curve

    b = np.zeros(design.width)
    b[0] = start
    tolerance = 1e-10 * float(weight.sum()) * max(1.0, float(np.abs(y).max()))
    if design.width > _DENSE:
        return _lbfgs(at, b, tolerance), None
    value, gradient, curve = at(b)
    hessian = _hessian(dense, sparse, curve, ridge)
    for _ in range(_STEPS):
        if np.abs(gradient).max() <= tolerance:
            break
        step = _solve(hessian, gradient)
        share = 1.0
        while share > 1e-10:
            tried = at(b - share * step)
            # Close to the minimum the gain of a step is lost in the rounding of the sum; the gradient still tells.
            if tried[0] <= value + 1e-12 * (1.0 + abs(value)):
                break
            share /= 2
        else:
            break  # no step lowers the value any more: rounding is all that is left
        b = b - share * step
        value, gradient, curve = tried
        hessian = _hessian(dense, sparse, curve, ridge)
    return b, hessian


def _hessian(dense: Matrix, sparse: csr_matrix, curve: Vector, ridge: Vector) -> Matrix:
    k = dense.shape[1]
    out = np.diag(ridge)
    weighted = dense * curve[:, None]
    out[:k, :k] += dense.T @ weighted
    if len(ridge) > k:
        cross = sparse.T @ weighted
        out[k:, :k] += cross
        out[:k, k:] += cross.T
        out[k:, k:] += (sparse.T @ sparse.multiply(curve[:, None])).toarray()
    return out


def _solve(hessian: Matrix, gradient: Vector) -> Vector:
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    try:
        return np.asarray(cho_solve(cho_factor(hessian), gradient))
    except LinAlgError:
        raise RefusedError(
            "the columns determine each other and l2 == 0, must be > 0 for the coefficients to be determined"
        ) from None


def _lbfgs(at: Callable[[Vector], tuple[float, Vector, Vector]], start: Vector, tolerance: float) -> Vector:
    from scipy.optimize import minimize

    found = minimize(
        lambda b: at(b)[:2], start, jac=True, method="L-BFGS-B",
        options={"maxiter": 5_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": tolerance, "maxcor": 20},
    )  # fmt: skip
    return np.asarray(found.x)
