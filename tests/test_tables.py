"""Tables: what goes in comes back, and what is erased is gone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import ManifestFile

from matinee.exceptions import (
    DeclarationError,
    MatineeError,
    StorageError,
    TableBusyError,
    UnknownColumnError,
    UnknownNameError,
)
from matinee.locks import exclusive
from matinee.tables import Tables, bucket_of, reading, upkeep, warehouse, writing
from matinee.times import EPOCH

STAMP = pa.timestamp("us", "UTC")
DAY = datetime(2026, 1, 1, tzinfo=UTC)
NO_GRACE = timedelta(0)


def schema(*columns: pa.Field, key: pa.DataType | None = None) -> pa.Schema:
    """A fact's schema: key `member`, the columns, and those that come with every fact."""
    return pa.schema(
        [
            pa.field("member", key or pa.int64(), nullable=False),
            *columns,
            pa.field("at", STAMP, nullable=False),
            pa.field("known", STAMP, nullable=False),
            pa.field("seq", pa.int64(), nullable=False),
            pa.field("choice", pa.large_string()),
        ]
    )


PLAYED = schema(pa.field("title", pa.int64()), pa.field("device", pa.large_string()))


def plays(rows: int, *, start: int = 0, members: int = 50, days: float = 0) -> pl.DataFrame:
    """Rows start, start + 1, ...: title says which row it is, member is title modulo `members`."""
    at = pl.Series([DAY + timedelta(days=days)] * rows, dtype=pl.Datetime("us", "UTC"))
    title = np.arange(start, start + rows)
    return pl.DataFrame({"member": title % members, "title": title, "device": ["tv"] * rows, "at": at, "known": at})


def titles(frame: pl.LazyFrame) -> list[int]:
    return frame.select("title").collect()["title"].sort().to_list()


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tables(tmp_path: Path, clock: Clock) -> Tables:
    made = Tables(tmp_path / "studio", clock=clock, lock_timeout=5.0)
    made.create("played", PLAYED, key="member")
    return made


# -- Known answers -----------------------------------------------------------------------------------------------------


def test_buckets_are_those_of_the_specification() -> None:
    # Iceberg table specification, appendix B, "32-bit hash requirements".
    assert bucket_of([34], 1 << 20).tolist() == [2017239379 % (1 << 20)]
    assert bucket_of(["iceberg"], 1 << 20).tolist() == [1210000089 % (1 << 20)]
    assert bucket_of([7, 8]).tolist() == [3, 15]
    assert bucket_of(pl.Series([7, None])).tolist() == [3, -1]
    assert bucket_of([]).tolist() == []


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50), st.sampled_from([2, 16, 1000]))
def test_integer_buckets_equal_the_library(values: list[int], buckets: int) -> None:
    from pyiceberg.transforms import BucketTransform
    from pyiceberg.types import LongType

    theirs = BucketTransform(buckets).transform(LongType())
    assert bucket_of(np.array(values), buckets).tolist() == [theirs(value) for value in values]


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_text_buckets_equal_the_library(values: list[str]) -> None:
    from pyiceberg.transforms import BucketTransform
    from pyiceberg.types import StringType

    theirs = BucketTransform(16).transform(StringType())
    assert bucket_of(values).tolist() == [theirs(value) for value in values]


def test_a_key_that_is_no_integer_or_text_has_no_bucket() -> None:
    with pytest.raises(MatineeError, match=r"must be integers or strings"):
        bucket_of([1.5])


def test_an_empty_table_scans_as_an_empty_frame_of_its_schema(tables: Tables) -> None:
    frame = tables.scan("played").collect()
    stamp = pl.Datetime("us", "UTC")
    assert frame.schema == {
        "member": pl.Int64, "title": pl.Int64, "device": pl.String, "at": stamp, "known": stamp,
        "seq": pl.Int64, "choice": pl.String,
    }  # fmt: skip
    assert frame.is_empty()
    assert tables.schema("played") == PLAYED
    assert (tables.snapshot("played"), tables.rows("played"), tables.files("played")) == (None, 0, [])
    assert tables.names() == ["played"]
    assert tables.exists("played")
    assert not tables.exists("billed")


def test_rows_come_back_in_the_tables_columns_and_numbered_in_the_order_of_appending(tables: Tables) -> None:
    first = tables.append("played", plays(30).select(reversed(plays(1).columns)))
    second = tables.append("played", plays(20, start=30).to_arrow())
    assert (first.rows, second.rows, first.appended) == (30, 20, True)
    assert tables.snapshot("played") == second.id != first.id
    frame = tables.scan("played").sort("seq").collect()
    assert frame.columns == PLAYED.names
    assert frame["title"].to_list() == frame["seq"].to_list() == list(range(50))
    assert frame["choice"].null_count() == 50
    assert tables.rows("played") == sum(file.rows for file in tables.files("played")) == 50


def test_seq_goes_on_after_the_highest_that_data_brought(tables: Tables) -> None:
    tables.append("played", plays(2).with_columns(seq=pl.Series([70, 60])))
    tables.append("played", plays(2))
    assert sorted(tables.scan("played").collect()["seq"]) == [60, 70, 71, 72]


def test_each_file_holds_the_rows_of_its_bucket(tables: Tables) -> None:
    tables.append("played", plays(500, members=500))
    for file in tables.files("played"):
        assert set(bucket_of(pl.read_parquet(file.path)["member"]).tolist()) == {file.bucket}
        assert file.bytes == Path(file.path).stat().st_size
    assert tables.bucket_of([7]).tolist() == [3]


def test_scan_by_key_bucket_and_knowledge(tables: Tables) -> None:
    tables.append("played", plays(100))
    tables.append("played", plays(100, start=100, days=2))
    assert titles(tables.scan("played", keys=[7, 8])) == [t for t in range(200) if t % 50 in (7, 8)]
    assert titles(tables.scan("played", keys=[10**12])) == titles(tables.scan("played", keys=[])) == []
    assert titles(tables.scan("played", known_before=DAY)) == list(range(100))
    assert titles(tables.scan("played", known_before=DAY - timedelta(microseconds=1))) == []
    split = [titles(tables.scan("played", buckets=[bucket])) for bucket in range(16)]
    assert sorted(t for part in split for t in part) == list(range(200))
    assert set(bucket_of(tables.scan("played", buckets=[3]).collect()["member"]).tolist()) == {3}
    assert titles(tables.scan("played", keys=[7], buckets=[4])) == []
    assert tables.scan("played", columns=["title", "member"]).collect().columns == ["title", "member"]
    one = tables.scan("played", columns=["title"], keys=[7], known_before=DAY).collect()
    assert one.to_dict(as_series=False) == {"title": [7, 57]}


def test_a_scan_by_key_opens_one_bucket(tables: Tables) -> None:
    tables.append("played", plays(500))
    for file in tables.files("played"):
        if file.bucket != bucket_of([7])[0]:
            Path(file.path).unlink()
    assert len(titles(tables.scan("played", keys=[7]))) == 10


def test_a_scan_up_to_a_time_opens_no_later_file(tables: Tables) -> None:
    tables.append("played", plays(50))
    early = {file.path for file in tables.files("played")}
    tables.append("played", plays(50, start=50, days=2))
    for file in tables.files("played"):
        if file.path not in early:
            Path(file.path).unlink()
    assert titles(tables.scan("played", known_before=DAY + timedelta(days=1))) == list(range(50))


def test_text_keys(tables: Tables) -> None:
    tables.create("billed", schema(key=pa.large_string()), key="member")
    names = [f"member-{i}" for i in range(40)]
    tables.append("billed", plays(40).drop("title", "device").with_columns(member=pl.Series(names)))
    assert tables.scan("billed", keys=["member-7"]).collect()["member"].to_list() == ["member-7"]
    assert tables.erase("billed", "member", ["member-7"]).rows == 1
    assert sorted(tables.scan("billed").collect()["member"]) == sorted(set(names) - {"member-7"})


def test_a_table_without_buckets_and_one_with_null_keys(tables: Tables) -> None:
    tables.create("notes", schema(pa.field("title", pa.int64())), key="title", buckets=0)
    tables.append("notes", plays(5).drop("device"))
    assert [file.bucket for file in tables.files("notes")] == [None]
    assert titles(tables.scan("notes", keys=[3])) == [3]
    tables.create("seen", schema(pa.field("title", pa.int64())), key="title")
    tables.append("seen", plays(5).drop("device").with_columns(title=pl.Series([1, None, 2, None, 3])))
    assert tables.scan("seen", keys=[None]).collect()["seq"].sort().to_list() == [1, 3]
    assert tables.scan("seen", buckets=[-1]).collect()["seq"].sort().to_list() == [1, 3]
    assert tables.erase("seen", "title", [1]).rows == 1
    assert tables.scan("seen").collect()["seq"].sort().to_list() == [1, 2, 3, 4]


def test_a_snapshot_stays_what_it_was(tables: Tables) -> None:
    first = tables.append("played", plays(10)).id
    tables.append("played", plays(10, start=10))
    assert titles(tables.scan("played", snapshot=first)) == list(range(10))
    assert tables.rows("played", snapshot=first) == 10
    with pytest.raises(MatineeError, match=r"snapshot == 5, must be one that table 'played' still holds"):
        tables.scan("played", snapshot=5)


# -- What is refused, and that nothing was written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (plays(3).rename({"title": "titel"}), "column == 'titel', must be a column of played .*; did you mean 'title'"),
        (plays(3).drop("at"), r"played.at is missing, must be given \(timestamp"),
        (plays(3).with_columns(member=pl.Series([1, None, 2])), "played.member holds 1 nulls, must hold none"),
        (plays(3).with_columns(title=pl.lit("x")), "played.title: String, must be Int64"),
        (plays(3).with_columns(title=pl.lit(1.0)), "played.title: Float64, must be Int64"),
        (plays(3).with_columns(title=pl.lit(2**63, pl.UInt64)), "played.title: UInt64, must be Int64"),
        (
            plays(3).with_columns(pl.col("at").dt.replace_time_zone(None)),
            "played.at: Datetime.*, must be Datetime.*UTC",
        ),
        (plays(3).with_columns(pl.col("at").dt.convert_time_zone("Asia/Tokyo")), "played.at: .*Tokyo"),
        (plays(3).with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC"))), "played.at: .*ms"),
    ],
    ids=lambda value: "" if isinstance(value, pl.DataFrame) else str(value)[:30],
)
def test_data_that_does_not_fit_is_refused_in_our_words(
    tables: Tables, data: pl.DataFrame, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MatineeError, match=words):
        tables.append("played", data)
    assert tables.rows("played") == 0
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_types_that_lose_nothing_are_widened(tables: Tables) -> None:
    given = plays(3).with_columns(
        pl.col("member").cast(pl.Int32),
        pl.col("title").cast(pl.UInt32),
        pl.col("device").cast(pl.Categorical),
        choice=None,
    )
    tables.append("played", given)
    assert (
        tables.scan("played")
        .sort("seq")
        .drop("seq")
        .collect()
        .equals(plays(3).with_columns(choice=pl.lit(None, pl.String)))
    )


@pytest.mark.parametrize(
    "kind",
    [pa.int32(), pa.uint64(), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.decimal128(9, 2), pa.list_(pa.bool_())],
)
def test_types_that_do_not_survive_are_refused(tables: Tables, kind: pa.DataType) -> None:
    with pytest.raises(DeclarationError, match=re.escape(f"odd.x: {kind}, must be int64, float64")):
        tables.create("odd", schema(pa.field("x", kind)), key="member")
    assert not tables.exists("odd")


def test_declarations_that_cannot_work_are_refused(tables: Tables) -> None:
    with pytest.raises(DeclarationError, match=r"key == 'membr', must be a column of x .*; did you mean 'member'"):
        tables.create("x", PLAYED, key="membr")
    with pytest.raises(DeclarationError, match=r"x.at: timestamp.*, must be int64 or string to be a key"):
        tables.create("x", PLAYED, key="at")
    with pytest.raises(DeclarationError, match=r"must be letters, digits and underscores"):
        tables.create("../x", PLAYED, key="member")
    with pytest.raises(UnknownColumnError, match=r"column == 'mail'"):
        tables.create("x", PLAYED, key="member", personal=["mail"])
    with pytest.raises(DeclarationError, match=r"must have different names"):
        tables.create("x", pa.schema([("a", pa.int64()), ("a", pa.int64())]), key="a")
    with pytest.raises(MatineeError, match=r"buckets == -1, must be >= 0"):
        tables.create("x", PLAYED, key="member", buckets=-1)


def test_what_is_not_there_is_named(tables: Tables) -> None:
    with pytest.raises(UnknownNameError, match=r"table == 'plaid', must be .*; did you mean 'played'"):
        tables.scan("plaid")
    with pytest.raises(UnknownColumnError, match=r"column == 'titel'"):
        tables.scan("played", columns=["titel"])
    with pytest.raises(MatineeError, match=r"values of played.member == \['x'\], must be Int64"):
        tables.scan("played", keys=["x"])
    with pytest.raises(MatineeError, match=r"known_before .* has no time zone"):
        tables.scan("played", known_before=datetime(2026, 1, 1))
    with pytest.raises(UnknownColumnError, match=r"column == 'mail'"):
        tables.erase("played", "mail", ["x"])
    with pytest.raises(UnknownNameError, match=r"pin of played == 'train'"):
        tables.unpin("played", "train")


# -- Evolution ---------------------------------------------------------------------------------------------------------


def test_a_new_nullable_column_takes_its_place_and_old_rows_have_none(tables: Tables) -> None:
    tables.append("played", plays(3))
    wider = schema(
        pa.field("profile", pa.large_string()),
        pa.field("title", pa.int64()),
        pa.field("device", pa.large_string()),
        pa.field("tags", pa.large_list(pa.large_string())),
    )
    for _ in range(2):  # the second time nothing is left to do
        tables.create("played", wider, key="member")
    assert tables.schema("played") == wider
    tables.append("played", plays(2, start=3).with_columns(profile=pl.lit("kids"), tags=pl.lit(["a", "b"])))
    tables.append("played", plays(1, start=5))  # as by a process that runs the code of before
    frame = tables.scan("played").sort("title").collect()
    assert frame.columns == wider.names
    assert frame["profile"].to_list() == [None, None, None, "kids", "kids", None]
    assert frame["tags"].to_list() == [None, None, None, ["a", "b"], ["a", "b"], None]
    tables.create("played", PLAYED, key="member")  # an older declaration changes nothing
    assert tables.schema("played") == wider


def test_changes_that_old_rows_cannot_follow_are_refused(tables: Tables) -> None:
    with pytest.raises(DeclarationError, match=r"played.extra is new and required, must be nullable"):
        tables.create("played", schema(pa.field("extra", pa.int64(), nullable=False)), key="member")
    with pytest.raises(DeclarationError, match=r"played.title: double, must stay int64"):
        tables.create("played", schema(pa.field("title", pa.float64())), key="member")
    with pytest.raises(DeclarationError, match=r"played.at is required in the table, must stay a column"):
        tables.create("played", pa.schema([pa.field("member", pa.int64(), nullable=False)]), key="member")
    with pytest.raises(DeclarationError, match=r"key of played == 'title', must stay 'member'"):
        tables.create("played", PLAYED, key="title")
    with pytest.raises(DeclarationError, match=r"buckets of played == 8, must stay 16"):
        tables.create("played", PLAYED, key="member", buckets=8)


def test_a_required_column_may_become_nullable(tables: Tables) -> None:
    tables.create("played", PLAYED.set(0, pa.field("member", pa.int64())), key="member")
    tables.append("played", plays(2).with_columns(member=None))
    assert tables.scan("played").collect()["member"].null_count() == 2


def test_a_renamed_column_keeps_its_values_and_frees_its_name(tables: Tables) -> None:
    before = tables.append("played", plays(3)).id
    for _ in range(2):
        tables.rename_column("played", "title", "film")
    tables.append("played", plays(3, start=3).rename({"title": "film"}))
    assert sorted(tables.scan("played").collect()["film"]) == list(range(6))
    assert sorted(tables.scan("played", snapshot=before).collect()["film"]) == list(range(3))
    again = schema(pa.field("film", pa.int64()), pa.field("device", pa.large_string()), pa.field("title", pa.int64()))
    tables.create("played", again, key="member")
    tables.append("played", plays(1, start=6).with_columns(film=pl.lit(6)))
    frame = tables.scan("played").sort("film").collect()
    assert frame["film"].to_list() == list(range(7))
    assert frame["title"].to_list() == [None] * 6 + [6]  # not the film of old files, which is called title in them
    tables.compact("played", min_files=2)
    assert tables.scan("played").sort("film").collect().equals(frame)
    assert tables.erase("played", "film", [2]).rows == 1
    with pytest.raises(UnknownColumnError, match=r"column == 'movie'"):
        tables.rename_column("played", "movie", "video")
    with pytest.raises(DeclarationError, match=r"played.title is a column already"):
        tables.rename_column("played", "film", "title")


def test_a_renamed_key_is_still_the_key(tables: Tables) -> None:
    tables.append("played", plays(100))
    tables.rename_column("played", "member", "viewer")
    tables.append("played", plays(100, start=100).rename({"member": "viewer"}))
    assert titles(tables.scan("played", keys=[7])) == [7, 57, 107, 157]
    assert tables.erase("played", "viewer", [7]).rows == 4


# -- Marks -------------------------------------------------------------------------------------------------------------


def test_marks_are_set_with_the_rows_and_make_an_append_happen_once(tables: Tables) -> None:
    tables.append("played", plays(3), mark={"sealed.home": "17"})
    assert tables.properties("played")["sealed.home"] == "17"
    for turn in range(3):
        done = tables.append("played", plays(3, start=3), if_absent={"load.7": "done"}, mark={"sealed.home": "18"})
        assert done.appended == (turn == 0)
    assert titles(tables.scan("played")) == list(range(6))
    assert tables.append("played", plays(1, start=6), if_absent={"load.7": "of another kind"}).appended
    empty = tables.append("played", plays(0), mark={"sealed.home": "19"})
    assert (empty.appended, empty.id) == (False, tables.snapshot("played"))
    assert tables.properties("played")["sealed.home"] == "19"
    with pytest.raises(MatineeError, match=r"mark == 'matinee.key', must not begin with matinee.key or"):
        tables.append("played", plays(1), mark={"matinee.key": "title"})


def test_a_failed_append_sets_no_mark(tables: Tables) -> None:
    with pytest.raises(UnknownColumnError):
        tables.append("played", plays(1).rename({"title": "x"}), mark={"sealed.home": "17"})
    assert "sealed.home" not in tables.properties("played")


# -- Pins, expiry, compaction ------------------------------------------------------------------------------------------


def test_a_pin_outlives_expiry_until_its_age_is_over(tables: Tables, clock: Clock) -> None:
    tables.append("played", plays(10))
    pinned = tables.pin("played", "train", max_age=timedelta(days=30))
    assert pinned == tables.pin("played", "train", max_age=timedelta(days=30))  # again: the same
    tables.append("played", plays(10, start=10))
    tables.append("played", plays(10, start=20))
    assert tables.expire("played") == 1
    assert (
        titles(tables.scan("played", snapshot="train"))
        == titles(tables.scan("played", snapshot=pinned))
        == list(range(10))
    )
    (pin,) = tables.pins("played")
    assert (pin.tag, pin.snapshot, pin.created, pin.max_age) == ("train", pinned, clock.now, timedelta(days=30))
    with pytest.raises(MatineeError, match=r"tag == 'train', must be a new name"):
        tables.pin("played", "train", max_age=timedelta(days=1))
    clock.now += timedelta(days=31)
    assert tables.expire("played", grace=NO_GRACE) == 1
    assert tables.pins("played") == []
    with pytest.raises(UnknownNameError, match=r"pin of played == 'train', must be one of"):
        tables.scan("played", snapshot="train")
    assert titles(tables.scan("played")) == list(range(30))


def test_an_older_snapshot_can_be_pinned_and_let_go(tables: Tables) -> None:
    first = tables.append("played", plays(10)).id
    tables.append("played", plays(10, start=10))
    assert tables.pin("played", "model://ranker@3", max_age=timedelta(days=1), snapshot=first) == first
    assert len(titles(tables.scan("played", snapshot="model://ranker@3"))) == 10
    tables.unpin("played", "model://ranker@3")
    assert tables.pins("played") == []
    assert tables.expire("played") == 1
    with pytest.raises(MatineeError, match=r"must be one that table 'played' still holds"):
        tables.scan("played", snapshot=first)
    with pytest.raises(MatineeError, match=r"max_age == 0:00:00, must be > 0"):
        tables.pin("played", "x", max_age=timedelta(0))


def test_an_empty_table_cannot_be_pinned(tables: Tables) -> None:
    with pytest.raises(MatineeError, match=r"table 'played' has no rows yet"):
        tables.pin("played", "train", max_age=timedelta(days=1))


def everything(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_many_appends_leave_few_snapshots_and_metadata_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "EXPIRE_EVERY", 4)
    monkeypatch.setitem(warehouse.SETTINGS, "commit.manifest.min-count-to-merge", "5")
    tables = Tables(tmp_path)
    tables.create("played", PLAYED, key="member")
    for i in range(16):
        tables.append("played", plays(1, start=i))
    assert len(tables._load("played").metadata.snapshots) <= 5
    # A manifest list for each, at most five manifests not merged yet and those of before the merge, six versions.
    assert len(everything(tmp_path / "tables" / "played" / "metadata")) <= 5 + 2 * 5 + 6
    assert titles(tables.scan("played")) == list(range(16))


def test_compaction_keeps_the_rows_and_sorts_them(tables: Tables) -> None:
    for i in range(9):
        tables.append("played", plays(40, start=40 * i, days=-i))
    tables.pin("played", "train", max_age=timedelta(days=1))
    before = tables.scan("played").sort("seq").collect()
    files = len(tables.files("played"))
    report = tables.compact("played", min_files=8)
    assert (report.files_before, report.rows) == (files, 360)
    assert report.files_after == report.buckets == len(tables.files("played")) == len(set(bucket_of(range(50))))
    assert tables.scan("played").sort("seq").collect().equals(before)
    for file in tables.files("played"):
        frame = pl.read_parquet(file.path)
        assert frame.equals(frame.sort("member", "at", "seq"))
    assert tables.scan("played", snapshot="train").sort("seq").collect().equals(before)
    assert tables.rows("played") == 360
    assert tables.compact("played", min_files=8).files_before == 0
    tables.append("played", plays(1, start=360))
    assert titles(tables.scan("played")) == list(range(361))


def test_compaction_leaves_buckets_with_few_files_alone(tables: Tables) -> None:
    for i in range(3):
        tables.append("played", plays(1, start=i * 50))  # member 0
    tables.append("played", plays(1, start=7))
    report = tables.compact("played", min_files=3)
    assert (report.buckets, report.files_before, report.files_after) == (1, 3, 1)
    assert len(tables.files("played")) == 2


def test_compaction_leaves_a_large_file_alone_until_the_small_ones_weigh_something(tables: Tables) -> None:
    tables.append("played", plays(1000, members=1))
    (large,) = tables.files("played")
    for i in range(4):
        tables.append("played", plays(10, start=1000 + 10 * i, members=1))
    assert tables.compact("played", min_files=4).rows == 40
    assert large in tables.files("played")
    tables.append("played", plays(300, start=1040, members=1))
    assert tables.compact("played", min_files=2).rows == 1340
    assert len(tables.files("played")) == 1
    assert titles(tables.scan("played")) == list(range(1340))


def test_replaced_files_stay_for_readers_and_then_go(tables: Tables, clock: Clock) -> None:
    for i in range(8):
        tables.append("played", plays(1, start=i * 50))
    planned = tables.scan("played")
    clock.now += timedelta(hours=2)  # the files are old; that they were replaced is news
    tables.compact("played")
    tables.expire("played")
    assert len(titles(planned)) == 8  # planned before, read after
    clock.now += timedelta(hours=2)
    assert tables.sweep("played") == 8
    assert len(everything(tables.root / "tables" / "played" / "data")) == 1
    assert len(titles(tables.scan("played"))) == 8


def test_a_crash_just_after_a_compaction_leaves_its_readers_their_files(
    tables: Tables, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(8):
        tables.append("played", plays(1, start=i * 50))
    planned = tables.scan("played")
    clock.now += timedelta(hours=2)  # the files were written long ago
    real = warehouse.Attempt.commit_transaction

    def killed(attempt: warehouse.Attempt) -> None:
        real(attempt)
        raise KeyboardInterrupt

    monkeypatch.setattr(warehouse.Attempt, "commit_transaction", killed)
    with pytest.raises(KeyboardInterrupt):
        tables.compact("played")
    monkeypatch.undo()
    assert len(tables.files("played")) == 1
    tables.expire("played")
    assert len(titles(planned)) == 8


def test_a_scan_that_loses_its_snapshot_while_it_plans_looks_again(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("played", plays(3))
    real, times = reading.snapshot_files, iter(range(9))

    def overtaken(*given: Any, **more: Any) -> Any:
        if next(times) == 0:  # the table is loaded; now its snapshot is replaced, expired and swept
            Tables(tables.root).append("played", plays(3, start=3))
            Tables(tables.root).expire("played")
        return real(*given, **more)

    monkeypatch.setattr(reading, "snapshot_files", overtaken)
    assert titles(tables.scan("played")) == list(range(6))


def test_appends_themselves_free_what_a_compaction_replaced(
    tables: Tables, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EXPIRE_EVERY", 3)
    for i in range(4):
        tables.append("played", plays(1, start=i * 50))
    tables.compact("played", min_files=2)
    clock.now += timedelta(minutes=50)
    for i in range(4):
        tables.append("played", plays(1, start=200 + i * 50))
    assert len(everything(tables.root / "tables" / "played" / "data")) == 4 + 1 + 4
    clock.now += timedelta(minutes=20)
    for i in range(4):
        tables.append("played", plays(1, start=400 + i * 50))
    assert len(everything(tables.root / "tables" / "played" / "data")) == len(tables.files("played")) == 1 + 8


def test_sweep_removes_what_a_crash_left_and_nothing_else(tables: Tables, clock: Clock) -> None:
    tables.append("played", plays(100))
    (tables.root / "tables" / "played" / "data" / "left-over.parquet").write_bytes(b"x")
    (tables.root / "tables" / "played" / "metadata" / "left-over.avro").write_bytes(b"x")
    assert tables.sweep("played", grace=NO_GRACE - timedelta(minutes=1)) == 2
    assert tables.sweep("played", grace=NO_GRACE - timedelta(minutes=1)) == 0
    assert titles(tables.scan("played")) == list(range(100))


# -- Erasure -----------------------------------------------------------------------------------------------------------


def test_erasure_deletes_every_file_that_may_hold_the_person_and_leaves_other_buckets_to_the_sweep(
    tables: Tables, clock: Clock
) -> None:
    for i in range(3):
        tables.append("played", plays(50, start=50 * i))
    tables.compact("played", min_files=2)  # replaced files stay for readers: three a bucket
    data = tables.root / "tables" / "played" / "data"
    bucket = int(bucket_of(pl.Series([7]), 16)[0])
    (data / f"{bucket:05d}-{uuid.uuid4()}.parquet").write_bytes(b"a crash left this")
    (data / f"{(bucket + 1) % 16:05d}-0-{uuid.uuid4()}.parquet").write_bytes(b"named by another engine: any bucket")
    (data / f"{uuid.uuid4()}.parquet").write_bytes(b"of no bucket")
    before = set(everything(data))
    tables.erase("played", "member", [7])
    live = {Path(file.path) for file in tables.files("played")}
    kept = set(everything(data)) - live
    assert kept
    assert not [path for path in kept if not re.match(r"\d{5}-[0-9a-f]{8}-", path.name)]
    assert not [path for path in kept if path.name.startswith(f"{bucket:05d}-")]
    assert kept < before
    clock.now += timedelta(hours=2)
    tables.sweep("played")
    assert set(everything(data)) == live


def test_erasure_takes_the_person_from_table_and_pins_alone(tables: Tables) -> None:
    tables.append("played", plays(100))
    tables.pin("played", "old", max_age=timedelta(days=9))
    tables.append("played", plays(100, start=100))
    tables.pin("played", "new", max_age=timedelta(days=9))
    tables.compact("played", min_files=2)
    tables.append("played", plays(50, start=200))
    report = tables.erase("played", "member", [7, 8, 10**9])
    assert (report.rows, dict(report.per_pin)) == (10, {"old": 4, "new": 8})
    left = [t for t in range(250) if t % 50 not in (7, 8)]
    assert titles(tables.scan("played")) == left
    assert titles(tables.scan("played", snapshot="old")) == [t for t in left if t < 100]
    assert titles(tables.scan("played", snapshot="new")) == [t for t in left if t < 200]
    assert {pin.tag: pin.erased for pin in tables.pins("played")} == {"old": 4, "new": 8}
    assert (tables.rows("played"), tables.rows("played", "old"), tables.rows("played", "new")) == (240, 96, 192)
    for path in (tables.root / "tables" / "played" / "data").iterdir():
        assert not pl.read_parquet(path)["member"].is_in([7, 8]).any()
    again = tables.erase("played", "member", [7, 8])
    assert (again.rows, dict(again.per_pin), again.files_removed) == (0, {"old": 0, "new": 0}, 0)
    assert {pin.tag: pin.erased for pin in tables.pins("played")} == {"old": 4, "new": 8}
    tables.append("played", plays(1, start=250))
    assert tables.expire("played") == 1


def test_erasure_takes_what_a_crash_left_behind(tables: Tables) -> None:
    tables.append("played", plays(10))
    orphan = tables.root / "tables" / "played" / "data" / "member_bucket=1" / "another-engine-was-here.parquet"
    orphan.parent.mkdir()
    shutil.copy(tables.files("played")[0].path, orphan)
    assert tables.erase("played", "member", [10**9]).files_removed >= 1
    assert not orphan.exists()
    assert titles(tables.scan("played")) == list(range(10))


def test_erasure_of_all_rows_and_by_another_column(tables: Tables) -> None:
    tables.append("played", plays(10).with_columns(device=pl.Series(["tv", None] * 5)))
    assert tables.erase("played", "device", ["tv"]).rows == 5
    assert titles(tables.scan("played")) == [1, 3, 5, 7, 9]  # null is not a value
    assert tables.erase("played", "title", [1, 3, 5, 7, 9]).rows == 5
    assert (tables.rows("played"), tables.files("played")) == (0, [])
    tables.append("played", plays(3))
    assert titles(tables.scan("played")) == [0, 1, 2]


def test_erasure_of_an_empty_table(tables: Tables) -> None:
    report = tables.erase("played", "member", [7])
    assert (report.rows, dict(report.per_pin)) == (0, {})


# -- Big appends (in pieces), all types --------------------------------------------------------------------------------


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of a big append, scaled down, so that pieces, row groups and files are all cut."""
    for name, size in (("PIECE", 64), ("ROW_GROUP", 32), ("FILE_ROWS", 100), ("_SAMPLE", 50)):
        monkeypatch.setattr(writing, name, size)


@pytest.mark.usefixtures("tiny_pieces")
def test_a_big_append_is_cut_into_pieces_row_groups_and_files(tables: Tables) -> None:
    device = pl.Series([["tv", "phone", None][i % 3] for i in range(5000)])
    given = plays(5000, members=37).with_columns(device=device, choice=pl.Series([f"c{i}" for i in range(5000)]))
    tables.append("played", given)
    files = tables.files("played")
    assert max(file.rows for file in files) <= 100
    assert len(files) > 50
    frame = tables.scan("played").sort("seq").collect()
    assert frame.equals(given.with_columns(seq=pl.int_range(5000, eager=True)).select(PLAYED.names))
    assert pl.read_parquet(files[0].path).schema == frame.schema
    assert tables.erase("played", "member", [3]).rows == (given["member"] == 3).sum()
    tables.compact("played", min_files=2)
    assert tables.scan("played").sort("seq").collect().equals(frame.filter(pl.col("member") != 3))


@pytest.mark.usefixtures("tiny_pieces")
def test_a_compacted_file_is_laid_out_as_an_appended_one(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PIECE", 8)
    for i in range(8):
        tables.append("played", plays(12, start=12 * i, members=1))
    tables.compact("played")
    (file,) = tables.files("played")
    written = pq.read_metadata(file.path)
    assert [written.row_group(i).num_rows for i in range(written.num_row_groups)] == [32, 32, 32]


def test_an_erasure_does_not_open_the_manifest_of_what_a_compaction_replaced(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(8):
        tables.append("played", plays(5, start=5 * i, members=5))
    tables.compact("played")
    real, opened = ManifestFile.fetch_manifest_entry, []

    def seen(manifest: ManifestFile, *given: Any, **more: Any) -> Any:
        opened.append(manifest.has_added_files() or manifest.has_existing_files())
        return real(manifest, *given, **more)

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", seen)
    assert tables.erase("played", "member", [3]).rows == 8
    assert opened and all(opened)


def test_rows_stay_in_order_within_a_bucket(tables: Tables) -> None:
    tables.append("played", plays(2000, members=500))
    for file in tables.files("played"):
        assert pl.read_parquet(file.path)["seq"].is_sorted()


ALL = schema(
    pa.field("whole", pa.int64()),
    pa.field("real", pa.float64()),
    pa.field("word", pa.large_string()),
    pa.field("yes", pa.bool_()),
    pa.field("day", pa.date32()),
    pa.field("blob", pa.large_binary()),
    pa.field("wholes", pa.large_list(pa.int64())),
    pa.field("reals", pa.large_list(pa.float64())),
    pa.field("words", pa.large_list(pa.large_string())),
    pa.field("when", STAMP),
)
TIMES = st.datetimes(datetime(1678, 1, 1), datetime(2261, 1, 1), timezones=st.just(UTC))
WHOLE = st.integers(-(2**63), 2**63 - 1)
ROW = st.fixed_dictionaries(
    {
        "member": WHOLE,
        "whole": st.none() | WHOLE,
        "real": st.none() | st.floats(),
        "word": st.none() | st.text(max_size=8),
        "yes": st.none() | st.booleans(),
        "day": st.none() | st.dates(date(1600, 1, 1), date(2500, 1, 1)),
        "blob": st.none() | st.binary(max_size=8),
        "wholes": st.none() | st.lists(WHOLE, max_size=3),
        "reals": st.none() | st.lists(st.none() | st.floats(), max_size=3),
        "words": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
        "when": st.none() | TIMES,
        "at": TIMES,
        "known": TIMES,
        "choice": st.none() | st.text(max_size=8),
    }
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=40))
def test_every_type_comes_back_as_it_went_in(tables: Tables, rows: list[dict[str, object]]) -> None:
    tables.create("all", ALL, key="member")
    mark = tables.properties("all").get("matinee.next-seq", "0")
    given_rows = pl.DataFrame(rows, schema={name: kind for name, kind in pl.Schema(ALL).items() if name != "seq"})
    tables.append("all", given_rows)
    read = tables.scan("all").filter(pl.col("seq") >= int(mark)).sort("seq").collect()
    assert read.drop("seq").equals(given_rows.select(read.drop("seq").columns))
    limit = rows[0]["known"]
    assert isinstance(limit, datetime)
    seen = tables.scan("all", known_before=limit).filter(pl.col("seq") >= int(mark)).sort("seq").collect()
    assert seen.equals(read.filter(pl.col("known") <= limit))
    key = rows[0]["member"]
    assert (
        tables.scan("all", keys=[key])
        .filter(pl.col("seq") >= int(mark))
        .sort("seq")
        .collect()
        .equals(read.filter(pl.col("member") == key))
    )


def test_everything_a_commit_refers_to_is_forced_to_disk_before_it(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power must not leave a catalog that points to files of zeros."""
    real, synced = os.fsync, set()

    def sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    tables.append("played", plays(100))
    table = tables._load("played")
    referred = {table.metadata_location, *table.inspect.all_files()["file_path"].to_pylist()}
    referred |= {snapshot.manifest_list for snapshot in table.metadata.snapshots}
    referred |= set(table.inspect.all_manifests()["path"].to_pylist())
    assert len(referred) > 4
    assert {Path(uri.removeprefix("file://")) for uri in referred} <= synced
    assert tables.root / "tables" / "played" / "data" in synced


def test_metadata_holds_no_values_but_times(tables: Tables) -> None:
    tables.append("played", plays(10).with_columns(title=pl.lit(1234567890123456)))
    files = tables._load("played").inspect.files().to_pylist()
    bounds = {
        column
        for file in files
        for column in file["readable_metrics"]
        if file["readable_metrics"][column]["lower_bound"]
    }
    assert bounds == {"at", "known"}


# -- A moved folder ----------------------------------------------------------------------------------------------------


def test_a_moved_or_copied_folder_is_noticed_and_can_be_adopted(tables: Tables, tmp_path: Path) -> None:
    tables.append("played", plays(100))
    tables.pin("played", "train", max_age=timedelta(days=9))
    tables.append("played", plays(100, start=100))
    tables.compact("played", min_files=2)
    tables.create("empty", PLAYED, key="member")
    moved = tmp_path / "elsewhere"
    shutil.copytree(tables.root, moved)
    with pytest.raises(
        StorageError, match=r"root == '.*elsewhere', must be '.*studio'.*`matinee relocate --studio '.*elsewhere'`"
    ):
        Tables(moved)
    assert Tables.relocate(moved) == ["empty", "played"]
    shutil.rmtree(tables.root)  # nothing of it may be needed any more
    there = Tables(moved)
    assert titles(there.scan("played")) == list(range(200))
    assert titles(there.scan("played", snapshot="train")) == list(range(100))
    assert there.append("played", plays(50, start=200)).appended
    assert there.erase("played", "member", [7]).per_pin == {"train": 2}
    assert titles(there.scan("played", snapshot="train")) == [t for t in range(100) if t % 50 != 7]
    assert there.rows("empty") == 0
    assert Tables.relocate(moved) == ["empty", "played"]  # harmless
    there.sweep("empty", grace=-timedelta(minutes=1))
    for path in everything(moved):
        assert str(tables.root).encode() not in path.read_bytes()


def test_the_same_folder_by_another_path_is_not_moved(tables: Tables, tmp_path: Path) -> None:
    tables.append("played", plays(10))
    (tmp_path / "link").symlink_to(tables.root)
    there = Tables(tmp_path / "link")
    there.append("played", plays(10, start=10))
    there.sweep("played", grace=-timedelta(minutes=1))
    assert titles(tables.scan("played")) == list(range(20))


def test_a_folder_that_is_no_studio(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"must be the folder of a studio"):
        Tables.relocate(tmp_path)
    (tmp_path / "tables.db").write_bytes(b"not a database, but a long enough piece of text" * 30)
    with pytest.raises(StorageError, match=r"tables.db: .*, must be the catalog of a studio"):
        Tables(tmp_path)


def test_a_folder_with_odd_characters(tmp_path: Path) -> None:
    made = Tables(tmp_path / "Zoë's studio 100% #1")
    made.create("played", PLAYED, key="member")
    made.append("played", plays(10))
    assert titles(Tables(made.root).scan("played")) == list(range(10))
    assert made.erase("played", "member", [7]).rows == 1


# -- Locks -------------------------------------------------------------------------------------------------------------


def test_a_held_table_says_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    made = Tables(tmp_path, lock_timeout=0.05)
    made.create("played", PLAYED, key="member")
    made.create("billed", PLAYED, key="member")
    holding = [sys.executable, "-c", ("import sys; from pathlib import Path; from matinee.locks import exclusive\n"
               "with exclusive(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()")]  # fmt: skip
    with subprocess.Popen(
        [*holding, str(tmp_path / "locks" / "played.lock")], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(
            TableBusyError, match=rf"table 'played' was held by process {other.pid} for 0.05 s, must be free: wait"
        ):
            made.append("played", plays(1))
        assert made.rows("played") == 0  # reading needs no lock
        made.append("billed", plays(1))  # another table is free
        other.kill()
        other.wait()
    made.append("played", plays(1))  # a dead process holds nothing


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path, inside, worst = tmp_path / "x.lock", 0, 0

    def enter() -> None:
        nonlocal inside, worst
        for _ in range(20):
            with exclusive(path, "x", timeout=20):
                inside += 1
                worst = max(worst, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1
    with (
        exclusive(path, "x"),
        pytest.raises(TableBusyError, match=r"another thread of this process"),
        exclusive(path, "x", timeout=0),
    ):
        pass


def test_a_forked_process_opens_the_catalog_anew(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database connection must not be shared with the process it was forked from."""
    tables.append("played", plays(3))
    before = tables._warehouse.catalog
    assert tables._warehouse.catalog is before
    forked = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: forked)
    assert tables._warehouse.catalog is not before
    assert titles(tables.scan("played")) == [0, 1, 2]


def test_a_locked_catalog_says_so(tmp_path: Path) -> None:
    import sqlite3

    made = Tables(tmp_path, lock_timeout=0.05)
    made.create("played", PLAYED, key="member")
    held = sqlite3.connect(tmp_path / "tables.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TableBusyError, match=r"table 'played': the catalog .*tables.db was locked for 0.05 s"):
        made.append("played", plays(1))
    held.execute("ROLLBACK")
    held.close()
    made.append("played", plays(1))
    assert made.rows("played") == 1


def test_a_catalog_locked_at_opening_says_so(tmp_path: Path) -> None:
    import sqlite3

    Tables(tmp_path).create("played", PLAYED, key="member")
    with contextlib.closing(sqlite3.connect(tmp_path / "tables.db", isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TableBusyError, match=r"the catalog .*tables.db was locked for 0.05 s, must be free"):
            Tables(tmp_path, lock_timeout=0.05)
    assert Tables(tmp_path).names() == ["played"]


def test_a_process_killed_in_the_middle_of_a_catalog_commit_leaves_a_studio_that_opens(tmp_path: Path) -> None:
    made = Tables(tmp_path)
    made.create("played", PLAYED, key="member")
    made.append("played", plays(3))
    killed = (
        "import os, sqlite3, sys\n"
        "catalog = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "catalog.execute('PRAGMA cache_size = 1')\n"  # so that pages reach the file before the commit
        "catalog.execute('BEGIN IMMEDIATE')\n"
        "catalog.execute('CREATE TABLE big (x)')\n"
        "catalog.executemany('INSERT INTO big VALUES (?)', [('x' * 3000,)] * 200)\n"
        "catalog.execute('UPDATE iceberg_tables SET metadata_location = 1')\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "tables.db")], check=False)
    assert (tmp_path / "tables.db-journal").stat().st_size > 0
    assert titles(Tables(tmp_path).scan("played")) == [0, 1, 2]


def test_missing_files_are_named(tables: Tables) -> None:
    tables.append("played", plays(1))
    location = tables._load("played").metadata_location.removeprefix("file://")
    Path(location).rename(location + ".bak")
    with pytest.raises(StorageError, match=rf"table 'played': {re.escape(location)} is gone"):
        tables.rows("played")
    Path(location + ".bak").rename(location)
    assert tables.rows("played") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tables: Tables) -> None:
    place = tables.root / "tables" / "played" / "data"
    place.mkdir(exist_ok=True)
    place.chmod(0o500)
    with pytest.raises(StorageError, match=r"must be a healthy, writable folder"):
        tables.append("played", plays(1))
    place.chmod(0o700)


def test_epoch_is_a_time_like_any_other(tables: Tables) -> None:
    tables.append("played", plays(1).with_columns(at=pl.lit(EPOCH), known=pl.lit(EPOCH)))
    assert tables.scan("played", known_before=EPOCH).collect()["at"].to_list() == [EPOCH]


def test_importing_tables_is_light() -> None:
    code = "import matinee.tables, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"polars", "numpy", "pyarrow", "pyiceberg", "sqlalchemy"} & set(seen)
