"""Facts are declared as typed classes; what cannot work is said where it is written."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

import pytest

from matinee.exceptions import DeclarationError, MatineeError, UnknownColumnError
from matinee.facts import Entity, Fact, OneOf, Range, Schema, fact_class, snake_case


class Played(Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, Range(ge=0)]
    device: Annotated[str, OneOf(("tv", "phone"))] = "tv"
    note: str | None = None


class Title(Entity, key="title"):
    title: str
    genres: list[str] | None
    launched: date | None


def test_schema_says_what_was_declared() -> None:
    schema = Played.schema
    assert (schema.name, schema.key, schema.entity) == ("played", "member", False)
    assert schema.columns == ["member", "title", "seconds", "device", "note"]
    assert [f.required for f in schema.fields] == [True, True, True, False, False]
    assert schema.field("device").one_of == ("tv", "phone")
    assert Title.schema.entity
    assert Title.schema.field("genres").kind == "list[str]"


def test_schema_survives_json_and_gives_a_working_class() -> None:
    again = Schema.from_json(Played.schema.to_json())
    assert again == Played.schema
    cls = fact_class(again)
    assert cls(member=1, title=2, seconds=3.0).row == Played(member=1, title=2, seconds=3.0).row
    assert repr(cls.title) == "Played.title"


def test_a_row_takes_defaults_and_converts_nothing_silently() -> None:
    row = Played(member=1, title=2, seconds=3)
    assert row.row == {"member": 1, "title": 2, "seconds": 3.0, "device": "tv", "note": None}
    for wrong in ({"member": "1"}, {"member": 1.0}, {"member": True}, {"seconds": "3"}):
        with pytest.raises(MatineeError, match="must be"):
            Played(**{"member": 1, "title": 2, "seconds": 3.0, **wrong})
    with pytest.raises(MatineeError, match="Played.title is missing"):
        Played(member=1, seconds=3.0)
    with pytest.raises(UnknownColumnError, match="did you mean 'seconds'"):
        Played(member=1, title=2, secnds=3.0)
    with pytest.raises(MatineeError, match="has no time zone"):
        Played(member=1, title=2, seconds=3.0, at=datetime(2026, 1, 1))  # the point of the test


def test_a_misspelt_column_is_named_with_the_nearest() -> None:
    with pytest.raises(
        UnknownColumnError, match="column == 'secnds', must be a column of Played .* did you mean 'seconds'"
    ):
        _ = Played.secnds


def test_expressions_need_no_instance_and_have_no_truth() -> None:
    condition = (Played.seconds > 1200) & (Played.device == "tv")
    assert condition.value({"seconds": 1300.0, "device": "tv"}) is True
    with pytest.raises(DeclarationError, match="must be combined with & and |"):
        bool(condition)


@pytest.mark.parametrize(
    ("body", "key", "words"),
    [
        ({"member": int, "at": datetime}, "member", "must have another name"),
        ({"member": int}, "memberr", "key == 'memberr', must be a column"),
        ({"member": int}, None, "must name its key"),
        ({"member": float}, "member", "must be int or str to be a key"),
        ({"member": int, "x": complex}, "member", "must be int, float, str"),
        ({"member": int, "x": int | str}, "member", "must be int, float, str"),
    ],
)
def test_bad_declarations(body: dict[str, Any], key: str | None, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        type(Fact)("Bad", (Fact,), {"__annotations__": body, "__module__": __name__}, key=key)


def test_snake_case() -> None:
    assert [snake_case(n) for n in ("Played", "LicenceWindow", "HTTPCall")] == ["played", "licence_window", "http_call"]


def test_bounds_are_kept() -> None:
    assert Played.schema.field("seconds").bounds == Range(ge=0)
    assert Played(member=1, title=2, seconds=1.0, at=datetime(2026, 1, 1, tzinfo=UTC)).at == datetime(
        2026, 1, 1, tzinfo=UTC
    )
