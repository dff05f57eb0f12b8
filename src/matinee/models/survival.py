"""Survival: when something ends, for rows of which many have not ended yet. A hazard a period, with censoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from matinee.checks import must
from matinee.exceptions import BadInputError
from matinee.models.gradient_boosting import LightGBM
from matinee.models.linear import Logistic
from matinee.models.protocol import Learner, canonical_order, vector, weight_vector
from matinee.models.signature import CATEGORY, NUMBER, Array, Column, Matrix, Signature, Vector
from matinee.models.storage import Saved

if TYPE_CHECKING:
    import polars as pl

_HAZARDS = {"logistic": Logistic, "boosting": LightGBM}
# The columns that person-period rows have beside the user's; no frame can hold such names by accident.
_PERIOD, _LOG_PERIOD = "\x00period", "\x00log period"


@dataclass(kw_only=True, repr=False, eq=False)
class Survival(Learner):
    """The chance that a row ends with its event within `horizon` periods, or that it lives on.

    A discrete-time hazard model: each row becomes one row for each period it was observed, with the target 1 in the
    period of its event, and a classifier learns the hazard h(x, period) (Singer and Willett, 1993). Survival is the
    product S(k | x) = (1 - h(x, 1)) ... (1 - h(x, k)). A row that had not ended when it was last seen (censored)
    counts as long as it was seen in full, which is what a plain classifier on "ended or not" gets wrong.

    The contract: a row of X is a unit at a moment; y is how long it was observed from that moment on, in the user's
    own unit (days, say), and `event` whether it then ended. Covariates are those of the moment. For covariates that
    change, give one row a unit and month, each with its own y. With `age`, the hazard follows the unit's age (tenure)
    rather than the time since the row's moment.

    Memory while learning: rows x observed periods x columns x 8 bytes; `longest` bounds the periods.

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"plan": ["basic"] * 300 + ["premium"] * 300})
        >>> months = np.array([1, 2, 3] * 100 + [6] * 300)
        >>> ended = np.array([True] * 300 + [False] * 300)
        >>> model = Survival(horizon=3).fit(X, months, event=ended)
        >>> model.curves(pl.DataFrame({"plan": ["basic", "premium"]}), periods=3).round(1).tolist()
        [[0.7, 0.3, 0.0], [1.0, 1.0, 1.0]]
    """

    kind: ClassVar[str] = "survival"
    scale: ClassVar[str] = "probability"

    horizon: int = 12
    """Periods ahead that `score` looks."""
    predicts: str = "event"
    """"event" scores the chance that it ends within the horizon, "survival" that it does not."""
    hazard: str = "logistic"
    """"logistic" or "boosting": what learns the hazard."""
    width: float = 1.0
    """Length of a period in the unit of y: 30 for months of a y in days."""
    longest: int = 120
    """Rows observed for longer are counted as censored after this many periods."""
    age: str | None = None
    """Column with the age of the unit at the row's moment, in the unit of y. It must be known for every row that is
    learnt from; a row to be scored whose age is unknown counts as of the mean age."""
    categories: tuple[str, ...] = ()
    """Integer columns whose values are names; text columns are categories anyway."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of `Logistic` or `LightGBM`, whichever learns the hazard."""

    def __post_init__(self) -> None:
        must(self.horizon, "horizon", typ=int, ge=1)
        must(self.predicts, "predicts", one_of=("event", "survival"))
        must(self.hazard, "hazard", one_of=tuple(_HAZARDS))
        must(self.width, "width", typ=(int, float), gt=0)
        must(self.longest, "longest", typ=int, ge=1)
        self.categories = tuple(self.categories)
        self._inner = self._learner()
        self._last_period = 0
        self._mean_age = 0.0

    def _learner(self) -> Logistic | LightGBM:
        if self.hazard == "logistic":
            # The baseline bends with the period's logarithm; a level a period lets it deviate where there are data.
            return Logistic(**{"l2": 1.0, "min_rows": 20, **self.options})
        return LightGBM(**{"trees": 150, "leaves": 8, "min_rows": 50, **self.options})

    def fit(
        self,
        X: pl.DataFrame,
        y: Array,
        *,
        weight: Array | None = None,
        seed: int = 0,
        event: Array | None = None,
    ) -> Self:
        """Learn the hazard from observed durations.

        Args:
            X: Covariates at each row's moment, shape (rows, columns).
            y: How long each row was observed, >= 0, shape (rows,). An event at y falls into period ceil(y / width); a
                censored row counts for its floor(y / width) full periods.
            weight: Non-negative weights, shape (rows,).
            seed: Passed to the learner of the hazard.
            event: Whether the row ended at y (True) or was only last seen then, shape (rows,); all ended if not given.

        Raises:
            BadInputError: If shapes or values are not as above, or no row or every observed period ends with an event.
        """
        signature = Signature.learn(X, self.categories)
        duration = vector(y, "y", X.height)
        if (duration < 0).any():
            i = int((duration < 0).argmax())
            raise BadInputError(f"y[{i}] == {duration[i]:g}, must be >= 0: a duration")
        ended = np.ones(X.height, np.bool_) if event is None else vector(event, "event", X.height) != 0
        weights = weight_vector(weight, X.height)
        if self.age is not None and signature[self.age].kind != NUMBER:
            raise BadInputError(f"age == {self.age!r} is {signature[self.age].dtype}, must be a number")
        matrix = signature.encode(X)
        order = canonical_order(matrix, duration, ended.astype(np.float64), weights)
        matrix, duration, ended, weights = matrix[order], duration[order], ended[order], weights[order]
        periods = np.where(ended, np.maximum(np.ceil(duration / self.width), 1), np.floor(duration / self.width))
        ended &= periods <= self.longest
        seen = np.minimum(periods, self.longest).astype(np.int64)
        if not seen.any():
            raise BadInputError(
                f"no row was observed for a period of {self.width:g}, must be so for some; lower the width"
            )
        row = np.repeat(np.arange(len(seen)), seen)
        elapsed = np.arange(len(row)) - np.repeat(np.cumsum(seen) - seen, seen)
        target = np.zeros(len(row))
        target[np.cumsum(seen)[ended] - 1] = 1.0
        if target.all() or not target.any():
            word = "no" if not target.any() else "every"
            raise BadInputError(f"{word} observed period ends with an event, must be some that do and some that do not")
        self._signature = signature
        if self.age is not None:
            self._mean_age = self._known_age(matrix, weights)
        self._last_period = int((self._start(matrix)[row] + elapsed).max())
        self._inner = self._learner()
        self._inner._signature = self._period_signature()
        self._inner._learn(self._person_periods(matrix, row, elapsed), target, weights[row], seed)
        return self

    def _period_signature(self) -> Signature:
        levels = tuple(range(self._last_period + 1)) if self.hazard == "logistic" else ()
        period = Column(_PERIOD, CATEGORY if levels else NUMBER, "Int64", levels)
        return Signature((*self.signature.columns, period, Column(_LOG_PERIOD, NUMBER, "Float64")))

    def _start(self, matrix: Matrix) -> Array:
        """Age of each row in full periods; 0 where the model has no `age`."""
        if self.age is None:
            return np.zeros(len(matrix), np.int64)
        age = matrix[:, self.signature.names.index(self.age)]
        age = np.maximum(np.where(np.isnan(age), self._mean_age, age), 0.0)
        return np.floor(age / self.width).astype(np.int64)

    def _known_age(self, matrix: Matrix, weight: Vector) -> float:
        """The mean age of the training rows.

        Raises:
            BadInputError: If it is not known for one of them: its hazard would be learnt at the wrong age.
        """
        assert self.age is not None
        age = matrix[:, self.signature.names.index(self.age)]
        bad = np.flatnonzero(~(age >= 0))
        if len(bad):
            raise BadInputError(f"{self.age} is {age[bad[0]]:g} in {len(bad)} rows, must be known and >= 0 in all")
        return float(weight @ age / weight.sum())

    def _person_periods(self, matrix: Matrix, row: Array, elapsed: Array) -> Matrix:
        """One row a unit and period: the covariates, the period, its logarithm."""
        out = np.empty((len(row), matrix.shape[1] + 2))
        out[:, :-2] = matrix[row]
        # Beyond the last period that training saw, its hazard goes on.
        out[:, -2] = np.minimum(self._start(matrix)[row] + elapsed, self._last_period)
        out[:, -1] = np.log1p(out[:, -2])
        if self.age is not None:
            # The period carries the age; a second copy of it would make the two unidentifiable.
            out[:, self.signature.names.index(self.age)] = np.nan
        return out

    def hazards_array(self, matrix: Array, periods: int) -> Matrix:
        """Chance of the event in each of the next periods, given that it has not come before, shape (rows, periods)."""
        must(periods, "periods", typ=int, ge=1)
        n = len(matrix)
        rows = np.repeat(np.arange(n), periods)
        inner = self._person_periods(np.asarray(matrix, np.float64), rows, np.tile(np.arange(periods), n))
        return self._inner.score_array(inner).reshape(n, periods)

    def curves(self, X: pl.DataFrame, periods: int | None = None) -> Matrix:
        """Chance to live on past each of the next periods, falling from left to right, shape (rows, periods).

        Args:
            X: Rows to follow.
            periods: How many; the horizon where not given.
        """
        hazards = self.hazards_array(self.encode(X), periods or self.horizon)
        return np.asarray(np.cumprod(1.0 - hazards, axis=1), np.float64)

    def score_array(self, matrix: Array) -> Vector:
        columns = len(self.signature.columns)
        if matrix.ndim != 2 or matrix.shape[1] != columns:
            raise BadInputError(f"matrix has shape {matrix.shape}, must have shape (rows, {columns})")
        lives: Vector = np.prod(1.0 - self.hazards_array(matrix, self.horizon), axis=1)
        return lives if self.predicts == "survival" else 1.0 - lives

    def _state(self) -> dict[str, Any]:
        return {**self._inner._state(), "fitted": {"last_period": self._last_period, "mean_age": self._mean_age}}

    def _restore(self, saved: Saved) -> None:
        self._last_period, self._mean_age = int(saved.fitted["last_period"]), float(saved.fitted["mean_age"])
        self._inner = self._learner()
        self._inner._signature = self._period_signature()
        self._inner._restore(saved)
