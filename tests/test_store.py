"""Promise 3: each row is in its table or in quarantine with a reason. Promise 2: what was learned late stays late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import polars as pl
import pyarrow as pa
import pytest

import matinee as mt
from matinee.exceptions import BadInputError, StorageError, UnknownNameError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Played(mt.Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, mt.Range(ge=0)]


class Title(mt.Entity, key="title"):
    title: int
    name: str


class Charged(mt.Fact, key="invoice", unique=("invoice", "number")):
    invoice: str
    number: int


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[mt.Studio]:
    with mt.open(tmp_path / "studio", clock=lambda: NOW) as opened:
        yield opened


def plays(*rows: tuple[int, int, float, datetime, datetime]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["member", "title", "seconds", "at", "known"], orient="row")


def test_bad_rows_go_to_quarantine_and_good_ones_to_the_table(studio: mt.Studio) -> None:
    result = studio.append(Played, plays((1, 1, 3.0, NOW, NOW), (1, 2, -3.0, NOW, NOW)))
    assert (result.appended, result.quarantined) == (1, 1)
    assert len(studio.as_of(Played)) == 1
    [held] = studio.quarantine.rows(result.batches[0])
    assert held.row["title"] == 2
    assert held.reasons == ("seconds == -3.0, must be >= 0",)


def test_late_rows_never_leak_into_the_past(studio: mt.Studio) -> None:
    on_time, late = (1, 1, 3.0, NOW - 9 * HOUR, NOW - 9 * HOUR), (1, 2, 4.0, NOW - 9 * HOUR, NOW - 2 * HOUR)
    studio.append(Played, plays(on_time, late))
    assert studio.as_of(Played, NOW - 3 * HOUR)["title"].to_list() == [1]
    assert sorted(studio.as_of(Played, NOW - 2 * HOUR)["title"].to_list()) == [1, 2]
    assert sorted(studio.as_of(Played, NOW - 8 * HOUR, known=NOW)["title"].to_list()) == [1, 2]


def test_an_entity_is_read_as_its_current_state(studio: mt.Studio) -> None:
    rows = [
        Title(title=1, name="draft", at=NOW - 9 * HOUR, known=NOW - 9 * HOUR),
        Title(title=1, name="final", at=NOW - 3 * HOUR, known=NOW - 3 * HOUR),
        Title(title=1, name="a correction of the draft, learned last", at=NOW - 9 * HOUR, known=NOW - HOUR),
    ]
    studio.append(Title, rows)
    assert studio.as_of(Title)["name"].to_list() == ["final"]
    assert studio.as_of(Title, NOW - 5 * HOUR)["name"].to_list() == ["draft"]


def test_what_an_entity_says_of_later_counts_once_it_is_known_as_in_features(studio: mt.Studio) -> None:
    ahead, days = NOW + 9 * HOUR, timedelta(days=2)
    rows = [
        Title(title=1, name="working title", at=NOW - days, known=NOW - days),
        Title(title=1, name="from tonight on", at=ahead, known=NOW - 5 * HOUR),
        Title(title=2, name="announced", at=ahead, known=NOW - 5 * HOUR),
    ]
    studio.append(Title, rows)
    states = mt.Features("title", name="states", name_of=mt.state(Title.name))
    for moment in (NOW, NOW - 5 * HOUR, NOW - 6 * HOUR):
        stood = {r["title"]: r["name"] for r in studio.as_of(Title, moment).to_dicts()}
        labels = pl.DataFrame({"title": [1, 2], "at": [moment] * 2}).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
        found = dict(states.batch(studio.facts, labels).select("title", "name_of").rows())
        assert {t: n for t, n in found.items() if n is not None} == stood
    assert studio.as_of(Title, NOW - 6 * HOUR)["name"].to_list() == ["working title"]
    # What was so then, as far as is known now: not what was announced since.
    assert studio.as_of(Title, NOW - 6 * HOUR, known=NOW)["name"].to_list() == ["working title"]


def test_a_unique_key_counts_once_within_and_across_appends(studio: mt.Studio) -> None:
    frame = pl.DataFrame({"invoice": ["a", "a", "b"], "number": [1, 1, 1], "at": [NOW] * 3})
    assert studio.append(Charged, frame).quarantined == 1
    again = studio.append(Charged, frame)
    assert (again.appended, again.quarantined) == (0, 3)
    assert len(studio.as_of(Charged)) == 2


def test_arrow_tables_and_dicts_and_rows_are_taken(studio: mt.Studio) -> None:
    frame = plays((1, 1, 3.0, NOW, NOW))
    studio.append(Played, frame)
    studio.append(Played, frame.to_arrow())
    studio.append(Played, frame.to_dicts())
    studio.append(Played, Played(member=1, title=1, seconds=3.0, at=NOW))
    assert len(studio.as_of(Played)) == 4
    assert isinstance(frame.to_arrow(), pa.Table)
    with pytest.raises(BadInputError, match="rows are int, must be a Polars frame"):
        studio.append(Played, 7)


def test_files_of_every_kind_and_the_same_file_twice(studio: mt.Studio, tmp_path: Path) -> None:
    frame = plays((1, 1, 3.0, NOW - HOUR, NOW - HOUR), (2, 2, 4.0, NOW - HOUR, NOW - HOUR))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.with_columns(pl.col("at", "known").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(tmp_path / "b.csv")
    frame.with_columns(pl.col("at", "known").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_ndjson(tmp_path / "c.jsonl")
    for i, name in enumerate(("a.parquet", "b.csv", "c.jsonl"), 1):
        studio.facts.register(Played)
        assert studio.append("played", tmp_path / name).appended == 2
        assert studio.append("played", tmp_path / name).again
        assert len(studio.as_of(Played)) == 2 * i


def test_a_file_interrupted_between_batches_goes_on_where_it_stopped(
    studio: mt.Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matinee import files

    lines = [f"{i},1,1.0,2026-01-01T00:00:00Z" for i in range(300)]
    (tmp_path / "long.csv").write_text("member,title,seconds,at\n" + "\n".join(lines) + "\n")
    parts = [
        pl.DataFrame({"member": [str(i)] * 1, "title": ["1"], "seconds": ["1.0"], "at": ["2026-01-01T00:00:00Z"]})
        for i in range(5)
    ]
    monkeypatch.setattr(files, "read", lambda *_a, **_k: iter(parts))
    studio.facts.register(Played)
    done = 0

    def die_after_three(_rows: int) -> None:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studio.facts.append_file("played", tmp_path / "long.csv", progress=die_after_three)
    studio.facts.append_file("played", tmp_path / "long.csv")
    assert sorted(studio.as_of(Played)["member"].to_list()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "must be a file that exists"),
        ("empty.csv", b"", "is empty, must hold at least a header"),
        ("cut.parquet", b"PAR1\x00\x00nothing", "is no whole Parquet file"),
        ("bad.jsonl", b'{"member": 1}\n{"member": \n', "bad.jsonl line 2"),
        ("list.jsonl", b"[1, 2]\n", "list.jsonl line 1"),
        ("plays.xlsx", b"x", "must end in one of .parquet, .csv"),
    ],
)
def test_unreadable_files_say_what_is_wrong(
    studio: mt.Studio, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    studio.facts.register(Played)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=words):
        studio.append("played", tmp_path / name)
    assert len(studio.as_of(Played)) == 0


def test_a_truncated_parquet_file_is_refused_whole(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "plays.parquet"
    plays(*[(i, 1, 1.0, NOW, NOW) for i in range(1000)]).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    studio.facts.register(Played)
    with pytest.raises(BadInputError, match="it may be cut short"):
        studio.append("played", path)


def test_a_csv_is_streamed_in_batches(tmp_path: Path) -> None:
    from matinee import files

    path = tmp_path / "long.csv"
    path.write_text("member,title\n" + "".join(f"{i},1\n" for i in range(250_000)))
    sizes = [len(f) for f in files.read(path, batch_rows=50_000)]
    assert sum(sizes) == 250_000
    assert max(sizes) <= 60_000


def test_schemas_evolve_by_adding_and_renaming(tmp_path: Path) -> None:
    with mt.open(tmp_path / "s", clock=lambda: NOW) as studio:
        studio.append(Played, plays((1, 1, 3.0, NOW, NOW)))
    evolved = type(mt.Fact)(
        "Played",
        (mt.Fact,),
        {
            "__annotations__": {"member": int, "title": int, "watched": float, "device": str | None},
            "__module__": __name__,
        },
        key="member",
        renamed={"watched": "seconds"},
    )
    with mt.open(tmp_path / "s", clock=lambda: NOW) as studio:
        studio.append(
            evolved, pl.DataFrame({"member": [2], "title": [2], "watched": [9.0], "device": ["tv"], "at": [NOW]})
        )
        frame = studio.as_of("played").sort("member")
    assert frame["watched"].to_list() == [3.0, 9.0]
    assert frame["device"].to_list() == [None, "tv"]


def test_quarantined_rows_can_be_mended_and_retried(studio: mt.Studio) -> None:
    studio.facts.register(Played)
    result = studio.append(Played, plays((1, 1, -3.0, NOW, NOW), (2, 2, -1.0, NOW, NOW)))
    batch = result.batches[0]
    retried = studio.facts.retry(batch)
    assert retried.quarantined == 2
    assert studio.quarantine.count() == 2
    relaxed = type(mt.Fact)(
        "Played",
        (mt.Fact,),
        {"__annotations__": {"member": int, "title": int, "seconds": float}, "__module__": __name__},
        key="member",
    )
    studio.facts.register(relaxed)
    retried = studio.facts.retry(retried.batches[0])
    assert (retried.appended, retried.quarantined) == (2, 0)
    assert studio.quarantine.count() == 0


def test_an_unknown_fact_names_the_nearest(studio: mt.Studio) -> None:
    studio.facts.register(Played)
    with pytest.raises(UnknownNameError, match="fact == 'playd'.*did you mean 'played'"):
        studio.as_of("playd")


def test_a_folder_of_other_files_is_no_studio(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(StorageError, match="must be a studio or empty"):
        mt.open(tmp_path)
