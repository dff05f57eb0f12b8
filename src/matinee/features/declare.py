"""The words of features: last, count, sum, mean, rate, recency, history, counts, state, apply, nightly.

A row has `at` (when it happened) and `known` (when we learned it) and is visible at t from v = max(at, known) on; what
an Entity or a scheduled fact says is visible from `known` on. Windows are [t - w, t], both ends included, over `at`.

Corrections. Sums count rows, so a corrected fact arrives as a pair at the same `at`, both with the correction's
`known`. A fact that declares `sign: Annotated[int, OneOf((1, -1))]` repeats the old row with sign -1 and adds the new
one with sign 1: count, sum, mean, rate and counts add with the sign; last, recency and history skip the -1 rows.
Without such a column the row with the negated value does the same for `sum` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from matinee.checks import must
from matinee.exceptions import DeclarationError, MatineeError
from matinee.expressions import Column, ColumnLike, Expression
from matinee.facts import Fact
from matinee.features.nodes import Aggregate, Apply, Nightly, Node, State, as_node, check_fact
from matinee.times import duration

Window = str | timedelta | None


def last(column: ColumnLike, *, where: ColumnLike = None, within: Window = None) -> Node:
    """The value in the latest row: the greatest `at` among the visible, ties by `known`, then by order of appending.

    Missing (null) where no row is visible. Type: the column's.

    Example:
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        ...     seconds: float
        >>> last(Played.title, where=Played.seconds > 60)
        last(Played.title, where=(Played.seconds > 60))
    """
    return Aggregate("last", _fact_of("last", column), column, None, where, _length("within", within))


def count(what: type[Fact] | ColumnLike, window: Window = None, *, where: ColumnLike = None,
          within: Window = None) -> Node:  # fmt: skip
    """How many rows happened in the window; of a column, how many with a value. Type: int, 0 where there are none."""
    return _over("count", what, window, where, within)


def sum(column: ColumnLike, window: Window = None, *, where: ColumnLike = None, within: Window = None) -> Node:
    """The sum of a numeric column over the window, in the column's unit. Type: int of ints, else float; 0 where empty.

    A null adds nothing; neither does what is not finite, which would spoil every later sum of the key.
    """
    return _over("sum", column, window, where, within)


def mean(column: ColumnLike, window: Window = None, *, where: ColumnLike = None, within: Window = None) -> Node:
    """The mean of a numeric column over the rows of the window that have a value. Type: float, missing where none."""
    return _over("mean", column, window, where, within)


def rate(what: type[Fact] | ColumnLike, window: Window, *, where: ColumnLike = None) -> Node:
    """Rows per day over the window: the count divided by the window's length in days. Type: float, 0 where empty."""
    if window is None:
        raise DeclarationError("window == None, must be a length such as '7d': all time has no rate")
    return _over("rate", what, window, where, None)


def recency(what: type[Fact] | ColumnLike, *, where: ColumnLike = None) -> Node:
    """Seconds from the latest visible row's `at` to t. Type: float, missing where no row is visible.

    Negative for a scheduled fact whose latest row lies ahead.
    """
    fact = _fact_of("recency", what)
    return Aggregate("recency", fact, None, None, where)


def history(column: ColumnLike, n: int, *, where: ColumnLike = None) -> Node:
    """The last `n` values by `at`, oldest first. Type: list of the column's type, empty where no row is visible."""
    must(n, "n", typ=int, ge=1)
    return Aggregate("history", _fact_of("history", column), column, None, where, None, n)


def counts(column: ColumnLike, window: Window = None, *, where: ColumnLike = None) -> Node:
    """How often each value of a column occurs in the window: what a cap such as "3 times a week" reads.

    A frame holds List(Struct{value, count}) sorted by value; online it is a dict of value to count. Empty where none.
    """
    return _over("counts", column, window, where, None)


def state(column: ColumnLike, *, of: Node | None = None) -> Node:
    """What an entity says of a column as of t: of the key's own entity, or of the one that `of` names.

    Missing where the entity has no row known by t. Type: the column's.

    Example:
        >>> from matinee.facts import Entity
        >>> class Title(Entity, key="title"):
        ...     title: int
        ...     year: int
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        >>> state(Title.year, of=last(Played.title))
        state(Title.year, of=last(Played.title))
    """
    if not isinstance(column, Column):
        raise DeclarationError(f"state({column!r}), must be a column of an Entity, such as state(Title.year)")
    return State(column, of)


def apply(fn: Callable[..., Any], *features: Node | float, returns: type = float) -> Node:
    """A plain function over other features: it gets one array each and returns one array of the same length.

    The same function runs over all rows in batch and over arrays of length one online. Numbers and bools arrive as
    float64 with NaN for missing, lists and counts as object arrays of lists and dicts, all else as object arrays with
    None. A NaN or None it returns is missing.

    Args:
        fn: `fn(a, b, ...) -> array`, shape (rows,).
        features: What it reads.
        returns: float, int, str or bool: the type of its values.
    """
    return Apply(fn, tuple(as_node(one) for one in features), returns)


def nightly(fn: Callable[..., Any], facts: Sequence[type[Fact]], *, returns: type = float) -> Node:
    """A plain function over whole frames of facts, computed once a day and read as state until the next midnight.

    For what has no running form: distinct counts, medians, ranks among all keys. It gets one frame for each fact, with
    the rows visible at the last UTC midnight, and returns a frame with the key's column and one more, the value.
    Missing for keys it does not return. Online the value is the one of the day that was published.
    """
    return Nightly(fn, tuple(facts), returns)


def _over(kind: str, what: Any, window: Window, where: Expression | None, within: Window) -> Node:
    fact = _fact_of(kind, what)
    if window is not None and within is not None:
        raise DeclarationError(f"{kind}({what!r}) has a window and within, must have one: back from t, or ahead of it")
    column = what if isinstance(what, Expression) else None
    return Aggregate(kind, fact, column, _length("window", window), where, _length("within", within))


def _fact_of(owner: str, what: Any) -> type[Fact]:
    if isinstance(what, Expression):
        if what.fact is None:
            raise DeclarationError(f"{owner}({what!r}), must read a column of a fact")
        return what.fact
    if owner in ("count", "rate", "recency"):
        return check_fact(what, owner)
    if isinstance(what, type) and issubclass(what, Fact) and "schema" in vars(what):
        column = what.schema.columns[-1]
        raise DeclarationError(f"{owner}({what!r}), must name a column, such as {owner}({what!r}.{column})")
    raise DeclarationError(f"{owner}({what!r}), must be a column of a fact, such as {owner}(Played.seconds)")


def _length(name: str, text: Window) -> timedelta | None:
    if text is None:
        return None
    try:
        return duration(text)
    except MatineeError:
        raise DeclarationError(
            f'{name} == {text!r}, must be a positive number and a unit such as "90s", "5m", "48h", "7d"'
        ) from None
