"""Online: the state of one key after another, kept up to date row by row, read in microseconds, stored as bytes.

The state holds what batch would read at the newest time: for a window the running sum K over visible rows, the rows
still inside it, and the sum A of those that left; for last and history the latest rows. Additions happen in the order
in which batch makes them, so sums agree to the bit when rows arrive in the order in which they became visible.
Reads never go back: a time before the newest row that was folded in is refused, because what left a window is gone.
"""

from __future__ import annotations

import operator
from bisect import bisect_right, insort
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from matinee.exceptions import BadInputError, StorageError
from matinee.facts import Fact
from matinee.features.nodes import Apply, Arithmetic, Constant, Nightly, Node, State
from matinee.features.parts import Part, Row, Spec, packed_row, restored_row
from matinee.features.plan import Plan
from matinee.times import from_us, to_us

if TYPE_CHECKING:
    from matinee.features.definition import Features

VERSION = 2
LAST_SEQ = 1 << 62  # a row without `seq` is not yet in a table: it comes after all that are
_NEVER = -(1 << 62)
# One row waiting to become visible: (v, seq, ticket, as state, fact, at, known, values)
Waiting = tuple[int, int, int, bool, str, int, int, dict[str, Any]]
Read = Callable[[list[Any], int], Any]


class Program:
    """What all states of one plan share: how rows are routed to parts, and how parts are read."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts: dict[tuple[str, bool], list[int]] = {}  # (fact, as state) -> positions of items
        self.specs = [Spec(item) for item in plan.items]
        for i, item in enumerate(plan.items):
            self.parts.setdefault((item.stream.fact.schema.name, item.stream.is_state), []).append(i)
        self.reads = {name: sorted(plan.reads(name)) for name in plan.facts}
        self.kinds = {name: fact.schema for name, fact in plan.facts.items()}

    def state(self) -> KeyState:
        """An empty state."""
        return KeyState(self)


def microseconds(value: Any, name: str) -> int:
    """Microseconds since 1970 of a datetime with a time zone, or of the number itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise BadInputError(f"{name} == {value!r}, must be a datetime with a time zone, or microseconds since 1970")
    return to_us(value)


class KeyState:
    """The state of one key: one part for each item of the plan, and rows that are known but not yet visible."""

    __slots__ = ("clock", "nightly", "parts", "program", "ticket", "waiting")

    def __init__(self, program: Program, parts: list[Part] | None = None) -> None:
        self.program = program
        self.parts = [spec.make() for spec in program.specs] if parts is None else parts
        self.waiting: list[Waiting] = []
        self.clock = _NEVER
        self.ticket = 0
        self.nightly: dict[int, Any] = {}  # position in the plan -> the day's value

    def update(self, fact: str, row: Mapping[str, Any]) -> None:
        """Takes one row of a fact; it counts from the time it becomes visible."""
        at = microseconds(row["at"], "at")
        known = at if row.get("known") is None else microseconds(row["known"], "known")
        seq = LAST_SEQ if row.get("seq") is None else int(row["seq"])
        values = {name: row.get(name) for name in self.program.reads[fact]}
        if "at" in values:
            values["at"] = from_us(at)
        if "known" in values:
            values["known"] = from_us(known)
        self.clock = max(self.clock, known)
        for is_state in (False, True):
            if (fact, is_state) in self.program.parts:
                self.ticket += 1
                v = known if is_state else max(at, known)
                insort(self.waiting, (v, seq, self.ticket, is_state, fact, at, known, values))
        if self.waiting and self.waiting[0][0] <= self.clock:
            self.fold(self.clock)

    def fold(self, t: int) -> None:
        """Adds the waiting rows that are visible at t."""
        n = 0
        for v, seq, _, is_state, fact, at, known, values in self.waiting:
            if v > t:
                break
            n += 1
            row = Row(at, known, seq, v, values)
            for i in self.program.parts[fact, is_state]:
                self.parts[i].add(row)
            self.clock = max(self.clock, v)
        del self.waiting[:n]

    def advance(self, t: int) -> None:
        """Brings the state to time t: folds what is visible, drops what has left its window. No read before t after."""
        self.fold(t)
        self.clock = max(self.clock, t)
        for part in self.parts:
            part.trim(self.clock)

    def leaves(self, t: int) -> list[Any]:
        """The value of each leaf at t, by slot.

        Raises:
            BadInputError: If t is before the newest row.
        """
        if self.waiting and self.waiting[0][0] <= t:
            self.fold(t)
        if t < self.clock:
            newest = from_us(self.clock).isoformat()
            raise BadInputError(f"t == {from_us(t).isoformat()}, must be no earlier than the newest row ({newest})")
        values: list[Any] = [None] * len(self.program.plan.types)
        for part in self.parts:
            part.read(t, values)
        return values

    def to_bytes(self, stamp: bytes) -> bytes:
        """A compact, versioned form: MessagePack around the raw bytes of the arrays."""
        schemas = self.program.kinds
        waiting = [
            (v, seq, is_state, fact, at, known, packed_row(schemas[fact], values))
            for v, seq, _, is_state, fact, at, known, values in self.waiting
        ]
        return state_bytes(stamp, self.clock, [part.pack() for part in self.parts], waiting, self.nightly)

    @classmethod
    def from_bytes(cls, program: Program, stamp: bytes, data: bytes) -> KeyState:
        """The state that `to_bytes` wrote.

        Raises:
            StorageError: If the bytes are no such state, or one of another definition.
        """
        try:
            version, given, clock, parts, waiting, nightly = _DECODER.decode(data)
        except (msgspec.DecodeError, ValueError, TypeError):
            raise StorageError(f"state == {data[:16]!r}..., must be the bytes of a feature state") from None
        if version != VERSION or given != stamp:
            raise StorageError(
                f"state == version {version} of features {bytes(given).hex()}, "
                f"must be version {VERSION} of {stamp.hex()}: publish the states again"
            )
        found = cls(program, [spec.make().unpack(one) for spec, one in zip(program.specs, parts, strict=True)])
        found.clock, found.nightly = clock, nightly
        for ticket, (v, seq, is_state, fact, at, known, values) in enumerate(waiting):
            found.waiting.append((v, seq, ticket, is_state, fact, at, known, restored_row(program.kinds[fact], values)))
        found.ticket = len(waiting)
        return found


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()


def state_bytes(stamp: bytes, clock: int, parts: list[Any], waiting: list[Any], nightly: dict[int, Any]) -> bytes:
    """A state's bytes from its packed parts."""
    return _ENCODER.encode([VERSION, stamp, clock, parts, waiting, nightly])


class Online:
    """The state of all keys of one set of features: feed it rows, read any key.

    Rows arrive in the order in which they become visible; a row that comes out of order counts all the same, with sums
    of floats equal but for rounding. A row known before it happens waits until then. Reads of a key may not go back
    to before its newest row. Not for several threads at once on one key.

    Args:
        features: What to compute.

    Example:
        >>> from matinee.features import Features, count
        >>> class Played(Fact, key="member"):
        ...     member: int
        >>> state = Features("member", plays_7d=count(Played, "7d")).online()
        >>> state.update(Played, {"member": 42, "at": 1_000_000})
        >>> state.read(42, 2_000_000)
        {'plays_7d': 1}
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.states: dict[Any, KeyState] = {}
        self._program = Program(features.plan)
        self._empty = self._program.state()
        self._stamp = bytes.fromhex(features.hash)
        self.joins: dict[str, Join] = {}
        slots = self._program.plan.slots
        self._leaves = [(name, slots[node.ident]) for name, node in features.nodes.items() if node.ident in slots]
        self._others = [(n, self._reader(node)) for n, node in features.nodes.items() if node.ident not in slots]
        self._names = dict.fromkeys(features.names)  # the order of the features

    def update(self, fact: type[Fact] | str, row: Mapping[str, Any]) -> None:
        """Takes one row: its columns, `at`, and `known` (else `at`) and `seq` (else the newest) where they matter.

        Times are datetimes with a time zone, or microseconds since 1970. A fact that no feature reads is passed over.

        Raises:
            BadInputError: If a time is neither.
        """
        name = fact if isinstance(fact, str) else fact.schema.name
        if name in self._program.plan.facts and row.get(self.features.key) is not None:
            key = row[self.features.key]
            if key not in self.states:
                self.states[key] = self._program.state()
            self.states[key].update(name, row)
        for join in self.joins.values():
            join.update(name, row)

    def read(self, key: Any, t: int | datetime) -> dict[str, Any]:
        """The features of a key at a time; a key that was never seen has the missing values.

        Raises:
            BadInputError: If t is before the key's newest row.
        """
        when = t if isinstance(t, int) else microseconds(t, "t")
        state = self.states.get(key, self._empty)
        values = state.leaves(when)
        values.append(state.nightly)
        found = self._names.copy()
        for name, slot in self._leaves:
            found[name] = values[slot]
        for name, compute in self._others:
            found[name] = compute(values, when)
        return found

    def dump(self, key: Any) -> bytes:
        """The state of one key, to be stored; empty if the key was never seen."""
        return self.states.get(key, self._empty).to_bytes(self._stamp)

    def load(self, key: Any, data: bytes) -> None:
        """Takes a key's state from bytes that `dump` or `Features.online_states` gave, instead of what it holds.

        Raises:
            StorageError: If the bytes are damaged, or of features with another definition.
        """
        self.states[key] = KeyState.from_bytes(self._program, self._stamp, data)

    def advance(self, key: Any, t: int | datetime) -> None:
        """Brings a key's state to a time, dropping what has left every window; reads from then on only."""
        if key in self.states:
            self.states[key].advance(microseconds(t, "t"))

    def dump_joins(self) -> bytes:
        """The state of the entities that `state(..., of=...)` reads, shared by all keys."""
        return _ENCODER.encode([VERSION, self._stamp, {name: join.pack() for name, join in self.joins.items()}])

    def load_joins(self, data: bytes) -> None:
        """Takes the entities' state from bytes that `dump_joins` or `Features.online_joins` gave.

        Raises:
            StorageError: If the bytes are damaged, or of features with another definition.
        """
        try:
            version, given, joins = _DECODER.decode(data)
        except (msgspec.DecodeError, ValueError, TypeError):
            raise StorageError(f"joins == {data[:16]!r}..., must be the bytes of joined entities") from None
        if version != VERSION or given != self._stamp:
            raise StorageError(f"joins == version {version} of features {bytes(given).hex()}, must be published again")
        for name, packed_join in joins.items():
            self.joins[name].unpack(packed_join)

    def _reader(self, node: Node) -> Read:
        slots = self._program.plan.slots
        if node.ident in slots:
            slot = slots[node.ident]
            return lambda values, t: values[slot]
        if isinstance(node, Constant):
            constant = node.value
            return lambda values, t: constant
        if isinstance(node, Arithmetic):
            return _arithmetic(node, self._reader(node.left), self._reader(node.right))
        if isinstance(node, Nightly):
            nth = [one.ident for one in self._program.plan.nightly].index(node.ident)
            return lambda values, t: values[-1].get(nth)
        if isinstance(node, Apply):
            return _apply(node, [self._reader(one) for one in node.of])
        assert isinstance(node, State) and node.of is not None
        name = node.column.fact.schema.name
        join = self.joins.setdefault(name, Join(node.column.fact))
        column, of = join.column(node.column.name), self._reader(node.of)
        return lambda values, t: join.read(of(values, t), t, column)


def _arithmetic(node: Arithmetic, left: Read, right: Read) -> Read:
    as_type = float if node.type == "float" else int

    def divided(a: Any, b: Any) -> Any:
        return None if b == 0 else a / b

    combine: Callable[[Any, Any], Any] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": divided,
    }[node.op]

    def read(values: list[Any], t: int) -> Any:
        a, b = left(values, t), right(values, t)
        return None if a is None or b is None else combine(as_type(a), as_type(b))

    return read


def _apply(node: Apply, parts: list[Read]) -> Read:
    kinds = [one.type for one in node.of]

    def read(values: list[Any], t: int) -> Any:
        from matinee.features.functions import called, plain, single

        given = [single(kind, part(values, t)) for kind, part in zip(kinds, parts, strict=True)]
        return plain(node, called(node, given, 1))[0]

    return read


class Join:
    """All rows of one entity by its own key, for looking up what it said at a time; any time may be read."""

    def __init__(self, fact: type[Fact]) -> None:
        self.fact = fact
        self.columns: list[str] = []
        # key -> rows in the order they became known: (known, at, seq, values)
        self.rows: dict[Any, list[tuple[int, int, int, tuple[Any, ...]]]] = {}

    def column(self, name: str) -> int:
        """The position of a column, added if it is new."""
        if name not in self.columns:
            self.columns.append(name)
        return self.columns.index(name)

    def update(self, fact: str, row: Mapping[str, Any]) -> None:
        """Takes one row, if it is of this entity."""
        if fact != self.fact.schema.name:
            return
        at = microseconds(row["at"], "at")
        known = at if row.get("known") is None else microseconds(row["known"], "known")
        seq = LAST_SEQ if row.get("seq") is None else int(row["seq"])
        system = {"at": from_us(at), "known": from_us(known)}
        values = tuple(system.get(c, row.get(c)) for c in self.columns)
        rows = self.rows.setdefault(row[self.fact.schema.key], [])
        rows.insert(bisect_right(rows, (known, at, seq), key=lambda one: one[:3]), (known, at, seq, values))

    def read(self, key: Any, t: int, column: int) -> Any:
        """The column in the row of greatest (at, known, seq) among those known by t; None if there is none."""
        best: tuple[int, int, int, tuple[Any, ...]] | None = None
        for row in self.rows.get(key, ()):
            if row[0] > t:
                break
            if best is None or (row[1], row[0], row[2]) >= (best[1], best[0], best[2]):
                best = row
        return None if best is None else best[3][column]

    def pack(self) -> Any:
        """Plain values for the wire."""
        kinds = self.fact.schema
        names = self.columns
        return [
            (key, [(k, a, s, packed_row(kinds, dict(zip(names, values, strict=True)))) for k, a, s, values in rows])
            for key, rows in self.rows.items()
        ]

    def unpack(self, data: Any) -> None:
        """Takes what `pack` gave, instead of what it holds."""
        self.rows = {
            key: [(k, a, s, tuple(restored_row(self.fact.schema, values).values())) for k, a, s, values in rows]
            for key, rows in data
        }
