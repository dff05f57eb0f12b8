"""What every set of features promises: online equals batch, and nothing is seen before it is known.

Facts are drawn at random from the schemas the features read: few keys, times on a coarse grid so that ties and window
edges occur, rows that are known late, nulls where they are allowed, corrections where a sign is declared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.testing.running import expect, run

if TYPE_CHECKING:
    import polars as pl

    from matinee.facts import Fact, Field
    from matinee.features import Features, Source

Frames = dict["type[Fact]", "pl.DataFrame"]
FeaturesCheck = Callable[["Features", np.random.Generator], None]

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=6)  # a divisor of the usual windows, so that rows fall exactly on their edges
STEPS = 200
KEYS = 4
_WORDS = ("ab", "cd", "ef", "gh")


def random_facts(features: Features, rng: np.random.Generator, rows: int = 60) -> Frames:
    """A frame for each fact the features read, drawn from its schema: declared columns, `at`, `known`, `seq`.

    Integers and words come from a handful of values, so that keys meet and joins find something.

    Args:
        features: Whose facts.
        rng: Where the values are drawn from.
        rows: Rows of each fact.
    """
    import polars as pl

    found: Frames = {}
    for fact in sorted(features.facts, key=lambda f: f.schema.name):
        at = [_instant(rng) for _ in range(rows)]
        known = [a + _delay(rng) for a in at]
        columns: dict[str, list[Any]] = {
            one.name: [_value(one, rng, needed=one.name in (fact.schema.key, features.key)) for _ in range(rows)]
            for one in fact.schema.fields
        }
        kinds = {name: kind for name, kind in fact.schema.polars().items() if name not in ("choice", "outcome")}
        columns |= {"at": at, "known": known, "seq": rng.permutation(rows).tolist()}
        frame = pl.DataFrame(columns, schema=kinds).sort("seq")
        # The store refuses a second row of what is declared unique, and a second state of an entity at one moment.
        once = list(fact.schema.unique) or ([fact.schema.key, "at", "known"] if fact.schema.entity else [])
        found[fact] = frame.unique(once, keep="first", maintain_order=True) if once else frame
    return found


def _instant(rng: np.random.Generator) -> datetime:
    return START + STEP * int(rng.integers(0, STEPS))


def _delay(rng: np.random.Generator) -> timedelta:
    """Most rows are known at once, some hours or days later, a few before they happen."""
    kind = rng.random()
    if kind < 0.6:
        return timedelta(0)
    if kind < 0.95:
        return STEP * int(rng.integers(1, 40))
    return -STEP * int(rng.integers(1, 8))


def _value(one: Field, rng: np.random.Generator, *, needed: bool) -> Any:
    if not one.required and not needed and rng.random() < 0.2:
        return None
    if one.one_of is not None:
        return one.one_of[int(rng.integers(len(one.one_of)))]
    if one.kind.startswith("list["):
        return [_scalar(one, one.kind[5:-1], rng) for _ in range(int(rng.integers(0, 4)))]
    return _scalar(one, one.kind, rng)


def _scalar(one: Field, kind: str, rng: np.random.Generator) -> Any:
    low, high = _bounds(one)
    if kind == "int":
        first = math.ceil(low) if math.isfinite(low) else 0
        return int(
            rng.integers(first, min(first + KEYS, math.floor(high)) + 1 if math.isfinite(high) else first + KEYS)
        )
    if kind == "float":
        lowest = low if math.isfinite(low) else min(-50.0, high - 100.0)
        # Quarters have no rounding error; thirds do.
        drawn = lowest + int(rng.integers(1, 400)) / (4 if rng.random() < 0.5 else 3)
        return min(drawn, high)
    if kind == "str":
        return _WORDS[int(rng.integers(KEYS))]
    if kind == "bool":
        return bool(rng.random() < 0.5)
    if kind == "datetime":
        return _instant(rng)
    if kind == "date":
        return date(2026, 1, 1) + timedelta(days=int(rng.integers(60)))
    return bytes([int(rng.integers(256))])


def _bounds(one: Field) -> tuple[float, float]:
    """The closed range a value may lie in; open ends of floats are moved inwards by a hair."""
    if one.bounds is None:
        return -math.inf, math.inf
    hair = 1 if one.kind == "int" else 1e-6
    lows = [one.bounds.ge, None if one.bounds.gt is None else one.bounds.gt + hair]
    highs = [one.bounds.le, None if one.bounds.lt is None else one.bounds.lt - hair]
    return (
        max((b for b in lows if b is not None), default=-math.inf),
        min((b for b in highs if b is not None), default=math.inf),
    )


def _keys(features: Features) -> list[Any]:
    """Keys that have rows, and one that has none."""
    return [*_WORDS, "nobody"] if features.key_kind == "str" else [*range(KEYS), 99]


def _labels(features: Features, times: Sequence[datetime]) -> pl.DataFrame:
    """Every key at every time."""
    import polars as pl

    keys = _keys(features)
    kind = pl.String() if features.key_kind == "str" else pl.Int64()
    columns = {features.key: keys * len(times), "at": [t for t in times for _ in keys]}
    return pl.DataFrame(columns, schema={features.key: kind, "at": pl.Datetime("us", "UTC")})


def _times(rng: np.random.Generator, n: int) -> list[datetime]:
    """Ascending instants on the grid of the facts, and just beside it."""
    near = [timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(minutes=7)]
    return sorted({_instant(rng) + near[int(rng.integers(4))] for _ in range(n)} | {START + STEP * (STEPS + 60)})


def _source(frames: Frames, buckets: int = 1) -> Source:
    from matinee.features import MemorySource

    return MemorySource(frames, buckets=buckets)


def _plain(value: Any) -> Any:
    """A frame's value as it is read online: counts are a dict there, NaN is missing."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return {one["value"]: one["count"] for one in value}
    return None if isinstance(value, float) and math.isnan(value) else value


def _equal(one: Any, other: Any) -> bool:
    one, other = _plain(one), _plain(other)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-7)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, list | dict) and not one and not other:
        return isinstance(other, list | dict)  # an empty list of counts is an empty dict of them
    return bool(one == other)


def _rows_of(features: Features, frames: Frames) -> list[tuple[str, dict[str, Any]]]:
    """All rows in the order in which they became known."""
    rows = [(fact.schema.name, row) for fact, frame in frames.items() for row in frame.iter_rows(named=True)]
    return sorted(rows, key=lambda one: (one[1]["known"], one[1]["seq"]))


def _differ(features: Features, what: str, key: Any, t: datetime, name: str, online: Any, batch: Any) -> str:
    where = f"{name} of {features.key} {key!r} at {t.isoformat()}"
    return f"{where} is {_plain(online)!r} {what} and {_plain(batch)!r} in batch"


def online_equals_batch_after_a_replay(features: Features, rng: np.random.Generator) -> None:
    """Rows fed one by one as they become known, read at any time, give the values of batch; late rows and ties too.

    Nightly features are read as published once a day; `published_states_equal_batch` covers them.
    """
    frames = random_facts(features, rng)
    times = _times(rng, 25)
    batch = features.batch(_source(frames), _labels(features, times))
    names = [n for n in features.names if n not in features.nightly]
    rows, fed, online = _rows_of(features, frames), 0, features.online()
    expected = batch.iter_rows(named=True)
    for t in times:
        while fed < len(rows) and rows[fed][1]["known"] <= t:
            online.update(*rows[fed])
            fed += 1
        for key in _keys(features):
            want, found = next(expected), online.read(key, t)
            for name in names:
                same = _equal(found[name], want[name])
                expect(same, _differ(features, "online", key, t, name, found[name], want[name]))


def online_state_survives_its_bytes(features: Features, rng: np.random.Generator) -> None:
    """A state that was stored and loaded half-way through a replay goes on as if nothing had happened."""
    rows = _rows_of(features, random_facts(features, rng))
    # Shortly after the break, so that what was before it still lies within the windows.
    half, t = START + STEP * (STEPS // 2), START + STEP * (STEPS // 2 + 5)
    online = features.online()
    for row in rows:
        if row[1]["known"] <= half:
            online.update(*row)
    again = features.online()
    for key in _keys(features):
        again.load(key, online.dump(key))
    again.load_joins(online.dump_joins())
    for row in rows:
        if half < row[1]["known"] <= t:
            online.update(*row)
            again.update(*row)
    for key in _keys(features):
        one, other = online.read(key, t), again.read(key, t)
        for name in features.names:
            expect(
                _equal(one[name], other[name]), f"{name} is {one[name]!r}, and {other[name]!r} after a store and load"
            )


def published_states_equal_batch(features: Features, rng: np.random.Generator) -> None:
    """States built for all keys at once read the same as batch at that time, and as batch later when rows follow."""
    frames = random_facts(features, rng)
    as_of, later = (START + STEP * int(n) for n in (STEPS // 2, STEPS // 2 + 2))
    source = _source(frames, buckets=2)
    online = features.online()
    online.load_joins(features.online_joins(source, as_of))
    for key, data in features.online_states(source, as_of):
        online.load(key, data)
    steady = [n for n in features.names if n not in features.nightly]
    for t, names in ((as_of, features.names), (later, steady)):
        for name, row in _rows_of(features, frames):
            if as_of < row["known"] <= t:
                online.update(name, row)
        for want in features.batch(source, _labels(features, [t])).iter_rows(named=True):
            found = online.read(want[features.key], t)
            for name in names:
                same = _equal(found[name], want[name])
                expect(same, _differ(features, "published", want[features.key], t, name, found[name], want[name]))


def nothing_is_seen_before_it_is_known(features: Features, rng: np.random.Generator) -> None:
    """A feature at t does not change when every row known after t is taken away."""
    import polars as pl

    frames = random_facts(features, rng)
    for t in _times(rng, 6):
        known = {fact: frame.filter(pl.col("known") <= t) for fact, frame in frames.items()}
        all_rows = features.batch(_source(frames), _labels(features, [t]))
        then = features.batch(_source(known), _labels(features, [t]))
        _same_frames(features, all_rows, then, f"rows known only after {t.isoformat()} change")


def _same_frames(features: Features, one: pl.DataFrame, other: pl.DataFrame, what: str) -> None:
    for a, b in zip(one.iter_rows(named=True), other.iter_rows(named=True), strict=True):
        for name in features.names:
            expect(_equal(a[name], b[name]), f"{what} {name} of {a[features.key]!r}: {a[name]!r} against {b[name]!r}")


def order_of_rows_has_no_influence(features: Features, rng: np.random.Generator) -> None:
    """Facts and labels may be read in any order and in any number of buckets."""
    frames = random_facts(features, rng)
    shuffled = {fact: frame[rng.permutation(frame.height)] for fact, frame in frames.items()}
    labels = _labels(features, _times(rng, 6))
    order = rng.permutation(labels.height)
    plain = features.batch(_source(frames), labels)
    mixed = features.batch(_source(shuffled, buckets=3), labels[order])
    _same_frames(features, plain[order], mixed, "the order of rows changes")


def labels_are_kept_and_not_mutated(features: Features, rng: np.random.Generator) -> None:
    """Batch gives the labels' own rows, columns and order, and one column a feature of the type it declares."""
    import polars as pl

    labels = _labels(features, _times(rng, 4)).with_columns(note=pl.lit("kept"))
    before = labels.clone()
    found = features.batch(_source(random_facts(features, rng)), labels)
    expect(labels.equals(before), "batch changed the labels it was given")
    expect(found.columns == [*before.columns, *features.names], f"batch gave columns {found.columns}")
    expect(found.select(before.columns).equals(before), "batch changed rows or order of the labels")
    for name, kind in features.schema.items():
        expect(found.schema[name] == kind, f"{name} is {found.schema[name]} in batch, declared {kind}")


def no_facts_and_unknown_keys_are_no_trouble(features: Features, rng: np.random.Generator) -> None:
    """Without a single row, batch and online give the same missing values and zeros."""
    frames = {fact: frame.head(0) for fact, frame in random_facts(features, rng, 1).items()}
    found = features.batch(_source(frames), _labels(features, [START]))
    online = features.online()
    for want in found.iter_rows(named=True):
        read = online.read(want[features.key], START)
        for name in features.names:
            same = _equal(read[name], want[name])
            expect(same, _differ(features, "online", want[features.key], START, name, read[name], want[name]))


def the_description_is_plain_and_stable(features: Features, rng: np.random.Generator) -> None:
    """The set describes itself in JSON, with the same hash each time, and shows itself in one line."""
    described = features.to_json()
    expect(json.loads(json.dumps(described)) == described, "to_json is not plain JSON")
    expect(features.hash == type(features)(features.key, name=features.name, **features.nodes).hash, "the hash changes")
    expect("\n" not in repr(features), "repr must be one line")


def yield_features_checks() -> Iterator[FeaturesCheck]:
    """Every check of features; each takes the features and a generator."""
    yield online_equals_batch_after_a_replay
    yield online_state_survives_its_bytes
    yield published_states_equal_batch
    yield nothing_is_seen_before_it_is_known
    yield order_of_rows_has_no_influence
    yield labels_are_kept_and_not_mutated
    yield no_facts_and_unknown_keys_are_no_trouble
    yield the_description_is_plain_and_stable


def check_features(features: Features, rng: np.random.Generator | None = None, *, worlds: int = 3) -> None:
    """Run every check on a set of features of your own, each over a few worlds of random facts.

    Args:
        features: What is checked.
        rng: Where the facts are drawn from.
        worlds: How many sets of facts each check draws.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.facts import Fact
        >>> from matinee.features import Features, count, last
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        >>> check_features(Features("member", plays_7d=count(Played, "7d"), last=last(Played.title)))
    """
    source = np.random.default_rng(7) if rng is None else rng
    for _ in range(worlds):
        run(yield_features_checks(), features, source, label=f"Features {features.name!r}")
