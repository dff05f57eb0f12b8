"""Features of labels: answers worked out by hand, what functions are given, what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from matinee import features as f
from matinee.exceptions import BadInputError, UnknownColumnError, UnknownNameError
from matinee.facts import Entity, Fact
from matinee.features import Features, MemorySource, ParquetSource
from matinee.tables import bucket_of


class Played(Fact, key="member"):
    """Plays."""

    member: int
    title: int
    seconds: float
    on: date | None


class Title(Entity, key="title"):
    """Titles."""

    title: int
    year: int


class Seen(Fact, key="person"):
    """A fact with a key of text."""

    person: str
    page: str


def day(number: float) -> datetime:
    return datetime.fromtimestamp(1_780_272_000 + number * 86_400, UTC)  # 2026-06-01 is day 0


def plays(*rows: tuple[int, int, float, float, float]) -> pl.DataFrame:
    """Rows of member, title, seconds, day it happened, day it was known."""
    names = ["member", "title", "seconds", "at", "known"]
    frame = pl.DataFrame([(m, t, s, day(a), day(n)) for m, t, s, a, n in rows], schema=names, orient="row")
    return frame.with_columns(on=pl.col("at").dt.date())


def asked(*rows: tuple[Any, float]) -> pl.DataFrame:
    return pl.DataFrame({"member": [k for k, _ in rows], "at": [day(d) for _, d in rows]})


def test_one_member_three_plays_one_late() -> None:
    source = MemorySource({Played: plays((42, 1, 100.0, 1, 1), (42, 2, 200.0, 2, 5), (42, 3, 400.0, 4, 4))})
    taste = Features(
        "member",
        seconds=f.sum(Played.seconds, "3d"),
        plays=f.count(Played, "3d"),
        mean=f.mean(Played.seconds, "3d"),
        rate=f.rate(Played, "3d"),
        last=f.last(Played.title),
        age=f.recency(Played),
        titles=f.history(Played.title, 2),
        shown=f.counts(Played.title, "3d"),
    )
    got = taste.batch(source, asked((42, 0.5), (42, 1), (42, 4), (42, 5), (42, 5.5), (42, 9), (7, 5)))
    assert got["seconds"].to_list() == [0, 100, 500, 600, 400, 0, 0]
    assert got["plays"].to_list() == [0, 1, 2, 2, 1, 0, 0]
    assert got["mean"].to_list() == [None, 100, 250, 300, 400, None, None]
    assert got["rate"].to_list() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1 / 3, 0, 0])
    assert got["last"].to_list() == [None, 1, 3, 3, 3, 3, None]
    assert got["age"].to_list() == [None, 0, 0, 86_400, 129_600, 432_000, None]
    assert got["titles"].to_list() == [[], [1], [1, 3], [2, 3], [2, 3], [2, 3], []]
    assert got["shown"].to_list()[2] == [{"value": 1, "count": 1}, {"value": 3, "count": 1}]  # 2 is not known yet
    assert got["shown"].to_list()[3] == [{"value": 2, "count": 1}, {"value": 3, "count": 1}]
    assert got["shown"].to_list()[5:] == [[], []]


def test_a_row_later_than_the_window_never_counts() -> None:
    source = MemorySource({Played: plays((1, 1, 5.0, 1, 9), (1, 2, 7.0, 8, 8))})
    got = Features("member", s=f.sum(Played.seconds, "2d")).batch(source, asked((1, 8), (1, 9), (1, 10), (1, 10.5)))
    assert got["s"].to_list() == [7, 7, 7, 0]


def test_rows_too_old_for_every_window_are_not_needed() -> None:
    source = MemorySource({Played: plays(*((1, i, 1.0, i, i) for i in range(20)))})
    taste = Features("member", two=f.count(Played, "2d"), nine=f.count(Played, "9d"), c=f.counts(Played.title, "3d"))
    got = taste.batch(source, asked((1, 15), (1, 19)))
    assert got["two"].to_list() == [3, 3] and got["nine"].to_list() == [10, 10]
    assert [p["value"] for p in got["c"].to_list()[0]] == [12, 13, 14, 15]


def test_an_empty_window_of_floats_is_exactly_zero() -> None:
    rows = [(1, 1, 0.1 * (i + 1), 1 + i / 10, 1 + i / 10) for i in range(10)]
    got = Features("member", s=f.sum(Played.seconds, "1d")).batch(MemorySource({Played: plays(*rows)}), asked((1, 30)))
    assert got["s"].to_list() == [0.0]


def test_an_empty_window_of_floats_learned_out_of_order_is_exactly_zero() -> None:
    rows = [(1, 1, 0.1, 1, 1.3), (1, 1, 0.2, 1.1, 1.2), (1, 1, 0.3, 1.15, 1.15)]  # 0.3 + 0.2 + 0.1 != 0.1 + 0.2 + 0.3
    got = Features("member", s=f.sum(Played.seconds, "1d")).batch(MemorySource({Played: plays(*rows)}), asked((1, 30)))
    assert got["s"].to_list() == [0.0]


def test_of_rows_alike_in_both_times_the_last_appended_is_the_latest() -> None:
    source = MemorySource({Played: plays((1, 5, 1.0, 1, 1), (1, 9, 1.0, 1, 1), (1, 7, 1.0, 1, 1))})
    taste = Features("member", last=f.last(Played.title), titles=f.history(Played.title, 2))
    assert taste.batch(source, asked((1, 2))).row(0)[2:] == (7, [9, 7])


def test_what_is_not_finite_does_not_spoil_what_comes_after() -> None:
    source = MemorySource({Played: plays((1, 1, float("nan"), 1, 1), (1, 1, float("inf"), 2, 2), (1, 1, 3.0, 3, 3))})
    taste = Features("member", s=f.sum(Played.seconds, "9d"), m=f.mean(Played.seconds), n=f.count(Played))
    assert taste.batch(source, asked((1, 4))).row(0)[2:] == (3.0, 3.0, 3)


def test_counting_a_column_of_text_counts_its_values() -> None:
    seen = pl.DataFrame({"person": ["ann"] * 3, "page": ["a", None, "b"], "at": [day(1)] * 3})
    got = Features("person", n=f.count(Seen.page)).batch(
        MemorySource({Seen: seen}), pl.DataFrame({"person": ["ann"], "at": [day(2)]})
    )
    assert got["n"].to_list() == [2]


def test_labels_keep_their_order_and_columns() -> None:
    source = MemorySource({Played: plays((1, 5, 1.0, 1, 1), (2, 6, 1.0, 1, 1), (3, 7, 1.0, 1, 1))}, buckets=8)
    labels = pl.DataFrame({"who": [3, None, 1, 99, 2, 1], "when": [day(2)] * 6, "y": [0, 1, 2, 3, 4, 5]})
    before = labels.clone()
    got = Features("member", last=f.last(Played.title), n=f.count(Played)).batch(source, labels, key="who", at="when")
    assert got.columns == ["who", "when", "y", "last", "n"]
    assert got["last"].to_list() == [7, None, 5, None, 6, 5]
    assert got["n"].to_list() == [1, 0, 1, 0, 1, 1]
    assert_frame_equal(labels, before)


def test_any_number_of_buckets_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    rows = [(int(m), int(t), float(s), float(a), float(a)) for m, t, s, a in rng.integers(0, 30, (400, 4))]
    labels = asked(*((int(m), float(d)) for m, d in rng.integers(0, 35, (200, 2))))
    taste = Features(
        "member", s=f.sum(Played.seconds, "7d"), t=f.history(Played.title, 5), c=f.counts(Played.title, "9d")
    )
    one = taste.batch(MemorySource({Played: plays(*rows)}), labels)
    for buckets in (2, 7, 64):
        assert_frame_equal(taste.batch(MemorySource({Played: plays(*rows)}, buckets=buckets), labels), one)


def test_the_features_of_a_title_over_facts_keyed_by_member() -> None:
    source = MemorySource({Played: plays((1, 5, 1.0, 1, 1), (2, 5, 1.0, 2, 2), (3, 7, 1.0, 3, 3))}, buckets=4)
    labels = pl.DataFrame({"title": [5, 7, 5], "at": [day(3), day(3), day(8.5)]})
    got = Features("title", plays_7d=f.count(Played, "7d"), member=f.last(Played.member)).batch(source, labels)
    assert got["plays_7d"].to_list() == [2, 1, 1]
    assert got["member"].to_list() == [2, 3, 2]


def test_keys_of_text_and_counts_per_value() -> None:
    rows = [("ann", "home", 1), ("bob", "title", 1), ("ann", "title", 2), ("ann", "home", 3)]
    seen = pl.DataFrame(
        {"person": [p for p, _, _ in rows], "page": [g for _, g, _ in rows], "at": [day(d) for *_, d in rows]}
    )
    shown = Features("person", pages=f.counts(Seen.page, "1d"), all=f.counts(Seen.page))
    for kind in (pl.String(), pl.Categorical(), pl.Enum(["ann", "bob", "zoe"])):
        labels = pl.DataFrame({"person": ["ann", "zoe"], "at": [day(3)] * 2}).with_columns(pl.col("person").cast(kind))
        got = shown.batch(MemorySource({Seen: seen}, buckets=3), labels)
        assert got["pages"].to_list() == [[{"value": "home", "count": 1}, {"value": "title", "count": 1}], []]
        assert got["all"].to_list()[0] == [{"value": "home", "count": 2}, {"value": "title", "count": 1}]
        assert got.schema["pages"] == pl.List(pl.Struct({"value": pl.String(), "count": pl.Int64()}))


def test_the_state_of_what_another_feature_names() -> None:
    titles = pl.DataFrame(
        {"title": [5, 5, 7], "year": [1999, 2000, 1950], "at": [day(0)] * 3, "known": [day(0), day(6), day(0)]}
    )
    source = MemorySource(
        {Played: plays((1, 5, 1.0, 1, 1), (2, 7, 1.0, 2, 2), (3, 8, 1.0, 2, 2)), Title: titles}, buckets=2
    )
    taste = Features("member", year=f.state(Title.year, of=f.last(Played.title)))
    got = taste.batch(source, asked((1, 5), (1, 6), (2, 3), (3, 3), (4, 3)))
    assert got["year"].to_list() == [1999, 2000, 1950, None, None]


def test_an_entity_row_about_the_future_is_its_state_once_known() -> None:
    titles = pl.DataFrame({"title": [5, 5], "year": [1999, 2030], "at": [day(0), day(90)], "known": [day(0), day(3)]})
    labels = pl.DataFrame({"title": [5, 5], "at": [day(2), day(4)]})
    got = Features("title", year=f.state(Title.year), age=f.recency(Title)).batch(MemorySource({Title: titles}), labels)
    assert got["year"].to_list() == [1999, 2030]
    assert got["age"].to_list() == [2 * 86_400, -86 * 86_400]


def test_a_division_by_zero_is_missing() -> None:
    old = f.count(Played) / f.count(Played, "1d")
    got = Features("member", x=old).batch(MemorySource({Played: plays((1, 5, 1.5, 1, 1))}), asked((1, 2), (1, 3)))
    assert got["x"].to_list() == [1.0, None]


def test_functions_get_arrays() -> None:
    given: list[np.ndarray[Any, Any]] = []

    def keep(*arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        given.extend(arrays)
        return arrays[0] * 2

    source = MemorySource({Played: plays((1, 5, 1.5, 1, 1))})
    parts = (
        f.count(Played),
        f.last(Played.seconds),
        f.last(Played.on),
        f.history(Played.title, 2),
        f.counts(Played.title),
    )
    got = Features("member", x=f.apply(keep, *parts)).batch(source, asked((1, 2), (9, 2)))
    assert got["x"].to_list() == [2.0, 0.0]
    assert given[0].tolist() == [1.0, 0.0] and given[0].dtype == np.float64
    assert np.isnan(given[1][1])
    assert given[2].tolist() == [date(2026, 6, 2), None]
    assert given[3].tolist() == [[5], []]
    assert given[4].tolist() == [{5: 1}, {}]


@pytest.mark.parametrize(
    ("returns", "made", "want"),
    [
        (float, [1.5, float("nan")], [1.5, None]),
        (int, [3, 4], [3, 4]),
        (int, [3.0, float("nan")], [3, None]),
        (str, ["a", None], ["a", None]),
        (bool, [True, False], [True, False]),
    ],
)
def test_what_functions_return(returns: type, made: list[Any], want: list[Any]) -> None:
    source = MemorySource({Played: plays((1, 5, 1.5, 1, 1))})
    fn: Callable[[Any], Any] = lambda a: np.array(made)  # noqa: E731
    got = Features("member", x=f.apply(fn, f.count(Played), returns=returns)).batch(source, asked((1, 2), (9, 2)))
    assert got["x"].to_list() == want
    assert got.schema["x"] == Features("member", x=f.apply(fn, f.count(Played), returns=returns)).schema["x"]


def test_a_function_of_the_wrong_shape_or_type_is_refused() -> None:
    source, labels = MemorySource({Played: plays((1, 5, 1.5, 1, 1))}), asked((1, 2), (9, 2))

    def total(a: Any) -> Any:
        return a.sum()

    def text(a: Any) -> Any:
        return np.array(["x", "y"])

    with pytest.raises(BadInputError, match=r"total returned shape \(\), must return one value a row: \(2,\)"):
        Features("member", x=f.apply(total, f.count(Played))).batch(source, labels)
    with pytest.raises(BadInputError, match="text returned <U1 values, must return float"):
        Features("member", x=f.apply(text, f.count(Played))).batch(source, labels)


def distinct_titles(played: pl.DataFrame) -> pl.DataFrame:
    """A nightly function: what has no running form."""
    return played.group_by("member").agg(pl.col("title").n_unique())


def test_nightly_reads_what_was_known_at_the_last_midnight() -> None:
    rows = plays(
        (1, 5, 1.0, 1, 1), (1, 6, 1.0, 1.5, 1.5), (1, 7, 1.0, 1.6, 3), (2, 7, 1.0, 1.7, 1.8), (1, 8, 1.0, 9, 2)
    )
    taste = Features("member", titles=f.nightly(distinct_titles, facts=[Played], returns=int))
    got = taste.batch(
        MemorySource({Played: rows}, buckets=2), asked((1, 1.9), (1, 2), (1, 2.9), (1, 3.1), (2, 2), (9, 2))
    )
    assert got["titles"].to_list() == [1, 2, 2, 3, 1, None]
    assert got.schema["titles"] == pl.Int64()


def test_a_nightly_function_returns_a_frame_of_keys_and_values() -> None:
    source = MemorySource({Played: plays((1, 5, 1.0, 1, 1), (1, 6, 1.0, 1, 1))})
    twice = Features("member", x=f.nightly(lambda p: p.select("member", "title"), facts=[Played]))
    none = Features("member", x=f.nightly(lambda p: 3, facts=[Played]))
    with pytest.raises(BadInputError, match="returned some 'member' twice"):
        twice.batch(source, asked((1, 2)))
    with pytest.raises(BadInputError, match="returned int, must return a frame of 'member' and one value"):
        none.batch(source, asked((1, 2)))


def test_no_labels_and_no_facts() -> None:
    taste = Features(
        "member", n=f.count(Played), t=f.history(Played.title, 2), c=f.counts(Played.title), x=f.count(Played) / 2
    )
    got = taste.batch(MemorySource({Played: plays((1, 5, 1.0, 1, 1))}), asked((1, 1)).head(0))
    assert got.height == 0 and dict(got.schema) == {
        "member": pl.Int64(),
        "at": pl.Datetime("us", "UTC"),
        **taste.schema,
    }
    got = taste.batch(MemorySource({Played: plays((1, 5, 1.0, 1, 1)).head(0)}, buckets=2), asked((1, 1), (2, 2)))
    assert got.rows()[0][2:] == (0, [], [], 0.0)


def test_what_labels_must_be() -> None:
    source, taste = MemorySource({Played: plays((1, 5, 1.0, 1, 1))}), Features("member", n=f.count(Played))
    labels = asked((1, 2))
    with pytest.raises(UnknownColumnError, match="did you mean 'member'"):
        taste.batch(source, labels, key="membre")
    with pytest.raises(BadInputError, match="labels have a column 'n'"):
        taste.batch(source, labels.with_columns(n=1))
    with pytest.raises(BadInputError, match="must be Datetime with a time zone"):
        taste.batch(source, labels.with_columns(pl.col("at").dt.replace_time_zone(None)))
    with pytest.raises(BadInputError, match=r"labels\['at'\] is null in 1 rows"):
        taste.batch(source, labels.with_columns(at=pl.lit(None, pl.Datetime("us", "UTC"))))
    with pytest.raises(BadInputError, match=r"labels\['member'\] is String, must be int"):
        taste.batch(source, labels.with_columns(pl.col("member").cast(pl.String)))


def test_label_times_in_other_zones_and_units() -> None:
    source, taste = MemorySource({Played: plays((1, 5, 1.0, 1, 1))}), Features("member", n=f.count(Played))
    labels = asked((1, 0.99), (1, 1)).with_columns(pl.col("member").cast(pl.Int32))
    for unit in ("ms", "us", "ns"):
        at = pl.col("at").cast(pl.Datetime(unit, "UTC")).dt.convert_time_zone("America/New_York")
        assert taste.batch(source, labels.with_columns(at))["n"].to_list() == [0, 1]


def test_shards_travel_to_workers() -> None:
    def elsewhere(fn: Any, shards: Sequence[Any]) -> list[Any]:
        return [pickle.loads(pickle.dumps(fn))(pickle.loads(pickle.dumps(one))) for one in shards]

    source = MemorySource({Played: plays((1, 5, 1.0, 1, 1), (2, 6, 2.0, 1, 1))}, buckets=3)
    taste = Features(
        "member", s=f.sum(Played.seconds, "7d", where=Played.title > 5), x=f.apply(lambda a: a, f.count(Played))
    )
    labels = asked((1, 2), (2, 2))
    assert_frame_equal(taste.batch(source, labels, engine=elsewhere), taste.batch(source, labels))
    assert_frame_equal(taste.batch(source, labels, engine="serial"), taste.batch(source, labels))


def test_parquet_files_are_a_source(tmp_path: Path) -> None:
    rows = plays((1, 5, 1.0, 1, 1), (2, 6, 2.0, 1, 1), (3, 6, 2.0, 1, 4))
    files = ParquetSource(tmp_path, buckets=4)
    files.write(Played, rows)
    taste = Features("member", s=f.sum(Played.seconds, "7d"), last=f.last(Played.title))
    labels = asked((1, 2), (2, 2), (3, 2), (3, 4))
    assert_frame_equal(taste.batch(files, labels), taste.batch(MemorySource({Played: rows}), labels))
    assert files.scan("played", ["title"], known_before=day(2)).collect()["title"].sort().to_list() == [5, 6]
    assert files.scan("played", ["title"], known_before=day(4)).collect().height == 3  # that moment included
    assert files.snapshot(Played) is None
    with pytest.raises(UnknownNameError, match="fact == 'title', must be one of"):
        files.scan(Title)


def test_sources_divide_keys_as_the_tables_do() -> None:
    source = MemorySource({Played: plays(*((m, 5, 1.0, 1, 1) for m in range(40)))}, buckets=16)
    for bucket in range(16):
        members = source.scan(Played, ["member"], bucket=bucket).collect()["member"].to_list()
        assert members == [m for m in range(40) if bucket_of([m])[0] == bucket]
    assert source.bucket_of(np.array(["uhd"], object)).tolist() == bucket_of(["uhd"]).tolist() == [11]


def test_what_a_source_refuses() -> None:
    rows = plays((1, 5, 1.0, 1, 1))
    with pytest.raises(UnknownColumnError, match="column == 'seconds', must be a column of the frame of Played"):
        MemorySource({Played: rows.drop("seconds")})
    with pytest.raises(BadInputError, match="must have columns"):
        MemorySource({Played: rows.with_columns(title=pl.lit("x"))})
    with pytest.raises(BadInputError, match=r"Played.at is .* must have a time zone"):
        MemorySource({Played: rows.with_columns(pl.col("at").dt.replace_time_zone(None))})
    with pytest.raises(BadInputError, match=r"Played.member is null in 1 rows"):
        MemorySource({Played: rows.with_columns(member=pl.lit(None, pl.Int64))})
    with pytest.raises(UnknownNameError, match="fact == 'title'"):
        MemorySource({Played: rows}).scan(Title)
