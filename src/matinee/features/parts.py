"""The parts of a key's online state, one for each item of the plan: add a row, forget what is past, read at t."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, Self

from matinee.expressions import Expression
from matinee.facts import Schema
from matinee.features.nodes import kind_of
from matinee.features.plan import ALL_TIME, Item, Measure

_FLOOR = -(1 << 62)


class Row(NamedTuple):
    """One visible row: times in microseconds since 1970, and the columns the plan reads."""

    at: int
    known: int
    seq: int
    v: int
    values: Mapping[str, Any]


class Part(Protocol):
    """The state of one item for one key. Packed, it is plain values and bytes in the machine's byte order."""

    def add(self, row: Row) -> None:
        """Takes a row that has become visible."""

    def trim(self, t: int) -> None:
        """Forgets what no read from t on needs."""

    def read(self, t: int, values: list[Any]) -> None:
        """Puts the item's leaves at t into their slots."""

    def pack(self) -> Any:
        """Plain values and bytes."""

    def unpack(self, data: Any) -> Self:
        """Takes what `pack` gave; returns itself."""


class Spec:
    """What all parts of one item share, worked out once."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.window = item.window_us
        self.slots = item.slots
        self.days = item.days
        self.where = item.stream.where
        self.sign = item.stream.sign
        self.skip = item.stream.skip_taken_back
        self.kinds = [kind_of(column) for column in item.columns]
        self.columns = [_reader(column, kind) for column, kind in zip(item.columns, self.kinds, strict=True)]
        # Measures that are 1 in every row are not stored: their sum is the number of rows.
        self.stored = [(i, m) for i, m in enumerate(item.measures) if not item.stream.is_one(m)]
        self.numbers = [_number(m) for _, m in self.stored]
        self.codes = ["d" if m.is_float else "b" if m.counting else "q" for _, m in self.stored]
        self.zeros: list[Any] = [0.0 if m.is_float else 0 for _, m in self.stored]
        place = {i: j for j, (i, _) in enumerate(self.stored)}
        # For a window: slot, kind, and the places of its sum and count among what is stored; -1 is the number of rows.
        self.outputs = [(slot, kind, place.get(adds, -1), place.get(rows, -1)) for slot, kind, adds, rows in item.slots]

    def belongs(self, row: Row) -> bool:
        """Whether the row is one of the stream's."""
        if self.where is not None and not self.where.value(row.values):
            return False
        return not (self.skip and row.values.get("sign") == -1)

    def signed(self, row: Row) -> int:
        """1, or -1 for a row that takes one back."""
        return -1 if self.sign is not None and row.values.get("sign") == -1 else 1

    def make(self) -> Part:
        """An empty part."""
        return _PARTS[self.item.kind](self)


def _reader(column: Expression, kind: str) -> Callable[[Mapping[str, Any]], Any]:
    if kind != "float":
        return column.value

    def read(values: Mapping[str, Any]) -> Any:
        found = column.value(values)
        return None if found is None else float(found)

    return read


def _number(measure: Measure) -> Callable[[Mapping[str, Any]], Any]:
    column = measure.column
    if column is None:
        return lambda values: 1
    if measure.counting:
        return lambda values: 0 if (x := column.value(values)) is None or not _finite(x) else 1
    if measure.is_float:
        return lambda values: 0.0 if (x := column.value(values)) is None or not math.isfinite(x) else float(x)
    return lambda values: 0 if (x := column.value(values)) is None else x


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


class WindowPart:
    """K, A and the rows still in the window: W(t) = K - A(t - w).

    `past` is A over the rows that left; each later read adds those that have left since, in order.
    """

    __slots__ = ("at", "floor", "known", "now", "past", "rows", "spec", "xs")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.known = spec.zeros.copy()
        self.past = spec.zeros.copy()
        self.now: list[Any] | None = None  # K - A, while neither changes
        self.floor, self.rows = _FLOOR, 0
        self.at = array("q")
        self.xs = [array(code) for code in spec.codes]

    def add(self, row: Row) -> None:
        """Takes a row that has become visible."""
        spec = self.spec
        if row.v - row.at > spec.window or not spec.belongs(row):
            return
        sign = spec.signed(row)
        numbers = [sign * number(row.values) for number in spec.numbers]
        self.known = [k + x for k, x in zip(self.known, numbers, strict=True)]
        self.now = None
        if spec.window == ALL_TIME:
            self.rows += 1
        elif row.at < self.floor:
            self.past = [k + x for k, x in zip(self.past, numbers, strict=True)]
        else:
            place = bisect_right(self.at, row.at)
            self.at.insert(place, row.at)
            for xs, x in zip(self.xs, numbers, strict=True):
                xs.insert(place, x)
            self.trim(row.v)

    def trim(self, t: int) -> None:
        """Adds what left the window by t to A, and forgets it."""
        if self.spec.window == ALL_TIME:
            return
        self.floor = max(self.floor, t - self.spec.window)
        if self.at and self.at[0] < self.floor:
            gone = bisect_left(self.at, self.floor)
            self.now = None
            del self.at[:gone]
            for i, xs in enumerate(self.xs):
                self.past[i] = _added(self.past[i], xs, gone)
                del xs[:gone]

    def read(self, t: int, values: list[Any]) -> None:
        """Puts sums, counts, means and rates at t into their slots."""
        spec, at = self.spec, self.at
        gone = bisect_left(at, t - spec.window) if at and at[0] < t - spec.window else 0
        rows = self.rows + len(at) - gone
        if rows == 0:
            totals = spec.zeros
        elif gone:
            totals = [k - _added(a, xs, gone) for k, a, xs in zip(self.known, self.past, self.xs, strict=True)]
        else:
            totals = self.now or [k - a for k, a in zip(self.known, self.past, strict=True)]
            self.now = totals
        for slot, kind, adds, counting in spec.outputs:
            if kind == "sum":
                values[slot] = totals[adds]
                continue
            held = rows if counting < 0 else totals[counting]
            if kind == "count":
                values[slot] = held
            elif kind == "rate":
                values[slot] = held / spec.days
            else:
                values[slot] = totals[adds] / held if held else None

    def pack(self) -> Any:
        """Plain values and bytes."""
        return [self.known, self.past, self.floor, self.rows, self.at.tobytes(), [x.tobytes() for x in self.xs]]

    def unpack(self, data: Any) -> Self:
        """Takes what `pack` gave."""
        self.known, self.past, self.floor, self.rows, at, xs = data
        self.at.frombytes(at)
        for one, raw in zip(self.xs, xs, strict=True):
            one.frombytes(raw)
        return self


def _added(total: Any, xs: array[Any], n: int) -> Any:
    """The total and the first n numbers, one after another, as batch adds: `sum` would round otherwise since 3.12."""
    return reduce(add, xs[:n], total)


class LastPart:
    """The latest row: the greatest (at, known, seq)."""

    __slots__ = ("age", "found", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.age: tuple[int, int, int] | None = None
        self.found: list[Any] = []

    def add(self, row: Row) -> None:
        """Takes a row that has become visible."""
        age = (row.at, row.known, row.seq)
        if (self.age is None or age >= self.age) and self.spec.belongs(row):
            self.age, self.found = age, [read(row.values) for read in self.spec.columns]

    def trim(self, t: int) -> None:
        """Nothing is past."""

    def read(self, t: int, values: list[Any]) -> None:
        """Puts values, and seconds since the row happened, into their slots; leaves None where there is no row."""
        if self.age is None:
            return
        for slot, kind, column, _ in self.spec.slots:
            values[slot] = self.found[column] if kind == "last" else (t - self.age[0]) / 1e6

    def pack(self) -> Any:
        """Plain values."""
        return None if self.age is None else [*self.age, packed_values(self.spec.kinds, self.found)]

    def unpack(self, data: Any) -> Self:
        """Takes what `pack` gave."""
        if data is not None:
            self.age, self.found = (data[0], data[1], data[2]), restored_values(self.spec.kinds, data[3])
        return self


class HistoryPart:
    """The latest n rows, oldest first: their ages, and a list a column, which are read and stored as they are."""

    __slots__ = ("at", "found", "known", "seq", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.at, self.known, self.seq = array("q"), array("q"), array("q")
        self.found: list[list[Any]] = [[] for _ in spec.columns]

    def add(self, row: Row) -> None:
        """Takes a row that has become visible."""
        if not self.spec.belongs(row):
            return
        age = (row.at, row.known, row.seq)
        place = len(self.at)
        while place and (self.at[place - 1], self.known[place - 1], self.seq[place - 1]) > age:  # a late row
            place -= 1
        for ages, one in zip((self.at, self.known, self.seq), age, strict=True):
            ages.insert(place, one)
        for column, read in zip(self.found, self.spec.columns, strict=True):
            column.insert(place, read(row.values))
        if len(self.at) > self.spec.item.size:
            del self.at[0], self.known[0], self.seq[0]
            for column in self.found:
                del column[0]

    def trim(self, t: int) -> None:
        """Nothing is past."""

    def read(self, t: int, values: list[Any]) -> None:
        """Puts lists into their slots."""
        for slot, _, column, size in self.spec.slots:
            values[slot] = self.found[column][-size:]

    def pack(self) -> Any:
        """Bytes, and plain values by column."""
        columns = [packed_column(kind, one) for kind, one in zip(self.spec.kinds, self.found, strict=True)]
        return [self.at.tobytes(), self.known.tobytes(), self.seq.tobytes(), columns]

    def unpack(self, data: Any) -> Self:
        """Takes what `pack` gave."""
        at, known, seq, columns = data
        self.at.frombytes(at)
        self.known.frombytes(known)
        self.seq.frombytes(seq)
        self.found = [restored_column(kind, one) for kind, one in zip(self.spec.kinds, columns, strict=True)]
        return self


class CountsPart:
    """The values in the window with their times; over all time only how often each occurred."""

    __slots__ = ("at", "floor", "found", "signs", "spec", "tally")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.floor = _FLOOR
        self.at, self.signs = array("q"), array("b")
        self.found: list[Any] = []
        self.tally: Counter[Any] = Counter()

    def add(self, row: Row) -> None:
        """Takes a row that has become visible."""
        spec = self.spec
        if row.v - row.at > spec.window or not spec.belongs(row):
            return
        value, sign = spec.columns[0](row.values), spec.signed(row)
        if value is None:
            return
        if spec.window == ALL_TIME:
            self.tally[value] += sign
        elif row.at >= self.floor:
            place = bisect_right(self.at, row.at)
            self.at.insert(place, row.at)
            self.signs.insert(place, sign)
            self.found.insert(place, value)
            self.trim(row.v)

    def trim(self, t: int) -> None:
        """Forgets what left the window by t."""
        if self.spec.window == ALL_TIME:
            return
        self.floor = max(self.floor, t - self.spec.window)
        if self.at and self.at[0] < self.floor:
            gone = bisect_left(self.at, self.floor)
            del self.at[:gone], self.signs[:gone], self.found[:gone]

    def read(self, t: int, values: list[Any]) -> None:
        """Puts a dict of value to count into its slots; a value whose count is 0, all taken back, is left out."""
        start = bisect_left(self.at, t - self.spec.window)
        counted = Counter(self.found[start:])
        if self.spec.window == ALL_TIME:
            counted = self.tally
        elif self.spec.sign is not None:
            counted = Counter()
            for value, sign in zip(self.found[start:], self.signs[start:], strict=True):
                counted[value] += sign
        for slot, *_ in self.spec.slots:
            values[slot] = {value: n for value, n in counted.items() if n}

    def pack(self) -> Any:
        """Plain values and bytes; tallies in the order of their values."""
        tally = sorted((value, n) for value, n in self.tally.items() if n)
        return [self.floor, self.at.tobytes(), self.signs.tobytes(), self.found, tally]

    def unpack(self, data: Any) -> Self:
        """Takes what `pack` gave."""
        self.floor, at, signs, self.found, tally = data
        self.at.frombytes(at)
        self.signs.frombytes(signs)
        self.tally = Counter(dict(tally))
        return self


_PARTS: dict[str, Callable[[Spec], Part]] = {
    "window": WindowPart,
    "last": LastPart,
    "history": HistoryPart,
    "counts": CountsPart,
}


def packed_column(kind: str, values: list[Any]) -> list[Any]:
    """The values of one column as `packed_values` has them."""
    return [None if v is None else v.toordinal() for v in values] if kind == "date" else values


def restored_column(kind: str, values: list[Any]) -> list[Any]:
    """The values that `packed_column` gave."""
    return [None if v is None else date.fromordinal(v) for v in values] if kind == "date" else values


def packed_values(kinds: list[str], values: list[Any]) -> list[Any]:
    """Values as MessagePack has them: a date is its day number, the rest is as it is."""
    if "date" not in kinds:
        return values
    return [v.toordinal() if k == "date" and v is not None else v for k, v in zip(kinds, values, strict=True)]


def restored_values(kinds: list[str], values: list[Any]) -> list[Any]:
    """The values that `packed_values` gave."""
    if "date" not in kinds:
        return list(values)
    return [date.fromordinal(v) if k == "date" and v is not None else v for k, v in zip(kinds, values, strict=True)]


def packed_row(schema: Schema, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row, by name, as MessagePack has them."""
    return dict(zip(row, packed_values(_kinds(schema, row), list(row.values())), strict=True))


def restored_row(schema: Schema, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row that `packed_row` gave."""
    return dict(zip(row, restored_values(_kinds(schema, row), list(row.values())), strict=True))


def _kinds(schema: Schema, names: Mapping[str, Any]) -> list[str]:
    declared = {one.name: one.kind for one in schema.fields}
    return [declared.get(name, "") for name in names]
