"""Reads one fact for one shard of labels: what the kernels need of it, and frames from what they find."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from matinee.expressions import Expression
from matinee.facts import Fact
from matinee.features.nodes import kind_of
from matinee.features.plan import ALL_TIME, Item, Measure, Plan, Stream
from matinee.features.source import Source
from matinee.times import from_us

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]

FEW_KEYS = 1_000  # up to so many keys are looked up while reading, rather than after


def frame_type(kind: str) -> pl.DataType:
    """The frame type of a value: "int" is Int64, "counts[str]" is List(Struct{value: String, count: Int64})."""
    import polars as pl

    if kind.startswith("counts["):
        return pl.List(pl.Struct({"value": frame_type(kind[7:-1]), "count": pl.Int64()}))
    if kind.startswith("list["):
        return pl.List(frame_type(kind[5:-1]))
    scalars: dict[str, pl.DataType] = {
        "int": pl.Int64(),
        "float": pl.Float64(),
        "str": pl.String(),
        "bool": pl.Boolean(),
        "datetime": pl.Datetime("us", "UTC"),
        "date": pl.Date(),
        "bytes": pl.Binary(),
    }
    return scalars[kind]


def measure_expression(measure: Measure, stream: Stream) -> pl.Expr:
    """The number each row adds: nulls and what is not finite add 0, corrections add with their sign."""
    import polars as pl

    sign = stream.sign
    if measure.column is None:
        number = pl.lit(1, pl.Int64)
    else:
        number, is_float = measure.column.polars(), kind_of(measure.column) == "float"
        holds = number.cast(pl.Float64).is_finite() if is_float else number.is_not_null()
        if measure.counting:  # of any column, text too
            number = holds.fill_null(False).cast(pl.Int64)
        else:
            number = pl.when(holds).then(number.cast(pl.Float64 if is_float else pl.Int64)).otherwise(0)
    return number if sign is None else number * sign.polars().fill_null(1)


def member_expression(stream: Stream) -> pl.Expr | None:
    """Whether a row belongs to the stream; None where all do."""
    import polars as pl

    belongs = None if stream.where is None else stream.where.polars().fill_null(False)
    if stream.skip_taken_back:
        stands = pl.col("sign").fill_null(1) > 0
        belongs = stands if belongs is None else belongs & stands
    return belongs


def value_expression(column: Expression) -> pl.Expr:
    """The column in its declared type."""
    return column.polars().cast(frame_type(kind_of(column)))


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows of one stream, grouped by key, with their orders; computed when first asked for."""

    offsets: Ints
    order: Ints
    v: Ints
    at: Ints
    known: Ints
    seq: Ints

    def _sorted(self, first: Ints, second: Ints, third: Ints) -> Ints:
        from matinee.features import kernels

        order = self.order.copy()
        kernels.fast(kernels.sort_groups, self.v.size)(self.offsets, first, second, third, order)
        return order

    @cached_property
    def by_v(self) -> Ints:
        """In the order in which rows became visible."""
        return self._sorted(self.v, self.seq, self.seq)

    @cached_property
    def by_at(self) -> Ints:
        """In the order in which they happened, ties as they became visible: the order of the online state."""
        return self._sorted(self.at, self.v, self.seq)

    @cached_property
    def by_age(self) -> Ints:
        """In the order that defines the latest row: (at, known, seq)."""
        return self._sorted(self.at, self.known, self.seq)


@dataclass(eq=False)
class Rows:
    """All that a plan reads of one fact: one frame, codes of its keys, and groups for each stream."""

    plan: Plan
    fact: type[Fact]
    frame: pl.DataFrame
    code: Ints
    keys: int
    visible_at: int | None = None  # leave out rows that are not visible by then

    def __post_init__(self) -> None:
        self._groups: dict[int, Groups] = {}

    def column(self, item: Item, kind: str, i: int) -> pl.Series:
        """One computed column: kind is "m" for a measure, "c" for a column."""
        return self.frame[f"{kind}{self.plan.items.index(item)}_{i}"]

    def groups(self, stream: Stream) -> Groups:
        """The rows of a stream, grouped by key."""
        import numpy as np

        from matinee.features import kernels

        if id(stream) not in self._groups:
            at, known, seq = (self.frame[c].to_numpy() for c in ("at", "known", "seq"))
            code = self.code
            name = self.stream_column(stream)
            if name in self.frame.columns:
                code = np.where(self.frame[name].to_numpy(), code, -1)
            v = known if stream.is_state else np.maximum(at, known)
            if self.visible_at is not None:
                code = np.where(v <= self.visible_at, code, -1)
            offsets, order = kernels.fast(kernels.group_rows, code.size)(code, self.keys)
            self._groups[id(stream)] = Groups(offsets, order, v, at, known, seq)
        return self._groups[id(stream)]

    def stream_column(self, stream: Stream) -> str:
        """Name of the column that says which rows belong to the stream."""
        return f"w{next(i for i, one in enumerate(self.plan.items) if one.stream is stream)}"


def read_rows(
    plan: Plan, source: Source, fact: type[Fact], keys: pl.Series | None, bucket: int | None, until: int,
    since: int | None = None,
) -> Rows:  # fmt: skip
    """Reads what the plan needs of one fact: rows known by `until` (microseconds), of the keys in `keys`.

    Args:
        plan: What to read.
        source: Where from.
        fact: Which fact.
        keys: Distinct keys; a row's code is its key's position. All keys of the fact where None.
        bucket: One bucket, or all.
        until: Rows with `known <= until`.
        since: Rows with `at >= since`, where only those can matter.
    """
    import polars as pl

    name = fact.schema.name
    items = [(i, item) for i, item in enumerate(plan.items) if item.stream.fact.schema.name == name]
    wanted = list(dict.fromkeys([plan.key, "at", "known", "seq", *sorted(plan.reads(name))]))
    lazy = source.scan(fact, wanted, from_us(until), bucket)
    if keys is not None and len(keys) <= FEW_KEYS:
        lazy = lazy.filter(pl.col(plan.key).is_in(keys.implode()))
    if since is not None:
        lazy = lazy.filter(pl.col("at") >= from_us(since))
    out = [pl.col(plan.key).alias("key")]
    out += [pl.col(c).to_physical().cast(pl.Int64) for c in ("at", "known", "seq")]
    for i, item in items:
        out += [value_expression(c).alias(f"c{i}_{j}") for j, c in enumerate(item.columns)]
        out += [measure_expression(m, item.stream).alias(f"m{i}_{j}")
                for j, m in enumerate(item.measures) if not item.stream.is_one(m)]  # fmt: skip
    for i, item in items:
        belongs = member_expression(item.stream)
        if belongs is not None and next(j for j, one in items if one.stream is item.stream) == i:
            out.append(belongs.alias(f"w{i}"))
    frame = lazy.select(out).collect().rechunk()
    if keys is None:
        keys = frame["key"].unique(maintain_order=True)
    return Rows(plan, fact, frame, codes(frame["key"], keys), len(keys))


def codes(values: pl.Series, distinct: pl.Series) -> Ints:
    """The position of each value among distinct ones, shape (len(values),); -1 where it is none of them, or null."""
    import polars as pl

    table = pl.DataFrame({"key": distinct, "code": pl.int_range(len(distinct), eager=True)})
    joined = values.alias("key").to_frame().join(table, on="key", how="left", maintain_order="left")
    found: Ints = joined["code"].fill_null(-1).to_numpy()
    return found


def horizon(plan: Plan, fact: type[Fact], earliest: int) -> int | None:
    """The earliest `at` that can matter to labels from `earliest` on; None where older rows may matter.

    Only where sums are of integers: a float's cumulative sum starts from the first row, online and here.
    """
    items = plan.of_fact(fact.schema.name)
    bounded = all(
        i.kind in ("window", "counts") and i.window_us < ALL_TIME and not any(m.is_float for m in i.measures)
        for i in items
    )  # fmt: skip
    return earliest - max(i.window_us for i in items) if bounded else None


def list_series(values: pl.Series, sizes: npt.NDArray[Any]) -> pl.Series:
    """A list column from its values laid end to end and the size of each row's list."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    offsets = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    inner = values.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    built = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), inner))
    return pl.Series("", built, dtype=pl.List(values.dtype))


def taken(values: pl.Series, rows: Ints) -> pl.Series:
    """The values at some positions; null where the position is -1."""
    import polars as pl

    place = pl.Series("", rows).to_frame("p").select(pl.when(pl.col("p") >= 0).then(pl.col("p").cast(pl.UInt32)))["p"]
    return values.gather(place)
