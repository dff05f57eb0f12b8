"""Declare facts and entities: typed columns, a key, `at` (when it happened) and `known` (when we learned it).

    class Played(Fact, key="member"):
        member: int
        title: int
        seconds: Annotated[float, Range(ge=0)]

`Played.seconds` is an expression, `Played(member=42, title=7, seconds=1800.0)` is a row.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, dataclass_transform

from matinee.exceptions import DeclarationError, MatineeError, UnknownColumnError
from matinee.expressions import Column
from matinee.times import instant

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# Columns that come with every fact. `seq` is the order of appending, the last tie-break of "the latest";
# `choice` and `outcome` tie a row to the decision it answers, when there was one.
SYSTEM = ("at", "known", "seq", "choice", "outcome")
_SCALARS: dict[type, str] = {
    int: "int", float: "float", str: "str", bool: "bool", datetime: "datetime", date: "date", bytes: "bytes",
}  # fmt: skip
_PYTHON = {kind: python for python, kind in _SCALARS.items()}
_RESERVED_TYPES = (
    "int, float, str, bool, datetime, date, bytes, list[int], list[float], list[str], or one of them | None"
)


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a column, checked on append: `Annotated[float, Range(ge=0, le=1)]`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """The only values a column may hold: `Annotated[str, OneOf(("tv", "phone"))]`."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One typed column of a fact."""

    name: str
    kind: str  # "int", "float", ..., or "list[int]"
    required: bool = True
    bounds: Range | None = None
    one_of: tuple[Any, ...] | None = None
    default: Any = None

    def polars_type(self) -> pl.DataType:
        """The frame type of the column; only types that survive a round trip through the tables are allowed."""
        import polars as pl

        scalars: dict[str, pl.DataType] = {
            "int": pl.Int64(),
            "float": pl.Float64(),
            "str": pl.String(),
            "bool": pl.Boolean(),
            "datetime": pl.Datetime("us", "UTC"),
            "date": pl.Date(),
            "bytes": pl.Binary(),
        }
        return pl.List(scalars[self.kind[5:-1]]) if self.kind.startswith("list[") else scalars[self.kind]

    def arrow_type(self) -> pa.DataType:
        """The Arrow type of the column."""
        import pyarrow as pa

        scalars = {
            "int": pa.int64(),
            "float": pa.float64(),
            "str": pa.large_string(),
            "bool": pa.bool_(),
            "datetime": pa.timestamp("us", "UTC"),
            "date": pa.date32(),
            "bytes": pa.large_binary(),
        }
        return pa.large_list(scalars[self.kind[5:-1]]) if self.kind.startswith("list[") else scalars[self.kind]


def _field(owner: str, name: str, hint: Any, default: Any) -> Field:
    bounds: Range | None = None
    one_of: tuple[Any, ...] | None = None
    if typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        for note in notes:
            if isinstance(note, Range):
                bounds = note
            elif isinstance(note, OneOf):
                one_of = note.values
    required = default is None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [o for o in typing.get_args(hint) if o is not type(None)]
        if len(options) != 1:
            raise DeclarationError(f"{owner}.{name}: {hint}, must be {_RESERVED_TYPES}")
        hint, required = options[0], False
    if hint in _SCALARS:
        kind = _SCALARS[hint]
    elif typing.get_origin(hint) is list and typing.get_args(hint)[0] in (int, float, str):
        kind = f"list[{_SCALARS[typing.get_args(hint)[0]]}]"
    else:
        raise DeclarationError(f"{owner}.{name}: {hint!r}, must be {_RESERVED_TYPES}")
    return Field(name, kind, required, bounds, one_of, default)


@dataclass(frozen=True)
class Schema:
    """What a fact's class says, as data: stored in the studio, so that every verb works without the class at hand."""

    name: str
    key: str
    fields: tuple[Field, ...]
    entity: bool = False
    unique: tuple[str, ...] = ()
    scheduled: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)  # new name -> old name
    personal: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Declared columns, in order, without those that come with every fact."""
        return [f.name for f in self.fields]

    def field(self, name: str) -> Field:
        """The declared column of that name."""
        for one in self.fields:
            if one.name == name:
                return one
        raise UnknownColumnError(self.name, name, self.columns)

    def arrow(self) -> pa.Schema:
        """The Arrow schema of the table: declared columns, then `at`, `known`, `seq`, `choice`, `outcome`."""
        import pyarrow as pa

        stamp = pa.timestamp("us", "UTC")
        columns = [
            pa.field(f.name, f.arrow_type(), nullable=not (f.required and f.name == self.key)) for f in self.fields
        ]
        return pa.schema(
            [
                *columns,
                pa.field("at", stamp, nullable=False),
                pa.field("known", stamp, nullable=False),
                pa.field("seq", pa.int64(), nullable=False),
                pa.field("choice", pa.large_string()),
                pa.field("outcome", pa.large_string()),
            ]
        )

    def polars(self) -> dict[str, pl.DataType]:
        """Frame types of all columns, system ones included."""
        import polars as pl

        stamp = pl.Datetime("us", "UTC")
        return {
            **{f.name: f.polars_type() for f in self.fields},
            "at": stamp,
            "known": stamp,
            "seq": pl.Int64(),
            "choice": pl.String(),
            "outcome": pl.String(),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the studio's registry."""
        return {
            "name": self.name,
            "key": self.key,
            "entity": self.entity,
            "unique": list(self.unique),
            "scheduled": self.scheduled,
            "renamed": dict(self.renamed),
            "personal": list(self.personal),
            "fields": [
                {
                    "name": f.name,
                    "kind": f.kind,
                    "required": f.required,
                    "bounds": None if f.bounds is None else [f.bounds.ge, f.bounds.gt, f.bounds.le, f.bounds.lt],
                    "one_of": None if f.one_of is None else list(f.one_of),
                    "default": f.default,
                }
                for f in self.fields
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """The schema that `to_json` wrote."""
        fields = tuple(
            Field(
                f["name"],
                f["kind"],
                f["required"],
                None if f["bounds"] is None else Range(*f["bounds"]),
                None if f["one_of"] is None else tuple(f["one_of"]),
                f["default"],
            )
            for f in data["fields"]
        )
        return cls(
            data["name"],
            data["key"],
            fields,
            data["entity"],
            tuple(data["unique"]),
            data["scheduled"],
            dict(data["renamed"]),
            tuple(data["personal"]),
        )


def snake_case(name: str) -> str:
    """`LicenceWindow` -> `licence_window`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class _FactMeta(type):
    schema: Schema

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: str | None = None,
        table: str | None = None,
        unique: tuple[str, ...] = (),
        scheduled: bool = False,
        renamed: Mapping[str, str] | None = None,
        personal: tuple[str, ...] = (),
        abstract: bool = False,
    ) -> _FactMeta:
        annotated = list(namespace.get("__annotations__", {}))
        # A default must not shadow the column expression of the same name.
        defaults = {} if abstract else {c: namespace.pop(c) for c in annotated if c in namespace}
        cls = super().__new__(mcs, name, bases, namespace)
        if abstract:
            return cls
        hints = {n: h for n, h in typing.get_type_hints(cls, include_extras=True).items() if n in annotated}
        for reserved in SYSTEM:
            if reserved in hints:
                raise DeclarationError(
                    f"{name}.{reserved}, must have another name: {', '.join(SYSTEM)} come with every fact"
                )
        if key is None:
            raise DeclarationError(f"class {name}(Fact), must name its key: class {name}(Fact, key='member')")
        if key not in hints:
            raise DeclarationError(
                f"key == {key!r}, must be a column of {name} ({', '.join(hints) or 'none declared'})"
            )
        fields = tuple(_field(name, n, h, defaults.get(n)) for n, h in hints.items())
        entity = any(getattr(base, "_entity", False) for base in bases)
        schema = Schema(
            table or snake_case(name),
            key,
            fields,
            entity,
            tuple(unique),
            scheduled,
            dict(renamed or {}),
            tuple(personal),
        )
        if schema.field(key).kind not in ("int", "str"):
            raise DeclarationError(f"{name}.{key}: {schema.field(key).kind}, must be int or str to be a key")
        for column in (*schema.unique, *schema.personal, *schema.renamed):
            if column not in ("at", "known"):
                schema.field(column)
        cls.schema = schema
        return cls

    def __getattr__(cls, name: str) -> Column:
        schema = cls.__dict__.get("schema")
        if schema is None or name.startswith("_"):
            raise AttributeError(name)
        if name not in schema.columns and name not in SYSTEM:
            raise UnknownColumnError(cls.__name__, name, schema.columns)
        return Column(cls, name)  # type: ignore[arg-type]  # every class of this metaclass is a Fact

    def __repr__(cls) -> str:
        return cls.__name__


@dataclass_transform(kw_only_default=True)
class Fact(metaclass=_FactMeta, abstract=True):
    """Something that happened or is so. Subclass it with typed columns and a `key`.

    Class arguments:
        key: The column by which rows are grouped and bucketed (`int` or `str`).
        table: Name of the table; the class name in snake case unless given.
        unique: Columns that together may occur once; a second row goes to quarantine.
        scheduled: True for facts about the future, such as a licence that starts next month: `at` may lie ahead.
        renamed: `{"new": "old"}` for columns that had another name.
        personal: String columns whose values must not appear in table metadata.

    Example:
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        ...     seconds: Annotated[float, Range(ge=0)]
        >>> Played.seconds > 1200
        (Played.seconds > 1200)
        >>> Played(member=42, title=7, seconds=1800.0)
        Played(member=42, title=7, seconds=1800.0)
    """

    schema: ClassVar[Schema]
    _entity: ClassVar[bool] = False

    def __init__(self, *, at: datetime | None = None, known: datetime | None = None, **columns: Any) -> None:
        schema = type(self).schema
        row: dict[str, Any] = {}
        for name in columns:
            if name not in schema.columns:
                raise UnknownColumnError(type(self).__name__, name, schema.columns)
        for one in schema.fields:
            given = columns.get(one.name, one.default)
            if given is None and one.required:
                raise MatineeError(f"{type(self).__name__}.{one.name} is missing, must be given ({one.kind})")
            row[one.name] = None if given is None else _as_kind(type(self).__name__, one, given)
        self.row: Mapping[str, Any] = row
        self.at = None if at is None else instant(at, "at")
        self.known = None if known is None else instant(known, "known")

    @property
    def key(self) -> Any:
        """The value of the key column."""
        return self.row[type(self).schema.key]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.row.items())})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self).__name__, str(self.row)))


class Entity(Fact, abstract=True):
    """A fact with a current state: a title, a performer, a processor. The latest row by `at` is its state.

    Its rows count from `known` on, in features and in `as_of`, also where `at` lies ahead: a title whose premiere was
    moved to next month is, from the moment that is known, a title with that premiere.
    """

    _entity: ClassVar[bool] = True


def _as_kind(owner: str, one: Field, given: Any) -> Any:
    """The value in the column's own type, or an error; an int passes for a float, nothing else is converted."""
    kind = one.kind
    if kind == "float" and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if kind == "datetime":
        return instant(given, f"{owner}.{one.name}")
    if kind.startswith("list["):
        if isinstance(given, list) and all(type(v) is _PYTHON[kind[5:-1]] for v in given):
            return given
    elif type(given) is _PYTHON[kind]:
        return given
    elif hasattr(given, "item") and not isinstance(given, bytes | str):  # a NumPy scalar
        return _as_kind(owner, one, given.item())
    raise MatineeError(f"{owner}.{one.name} == {given!r}, must be {kind}, not {type(given).__name__}")


def fact_class(schema: Schema) -> type[Fact]:
    """A class for a stored schema, for verbs that run without the user's own module."""
    name = "".join(part.capitalize() for part in schema.name.split("_"))
    cls = _FactMeta.__new__(_FactMeta, name, (Entity if schema.entity else Fact,), {}, abstract=True)
    cls.schema = schema
    return cls  # type: ignore[return-value]
