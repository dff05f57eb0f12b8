"""Batch, online replay and published states against the definition, on random facts: ties, late rows, corrections."""

from __future__ import annotations

import math
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from matinee.facts import Fact
from matinee.features import Features, MemorySource, kernels
from matinee.features.online import Online

from .oracle import FEATURES, FLOATS, Row, World, expected, frame, hour, random_world, us

MEMBERS = (1, 2, 3, 99)


def source_of(world: World, buckets: int) -> MemorySource:
    return MemorySource({fact: frame(fact, rows) for fact, rows in world.items()}, buckets=buckets)


def labels_of(times: list[float], rng: random.Random) -> pl.DataFrame:
    rows = [(member, t) for member in MEMBERS for t in times]
    rng.shuffle(rows)
    return pl.DataFrame(
        {"member": [m for m, _ in rows], "hour": [t for _, t in rows], "at": [hour(t) for _, t in rows]}
    )


def as_online(row: Row) -> Row:
    """A batch row in the online form: counts per value are dicts, in any order."""
    found = {}
    for name, value in row.items():
        if FEATURES.types.get(name, "").startswith("counts"):
            assert [p["value"] for p in value] == sorted(p["value"] for p in value)
            found[name] = {p["value"]: p["count"] for p in value}
        elif name in FEATURES.names:
            found[name] = value
    return found


def same(got: Row, want: Row) -> None:
    assert list(got) == list(want)
    for name, value in want.items():
        if name in FLOATS and value is not None:
            assert got[name] is not None and math.isclose(got[name], value, rel_tol=1e-9, abs_tol=1e-9), (
                name,
                got,
                want,
            )
        else:
            assert got[name] == value and type(got[name]) is type(value), (name, got[name], value)


def arrivals(world: World, *, visible: bool) -> list[tuple[type[Fact], Row]]:
    """All rows in the order in which they become visible, or else in which they were learned; hours as microseconds."""

    def when(fact: type[Fact], row: Row) -> tuple[float, int]:
        is_state = fact.schema.entity or fact.schema.scheduled
        return (row["known"] if is_state or not visible else max(row["at"], row["known"]), row["seq"])

    found = [(fact, row) for fact, rows in world.items() for row in rows]
    found.sort(key=lambda one: when(*one))
    return [(fact, {**row, "at": us(row["at"]), "known": us(row["known"])}) for fact, row in found]


def fed(online: Online, left: list[tuple[type[Fact], Row]], t: float) -> list[tuple[type[Fact], Row]]:
    """Feeds the rows that are known by hour t, in their order; returns the others."""
    for fact, row in left:
        if row["known"] <= us(t):
            online.update(fact, row)
    return [one for one in left if one[1]["known"] > us(t)]


def rebuilt(features: Features, online: Online) -> Online:
    """The same states through their bytes."""
    found = features.online()
    for key in online.states:
        found.load(key, online.dump(key))
    found.load_joins(online.dump_joins())
    return found


@pytest.fixture(params=["interpreted", "compiled"])
def kernel_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SMALL", 1 << 60 if request.param == "interpreted" else 0)


def check(size: int, number: int, buckets: int) -> None:
    rng = random.Random(number)
    world = random_world(rng, size)
    times = sorted(rng.randint(0, 160) / 2 for _ in range(4))
    source, labels = source_of(world, buckets), labels_of(times, rng)
    batch = FEATURES.batch(source, labels)
    assert batch.select(labels.columns).equals(labels)
    assert dict(batch.schema) | FEATURES.schema == dict(batch.schema)
    found: dict[tuple[Any, float], Row] = {}
    for row in batch.iter_rows(named=True):
        found[row["member"], row["hour"]] = as_online(row)
        same(as_online(row), expected(world, row["member"], row["hour"]))
    for visible in (True, False):
        replayed(world, times, found, visible=visible)
    published(world, source, times, found)


def replayed(world: World, times: list[float], found: dict[tuple[Any, float], Row], *, visible: bool) -> None:
    """Feeding rows one by one and reading between gives what batch gives; in order of visibility, to the bit."""
    online = FEATURES.online()
    left = arrivals(world, visible=visible)
    for n, t in enumerate(times):
        left = fed(online, left, t)
        for member in MEMBERS:
            got = online.read(member, us(t))
            same(got, found[member, t])
        if n == 1:
            online = rebuilt(FEATURES, online)


def published(world: World, source: MemorySource, times: list[float], found: dict[tuple[Any, float], Row]) -> None:
    """States built in batch are those of a replay, byte for byte, and go on from there."""
    t = times[1]
    replay, online = FEATURES.online(), FEATURES.online()
    for fact, row in arrivals(world, visible=True):
        if row["known"] <= us(t):
            replay.update(fact, row)
    states = dict(FEATURES.online_states(source, hour(t)))
    for key, state in states.items():
        replay.advance(key, us(t))
        assert replay.dump(key) == state
        online.load(key, state)
    assert set(states) == set(replay.states)
    online.load_joins(FEATURES.online_joins(source, hour(t)))
    left = [one for one in arrivals(world, visible=True) if one[1]["known"] > us(t)]
    for later in times[1:]:
        left = fed(online, left, later)
        for member in MEMBERS:
            same(online.read(member, us(later)), found[member, later])


@seed(20260601)
@settings(max_examples=20, deadline=None, database=None)
@given(size=st.integers(0, 30), number=st.integers(0, 1 << 30), buckets=st.sampled_from([1, 3]))
def test_batch_and_online_are_the_definition(size: int, number: int, buckets: int) -> None:
    check(size, number, buckets)


def test_on_both_ways_to_run_the_kernels(kernel_mode: None) -> None:
    for number in range(3):
        check(60, number, 2)


def test_float_sums_agree_to_the_bit_when_rows_come_in_order() -> None:
    rng = random.Random(5)
    for number in range(10):
        world = random_world(random.Random(number), 60)
        times = sorted(rng.randint(0, 100) for _ in range(5))
        labels = labels_of([float(t) for t in times], rng)
        batch = FEATURES.batch(source_of(world, 1), labels)
        want = {(r["member"], r["hour"]): as_online(r) for r in batch.iter_rows(named=True)}
        online, left = FEATURES.online(), arrivals(world, visible=True)
        for t in times:
            left = fed(online, left, t)
            for member in MEMBERS:
                got = online.read(member, us(t))
                for name in FLOATS:
                    assert got[name] == want[member, t][name], name
