"""The one place that words a bound: `must(share, "share", ge=0, le=1)` returns the value or raises."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any, TypeVar

from matinee.exceptions import MatineeError, did_you_mean

T = TypeVar("T")


def must(
    value: T,
    name: str,
    *,
    typ: type | tuple[type, ...] | None = None,
    gt: Any = None,
    ge: Any = None,
    lt: Any = None,
    le: Any = None,
    one_of: Collection[Any] | None = None,
) -> T:
    """Return `value` if it is of the type and within the bounds, else say what would be right.

    Args:
        value: What the user gave.
        name: What the user calls it.
        typ: The type or types it must have (`bool` does not pass for `int`).
        gt, ge, lt, le: Bounds; a NaN passes none of them.
        one_of: The values allowed.

    Raises:
        MatineeError: `share == 1.4, must be <= 1`.

    Example:
        >>> must(0.2, "share", ge=0, le=1)
        0.2
        >>> must(1.4, "share", ge=0, le=1)
        Traceback (most recent call last):
        matinee.exceptions.MatineeError: share == 1.4, must be <= 1
    """
    if typ is not None:
        types = typ if isinstance(typ, tuple) else (typ,)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            words = " or ".join(t.__name__ for t in types)
            raise MatineeError(f"{name} == {value!r}, must be {words}, not {type(value).__name__}")
    if isinstance(value, float) and math.isnan(value) and any(b is not None for b in (gt, ge, lt, le)):
        raise MatineeError(f"{name} == nan, must be a number")
    comparable: Any = value
    for bound, word, holds in (
        (gt, ">", operator.gt),
        (ge, ">=", operator.ge),
        (lt, "<", operator.lt),
        (le, "<=", operator.le),
    ):
        if bound is not None and not holds(comparable, bound):
            raise MatineeError(f"{name} == {value!r}, must be {word} {bound!r}")
    if one_of is not None and value not in one_of:
        hint = did_you_mean(str(value), [str(o) for o in one_of])
        raise MatineeError(f"{name} == {value!r}, must be one of {', '.join(map(repr, one_of))}{hint}")
    return value
