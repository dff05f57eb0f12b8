"""The nodes of a feature: what to read from which fact, over which rows. Declarations; nothing is computed here."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from matinee.exceptions import DeclarationError
from matinee.expressions import Binary, Column, Expression, IsIn, Literal, Not
from matinee.facts import Fact

NUMERIC = ("int", "float")
_SYSTEM_KINDS = {"at": "datetime", "known": "datetime", "seq": "int", "choice": "str", "outcome": "str"}
_RETURNS = {float: "float", int: "int", str: "str", bool: "bool"}
_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))


def kind_of(expression: Expression) -> str:
    """The type of an expression in words: "int", "float", "str", "bool", "datetime", ..., "list[int]".

    Raises:
        DeclarationError: If its parts cannot be combined.
    """
    if isinstance(expression, Column):
        return _SYSTEM_KINDS.get(expression.name) or expression.fact.schema.field(expression.name).kind
    if isinstance(expression, Literal):
        for python in (bool, int, float, str, datetime, date, bytes):
            if isinstance(expression.constant, python):
                return python.__name__
        raise DeclarationError(f"constant == {expression.constant!r}, must be a number, text, bool, date or datetime")
    if isinstance(expression, IsIn):
        return "bool"
    if isinstance(expression, Not):
        if kind_of(expression.inner) != "bool":
            raise DeclarationError(f"{expression!r}, must negate a condition, not {kind_of(expression.inner)}")
        return "bool"
    if not isinstance(expression, Binary):
        raise DeclarationError(f"{expression!r}, must be an expression over the columns of a fact")
    left, right, op = kind_of(expression.left), kind_of(expression.right), expression.op
    if op in "&|":
        if (left, right) != ("bool", "bool"):
            raise DeclarationError(f"{expression!r}, must combine conditions, not {left} and {right}")
        return "bool"
    if op in "+-*/":
        if left not in NUMERIC or right not in NUMERIC:
            raise DeclarationError(f"{expression!r}, must combine numbers, not {left} and {right}")
        return "int" if op != "/" and left == right == "int" else "float"
    if left != right and not (left in NUMERIC and right in NUMERIC):
        raise DeclarationError(f"{expression!r}, must compare values of one kind, not {left} with {right}")
    return "bool"


def words(length: timedelta) -> str:
    """A duration as it is declared: `"7d"`, `"1d12h"`."""
    left, text = length // timedelta(microseconds=1), ""
    for unit, size in _UNITS:
        if left >= size:
            text, left = f"{text}{left // size}{unit}", left % size
    return text + (f"{left / 1e6:g}s" if left else "")


def sign_of(fact: type[Fact]) -> Column | None:
    """The column that marks corrections: `sign: Annotated[int, OneOf((1, -1))]`, if the fact declares one."""
    for one in fact.schema.fields:
        if one.name == "sign" and one.kind == "int" and one.one_of is not None and set(one.one_of) == {1, -1}:
            return Column(fact, "sign")
    return None


def function_definition(fn: Callable[..., Any]) -> dict[str, str]:
    """Name of a plain function and a fingerprint of its source, so that a changed body changes the hash.

    Values a function closes over are not part of it: pass what may change as a feature.
    """
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    try:
        body = textwrap.dedent(inspect.getsource(fn)).strip()
    except (OSError, TypeError):  # typed at a prompt, or built in
        code = getattr(fn, "__code__", None)
        body = repr((code.co_code, code.co_consts, code.co_names)) if code is not None else name
    return {"function": name, "source": hashlib.blake2b(body.encode(), digest_size=8).hexdigest()}


class Node:
    """One value per key, as of a time. Combine with `+`, `-`, `*`, `/`; a missing part makes the result missing.

    Subclasses give `type`, `children`, `definition` and `__repr__`.
    """

    @property
    def type(self) -> str:
        """The type of the value in words: "int", "float", "str", ..., "list[int]", "counts[int]"."""
        raise NotImplementedError

    def children(self) -> tuple[Node, ...]:
        """The nodes this one is computed from."""
        return ()

    def definition(self) -> dict[str, Any]:
        """Plain values that say what is computed; the hash of a feature is the hash of this."""
        raise NotImplementedError

    @cached_property
    def ident(self) -> str:
        """The definition as one line of JSON: equal text, equal values."""
        return json.dumps(self.definition(), sort_keys=True, separators=(",", ":"))

    def walk(self) -> Iterator[Node]:
        """This node and all below it, leaves first."""
        for child in self.children():
            yield from child.walk()
        yield self

    def _with(self, op: str, other: Any, *, swapped: bool = False) -> Node:
        right = as_node(other)
        return Arithmetic(op, right, self) if swapped else Arithmetic(op, self, right)

    def __add__(self, other: Any) -> Node:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Node:
        return self._with("+", other, swapped=True)

    def __sub__(self, other: Any) -> Node:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Node:
        return self._with("-", other, swapped=True)

    def __mul__(self, other: Any) -> Node:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Node:
        return self._with("*", other, swapped=True)

    def __truediv__(self, other: Any) -> Node:
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> Node:
        return self._with("/", other, swapped=True)


def as_node(value: Any) -> Node:
    """A node from a node or a finite number.

    Raises:
        DeclarationError: If it is neither.
    """
    if isinstance(value, Node):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Constant(value)
    if isinstance(value, Expression):
        raise DeclarationError(f"{value!r}, must say which rows: last({value!r}), sum({value!r}, '7d')")
    raise DeclarationError(f"{value!r}, must be a feature or a finite number, not {type(value).__name__}")


@dataclass(frozen=True, eq=False, repr=False)
class Constant(Node):
    """A number."""

    value: int | float

    @property
    def type(self) -> str:
        return "int" if isinstance(self.value, int) else "float"

    def definition(self) -> dict[str, Any]:
        return {"node": "constant", "value": self.value}

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, eq=False, repr=False)
class Arithmetic(Node):
    """Two features, or a feature and a number, under `+ - * /`. Division by zero is missing, as is any missing part."""

    op: str
    left: Node
    right: Node

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            if side.type not in NUMERIC:
                raise DeclarationError(f"{side!r} is {side.type}, must be a number to stand under {self.op!r}")

    @property
    def type(self) -> str:
        return "int" if self.op != "/" and self.left.type == self.right.type == "int" else "float"

    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def definition(self) -> dict[str, Any]:
        return {"node": self.op, "left": self.left.definition(), "right": self.right.definition()}

    def __repr__(self) -> str:
        return f"({self.left!r} {self.op} {self.right!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(Node):
    """A leaf over the rows of one fact: `kind` is last, count, sum, mean, rate, recency, history or counts.

    `window` looks back from t (None is all time); `within` looks ahead from a choice and makes it a reward term.
    """

    kind: str
    fact: type[Fact]
    column: Expression | None = None
    window: timedelta | None = None
    where: Expression | None = None
    within: timedelta | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.where is not None:
            if self.where.fact is not self.fact:
                raise DeclarationError(f"where == {self.where!r}, must be a condition over {self.fact!r}'s columns")
            if kind_of(self.where) != "bool":
                raise DeclarationError(f"where == {self.where!r}, must be a condition, not {kind_of(self.where)}")
        if self.column is None:
            return
        kind = kind_of(self.column)
        if self.kind in ("sum", "mean") and kind not in NUMERIC:
            hint = "; did you mean count(..., where=...)?" if kind == "bool" else ""
            raise DeclarationError(f"{self.kind}({self.column!r}) is over {kind}, must be over a number{hint}")
        if self.kind == "history" and kind.startswith("list["):
            raise DeclarationError(f"history({self.column!r}) is over {kind}, must be over single values")
        if self.kind == "counts" and kind not in ("int", "str"):
            raise DeclarationError(f"counts({self.column!r}) is over {kind}, must be over int or str")

    @property
    def is_state(self) -> bool:
        """Whether rows count from `known` alone: what an entity or a scheduled fact says may lie ahead."""
        event = self.kind in ("count", "sum", "mean", "rate", "counts")
        return not event and (self.fact.schema.entity or self.fact.schema.scheduled)

    @cached_property
    def type(self) -> str:
        if self.kind == "count":
            return "int"
        if self.kind in ("mean", "rate", "recency") or self.column is None:
            return "float"
        kind = kind_of(self.column)
        return {"history": f"list[{kind}]", "counts": f"counts[{kind}]"}.get(self.kind, kind)

    def definition(self) -> dict[str, Any]:
        found = {
            "node": self.kind,
            "fact": self.fact.schema.name,
            "column": None if self.column is None else repr(self.column),
            "window_us": None if self.window is None else self.window // timedelta(microseconds=1),
            "where": None if self.where is None else repr(self.where),
            "within_us": None if self.within is None else self.within // timedelta(microseconds=1),
            "size": self.size,
        }
        return {k: v for k, v in found.items() if v is not None}

    def __repr__(self) -> str:
        parts = [repr(self.fact if self.column is None else self.column)]
        parts += [repr(words(self.window))] if self.window is not None else []
        parts += [str(self.size)] if self.size is not None else []
        parts += [f"within={words(self.within)!r}"] if self.within is not None else []
        parts += [f"where={self.where!r}"] if self.where is not None else []
        return f"{self.kind}({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class State(Node):
    """What an entity said of a column as of t: the key's own entity, or the one that another feature names (`of`)."""

    column: Column
    of: Node | None = None

    def __post_init__(self) -> None:
        schema = self.column.fact.schema
        if not (schema.entity or schema.scheduled):
            raise DeclarationError(
                f"state({self.column!r}), must be of an Entity or a scheduled fact; did you mean last({self.column!r})?"
            )
        wanted = schema.field(schema.key).kind
        if self.of is not None and self.of.type != wanted:
            raise DeclarationError(
                f"of == {self.of!r} is {self.of.type}, must be {wanted}, as the key of {self.column.fact!r} is"
            )

    @property
    def type(self) -> str:
        return kind_of(self.column)

    def children(self) -> tuple[Node, ...]:
        return () if self.of is None else (self.of,)

    @cached_property
    def leaf(self) -> Aggregate:
        """The same value read as a leaf of the entity's own key."""
        return Aggregate("last", self.column.fact, self.column)

    def definition(self) -> dict[str, Any]:
        found = {"node": "state", "fact": self.column.fact.schema.name, "column": repr(self.column)}
        return found if self.of is None else {**found, "of": self.of.definition()}

    def __repr__(self) -> str:
        return f"state({self.column!r}{'' if self.of is None else f', of={self.of!r}'})"


@dataclass(frozen=True, eq=False, repr=False)
class Apply(Node):
    """A plain function over the arrays of other features."""

    fn: Callable[..., Any]
    of: tuple[Node, ...]
    returns: type = float

    def __post_init__(self) -> None:
        _check_function("apply", self.fn, self.returns)
        if not self.of:
            raise DeclarationError(f"apply({_name(self.fn)}), must name at least one feature to apply it to")

    @property
    def type(self) -> str:
        return _RETURNS[self.returns]

    def children(self) -> tuple[Node, ...]:
        return self.of

    def definition(self) -> dict[str, Any]:
        found = {"node": "apply", "returns": self.type, "of": [one.definition() for one in self.of]}
        return found | function_definition(self.fn)

    def __repr__(self) -> str:
        return f"apply({', '.join([_name(self.fn), *map(repr, self.of)])})"


@dataclass(frozen=True, eq=False, repr=False)
class Nightly(Node):
    """A plain function over frames of the facts visible at the last UTC midnight. Its online value is a day's value."""

    fn: Callable[..., Any]
    facts: tuple[type[Fact], ...]
    returns: type = float

    def __post_init__(self) -> None:
        _check_function("nightly", self.fn, self.returns)
        if not self.facts:
            raise DeclarationError(f"nightly({_name(self.fn)}), must name the facts it reads: facts=[Played]")
        for one in self.facts:
            check_fact(one, "nightly")

    @property
    def type(self) -> str:
        return _RETURNS[self.returns]

    def definition(self) -> dict[str, Any]:
        found = {"node": "nightly", "returns": self.type, "facts": [one.schema.name for one in self.facts]}
        return found | function_definition(self.fn)

    def __repr__(self) -> str:
        return f"nightly({_name(self.fn)}, facts=[{', '.join(map(repr, self.facts))}])"


def check_fact(value: Any, owner: str) -> type[Fact]:
    """The fact class, or an error that says what `owner` wanted."""
    if isinstance(value, type) and issubclass(value, Fact) and "schema" in vars(value):
        return value
    raise DeclarationError(f"{owner}({value!r}), must be a Fact such as {owner}(Played)")


def _check_function(owner: str, fn: Any, returns: Any) -> None:
    if not callable(fn) or isinstance(fn, type):
        raise DeclarationError(f"{owner}({fn!r}), must be given a plain function first")
    if returns not in _RETURNS:
        raise DeclarationError(f"returns == {returns!r}, must be float, int, str or bool")


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))
