"""Online states of all keys, built in batch: bucket by bucket, equal to feeding every row known by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.features.frames import Rows, codes, read_rows
from matinee.features.functions import nightly_values
from matinee.features.nodes import kind_of
from matinee.features.online import Online, Program, state_bytes
from matinee.features.parts import packed_column, packed_row, packed_values
from matinee.features.plan import ALL_TIME, DAY_US, Item, Plan
from matinee.features.source import Source, in_buckets
from matinee.times import from_us, instant, to_us

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from matinee.features.definition import Features

    Ints = npt.NDArray[np.int64]


def online_states(features: Features, source: Source, as_of: datetime) -> Iterator[tuple[Any, bytes]]:
    """What `Features.online_states` does."""
    t, plan = to_us(instant(as_of, "as_of")), features.plan
    program, stamp = Program(plan), bytes.fromhex(features.hash)
    nightly = _nightly(plan, source, t, features.key_kind)
    own = all(fact.schema.key == plan.key for fact in plan.facts.values())
    by_bucket = own and in_buckets(source, plan.facts.values())
    for bucket in range(source.buckets) if by_bucket else [None]:
        facts = [read_rows(plan, source, fact, None, bucket, t) for fact in plan.facts.values()]
        keys = _keys(facts, nightly, source, bucket)
        waiting = _waiting(program, source, bucket, t)
        parts: list[Iterator[Any]] = [iter(())] * len(plan.items)
        for rows in facts:
            rows.code, rows.keys, rows.visible_at = codes(rows.frame["key"], keys), len(keys), t
            for item in plan.of_fact(rows.fact.schema.name):
                parts[plan.items.index(item)] = _PACK[item.kind](rows, item, t)
        values = [dict(zip(*frame.get_columns(), strict=True)) for frame in nightly]
        # Key by key: lists of all keys at once would keep the garbage collector busier than all else.
        for key in keys.to_list():
            days = {n: one[key] for n, one in enumerate(values) if key in one}
            yield key, state_bytes(stamp, t, [next(part) for part in parts], waiting.get(key, []), days)


def online_joins(features: Features, source: Source, as_of: datetime) -> bytes:
    """What `Features.online_joins` does."""

    t = to_us(instant(as_of, "as_of"))
    online = Online(features)
    for join in online.joins.values():
        key = join.fact.schema.key
        columns = list(dict.fromkeys([key, "at", "known", "seq", *join.columns]))
        rows = source.scan(join.fact, columns, from_us(t))
        latest = rows.sort("at", "known", "seq").unique(key, keep="last", maintain_order=True).collect()
        for row in latest.iter_rows(named=True):
            join.update(join.fact.schema.name, row)
    return online.dump_joins()


def _nightly(plan: Plan, source: Source, t: int, kind: str | None) -> list[pl.DataFrame]:
    """Columns `key` and `value` for each nightly node, as of the last midnight."""
    import polars as pl

    midnight = from_us(t // DAY_US * DAY_US)
    key_type = {"int": pl.Int64(), "str": pl.String()}.get(kind or "")
    return [nightly_values(node, source, plan.key, key_type, midnight) for node in plan.nightly]


def _keys(facts: list[Rows], nightly: list[pl.DataFrame], source: Source, bucket: int | None) -> pl.Series:
    """Every key of the bucket that has a row or a nightly value."""
    import polars as pl

    found = [rows.frame["key"] for rows in facts]
    for frame in nightly:
        keys = frame["key"].drop_nulls()
        found.append(keys if bucket is None else keys.filter(source.bucket_of(keys.to_numpy()) == bucket))
    return pl.concat(found).unique(maintain_order=True).drop_nulls()


def _waiting(program: Program, source: Source, bucket: int | None, t: int) -> dict[Any, list[Any]]:
    """Rows known by t that happen later, by key, in the order in which they become visible."""
    import polars as pl

    found: dict[Any, list[Any]] = {}
    plan = program.plan
    for name, fact in plan.facts.items():
        if (name, False) not in program.parts:
            continue
        reads = program.reads[name]
        wanted = list(dict.fromkeys([plan.key, "at", "known", "seq", *reads]))
        rows = source.scan(fact, wanted, from_us(t), bucket)
        ahead = rows.filter(pl.col("at") > from_us(t)).sort("at", "seq").collect()
        for row in ahead.iter_rows(named=True):
            at, known = to_us(row["at"]), to_us(row["known"])
            values = packed_row(fact.schema, {column: row[column] for column in reads})
            found.setdefault(row[plan.key], []).append((at, row["seq"], False, name, at, known, values))
    for rows_of_key in found.values():
        rows_of_key.sort(key=lambda one: one[:2])
    return found


def _within(rows: Rows, item: Item) -> tuple[Ints, Ints, Ints, Ints]:
    """Orders by v and by `at` of the rows that count in the item's window, and where each key's start and stop."""
    import numpy as np

    groups = rows.groups(item.stream)
    in_time = groups.v - groups.at <= item.window_us
    before = np.zeros(groups.by_v.size + 1, np.int64)
    np.cumsum(in_time[groups.by_v], out=before[1:])
    offsets = before[groups.offsets]
    return groups.by_v[in_time[groups.by_v]], groups.by_at[in_time[groups.by_at]], offsets[:-1], offsets[1:]


def _left(at: Ints, start: Ints, limit: int) -> Ints:
    """Where, of rows sorted by `at` within each key, the first is that has not left the window."""
    import numpy as np

    before = np.zeros(at.size + 1, np.int64)
    np.cumsum(at < limit, out=before[1:])
    bounds = np.append(start, at.size)
    moved: Ints = start + before[bounds[1:]] - before[start]
    return moved


def _pack_window(rows: Rows, item: Item, t: int) -> Iterator[Any]:
    import numpy as np

    from matinee.features import kernels

    groups = rows.groups(item.stream)
    by_v, by_at, start, stop = _within(rows, item)
    all_time = item.window_us == ALL_TIME
    at = groups.at[by_at]
    left = stop if all_time else _left(at, start, t - item.window_us)
    floor = -(1 << 62) if all_time else t - item.window_us
    stored = [i for i, m in enumerate(item.measures) if not item.stream.is_one(m)]
    known, past, xs = [], [], []
    adding = kernels.fast(kernels.sum_spans, by_v.size)
    for i in stored:
        x = rows.column(item, "m", i).to_numpy()
        k, a = np.zeros(start.size, x.dtype), np.zeros(start.size, x.dtype)
        adding(by_v, x, start, stop, k)
        if not all_time:
            adding(by_at, x, start, left, a)
        known.append(k.tolist())
        past.append(a.tolist())
        x = x[by_at].astype(np.int8 if item.measures[i].counting else x.dtype)
        xs.append((x.itemsize, x.tobytes()))
    size, raw = (stop - start).tolist() if all_time else [0] * start.size, at.tobytes()
    # Slices of bytes: several times cheaper than a slice of an array for each key.
    for i, (lo, hi) in enumerate(zip(left.tolist(), stop.tolist(), strict=True)):
        numbers = [x[width * lo : width * hi] for width, x in xs]
        yield [[k[i] for k in known], [a[i] for a in past], floor, size[i], raw[8 * lo : 8 * hi], numbers]


def _one_label(keys: int, t: int) -> tuple[Ints, Ints, Ints]:
    """One label for each key, at t: offsets, positions, times."""
    import numpy as np

    return np.arange(keys + 1), np.arange(keys), np.full(keys, t)


def _pack_last(rows: Rows, item: Item, t: int) -> Iterator[Any]:
    import numpy as np

    from matinee.features import kernels

    groups, found = rows.groups(item.stream), np.full(rows.keys, -1, np.int64)
    kernel = kernels.fast(kernels.last_rows, groups.v.size)
    kernel(groups.offsets, groups.by_v, groups.v, groups.at, groups.known, groups.seq, *_one_label(rows.keys, t), found)
    aged = _aged(rows, item, found[found >= 0])
    for place in found.tolist():
        yield next(aged) if place >= 0 else None


def _aged(rows: Rows, item: Item, place: Ints) -> Iterator[Any]:
    """`[at, known, seq, [values]]` of some rows."""
    groups = rows.groups(item.stream)
    kinds = [kind_of(column) for column in item.columns]
    values = [rows.column(item, "c", i).gather(place).to_list() for i in range(len(item.columns))]
    ages = (groups.at[place].tolist(), groups.known[place].tolist(), groups.seq[place].tolist())
    for i, (at, known, seq) in enumerate(zip(*ages, strict=True)):
        yield [at, known, seq, packed_values(kinds, [column[i] for column in values])]


def _pack_history(rows: Rows, item: Item, t: int) -> Iterator[Any]:
    import numpy as np

    from matinee.features import kernels

    groups, found = rows.groups(item.stream), np.full((rows.keys, item.size), -1, np.int64)
    kernel = kernels.fast(kernels.history_rows, groups.v.size)
    one = _one_label(rows.keys, t)
    kernel(groups.offsets, groups.by_age, groups.v, groups.at, item.stream.is_state, *one, found)
    place = found[found >= 0]
    ages = [one[place].tobytes() for one in (groups.at, groups.known, groups.seq)]
    columns = [
        packed_column(kind_of(column), rows.column(item, "c", i).gather(place).to_list())
        for i, column in enumerate(item.columns)
    ]
    lo = 0
    # Slices of whole columns: several times cheaper than a list for each row.
    for hi in (found >= 0).sum(axis=1).cumsum().tolist():
        yield [*(raw[8 * lo : 8 * hi] for raw in ages), [column[lo:hi] for column in columns]]
        lo = hi


def _pack_counts(rows: Rows, item: Item, t: int) -> Iterator[Any]:
    import numpy as np

    groups, values = rows.groups(item.stream), rows.column(item, "c", 0)
    _, by_at, start, stop = _within(rows, item)
    one = item.stream.is_one(item.measures[0])
    signs = np.ones(groups.v.size, np.int64) if one else rows.column(item, "m", 0).to_numpy()
    all_time = item.window_us == ALL_TIME
    left = start if all_time else _left(groups.at[by_at], start, t - item.window_us)
    floor = -(1 << 62) if all_time else t - item.window_us
    found, present = values.gather(by_at).to_list(), values.is_not_null().to_numpy()[by_at]
    at, sign = groups.at[by_at], signs[by_at].astype(np.int8)
    for lo, hi in zip(left.tolist(), stop.tolist(), strict=True):
        here = np.flatnonzero(present[lo:hi]) + lo
        if all_time:
            tally: dict[Any, int] = {}
            for i in here.tolist():
                tally[found[i]] = tally.get(found[i], 0) + int(sign[i])
            yield [floor, b"", b"", [], sorted((value, n) for value, n in tally.items() if n)]
        else:
            yield [floor, at[here].tobytes(), sign[here].tobytes(), [found[i] for i in here.tolist()], []]


_PACK: dict[str, Callable[[Rows, Item, int], Iterator[Any]]] = {
    "window": _pack_window,
    "last": _pack_last,
    "history": _pack_history,
    "counts": _pack_counts,
}
