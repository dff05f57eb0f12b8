"""The online state: answers by hand, its bytes, and what it refuses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from matinee import features as f
from matinee.exceptions import BadInputError, StorageError
from matinee.facts import Entity, Fact
from matinee.features import Features, MemorySource
from matinee.features.online import Online
from matinee.times import to_us

START = datetime(2026, 6, 1, tzinfo=UTC)


class Played(Fact, key="member"):
    """Plays."""

    member: int
    title: int
    seconds: float
    on: date | None
    ended: datetime | None


class Title(Entity, key="title"):
    """Titles."""

    title: int
    year: int


TASTE = Features(
    "member",
    seconds=f.sum(Played.seconds, "3d"),
    plays=f.count(Played, "3d"),
    all=f.count(Played),
    last=f.last(Played.title),
    on=f.last(Played.on),
    ended=f.last(Played.ended),
    at=f.last(Played.at),
    titles=f.history(Played.title, 2),
    days=f.history(Played.on, 2),
    shown=f.counts(Played.title, "3d"),
    year=f.state(Title.year, of=f.last(Played.title)),
    half=f.count(Played, "3d") / 2,
)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def play(title: int, seconds: float, at: float, known: float | None = None, **more: Any) -> dict[str, Any]:
    row = {
        "member": 42,
        "title": title,
        "seconds": seconds,
        "at": day(at),
        "known": day(at if known is None else known),
    }
    return {**row, "on": day(at).date(), "ended": day(at + 1), **more}


def fed(*rows: dict[str, Any]) -> Online:
    online = TASTE.online()
    for row in rows:
        online.update(Played, row)
    return online


def test_a_member_from_first_play_to_empty_window() -> None:
    online = fed(play(1, 100.0, 1), play(3, 400.0, 4), play(2, 200.0, 2, 5))
    got = online.read(42, day(5))
    assert (got["seconds"], got["plays"], got["all"], got["last"], got["half"]) == (600.0, 2, 3, 3, 1.0)
    assert got["titles"] == [2, 3] and got["shown"] == {2: 1, 3: 1}
    assert got["on"] == date(2026, 6, 5) and got["ended"] == day(5) and got["at"] == day(4)
    later = online.read(42, day(9))
    assert (later["seconds"], later["plays"], later["all"], later["shown"]) == (0.0, 0, 3, {})
    assert list(got) == TASTE.names


def test_a_key_never_seen_has_the_missing_values() -> None:
    want = {"seconds": 0.0, "plays": 0, "all": 0, "titles": [], "days": [], "shown": {}, "half": 0.0}
    assert TASTE.online().read(7, day(1)) == {name: want.get(name) for name in TASTE.names}


def test_a_row_known_before_it_happens_waits() -> None:
    online = fed(play(1, 100.0, 3, 1))
    assert online.read(42, day(2))["last"] is None
    online.load(42, online.dump(42))
    assert online.read(42, day(2.9))["plays"] == 0
    assert online.read(42, day(3))["last"] == 1


def test_a_read_before_the_newest_row_is_refused() -> None:
    online = fed(play(1, 100.0, 3), play(2, 7.0, 5))
    with pytest.raises(BadInputError, match="must be no earlier than the newest row"):
        online.read(42, day(4.9))
    assert online.read(42, day(5))["seconds"] == 107
    before = online.read(42, day(6.5))
    online.advance(42, day(6.5))
    with pytest.raises(BadInputError, match="must be no earlier"):
        online.read(42, day(6.4))
    assert online.read(42, day(6.5)) == before and before["seconds"] == 7
    assert TASTE.online().read(43, day(0))["last"] is None


def test_rows_out_of_order_count_all_the_same() -> None:
    rows = [play(i, 2.0**i, 1 + i / 4, 1 + i / 4, seq=i) for i in range(12)]
    straight, reverse = fed(*rows), fed(*reversed(rows))
    for t in (4, 5, 6.5):
        assert straight.read(42, day(t)) == reverse.read(42, day(t))


def test_a_history_keeps_its_order_and_size_through_late_rows_and_bytes() -> None:
    online = fed(play(1, 1.0, 3, seq=1), play(2, 1.0, 1, 4, seq=2), play(3, 1.0, 2, 4, seq=3), play(4, 1.0, 3, 5, seq=4))
    assert online.read(42, day(5))["titles"] == [1, 4]
    again = TASTE.online()
    again.load(42, online.dump(42))
    for one in (online, again):
        one.update(Played, play(5, 1.0, 2.5, 6, seq=5))  # older than both that are kept
        assert one.read(42, day(6))["titles"] == [1, 4]
        one.update(Played, play(6, 1.0, 3.5, 7, seq=6))
        assert one.read(42, day(7))["titles"] == [4, 6]


def test_a_row_without_seq_comes_after_those_that_have_one() -> None:
    assert fed(play(1, 1.0, 3), play(2, 1.0, 3, seq=5)).read(42, day(3))["last"] == 1
    assert fed(play(1, 1.0, 3), play(2, 1.0, 3)).read(42, day(3))["last"] == 2


def test_times_may_be_microseconds_and_known_may_be_absent() -> None:
    online = TASTE.online()
    online.update("played", {"member": 42, "title": 5, "seconds": 1.0, "at": to_us(day(1))})
    assert online.read(42, to_us(day(1)))["last"] == 5
    with pytest.raises(BadInputError, match="must be a datetime with a time zone, or microseconds"):
        online.update("played", {"member": 42, "title": 5, "seconds": 1.0, "at": "2026-06-01"})
    with pytest.raises(BadInputError, match="at == "):
        online.update("played", {"member": 42, "title": 5, "seconds": 1.0, "at": datetime(2026, 6, 1)})


def test_other_facts_and_rows_without_a_key_are_passed_over() -> None:
    online = TASTE.online()
    online.update("searched", {"member": 42, "at": day(1)})
    online.update(Played, play(1, 1.0, 1, member=None))
    assert online.states == {}


def test_state_survives_its_bytes() -> None:
    online = fed(play(1, 0.1, 1), play(2, 0.7, 2, 4), play(3, 0.2, 6, 5), play(4, 1.0, 5, on=None, ended=None))
    online.update(Title, {"title": 4, "year": 1999, "at": day(0), "known": day(0)})
    again = TASTE.online()
    again.load(42, online.dump(42))
    again.load_joins(online.dump_joins())
    assert again.dump(42) == online.dump(42)
    for t in (5, 6, 7.5):
        assert again.read(42, day(t)) == online.read(42, day(t))
    again.update(Played, play(4, 0.3, 7.5, 8))
    online.update(Played, play(4, 0.3, 7.5, 8))
    assert again.read(42, day(9)) == online.read(42, day(9)) and again.read(42, day(9))["year"] == 1999


def test_bytes_of_another_definition_or_none_at_all_are_refused() -> None:
    other = Features("member", plays=f.count(Played, "4d")).online()
    online = fed(play(1, 0.1, 1))
    with pytest.raises(StorageError, match="publish the states again"):
        other.load(42, online.dump(42))
    with pytest.raises(StorageError, match="must be published again"):
        other.load_joins(online.dump_joins())
    for broken in (b"", b"\x00", b"nonsense", online.dump(42)[:40]):
        with pytest.raises(StorageError, match="must be the bytes of"):
            other.load(42, broken)
    with pytest.raises(StorageError, match="must be the bytes of"):
        other.load_joins(b"nonsense")


def test_a_join_may_be_read_at_any_time() -> None:
    online = fed(play(5, 1.0, 1))
    for year, at, known in ((1999, 0, 0), (2001, 4, 4), (2000, 2, 6), (2002, 3, 8)):
        online.update(Title, {"title": 5, "year": year, "at": day(at), "known": day(known)})
    assert [online.read(42, day(t))["year"] for t in (9, 4, 3.9, 1)] == [2001, 2001, 1999, 1999]


def test_the_day_s_value_of_a_nightly_feature_is_published() -> None:
    def distinct(played: pl.DataFrame) -> pl.DataFrame:
        return played.group_by("member").agg(pl.col("title").n_unique())

    both = Features("member", titles=f.nightly(distinct, facts=[Played], returns=int), n=f.count(Played))
    alone = Features("member", titles=f.nightly(distinct, facts=[Played], returns=int))
    rows = pl.DataFrame([play(1, 1.0, 1), play(2, 1.0, 1.5), play(3, 1.0, 2.5), play(9, 1.0, 2.5, member=7)])
    source = MemorySource({Played: rows}, buckets=3)
    for features, keys in ((both, {42, 7}), (alone, {42})):
        online, states = features.online(), dict(features.online_states(source, day(2.6)))
        assert set(states) == keys
        for key, state in states.items():
            online.load(key, state)
        assert online.read(42, day(2.6))["titles"] == 2
        assert online.read(7, day(2.6))["titles"] is None


def test_states_of_titles_over_facts_keyed_by_member() -> None:
    rows = pl.DataFrame([play(1, 1.0, 1), play(2, 1.0, 1.5, member=7), play(1, 2.0, 2.5, member=8)])
    features = Features("title", n=f.count(Played, "7d"), seconds=f.sum(Played.seconds))
    online = features.online()
    for key, state in features.online_states(MemorySource({Played: rows}, buckets=4), day(3)):
        online.load(key, state)
    assert online.read(1, day(3)) == {"n": 2, "seconds": 3.0}
    assert online.read(2, day(3)) == {"n": 1, "seconds": 1.0}


def test_nothing_known_yet_publishes_nothing() -> None:
    source = MemorySource({Played: pl.DataFrame([play(1, 1.0, 3)]), Title: pl.DataFrame(schema=Title.schema.polars())})
    assert list(TASTE.online_states(source, day(2))) == []
    TASTE.online().load_joins(TASTE.online_joins(source, day(2)))


def test_a_row_learned_just_after_publishing_counts_once() -> None:
    late = play(1, 7.0, 5, 1) | {"known": day(1) + timedelta(microseconds=1)}  # known before it happens
    source = MemorySource({Played: pl.DataFrame([play(1, 5.0, 1), late])})
    online = TASTE.online()
    for key, state in TASTE.online_states(source, day(1)):
        online.load(key, state)
    online.update(Played, late)
    assert online.read(42, day(5))["all"] == 2


MOMENT = timedelta(microseconds=1)


def online_and_batch(features: Features, source: MemorySource, t: datetime) -> list[dict[str, Any]]:
    """What member 42 has at t: published at t and read, and by the batch plan."""
    online = features.online()
    online.load_joins(features.online_joins(source, t))
    for key, state in features.online_states(source, t):
        online.load(key, state)
    labels = pl.DataFrame({"member": [42], "at": [t]}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    row = features.batch(source, labels).row(0, named=True)
    return [dict(online.read(42, t)), {name: row[name] for name in features.names}]


def test_a_midnight_itself_belongs_to_the_day_and_to_what_is_known_then() -> None:
    def plays(played: pl.DataFrame) -> pl.DataFrame:
        return played.group_by("member").agg(pl.len().cast(pl.Int64))

    features = Features("member", n=f.nightly(plays, facts=[Played], returns=int))
    midnight = play(2, 1.0, 2)
    late = play(3, 1.0, 1, 2)
    after = play(4, 1.0, 2) | {"at": day(2) + MOMENT, "known": day(2) + MOMENT}
    source = MemorySource({Played: pl.DataFrame([play(1, 1.0, 1), midnight, late, after])})
    for t, n in ((day(2) - MOMENT, 1), (day(2), 3), (day(2) + MOMENT, 3), (day(3) - MOMENT, 3), (day(3), 4)):
        assert online_and_batch(features, source, t) == [{"n": n}, {"n": n}], t


def test_a_join_says_what_is_known_at_that_very_moment() -> None:
    features = Features("member", year=f.state(Title.year, of=f.last(Played.title)), last=f.last(Played.title))
    titles = [{"title": 5, "year": y, "at": day(a), "known": day(k)} for y, a, k in ((1999, 0, 0), (2001, 1, 2))]
    source = MemorySource({Played: pl.DataFrame([play(5, 1.0, 1)]), Title: pl.DataFrame(titles)})
    for t, year in ((day(2) - MOMENT, 1999), (day(2), 2001)):
        assert online_and_batch(features, source, t) == [{"year": year, "last": 5}] * 2
    online = features.online()
    online.update(Played, play(5, 1.0, 1))
    for row in reversed(titles):  # in whatever order they come
        online.update(Title, row)
    assert [online.read(42, t)["year"] for t in (day(2) - MOMENT, day(2))] == [1999, 2001]


def test_rows_at_the_edges_of_what_is_published_and_of_a_window() -> None:
    features = Features("member", n=f.count(Played, "1d"), mean=f.mean(Played.seconds, "1d"), last=f.last(Played.title))
    now = play(2, 30.0, 2)
    oldest = play(1, 10.0, 1)  # at t - w: still inside
    source = MemorySource({Played: pl.DataFrame([oldest, now])})
    assert online_and_batch(features, source, day(2)) == [{"n": 2, "mean": 20.0, "last": 2}] * 2
    before = day(2) - MOMENT
    assert online_and_batch(features, source, before) == [{"n": 1, "mean": 10.0, "last": 1}] * 2
    ahead = play(2, 30.0, 2, 1)  # known before it happens: waits, and is there at its own moment
    source = MemorySource({Played: pl.DataFrame([oldest, ahead])})
    online = features.online()
    for key, state in features.online_states(source, before):
        online.load(key, state)
    assert [online.read(42, t)["n"] for t in (before, day(2), day(2) + MOMENT)] == [1, 2, 1]
    assert online_and_batch(features, source, day(2)) == [{"n": 2, "mean": 20.0, "last": 2}] * 2


def test_only_what_lies_ahead_is_held_back() -> None:
    """A row at the state's own clock is visible: it is added up, and neither kept nor published one by one."""
    online = fed(play(1, 1.0, 1), play(2, 1.0, 1), play(3, 1.0, 3, 1))
    assert [row[0] for row in online.states[42].waiting] == [to_us(day(3))]


def test_the_mean_of_none_is_none() -> None:
    features = Features("member", mean=f.mean(Played.seconds, "1d"), n=f.count(Played, "1d"))
    source = MemorySource({Played: pl.DataFrame([play(1, 10.0, 1)])})
    assert online_and_batch(features, source, day(5)) == [{"mean": None, "n": 0}] * 2
    assert features.online().read(7, day(1)) == {"mean": None, "n": 0}
