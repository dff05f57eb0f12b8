"""Expressions over the columns of one fact: `Played.seconds > 1200`. One object runs over a frame and over a single row."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from matinee.exceptions import DeclarationError

if TYPE_CHECKING:
    import polars as pl

    from matinee.facts import Fact

# What a function that takes a column or a condition declares: `Played.seconds` is a Column at run time, but a type
# checker reads the annotation of the fact and sees a float, and `Played.seconds > 60` as a bool.
ColumnLike: TypeAlias = Any

_OPS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "&": operator.and_,
    "|": operator.or_,
}


class Expression:
    """What can be computed from one row of a fact. Combine with arithmetic, comparisons, `&`, `|` and `~`."""

    __slots__ = ()

    def polars(self) -> pl.Expr:
        """The expression over a frame."""
        raise NotImplementedError

    def value(self, row: Mapping[str, Any]) -> Any:
        """The expression over one row; null (None) if any part of it is null."""
        raise NotImplementedError

    def columns(self) -> set[str]:
        """Names of the columns it reads."""
        raise NotImplementedError

    @property
    def fact(self) -> type[Fact] | None:
        """The fact whose columns it reads; None for a constant."""
        return None

    def _with(self, op: str, other: Any, *, swapped: bool = False) -> Expression:
        right = other if isinstance(other, Expression) else Literal(other)
        return Binary(op, right, self) if swapped else Binary(op, self, right)

    def __add__(self, other: Any) -> Expression:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Expression:
        return self._with("+", other, swapped=True)

    def __sub__(self, other: Any) -> Expression:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Expression:
        return self._with("-", other, swapped=True)

    def __mul__(self, other: Any) -> Expression:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Expression:
        return self._with("*", other, swapped=True)

    def __truediv__(self, other: Any) -> Expression:
        return self._with("/", other)

    def __gt__(self, other: Any) -> Expression:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Expression:
        return self._with(">=", other)

    def __lt__(self, other: Any) -> Expression:
        return self._with("<", other)

    def __le__(self, other: Any) -> Expression:
        return self._with("<=", other)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]  # builds a comparison, as in polars
        return self._with("==", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]  # builds a comparison, as in polars
        return self._with("!=", other)

    def __and__(self, other: Any) -> Expression:
        return self._with("&", other)

    def __or__(self, other: Any) -> Expression:
        return self._with("|", other)

    def __invert__(self) -> Expression:
        return Not(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __bool__(self) -> bool:
        raise DeclarationError(f"{self!r} has no truth of its own, must be combined with & and |, not `and`, `or`")


class Column(Expression):
    """One column of a fact."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: type[Fact], name: str) -> None:
        self.owner, self.name = owner, name

    @property
    def fact(self) -> type[Fact]:
        return self.owner

    def polars(self) -> pl.Expr:
        import polars as pl

        return pl.col(self.name)

    def value(self, row: Mapping[str, Any]) -> Any:
        return row.get(self.name)

    def columns(self) -> set[str]:
        return {self.name}

    def is_in(self, values: list[Any]) -> Expression:
        """Whether the column holds one of the values."""
        return IsIn(self, list(values))

    def __repr__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"

    __hash__ = Expression.__hash__


class Literal(Expression):
    """A constant."""

    __slots__ = ("constant",)

    def __init__(self, constant: Any) -> None:
        self.constant = constant

    def polars(self) -> pl.Expr:
        import polars as pl

        return pl.lit(self.constant)

    def value(self, row: Mapping[str, Any]) -> Any:
        return self.constant

    def columns(self) -> set[str]:
        return set()

    def __repr__(self) -> str:
        return repr(self.constant)

    __hash__ = Expression.__hash__


class Binary(Expression):
    """Two expressions under an operator."""

    __slots__ = ("left", "op", "right")

    def __init__(self, op: str, left: Expression, right: Expression) -> None:
        if left.fact and right.fact and left.fact is not right.fact:
            raise DeclarationError(
                f"{left!r} {op} {right!r} mixes two facts, must stay within one; "
                "aggregate each and combine the features instead"
            )
        self.op, self.left, self.right = op, left, right

    @property
    def fact(self) -> type[Fact] | None:
        return self.left.fact or self.right.fact

    def polars(self) -> pl.Expr:
        result: pl.Expr = _OPS[self.op](self.left.polars(), self.right.polars())
        return result

    def value(self, row: Mapping[str, Any]) -> Any:
        left, right = self.left.value(row), self.right.value(row)
        if left is None or right is None:
            # Three-valued logic, as polars has it: False decides an "and", True an "or".
            if self.op == "&" and (left is False or right is False):
                return False
            if self.op == "|" and (left is True or right is True):
                return True
            return None
        if self.op == "/" and right == 0:
            if left == 0 or left != left:
                return float("nan")
            return math.copysign(float("inf"), left) * math.copysign(1.0, right)  # a zero has a sign, as in frames
        return _OPS[self.op](left, right)

    def columns(self) -> set[str]:
        return self.left.columns() | self.right.columns()

    def __repr__(self) -> str:
        return f"({self.left!r} {self.op} {self.right!r})"

    __hash__ = Expression.__hash__


class Not(Expression):
    """The opposite of a condition."""

    __slots__ = ("inner",)

    def __init__(self, inner: Expression) -> None:
        self.inner = inner

    @property
    def fact(self) -> type[Fact] | None:
        return self.inner.fact

    def polars(self) -> pl.Expr:
        return ~self.inner.polars()

    def value(self, row: Mapping[str, Any]) -> Any:
        inner = self.inner.value(row)
        return None if inner is None else not inner

    def columns(self) -> set[str]:
        return self.inner.columns()

    def __repr__(self) -> str:
        return f"~{self.inner!r}"

    __hash__ = Expression.__hash__


class IsIn(Expression):
    """Membership of a column in a list of values."""

    __slots__ = ("column", "values")

    def __init__(self, column: Column, values: list[Any]) -> None:
        self.column, self.values = column, values

    @property
    def fact(self) -> type[Fact]:
        return self.column.fact

    def polars(self) -> pl.Expr:
        return self.column.polars().is_in(self.values)

    def value(self, row: Mapping[str, Any]) -> Any:
        given = self.column.value(row)
        return None if given is None else given in self.values

    def columns(self) -> set[str]:
        return {self.column.name}

    def __repr__(self) -> str:
        return f"{self.column!r}.is_in({self.values!r})"

    __hash__ = Expression.__hash__
