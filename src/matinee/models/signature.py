"""The signature of a model: which columns it reads, of what type, in what order, with which levels.

A frame becomes a matrix here and nowhere else, in training, in batch scoring and online, so that a column cannot mean
one thing in one place and another in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from matinee.exceptions import BadInputError, UnknownColumnError

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
Matrix = np.ndarray[Any, np.dtype[np.float64]]  # (rows, columns)
Vector = np.ndarray[Any, np.dtype[np.float64]]  # (rows,)

NUMBER: Literal["number"] = "number"
CATEGORY: Literal["category"] = "category"
UNSEEN = -1.0  # code of a level that training did not see; a null is NaN


@dataclass(frozen=True)
class Column:
    """One column that a model reads.

    Attributes:
        name: Name in the frame.
        kind: "number" (numbers and booleans; null is NaN) or "category" (text, or integers named as categories).
        dtype: Frame type at training, for messages.
        levels: The known levels of a category, sorted; empty for a number.
    """

    name: str
    kind: Literal["number", "category"]
    dtype: str
    levels: tuple[int, ...] | tuple[str, ...] = ()

    @property
    def textual(self) -> bool:
        """Whether the levels are text rather than integers."""
        return not self.dtype.startswith(("Int", "UInt"))

    @cached_property
    def codes(self) -> Mapping[Any, float]:
        """Level -> code, with None and empty text as NaN."""
        return {level: float(i) for i, level in enumerate(self.levels)} | {None: np.nan, "": np.nan}

    @cached_property
    def _sorted(self) -> Array:
        return np.asarray(self.levels, np.int64)

    @cached_property
    def _enum(self) -> pl.Enum:
        import polars as pl

        return pl.Enum([str(level) for level in self.levels])

    def expression(self, have: pl.DataType) -> pl.Expr:
        """A frame's column as float64: numbers, or codes of levels; null stays null.

        Raises:
            BadInputError: If the frame has it in another type.
        """
        import polars as pl

        column = pl.col(self.name)
        if have == pl.Null():
            return column.cast(pl.Float64)
        if self.kind == NUMBER:
            if not (have.is_numeric() or have == pl.Boolean()):
                raise self._wrong(str(have))
            return column.cast(pl.Float64)
        if self.textual:
            if not isinstance(have, pl.String | pl.Enum | pl.Categorical):
                raise self._wrong(str(have))
            column = column.cast(pl.String)
            empty = column.is_null() | (column == "")
            codes = column.cast(self._enum, strict=False).to_physical().cast(pl.Float64).fill_null(UNSEEN)
        else:
            if not have.is_integer():
                raise self._wrong(str(have))
            empty = column.is_null()
            levels, places = (
                pl.Series(self.levels, dtype=pl.Int64),
                pl.Series(range(len(self.levels)), dtype=pl.Float64),
            )
            codes = column.cast(pl.Int64).replace_strict(levels, places, default=UNSEEN)
        return pl.when(~empty).then(codes).alias(self.name)

    def encode_values(self, values: Any) -> Any:
        """A NumPy array or one plain value as numbers, as `expression` makes them of a frame's column."""
        if not isinstance(values, np.ndarray):
            return self._encode_one(values)
        have = values.dtype.kind
        if have == "O":
            return np.array([self._encode_one(v) for v in values.tolist()], np.float64)
        if self.kind == NUMBER:
            if have not in "fiub":
                raise self._wrong(str(values.dtype))
            return values
        if self.textual:
            if have != "U":
                raise self._wrong(str(values.dtype))
            codes = self.codes
            return [codes.get(v, UNSEEN) for v in values.tolist()]
        if have == "f":  # integers that passed through an array with nulls
            return np.where(np.isnan(values), np.nan, self._lookup(np.nan_to_num(values)))
        if have not in "iu":
            raise self._wrong(str(values.dtype))
        return self._lookup(values)

    def _encode_one(self, value: Any) -> float:
        if value is None:
            return np.nan
        if self.kind == NUMBER:
            if isinstance(value, bool | int | float | np.number | np.bool_):
                return float(value)
        elif isinstance(value, str if self.textual else int | np.integer) and not isinstance(value, bool):
            return self.codes.get(value, UNSEEN)
        raise self._wrong(type(value).__name__)

    def _lookup(self, values: Array) -> Vector:
        """Codes of integers by binary search."""
        if not self.levels:
            return np.full(len(values), UNSEEN)
        at = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        return np.where(self._sorted[at] == values, at.astype(np.float64), UNSEEN)

    def _wrong(self, have: str) -> BadInputError:
        must = "a number" if self.kind == NUMBER else "text" if self.textual else "an integer"
        return BadInputError(f"column {self.name!r} is {have}, must be {must} ({self.dtype} when the model was fitted)")


@dataclass(frozen=True)
class Signature:
    """The columns of a model in the order of its matrix, which is the order of their names.

    Example:
        >>> import polars as pl
        >>> signature = Signature.learn(pl.DataFrame({"device": ["tv", "phone"], "age": [30, None]}))
        >>> signature.names
        ['age', 'device']
        >>> signature.encode({"age": 41, "device": np.array(["tv", "fridge"])})
        array([[41.,  1.],
               [41., -1.]])
    """

    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, X: pl.DataFrame, categories: Iterable[str] = ()) -> Signature:
        """The signature of a training frame.

        Args:
            X: At least one row and one column of numbers, booleans or text. Lists, times and bytes are refused.
            categories: Integer columns whose values are names rather than amounts.

        Raises:
            BadInputError: If the frame is empty or a column cannot be read by a model.
            UnknownColumnError: If `categories` names a column that is not there.
        """
        import polars as pl

        if not isinstance(X, pl.DataFrame):
            raise BadInputError(f"X is {type(X).__name__}, must be a polars DataFrame")
        if X.height == 0 or X.width == 0:
            raise BadInputError(f"X has {X.height} rows and {X.width} columns, must have at least one of each")
        named = set(categories)
        for name in sorted(named):
            if name not in X.columns:
                raise UnknownColumnError("the training frame", name, X.columns)
        return cls(tuple(_column(X[name], named=name in named) for name in sorted(X.columns)))

    @cached_property
    def names(self) -> list[str]:
        """Column names in the order of the matrix."""
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> Column:
        if name not in self.names:
            raise UnknownColumnError("the model", name, self.names)
        return self.columns[self.names.index(name)]

    def encode(self, X: pl.DataFrame | Mapping[str, Any], rows: int | None = None) -> Matrix:
        """The matrix a model scores: float64, shape (rows, columns), null as NaN, an unseen level as -1.

        Args:
            X: A frame, or for the fast path a mapping from names to NumPy arrays (rows,) and plain values, which hold
                for every row. Columns the model does not read are ignored. Empty text counts as null.
            rows: Number of rows when every value is plain; 1 where not given.

        Raises:
            UnknownColumnError: If a column of the model is absent.
            BadInputError: If a column has another type than in training, or holds an infinite value.
        """
        if isinstance(X, Mapping):
            matrix = self._encode_mapping(X, rows)
        else:
            have = X.schema
            for name in self.names:
                if name not in have:
                    raise self._absent(name, X.columns)
            matrix = X.select(column.expression(have[column.name]) for column in self.columns).to_numpy(order="c")
        infinite = np.isinf(matrix)
        if infinite.any():
            i = int(infinite.any(axis=0).argmax())
            raise BadInputError(
                f"column {self.names[i]!r} is infinite in {int(infinite[:, i].sum())} rows, must be finite or null"
            )
        return matrix

    def _encode_mapping(self, X: Mapping[str, Any], rows: int | None) -> Matrix:
        if rows is None:
            rows = next((len(v) for v in X.values() if isinstance(v, np.ndarray)), 1)
        matrix = np.empty((rows, len(self.columns)))
        for i, column in enumerate(self.columns):
            try:
                values = X[column.name]
            except KeyError:
                raise self._absent(column.name, list(X)) from None
            if isinstance(values, np.ndarray) and values.shape != (rows,):
                raise BadInputError(f"column {column.name!r} has shape {values.shape}, must have shape ({rows},)")
            matrix[:, i] = column.encode_values(values)
        return matrix

    @staticmethod
    def _absent(name: str, have: Sequence[str]) -> UnknownColumnError:
        return UnknownColumnError("the frame to be scored", name, have)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, for model.json."""
        return [{"name": c.name, "kind": c.kind, "dtype": c.dtype, "levels": list(c.levels)} for c in self.columns]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Signature:
        """The signature that `to_json` wrote."""
        return cls(tuple(Column(c["name"], c["kind"], c["dtype"], tuple(c["levels"])) for c in data))


def _column(series: pl.Series, *, named: bool) -> Column:
    import polars as pl

    have = series.dtype
    if isinstance(have, pl.String | pl.Enum | pl.Categorical):
        text = series.cast(pl.String).drop_nulls().unique().sort()
        return Column(series.name, CATEGORY, str(have), tuple(v for v in text.to_list() if v))
    if named:
        if not have.is_integer():
            raise BadInputError(f"category {series.name!r} is {have}, must be text or integers")
        return Column(series.name, CATEGORY, str(have), tuple(series.drop_nulls().unique().sort().to_list()))
    if have.is_numeric() or have in (pl.Boolean(), pl.Null()):
        return Column(series.name, NUMBER, str(have))
    raise BadInputError(
        f"column {series.name!r} is {have}, must be a number, a boolean or text; turn it into one or leave it out"
    )
