"""Every bad cell costs its row, with a reason a person understands; a bad header costs the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import BadInputError
from matinee.facts import Entity, Fact, OneOf, Range
from matinee.validate import check_rows

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Played(Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, Range(ge=0, lt=1e6)]
    device: Annotated[str | None, OneOf(("tv", "phone"))] = None


class Licence(Fact, key="title", scheduled=True):
    title: int


class Title(Entity, key="title"):
    title: int
    name: str


def rows(**columns: list[Any]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    base: dict[str, list[Any]] = {"member": [1] * n, "title": [2] * n, "seconds": [3.0] * n, "at": [NOW] * n}
    return pl.DataFrame({**base, **columns}, strict=False)


def reasons(frame: pl.DataFrame, fact: type[Fact] = Played) -> list[str]:
    checked = check_rows(fact.schema, frame, now=NOW)
    assert len(checked.good) + len(checked.bad) == len(frame)
    return [r for row in checked.bad["reasons"].to_list() for r in row]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"member": ["x"]}, "member == x, must be int"),
        ({"member": [None]}, "member is empty, must be int"),
        ({"member": [1.5]}, "member == 1.5, must be int"),
        ({"title": ["1e3"]}, "title == 1e3, must be int"),
        ({"seconds": [float("nan")]}, "seconds == NaN, must be a finite number"),
        ({"seconds": [float("inf")]}, "seconds == inf, must be a finite number"),
        ({"seconds": [-1.0]}, "seconds == -1.0, must be >= 0"),
        ({"seconds": [1e6]}, "must be < 1e+06"),
        ({"seconds": ["long"]}, "seconds == long, must be float"),
        ({"device": ["fridge"]}, "device == fridge, must be one of tv, phone"),
        ({"at": [datetime(2026, 1, 1)]}, "at has no time zone"),  # the point of the case
        ({"at": ["2026-01-01 00:00:00"]}, "has no time zone, must carry one"),
        ({"at": ["yesterday"]}, "must carry one such as Z"),
        ({"at": [NOW + timedelta(days=1)]}, "at lies in the future"),
        ({"known": [NOW + timedelta(days=1)]}, "known lies in the future"),
        ({"known": [NOW - timedelta(days=1)]}, "known is before at"),
    ],
)
def test_a_bad_row_says_why(columns: dict[str, list[Any]], reason: str) -> None:
    assert any(reason in r for r in reasons(rows(**columns))), reasons(rows(**columns))


def test_text_from_a_csv_is_typed_and_empty_text_is_missing() -> None:
    frame = rows(member=["7", " 8 "], seconds=["1.5", "2"], at=["2026-01-01T00:00:00Z", "2026-01-01T02:00:00.25+01:00"])
    checked = check_rows(Played.schema, frame, now=NOW)
    assert len(checked.bad) == 0
    assert checked.good["member"].to_list() == [7, 8]
    assert checked.good["at"].to_list()[1] == datetime(2026, 1, 1, 1, 0, 0, 250_000, tzinfo=UTC)
    assert reasons(rows(member=[""])) == ["member is empty, must be int"]


def test_known_is_the_time_of_appending_unless_given() -> None:
    late = NOW - timedelta(days=1)
    checked = check_rows(Played.schema, rows(at=[late] * 2, known=[late, None]), now=NOW)
    assert checked.good["known"].to_list() == [late, NOW]


def test_scheduled_facts_and_entities_may_speak_of_the_future() -> None:
    ahead = pl.DataFrame({"title": [1], "at": [NOW + timedelta(days=30)]})
    assert reasons(ahead, Licence) == []


def test_an_entity_has_one_state_a_moment() -> None:
    twice = pl.DataFrame({"title": [1, 1, 2], "name": ["a", "b", "c"], "at": [NOW] * 3})
    checked = check_rows(Title.schema, twice, now=NOW)
    assert checked.good["name"].to_list() == ["a", "c"]
    assert "duplicate key" in checked.bad["reasons"].to_list()[0][0]


def test_headers_that_cannot_work_are_refused_whole_with_the_nearest_name() -> None:
    with pytest.raises(BadInputError, match="column == 'second' is not part of played.*did you mean 'seconds'"):
        check_rows(Played.schema, rows(second=[1.0]), now=NOW)
    with pytest.raises(BadInputError, match="column 'title' is missing from played.*the file has member"):
        check_rows(Played.schema, pl.DataFrame({"member": [1], "at": [NOW]}), now=NOW)
    with pytest.raises(BadInputError, match="column 'at' is missing"):
        check_rows(Played.schema, pl.DataFrame({"member": [1], "title": [1], "seconds": [1.0]}), now=NOW)


def test_nothing_is_lost_from_an_empty_frame() -> None:
    checked = check_rows(Played.schema, rows(member=[1]).head(0), now=NOW)
    assert checked.good.columns[-2:] == ["choice", "outcome"]
    assert len(checked.good) == len(checked.bad) == 0


cells = st.one_of(st.none(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=6), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_whatever_comes_is_good_or_bad_with_a_reason(values: list[tuple[Any, Any]]) -> None:
    from matinee.files import frame_of

    frame = frame_of([{"member": a, "title": 1, "seconds": b, "at": NOW} for a, b in values])
    checked = check_rows(Played.schema, frame, now=NOW)
    assert len(checked.good) + len(checked.bad) == len(values)
    assert all(checked.bad["reasons"].list.len() > 0)
    assert checked.good["member"].null_count() == 0
    assert checked.good["seconds"].is_finite().all()
    assert (checked.good["seconds"] >= 0).all()
