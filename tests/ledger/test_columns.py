"""Choices into table columns and back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.choices import Advice, Choice, Id
from matinee.ledger import CHOICES_SCHEMA, OUTCOMES_SCHEMA, choice_from_row
from matinee.ledger.columns import (
    LoggedChoice,
    choices_table,
    decode_logged,
    id_hash,
    ids_as_text,
    outcomes_table,
    text_as_ids,
)
from matinee.ledger.lines import encode

from .records import NOW, choice, outcome


def logged(record: Choice) -> LoggedChoice:
    """As sealing reads it from the log."""
    read = decode_logged(encode(record))
    assert isinstance(read, LoggedChoice)
    return read


def without_seq(schema: pa.Schema) -> pa.Schema:
    """What is handed to a table, which numbers the rows itself."""
    return schema.remove(schema.get_field_index("seq"))


def back(records: list[Choice]) -> list[Choice]:
    """Through the log, the table and Polars."""
    rows = [logged(r) for r in records]
    table = choices_table(rows, [r.ids() for r in rows], ["web-0/1:0"] * len(records))
    assert table.schema.equals(without_seq(CHOICES_SCHEMA))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    assert [choice_from_row(r) for r in table.to_pylist()] == records
    older = table.drop_columns(["plan"]).to_pylist()  # sealed before there were plans
    assert [choice_from_row(r) for r in older] == [msgspec.structs.replace(r, plan=None) for r in records]
    return [choice_from_row(r) for r in frame.to_dicts()]


def test_a_choice_as_a_row() -> None:
    read = logged(choice(id="a", unit="42", context={"device": "tv"}))
    table = choices_table([read], [read.ids()], ["web-0/000001:0"])
    row = table.to_pylist()[0]
    assert (row["id"], row["unit"], row["unit_type"]) == ("a", "42", "str")
    assert (row["candidates"], row["id_type"], row["action"]) == (["7", "8", "9"], "int", ["8"])
    assert (row["context"], row["propensities"], row["fallback"]) == ('{"device":"tv"}', [0.25], None)
    assert row["at"] == row["known"] == NOW


def test_rows_of_all_kinds_of_ids_keep_their_order() -> None:
    records = [
        choice(candidates=[7, 8], action=[8]),
        choice(candidates=["1h", "stop"], action=["stop"]),
        choice(candidates=["7", 7], action=[7]),
        choice(candidates=[], action=[], propensities=[]),
        choice(candidates=["7"], action=[7]),  # each list of one type, together mixed
        choice(candidates=[-(2**62), 0], action=[], propensities=[]),
        choice(candidates=["a,b", '"', "\\", ",", '","', ""], action=[""]),
        choice(candidates=[""], action=[]),
        choice(candidates=["", 0, ","], action=[","]),
        choice(candidates=[",", ",", ""], action=["", ""]),
        choice(candidates=["", ",", 0, ",", ""], action=[0]),
        choice(candidates=["é", "\n"], action=["é"]),
        choice(candidates=["[1]"], action=["]"]),
        choice(candidates=[2**70], action=[2**70]),
        choice(candidates=list(range(300)), action=list(range(40))),
    ]
    assert back(records) == records
    for record in records:
        assert back([record]) == [record]


_id: st.SearchStrategy[Id] = st.integers() | st.text(st.sampled_from('ab,"\\1-[] é'), max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(_id, max_size=5), st.lists(_id, max_size=3)), max_size=6))
def test_any_ids_come_back_with_their_types(rows: list[tuple[list[Id], list[Id]]]) -> None:
    records = [choice(candidates=c, action=a) for c, a in rows]
    found = back(records)
    assert found == records
    kinds = [[type(i) for i in (*r.candidates, *r.action)] for r in found]
    assert kinds == [[type(i) for i in (*c, *a)] for c, a in rows]


def test_every_short_list_of_awkward_ids_comes_back() -> None:
    awkward: list[Id] = ["", ",", "a", ",,", ",0,", 0, -1, '"', "\\", "[", "]"]
    lists = [list(ids) for length in range(4) for ids in itertools.product(awkward, repeat=length)]
    rows = [logged(choice(candidates=ids, action=[])) for ids in lists]
    table = choices_table(rows, [r.ids() for r in rows], [""] * len(rows))
    found = zip(table["candidates"].to_pylist(), table["id_type"].to_pylist(), strict=True)
    assert [text_as_ids(texts, kind) for texts, kind in found] == lists


@settings(deadline=None)
@given(st.lists(_id), st.lists(_id))
def test_text_of_ids_is_one_to_one(candidates: list[Id], action: list[Id]) -> None:
    kind, c, a = ids_as_text(candidates, action)
    assert (text_as_ids(c, kind), text_as_ids(a, kind)) == (candidates, action)


def test_everything_else_of_a_choice_comes_back() -> None:
    full = choice(
        unit=-3, at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), arm="b", mode="advise", context={"x": [1, {"y": None}]},
        blocked={"licensed": [1, "2"]}, groups={"per provider": [0, 1, 0]}, propensities=[1 / 3, 5e-324],
        fallback="why", items_at=NOW, estimated=True, cluster="household 9", chosen_by="ada",
        advice=[Advice(option=7, value=1.5, low=1.0, drivers={"g": 0.25}), Advice(option="b", blocked_by="x")],
    )  # fmt: skip
    assert back([full, choice()])[0] == full


@pytest.mark.parametrize("bad", [[1.5], [None], [[1]], [True], [{"a": 1}]])
def test_an_id_that_is_neither_number_nor_text_is_refused(bad: list[Any]) -> None:
    raw = msgspec.json.encode(msgspec.structs.replace(choice(), candidates=bad))
    read = decode_logged(raw)
    assert isinstance(read, LoggedChoice)
    with pytest.raises(msgspec.ValidationError):
        read.ids()


def test_a_naive_time_in_the_log_is_refused() -> None:
    raw = msgspec.json.encode(choice()).replace(b"18:00:00Z", b"18:00:00")
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        decode_logged(raw)


def test_an_outcome_as_a_row() -> None:
    table = outcomes_table([outcome(id="o", choice="c")], [42], ["web-0/000001:17"])
    assert table.schema.equals(without_seq(OUTCOMES_SCHEMA))
    row = table.to_pylist()[0]
    assert (row["id"], row["choice"], row["fact"], row["unit"]) == ("o", "c", "played", "42")
    assert (row["id_hash"], row["source"]) == (id_hash("o"), "web-0/000001:17")


def test_the_hash_of_an_id_does_not_change() -> None:
    assert id_hash("o") == id_hash("o") != id_hash("p")
    assert id_hash("") == -1970711489451281740  # BLAKE2b-64 of nothing: e4a6a0577479b2b4
