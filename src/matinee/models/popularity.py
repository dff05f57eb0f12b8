"""Popularity: how much of an id there was, ever or lately. The baseline that a recommender has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from matinee.exceptions import BadInputError, UnknownColumnError
from matinee.models.protocol import Learner, canonical_order, vector, weight_vector
from matinee.models.signature import Array, Signature, Vector
from matinee.models.storage import Saved
from matinee.times import duration_us

if TYPE_CHECKING:
    import polars as pl


@dataclass(repr=False, eq=False)
class Popularity(Learner):
    """The sum of the targets of each id, all time or with a half-life; 0 for an id never seen.

    With y = 1 for a play, the number of plays; with y = seconds, the time watched. With a half-life, a row of age a
    (before the latest row) counts 2^(-a / half_life).

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"title": [7, 7, 9]})
        >>> Popularity("title").fit(X, np.ones(3)).score(pl.DataFrame({"title": [7, 9, 11]})).tolist()
        [2.0, 1.0, 0.0]
    """

    kind: ClassVar[str] = "popularity"
    scale: ClassVar[str] = "amount"

    column: str = "title"
    """The id whose popularity is counted: integers or text."""
    half_life: str | None = None
    """Time in which a row loses half its count: "30d". None counts all rows alike."""
    at: str = "at"
    """The time column of the training frame, read with a half-life only; frames to be scored need none."""

    def __post_init__(self) -> None:
        self.categories = (self.column,)
        self._half_life_us = 0 if self.half_life is None else duration_us(self.half_life)
        self._counts = np.zeros(0)

    def fit(self, X: pl.DataFrame, y: Array, *, weight: Array | None = None, seed: int = 0) -> Self:
        """Count. Reads the id column, and `at` if there is a half-life; other columns are ignored.

        Raises:
            UnknownColumnError: If one of these columns is not there.
            BadInputError: If the frame is empty, a time is null, or targets or weights are not finite.
        """
        import polars as pl

        needed = [self.column] if self.half_life is None else [self.column, self.at]
        for name in needed:
            if name not in X.columns:
                raise UnknownColumnError("the training frame", name, X.columns)
        signature = Signature.learn(X.select(self.column), self.categories)
        target = vector(y, "y", X.height) * weight_vector(weight, X.height)
        if self.half_life is not None:
            times = X[self.at]
            if not isinstance(times.dtype, pl.Datetime) or times.null_count():
                raise BadInputError(
                    f"column {self.at!r} is {times.dtype} with {times.null_count()} nulls, must be a time in all rows"
                )
            us = times.dt.epoch("us").to_numpy()
            age = (us.max() - us).astype(np.float64)
            target = target * np.exp2(-age / self._half_life_us)
        matrix = signature.encode(X)
        order = canonical_order(matrix, target)
        codes, target = matrix[order, 0], target[order]
        known = ~np.isnan(codes)
        levels = len(signature.columns[0].levels)
        # The last place is for ids that are null or unseen (-1), and stays 0.
        self._counts = np.zeros(levels + 1)
        self._counts[:levels] = np.bincount(codes[known].astype(np.int64), weights=target[known], minlength=levels)
        self._signature = signature
        return self

    def score_array(self, matrix: Array) -> Vector:
        _ = self.signature
        if matrix.ndim != 2 or matrix.shape[1] != 1:
            raise BadInputError(f"matrix has shape {matrix.shape}, must have shape (rows, 1)")
        codes = matrix[:, 0].astype(np.float64)
        return self._counts[np.where(np.isnan(codes), -1.0, codes).astype(np.int64)]

    def top(self, n: int) -> list[int | str]:
        """The `n` most popular ids, most popular first; equal counts in the order of the ids."""
        levels = self.signature.columns[0].levels
        return [levels[i] for i in np.argsort(-self._counts[: len(levels)], kind="stable")[:n]]

    def _state(self) -> dict[str, Any]:
        return {"arrays": {"counts": self._counts}}

    def _restore(self, saved: Saved) -> None:
        self._counts = saved.arrays["counts"]
