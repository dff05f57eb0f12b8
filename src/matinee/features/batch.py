"""Point in time, in batch: every leaf as of each label's time, bucket by bucket, then what is computed from leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matinee.exceptions import BadInputError, UnknownColumnError
from matinee.features.frames import (
    Groups,
    Rows,
    codes,
    frame_type,
    horizon,
    list_series,
    read_rows,
    taken,
)
from matinee.features.nodes import Apply, Arithmetic, Constant, Nightly, Node, State
from matinee.features.plan import DAY_US, Item, Plan
from matinee.features.source import Source, in_buckets
from matinee.times import from_us

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from matinee.features.definition import Features

    Ints = npt.NDArray[np.int64]

MAX_THREADS = 4  # a bucket in work takes about 300 bytes a row


@dataclass(frozen=True, eq=False)
class Shard:
    """The labels of one bucket and the fact to read for them."""

    plan: Plan
    fact: str
    source: Source
    keys: pl.Series
    t: Ints
    bucket: int | None


Mapper = Callable[[Callable[[Shard], "dict[int, pl.Series]"], Sequence[Shard]], "Iterable[dict[int, pl.Series]]"]


def batch(
    features: Features, source: Source, labels: pl.DataFrame, *, key: str, at: str, engine: Mapper | str | None = None
) -> pl.DataFrame:
    """What `Features.batch` does."""
    keys, t = _labels(features, labels, key, at)
    values = Values(features.plan, source, keys, t, _mapper(engine))
    return labels.with_columns(values.of(node).alias(name) for name, node in features.nodes.items())


def _labels(features: Features, labels: pl.DataFrame, key: str, at: str) -> tuple[pl.Series, Ints]:
    import polars as pl

    for column in (key, at):
        if column not in labels.columns:
            raise UnknownColumnError("labels", column, labels.columns)
    for name in features.names:
        if name in labels.columns:
            raise BadInputError(f"labels have a column {name!r}, must leave that name to {features.name!r}'s feature")
    when = labels[at]
    if not isinstance(when.dtype, pl.Datetime) or when.dtype.time_zone is None:
        raise BadInputError(f"labels[{at!r}] is {when.dtype}, must be Datetime with a time zone (UTC)")
    if when.null_count():
        raise BadInputError(f"labels[{at!r}] is null in {when.null_count()} rows, must be a time")
    t = when.dt.convert_time_zone("UTC").dt.cast_time_unit("us").to_physical().to_numpy()
    return as_key(labels[key], features.key_kind, f"labels[{key!r}]"), t


def as_key(values: pl.Series, kind: str | None, name: str) -> pl.Series:
    """The keys as Int64 or String, as the facts have them.

    Raises:
        BadInputError: If they are of another kind.
    """
    import polars as pl

    if values.dtype == pl.Null and kind is not None:
        return values.cast(frame_type(kind))
    is_int = values.dtype.is_integer()
    is_text = values.dtype in (pl.String, pl.Categorical, pl.Enum)
    if not ((is_int and kind != "str") or (is_text and kind != "int")):
        raise BadInputError(f"{name} is {values.dtype}, must be {kind or 'int or str'}, as the key of the facts is")
    return values.cast(pl.Int64 if is_int else pl.String)


def _mapper(engine: Mapper | str | None) -> Mapper:
    if not isinstance(engine, str):
        return _threads if engine is None else engine

    def run(fn: Callable[[Shard], dict[int, pl.Series]], shards: Sequence[Shard]) -> Iterable[dict[int, pl.Series]]:
        from matinee import engine as engines

        return engines.map(fn, shards, engine=engine)

    return run


def _threads(fn: Callable[[Shard], dict[int, pl.Series]], shards: Sequence[Shard]) -> Iterable[dict[int, pl.Series]]:
    workers = min(MAX_THREADS, os.cpu_count() or 1, len(shards))
    if workers <= 1:
        return [fn(one) for one in shards]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fn, shards))


def leaf_values(plan: Plan, source: Source, keys: pl.Series, t: Ints, engine: Mapper) -> list[pl.Series]:
    """One series for each slot of the plan, in the order of the labels."""
    import numpy as np
    import polars as pl

    found: list[pl.Series] = [pl.Series([])] * len(plan.types)
    if not len(keys):
        return [pl.Series([], dtype=frame_type(kind)) for kind in plan.types]
    shards: list[Shard] = []
    parts: list[Ints] | None = None
    for name, fact in plan.facts.items():
        # Labels of a few keys read their buckets alone; those of many read the whole fact, in one go where it is small.
        if fact.schema.key == plan.key and source.buckets > 1:
            parts = _parts(source, keys) if parts is None else parts
        if parts is not None and fact.schema.key == plan.key and (_few(parts) or in_buckets(source, [fact])):
            shards += [Shard(plan, name, source, keys.gather(p), t[p], b) for b, p in enumerate(parts) if p.size]
        else:
            shards.append(Shard(plan, name, source, keys, t, None))
    done = list(engine(shard_values, shards))
    back = None if parts is None else np.argsort(np.concatenate(parts))
    for slot in range(len(plan.types)):
        pieces = [one[slot] for one in done if slot in one]
        whole = pieces[0] if len(pieces) == 1 else pl.concat(pieces)
        bucketed = next(s.bucket is not None for s, one in zip(shards, done, strict=True) if slot in one)
        found[slot] = whole.gather(back) if bucketed and back is not None else whole
    return found


def _few(parts: list[Ints]) -> bool:
    """Whether the labels are in a quarter of the buckets at most."""
    return 4 * sum(p.size > 0 for p in parts) <= len(parts)


def _parts(source: Source, keys: pl.Series) -> list[Ints]:
    """Positions of the labels of each bucket; labels without a key are in the first."""
    import numpy as np

    present = keys.is_not_null().to_numpy()
    bucket = np.zeros(len(keys), np.int64)
    bucket[present] = source.bucket_of(keys.drop_nulls().to_numpy())
    order = np.argsort(bucket, kind="stable")
    bounds = np.searchsorted(bucket[order], np.arange(source.buckets + 1))
    return [order[a:b] for a, b in pairwise(bounds.tolist())]


def shard_values(shard: Shard) -> dict[int, pl.Series]:
    """The leaves over one fact for one bucket's labels, by slot. A plain function, so that an engine may ship it."""
    from matinee.features import kernels

    plan, t = shard.plan, shard.t
    fact = plan.facts[shard.fact]
    distinct = shard.keys.unique().drop_nulls()
    since = horizon(plan, fact, int(t.min()))
    rows = read_rows(plan, shard.source, fact, distinct, shard.bucket, int(t.max()), since)
    label_code = codes(shard.keys, distinct)
    label_groups = kernels.fast(kernels.group_rows, t.size)(label_code, len(distinct))
    kernels.fast(kernels.sort_groups, t.size)(label_groups[0], t, t, t, label_groups[1])
    found: dict[int, pl.Series] = {}
    for item in plan.of_fact(shard.fact):
        found |= _COMPUTE[item.kind](rows, item, label_groups, t)
    return found


def _window(rows: Rows, item: Item, labels: tuple[Ints, Ints], t: Ints) -> dict[int, pl.Series]:
    import numpy as np
    import polars as pl

    from matinee.features import kernels

    groups = rows.groups(item.stream)
    kernel = kernels.fast(kernels.window_sums, groups.v.size + t.size)
    held = np.zeros(t.size, np.int64)
    added = {i: rows.column(item, "m", i).to_numpy() for i, m in enumerate(item.measures) if not item.stream.is_one(m)}
    results: dict[int, npt.NDArray[Any]] = {}
    for i, x in (added or {-1: np.zeros(groups.v.size, np.int64)}).items():
        results[i] = np.zeros(t.size, x.dtype)
        kernel(groups.offsets, groups.by_v, groups.by_at, groups.v, groups.at, x, item.window_us, *labels, t,
               results[i], held)  # fmt: skip
    totals = [results.get(i, held) for i in range(len(item.measures))]
    found: dict[int, pl.Series] = {}
    for slot, kind, adds, counting in item.slots:
        if kind == "mean":
            some = totals[counting] != 0
            mean = np.divide(totals[adds], totals[counting], out=np.full(t.size, np.nan), where=some)
            found[slot] = pl.Series(mean, nan_to_null=True)
        elif kind == "rate":
            found[slot] = pl.Series(totals[counting] / item.days)
        else:
            found[slot] = pl.Series(totals[counting if kind == "count" else adds])
    return found


def _last(rows: Rows, item: Item, labels: tuple[Ints, Ints], t: Ints) -> dict[int, pl.Series]:
    import numpy as np
    import polars as pl

    from matinee.features import kernels

    groups, place = rows.groups(item.stream), np.full(t.size, -1, np.int64)
    kernel = kernels.fast(kernels.last_rows, groups.v.size + t.size)
    kernel(groups.offsets, groups.by_v, groups.v, groups.at, groups.known, groups.seq, *labels, t, place)
    found: dict[int, pl.Series] = {}
    for slot, kind, column, _ in item.slots:
        if kind == "last":
            found[slot] = taken(rows.column(item, "c", column), place)
        else:
            age = np.full(t.size, np.nan)
            seen = place >= 0
            age[seen] = (t[seen] - groups.at[place[seen]]) / 1e6
            found[slot] = pl.Series(age, nan_to_null=True)
    return found


def _history(rows: Rows, item: Item, labels: tuple[Ints, Ints], t: Ints) -> dict[int, pl.Series]:
    import numpy as np

    from matinee.features import kernels

    groups, place = rows.groups(item.stream), np.full((t.size, item.size), -1, np.int64)
    kernel = kernels.fast(kernels.history_rows, groups.v.size + t.size)
    kernel(groups.offsets, groups.by_age, groups.v, groups.at, item.stream.is_state, *labels, t, place)
    found: dict[int, pl.Series] = {}
    for slot, _, column, size in item.slots:
        some = place[:, item.size - size :]
        values = rows.column(item, "c", column).gather(some[some >= 0])
        found[slot] = list_series(values, (some >= 0).sum(axis=1))
    return found


def _counts(rows: Rows, item: Item, labels: tuple[Ints, Ints], t: Ints) -> dict[int, pl.Series]:
    import numpy as np

    from matinee.features import kernels

    groups: Groups = rows.groups(item.stream)
    size, n = groups.v.size + t.size, t.size
    start, stop = np.zeros(n, np.int64), np.zeros(n, np.int64)
    kernels.fast(kernels.window_spans, size)(
        groups.offsets, groups.by_at, groups.at, item.window_us, *labels, t, start, stop
    )
    values = rows.column(item, "c", 0)
    distinct = values.drop_nulls().unique().sort()
    one = item.stream.is_one(item.measures[0])
    signs = np.ones(groups.v.size, np.int64) if one else rows.column(item, "m", 0).to_numpy()
    place = np.zeros(n + 1, np.int64)
    np.cumsum(stop - start, out=place[1:])
    found, times, sizes = np.zeros(place[-1], np.int64), np.zeros(place[-1], np.int64), np.zeros(n, np.int64)
    tally = kernels.fast(kernels.window_values, size)
    tally(groups.by_at, groups.v, codes(values, distinct), signs, len(distinct), start, stop, t, place,
          found, times, sizes)  # fmt: skip
    inside = np.repeat(place[:-1] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    pairs = distinct.gather(found[inside]).alias("value").to_frame()
    pairs = pairs.insert_column(1, _int_series("count", times[inside]))
    return {slot: list_series(pairs.to_struct(), sizes) for slot, *_ in item.slots}


def _int_series(name: str, values: Ints) -> pl.Series:
    import polars as pl

    return pl.Series(name, values, dtype=pl.Int64)


_COMPUTE: dict[str, Callable[[Rows, Item, tuple[Any, Any], Any], dict[int, Any]]] = {
    "window": _window,
    "last": _last,
    "history": _history,
    "counts": _counts,
}


class Values:
    """The values of nodes for given labels; what several nodes share is computed once."""

    def __init__(self, plan: Plan, source: Source, keys: pl.Series, t: Ints, engine: Mapper) -> None:
        self.plan, self.source, self.keys, self.t, self.engine = plan, source, keys, t, engine
        self._leaves = leaf_values(plan, source, keys, t, engine)
        self._done: dict[str, pl.Series] = {}

    def of(self, node: Node) -> pl.Series:
        """One value for each label, in the frame type of the node."""
        if node.ident not in self._done:
            if node.ident in self.plan.slots:
                value = self._leaves[self.plan.slots[node.ident]]
            elif isinstance(node, Constant):
                value = self._constant(node)
            elif isinstance(node, Arithmetic):
                value = self._arithmetic(node)
            elif isinstance(node, Apply):
                value = self._apply(node)
            elif isinstance(node, State):
                self._join(node)
                return self._done[node.ident]
            elif isinstance(node, Nightly):
                value = self._nightly(node)
            else:
                raise BadInputError(f"{node!r}, must be a feature")
            self._done[node.ident] = value
        return self._done[node.ident]

    def _constant(self, node: Constant) -> pl.Series:
        import polars as pl

        return pl.repeat(node.value, self.t.size, dtype=frame_type(node.type), eager=True)

    def _arithmetic(self, node: Arithmetic) -> pl.Series:
        import polars as pl

        kind = frame_type(node.type)
        left, right = pl.col("left").cast(kind), pl.col("right").cast(kind)
        value = {
            "+": left + right,
            "-": left - right,
            "*": left * right,
            "/": pl.when(right != 0).then(left / right).otherwise(None),
        }[node.op]
        pair = pl.DataFrame([self.of(node.left).alias("left"), self.of(node.right).alias("right")])
        return pair.select(value.alias("value"))["value"]

    def _apply(self, node: Apply) -> pl.Series:
        from matinee.features.functions import applied

        return applied(node, [(one.type, self.of(one)) for one in node.of], self.t.size)

    def _join(self, node: State) -> None:
        """All joins that look up the same entity by the same feature, in one pass."""
        assert node.of is not None
        entity, of = node.column.fact, node.of
        same = [j for j in self.plan.joins if j.column.fact is entity and j.of is not None and j.of.ident == of.ident]
        own = [State(j.column) for j in same]
        plan = Plan(entity.schema.key, own)
        values = leaf_values(plan, self.source, self.of(of), self.t, self.engine)
        for join, one in zip(same, own, strict=True):
            self._done[join.ident] = values[plan.slots[one.ident]]

    def _nightly(self, node: Nightly) -> pl.Series:
        import numpy as np
        import polars as pl

        from matinee.features.functions import nightly_values

        midnight = self.t // DAY_US * DAY_US
        parts = []
        for day in np.unique(midnight):
            place = np.flatnonzero(midnight == day)
            values = nightly_values(node, self.source, self.plan.key, self.keys.dtype, from_us(day))
            asked = pl.DataFrame([self.keys.gather(place).alias("key"), pl.Series("place", place)])
            parts.append(asked.join(values, on="key", how="left"))
        empty = pl.DataFrame(schema={"place": pl.Int64, "value": frame_type(node.type)})
        whole = pl.concat([p.select("place", "value") for p in parts]) if parts else empty
        return whole.sort("place")["value"]
