"""Features: a named set of nodes per key, computed in batch as of labels' times, and kept up to date online."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from matinee.checks import must
from matinee.exceptions import DeclarationError
from matinee.facts import Fact
from matinee.features.nodes import Aggregate, Apply, Arithmetic, Constant, Nightly, Node, State, as_node
from matinee.features.plan import Plan

if TYPE_CHECKING:
    import polars as pl

    from matinee.features.batch import Mapper
    from matinee.features.online import Online
    from matinee.features.source import Source

_COMPUTABLE = (Aggregate, Apply, Arithmetic, Constant, Nightly, State)


class Features:
    """A named set of features of one kind of key: what was known of a member, a title, an invoice at a time.

    The same object computes a frame of training rows (`batch`) and serves one key at a time (`online`); both see
    only what was visible then, and give the same values.

    Args:
        key: The column of the facts by which rows are grouped, such as `"member"`.
        name: What the set is called in files, lineage and pages; the key's name unless given.
        features: One node for each feature, by its name.

    Raises:
        DeclarationError: If a feature cannot be computed for this key.
        UnknownColumnError: If a column is none of its fact's (raised where the column is written).

    Example:
        >>> from matinee.features import count, last, sum
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        ...     seconds: float
        >>> taste = Features("member", name="taste", hours_7d=sum(Played.seconds, "7d") / 3600, last=last(Played.title))
        >>> taste
        Features('member', name='taste', hours_7d=(sum(Played.seconds, '7d') / 3600), last=last(Played.title))
    """

    def __init__(self, key: str, /, *, name: str | None = None, **features: Node | float) -> None:
        self.key = must(key, "key", typ=str)
        self.name = must(key if name is None else name, "name", typ=str)
        if not features:
            raise DeclarationError(f"Features({key!r}), must hold at least one feature: plays_7d=count(Played, '7d')")
        self.nodes: dict[str, Node] = {}
        for one, given in features.items():
            try:
                self.nodes[one] = as_node(given)
            except DeclarationError as error:
                hint = f"; did you mean apply({one}, ...)?" if callable(given) else ""
                raise DeclarationError(f"{one} == {error}{hint}") from None
        if key in self.nodes:
            raise DeclarationError(f"{key} == {self.nodes[key]!r}, must have another name than the key {key!r}")
        self.key_kind = self._check()

    @classmethod
    def of(cls, key: str, name: str, features: Mapping[str, Node | float]) -> Features:
        """The same from a mapping, in which a feature may also be called `name`."""
        made = cls(key, name=name, **{f"_{i}": node for i, node in enumerate(features.values())})
        if key in features:
            raise DeclarationError(f"{key} == {features[key]!r}, must have another name than the key {key!r}")
        made.nodes = dict(zip(features, made.nodes.values(), strict=True))
        return made

    @property
    def names(self) -> list[str]:
        """Names of the features, in order."""
        return list(self.nodes)

    @property
    def types(self) -> dict[str, str]:
        """The type of each feature in words."""
        return {name: node.type for name, node in self.nodes.items()}

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The frame type of each feature."""
        from matinee.features.frames import frame_type

        return {name: frame_type(kind) for name, kind in self.types.items()}

    @cached_property
    def facts(self) -> set[type[Fact]]:
        """Every fact that a feature reads."""
        found: set[type[Fact]] = set()
        for node in self._walk():
            if isinstance(node, Aggregate):
                found.add(node.fact)
            elif isinstance(node, State):
                found.add(node.column.fact)
            elif isinstance(node, Nightly):
                found |= set(node.facts)
        return found

    @property
    def reads(self) -> dict[type[Fact], set[str]]:
        """The columns of each fact that a feature reads, for lineage; all columns for a nightly function."""
        found: dict[type[Fact], set[str]] = {fact: set() for fact in self.facts}
        for node in self._walk():
            if isinstance(node, Aggregate):
                for expression in (node.column, node.where):
                    found[node.fact] |= expression.columns() if expression is not None else set()
            elif isinstance(node, State):
                found[node.column.fact].add(node.column.name)
            elif isinstance(node, Nightly):
                for fact in node.facts:
                    found[fact] |= set(fact.schema.columns)
        return found

    @property
    def nightly(self) -> list[str]:
        """Names of the features that are computed once a day: online they lag behind by up to a day."""
        return [n for n, node in self.nodes.items() if any(isinstance(below, Nightly) for below in node.walk())]

    @cached_property
    def hash(self) -> str:
        """A stable fingerprint of the definition, 16 hex digits: other columns, windows or functions, another hash."""
        text = json.dumps([self.key, {n: node.definition() for n, node in self.nodes.items()}], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values that describe the set, for lineage and pages."""
        return {
            "name": self.name,
            "key": self.key,
            "hash": self.hash,
            "facts": sorted(fact.schema.name for fact in self.facts),
            "nightly": self.nightly,
            "features": {
                name: {"type": node.type, "text": repr(node), **node.definition()} for name, node in self.nodes.items()
            },
        }

    def batch(
        self,
        source: Source,
        labels: pl.DataFrame,
        *,
        key: str | None = None,
        at: str = "at",
        engine: Mapper | str | None = None,
    ) -> pl.DataFrame:
        """The features of each label's key as of the label's time: `labels` with one column more for each feature.

        Only rows visible at the label's time count (see `matinee.features.declare`). Row order is kept.

        Args:
            source: Where the facts are.
            labels: Rows (rows, columns) with a key column and a time column (Datetime, UTC). A null key has no rows.
            key: Name of the labels' key column; the features' key unless given.
            at: Name of the labels' time column.
            engine: Where to work on the buckets: threads of this process unless given, "local" for processes, "ray",
                "ray://HOST:PORT" (see `matinee.engine`), or any `engine(fn, shards) -> results`.

        Raises:
            BadInputError: If a column of the labels is absent, of another type, or named as a feature is.

        Example:
            >>> from datetime import UTC, datetime
            >>> import polars as pl
            >>> from matinee.features import MemorySource, count
            >>> class Played(Fact, key="member"):
            ...     member: int
            >>> day = [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2, 3)]
            >>> plays = pl.DataFrame({"member": [42, 42, 42], "at": day})
            >>> labels = pl.DataFrame({"member": [42], "at": [day[1]]})
            >>> taste = Features("member", plays=count(Played, "7d"))
            >>> taste.batch(MemorySource({Played: plays}), labels)["plays"].to_list()
            [2]
        """
        from matinee.features.batch import batch

        return batch(self, source, labels, key=key or self.key, at=at, engine=engine)

    def online(self) -> Online:
        """Empty state of all keys, to be fed row by row and read at any time: `update(fact, row)`, `read(key, t)`."""
        from matinee.features.online import Online

        return Online(self)

    def online_states(self, source: Source, as_of: datetime) -> Iterator[tuple[Any, bytes]]:
        """The state of every key as of a time, ready to be stored: equal to feeding every row known by then.

        Yields `(key, bytes)` for each key with a row, in no particular order; `online().load(key, bytes)` reads it.
        What `state(..., of=...)` joins is shared by all keys: see `online_joins`.
        """
        from matinee.features.publish import online_states

        return online_states(self, source, as_of)

    def online_joins(self, source: Source, as_of: datetime) -> bytes:
        """The state of all entities that `state(..., of=...)` reads, as of a time: `online().load_joins(bytes)`."""
        from matinee.features.publish import online_joins

        return online_joins(self, source, as_of)

    @cached_property
    def plan(self) -> Plan:
        """The leaves, grouped so that those over the same rows share their work."""
        return Plan(self.key, list(self.nodes.values()))

    def __repr__(self) -> str:
        inside = [repr(self.key)] + ([f"name={self.name!r}"] if self.name != self.key else [])
        return f"Features({', '.join([*inside, *(f'{n}={node!r}' for n, node in self.nodes.items())])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Features) and (self.name, self.hash) == (other.name, other.hash)

    def __hash__(self) -> int:
        return hash((self.name, self.hash))

    def _walk(self) -> Iterator[Node]:
        for node in self.nodes.values():
            yield from node.walk()

    def _check(self) -> str | None:
        """The key's kind, once every leaf is known to be computable for this key."""
        kinds: dict[str, type[Fact]] = {}
        for name, node in self.nodes.items():
            for below in node.walk():
                if not isinstance(below, _COMPUTABLE):
                    raise DeclarationError(f"{name} == {below!r}, must be a feature: that one belongs in a reward")
                leaf = below.leaf if isinstance(below, State) and below.of is None else below
                if not isinstance(leaf, Aggregate):
                    continue
                if leaf.within is not None:
                    raise DeclarationError(
                        f"{name} == {leaf!r} looks ahead, must look back: give a window, keep within= for rewards"
                    )
                kinds.setdefault(self._key_kind(name, below, leaf), leaf.fact)
        if len(kinds) > 1:
            said = " and ".join(f"{kind} in {fact!r}" for kind, fact in kinds.items())
            raise DeclarationError(f"key == {self.key!r} is {said}, must be of one type")
        return next(iter(kinds), None)

    def _key_kind(self, name: str, node: Node, leaf: Aggregate) -> str:
        schema = leaf.fact.schema
        if isinstance(node, State) and schema.key != self.key:
            raise DeclarationError(
                f"{name} == {node!r} is keyed by {schema.key!r}, must be by {self.key!r}, or say whose: of=last(...)"
            )
        if self.key not in schema.columns:
            raise DeclarationError(
                f"{name} == {leaf!r} reads {leaf.fact!r} ({', '.join(schema.columns)}), "
                f"must read a fact with a column {self.key!r}"
            )
        kind = schema.field(self.key).kind
        if kind not in ("int", "str"):
            raise DeclarationError(f"{leaf.fact!r}.{self.key} is {kind}, must be int or str to be a key")
        return kind
