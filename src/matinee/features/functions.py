"""Plain functions as features: what `apply` and `nightly` hand to them, and what they may return."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.exceptions import BadInputError
from matinee.features.frames import frame_type
from matinee.features.nodes import Apply, Nightly

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from matinee.features.source import Source

_FLOATS = ("int", "float", "bool")
_DTYPES = {"float": "float64", "int": "int64", "bool": "bool"}


def as_array(kind: str, values: pl.Series) -> npt.NDArray[Any]:
    """What a function gets of one feature: float64 with NaN for missing, else an object array with None.

    Counts become dicts of value to count, histories lists.
    """
    import numpy as np
    import polars as pl

    if kind in _FLOATS:
        return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return objects(
        [{pair["value"]: pair["count"] for pair in one} for one in values.to_list()]
        if kind.startswith("counts[")
        else values.to_list(),
        np,
    )


def single(kind: str, value: Any) -> npt.NDArray[Any]:
    """What a function gets of one online value: as `as_array`, of length one."""
    import numpy as np

    if kind in _FLOATS:
        return np.array([float("nan") if value is None else float(value)])
    return objects([value], np)


def objects(values: Sequence[Any], np: Any) -> npt.NDArray[Any]:
    """An object array of shape (n,) of any values, lists included."""
    array: npt.NDArray[Any] = np.empty(len(values), object)
    for i, one in enumerate(values):
        array[i] = one
    return array


def called(node: Apply, arrays: Sequence[npt.NDArray[Any]], size: int) -> npt.NDArray[Any]:
    """What the function returns for its arrays: one array of shape (size,).

    Raises:
        BadInputError: If it returns another shape.
    """
    import numpy as np

    given: npt.NDArray[Any] = np.asarray(node.fn(*arrays))
    if given.shape != (size,):
        name = getattr(node.fn, "__name__", "function")
        raise BadInputError(f"{name} returned shape {given.shape}, must return one value a row: ({size},)")
    return given


def plain(node: Apply, given: npt.NDArray[Any]) -> list[Any]:
    """The returned values as Python values of the declared type; NaN and None are missing."""
    python = node.returns
    try:
        return [None if one is None or one != one else python(one) for one in given.tolist()]
    except (TypeError, ValueError):
        name = getattr(node.fn, "__name__", "function")
        raise BadInputError(f"{name} returned {given.dtype} values, must return {node.type}") from None


def applied(node: Apply, given: Sequence[tuple[str, pl.Series]], size: int) -> pl.Series:
    """The values of an `apply` for all rows of a frame."""
    import polars as pl

    found = called(node, [as_array(kind, values) for kind, values in given], size)
    if found.dtype.name == _DTYPES.get(node.type):
        return pl.Series("", found, nan_to_null=True)
    return pl.Series("", plain(node, found), dtype=frame_type(node.type))


def nightly_values(
    node: Nightly, source: Source, key: str, key_type: pl.DataType | None, midnight: datetime
) -> pl.DataFrame:
    """Columns `key` and `value`: what a nightly function returns for the facts visible at a midnight.

    Raises:
        BadInputError: If it returns no frame of the key and one value, or a key twice.
    """
    import polars as pl

    frames = []
    for fact in node.facts:
        rows = source.scan(fact, None, midnight)
        if not (fact.schema.entity or fact.schema.scheduled):
            rows = rows.filter(pl.col("at") <= midnight)
        frames.append(rows.collect())
    given = node.fn(*frames)
    name = getattr(node.fn, "__name__", "function")
    if not isinstance(given, pl.DataFrame) or key not in given.columns or given.width != 2:
        got = given.columns if isinstance(given, pl.DataFrame) else type(given).__name__
        raise BadInputError(f"{name} returned {got}, must return a frame of {key!r} and one value")
    value = next(c for c in given.columns if c != key)
    if given[key].is_duplicated().any():
        raise BadInputError(f"{name} returned some {key!r} twice, must return one row for each")
    keys = pl.col(key) if key_type is None else pl.col(key).cast(key_type)
    return given.select(keys.alias("key"), pl.col(value).cast(frame_type(node.type)).alias("value"))
