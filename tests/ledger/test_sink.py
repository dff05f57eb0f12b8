"""Sealing into the studio's real tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from matinee.exceptions import StorageError, UnknownNameError
from matinee.facts import Schema
from matinee.ledger import CHOICES_SCHEMA, OUTCOMES_SCHEMA, Ledger, TableSink, choice_from_row, segments, streams
from matinee.tables import Tables

from .records import FACTS, Held, choice, outcome, run


def fact(name: str) -> Schema:
    if name not in FACTS:
        raise UnknownNameError("fact", name, FACTS)
    return FACTS[name]


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    yield Tables(tmp_path / "studio")


def log(folder: Path, *records: Any) -> str:
    with Ledger(folder, "web") as ledger:
        for record in records:
            ledger.append(record)
    return ledger.stream


def test_choices_come_back_from_the_table_equal(tmp_path: Path, tables: Tables) -> None:
    given = [choice(unit=i, candidates=[1, "b"] if i % 2 else [1, 2, i]) for i in range(40)]
    stream = log(tmp_path / "log", *given)
    sink = TableSink(tables, fact)
    run(tmp_path / "log", sink)
    rows = tables.scan("choices").sort("seq").collect()
    assert [choice_from_row(r) for r in rows.to_dicts()] == given
    assert sink.marks("choices") == {stream: 1}
    assert tables.properties("choices")[f"matinee.sealed.{stream}"] == "1"
    assert tables.schema("choices").names == CHOICES_SCHEMA.names
    one = tables.scan("choices", keys=["7"]).collect()
    assert one["unit"].to_list() == ["7"]


def test_outcomes_are_counted_once_across_seals_and_facts_have_their_rows(tmp_path: Path, tables: Tables) -> None:
    held = Held()
    for ids in (["a", "a", "b"], ["b", "c"], ["a"]):
        log(tmp_path / "log", *(outcome(id=i, choice=f"c-{i}") for i in ids))
        log(tmp_path / "log", outcome(id=f"p{ids[-1]}", fact="paid", row={"invoice": "i", "number": len(ids)}))
        run(tmp_path / "log", TableSink(tables, fact), held)
    outcomes = tables.scan("outcomes").collect()
    assert sorted(outcomes["id"]) == ["a", "b", "c", "pa", "pb", "pc"]
    assert outcomes.columns == OUTCOMES_SCHEMA.names
    played = tables.scan("played").sort("seq").collect()
    assert played["outcome"].to_list() == ["a", "b", "c"]
    assert played["choice"].to_list() == ["c-a", "c-b", "c-c"]
    assert sorted(tables.scan("paid").collect()["number"]) == [1, 2, 3]
    log(tmp_path / "log", outcome(id="again", fact="paid", row={"invoice": "i", "number": 2}))
    run(tmp_path / "log", TableSink(tables, fact), held)
    assert [h[2] for h in held] == ["duplicate key: the table already has this invoice, number, must be unique"]


def test_an_id_with_the_same_hash_is_another_outcome(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    from matinee.ledger import columns, sink

    for module in (columns, sink):
        monkeypatch.setattr(module, "id_hash", lambda one: 7)
    into = TableSink(tables, fact)
    into.write("outcomes", columns.outcomes_table([outcome(id="a")], [42], ["web-0/000001:0"]), {"web-0": 1})
    assert into.counted(["a", "b"]) == {"a": "web-0/000001:0"}
    assert into.counted(["b"]) == {}
    assert into.counted([]) == {}


def test_a_studio_may_number_the_rows_itself(tmp_path: Path, tables: Tables) -> None:
    numbers = iter([1000, 5000, 7000])

    def commit(table: str, rows: pl.DataFrame, mark: Mapping[str, str]) -> None:
        first = next(numbers)
        tables.append(table, rows.with_columns(seq=pl.int_range(first, first + len(rows), dtype=pl.Int64)), mark=mark)

    log(tmp_path / "log", choice(), choice(), outcome())
    run(tmp_path / "log", TableSink(tables, fact, commit=commit))
    assert sorted(tables.scan("choices").collect()["seq"]) == [1000, 1001]
    assert tables.scan("outcomes").collect()["seq"].to_list() == [5000]
    assert tables.scan("played").collect()["seq"].to_list() == [7000]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_seal_that_dies_at_any_commit_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    plain = Tables.append
    for at in (1, 2, 3):
        folder = tmp_path / str(at)
        tables, count = Tables(folder / "studio"), [0]

        def dying(self: Tables, *given: Any, at: int = at, count: list[int] = count, **named: Any) -> Any:
            count[0] += 1
            if count[0] == at and not after:
                raise StorageError("the disk is full")
            done = plain(self, *given, **named)
            if count[0] == at:
                raise StorageError("the process ends here")
            return done

        log(folder / "log", choice(id="c"), outcome(id="a"), outcome(id="b"), outcome(id="a"))
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "append", dying)
            with pytest.raises(StorageError):
                run(folder / "log", TableSink(tables, fact))
        log(folder / "log", outcome(id="b"))
        run(folder / "log", TableSink(tables, fact))
        assert tables.scan("choices").collect()["id"].to_list() == ["c"]
        assert sorted(tables.scan("outcomes").collect()["id"]) == ["a", "b"]
        assert sorted(tables.scan("played").collect()["outcome"]) == ["a", "b"]
        assert all(not segments(folder / "log", s) for s in streams(folder / "log"))


def test_present_finds_what_the_table_has(tables: Tables) -> None:
    sink = TableSink(tables, fact)
    schema = FACTS["paid"]
    rows = pl.DataFrame({"invoice": ["i", "j", "k"], "number": [1, 1, 2]})
    assert sink.present(schema, rows, ["invoice", "number"]).is_empty()
    tables.create("paid", schema.arrow(), key="invoice")
    stamp = pl.lit("2026-11-22T18:00:00Z").str.to_datetime("%+", time_unit="us", time_zone="UTC")
    tables.append("paid", rows.head(2).with_columns(at=stamp, known=stamp))
    assert sorted(sink.present(schema, rows, ["invoice", "number"]).rows()) == [("i", 1), ("j", 1)]
