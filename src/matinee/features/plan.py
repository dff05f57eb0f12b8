"""What batch and online share: which rows each leaf reads, grouped so that leaves over the same rows share work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from matinee.expressions import Column, Expression
from matinee.facts import Fact
from matinee.features.nodes import Aggregate, Nightly, Node, State, kind_of, sign_of

DAY_US = 86_400_000_000
ALL_TIME = 1 << 62  # a window longer than any: t - ALL_TIME still fits an int64


@dataclass(frozen=True, eq=False)
class Stream:
    """The rows of one fact under one condition, seen from one kind of time.

    `is_state` rows are visible from `known` on, others from max(at, known). `skip_taken_back` leaves out rows with
    sign -1, for leaves that read rows rather than add them up.
    """

    fact: type[Fact]
    where: Expression | None
    is_state: bool
    skip_taken_back: bool

    @property
    def columns(self) -> set[str]:
        """What it reads to decide which rows belong."""
        found = {"sign"} if sign_of(self.fact) is not None else set()
        return found | (self.where.columns() if self.where is not None else set())

    @property
    def sign(self) -> Column | None:
        """What to multiply each row's numbers with, where the fact takes rows back."""
        return None if self.skip_taken_back else sign_of(self.fact)

    def is_one(self, measure: Measure) -> bool:
        """Whether the measure is 1 in every row, so that its sum is the number of rows."""
        return measure.column is None and self.sign is None


@dataclass(frozen=True, eq=False)
class Measure:
    """One number per row to add up: the value of a column, or 1 where `counting`."""

    column: Expression | None
    counting: bool

    @property
    def is_float(self) -> bool:
        """Whether sums are float64; else int64."""
        return not self.counting and self.column is not None and kind_of(self.column) == "float"


@dataclass(eq=False)
class Item:
    """Leaves that are read together. `kind` is window, last, history or counts; `slots` says where each value goes.

    A slot is `(slot, kind of leaf, position)`: for a window the positions of its sum and count among `measures`,
    for last and history the position of its column.
    """

    kind: str
    stream: Stream
    window_us: int = ALL_TIME
    columns: list[Expression] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    size: int = 0
    slots: list[tuple[int, str, int, int]] = field(default_factory=list)

    @property
    def days(self) -> float:
        """Length of the window in days."""
        return self.window_us / DAY_US

    def reads(self) -> set[str]:
        """Names of the fact's columns it needs, beside key, `at`, `known` and `seq`."""
        found = set(self.stream.columns)
        for one in [*self.columns, *(m.column for m in self.measures if m.column is not None)]:
            found |= one.columns()
        return found

    def column(self, wanted: Expression) -> int:
        """The position of a column, added if it is new."""
        for i, one in enumerate(self.columns):
            if repr(one) == repr(wanted):
                return i
        self.columns.append(wanted)
        return len(self.columns) - 1

    def measure(self, column: Expression | None, *, counting: bool) -> int:
        """The position of a measure, added if it is new."""
        for i, one in enumerate(self.measures):
            if one.counting == counting and repr(one.column) == repr(column):
                return i
        self.measures.append(Measure(column, counting))
        return len(self.measures) - 1


class Plan:
    """All leaves of some nodes, grouped into items by fact, condition and window.

    Args:
        key: The column the features are keyed by.
        nodes: The nodes to compute.
    """

    def __init__(self, key: str, nodes: Sequence[Node]) -> None:
        self.key = key
        self.items: list[Item] = []
        self.slots: dict[str, int] = {}  # ident of a leaf -> its slot
        self.types: list[str] = []  # type of each slot
        self.joins: list[State] = []
        self.nightly: list[Nightly] = []
        self._streams: dict[tuple[str, str, bool, bool], Stream] = {}
        self._found: dict[tuple[int, str, int, str], Item] = {}
        seen: set[str] = set()
        for node in (below for one in nodes for below in one.walk()):
            if node.ident in seen:
                continue
            seen.add(node.ident)
            if isinstance(node, State) and node.of is not None:
                self.joins.append(node)
            elif isinstance(node, Nightly):
                self.nightly.append(node)
            elif isinstance(node, State):
                self._place(node.leaf, node.ident)
            elif isinstance(node, Aggregate):
                self._place(node, node.ident)
        self.facts: dict[str, type[Fact]] = {i.stream.fact.schema.name: i.stream.fact for i in self.items}

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs to read leaves; functions of `apply` and `nightly` stay behind: not all can travel."""
        return {**vars(self), "joins": [], "nightly": [], "_streams": {}, "_found": {}}

    def of_fact(self, fact: str) -> list[Item]:
        """The items over one fact."""
        return [i for i in self.items if i.stream.fact.schema.name == fact]

    def reads(self, fact: str) -> set[str]:
        """Columns of one fact that its items read."""
        return set().union(*(i.reads() for i in self.of_fact(fact)))

    def _stream(self, leaf: Aggregate, *, skip: bool) -> Stream:
        skip = skip and sign_of(leaf.fact) is not None
        found = (leaf.fact.schema.name, repr(leaf.where), leaf.is_state, skip)
        return self._streams.setdefault(found, Stream(leaf.fact, leaf.where, leaf.is_state, skip))

    def _item(self, kind: str, stream: Stream, window_us: int = ALL_TIME, extra: str = "") -> Item:
        found = (id(stream), kind, window_us, extra)
        if found not in self._found:
            self._found[found] = Item(kind, stream, window_us)
            self.items.append(self._found[found])
        return self._found[found]

    def _place(self, leaf: Aggregate, ident: str) -> None:
        slot = self.slots[ident] = len(self.types)
        self.types.append(leaf.type)
        window = ALL_TIME if leaf.window is None else leaf.window // timedelta(microseconds=1)
        column = leaf.column
        if leaf.kind in ("last", "recency"):
            item = self._item("last", self._stream(leaf, skip=True))
            item.slots.append((slot, leaf.kind, item.column(column) if column is not None else -1, -1))
        elif leaf.kind == "history" and column is not None:
            item = self._item("history", self._stream(leaf, skip=True))
            item.size = max(item.size, leaf.size or 0)
            item.slots.append((slot, leaf.kind, item.column(column), leaf.size or 0))
        elif leaf.kind == "counts" and column is not None:
            item = self._item("counts", self._stream(leaf, skip=False), window, repr(column))
            item.slots.append((slot, leaf.kind, item.column(column), item.measure(None, counting=True)))
        else:
            item = self._item("window", self._stream(leaf, skip=False), window)
            adds = item.measure(column, counting=False) if leaf.kind in ("sum", "mean") else -1
            rows = item.measure(column, counting=True) if leaf.kind != "sum" else -1
            item.slots.append((slot, leaf.kind, adds, rows))
