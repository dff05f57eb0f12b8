"""How results read: numbers by their kind, intervals, what is absent."""

from __future__ import annotations

from typing import Any

import pytest

from matinee.results import Table, interval, number, text_table


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.40312, "0.403"), (12345, "12,345"), (-12345.6, "−12,346"), (0.0001234, "0.000123"), (7.0, "7"), (None, "–"),
     (float("nan"), "–"), (99.96, "100.0"), (1.5, "1.50")],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_that_lacks_an_end_is_absent() -> None:
    assert (interval(-0.5, 1.25), interval(None, 1.0), interval(0.0, None)) == ("[−0.500, 1.25]", "–", "–")


class Two(Table):
    def rows(self) -> list[dict[str, Any]]:
        return [{"name": "<a>", "value": 0.5, "span": (0.25, 0.75)}, {"name": "b", "value": None, "span": None}]

    def notes(self) -> list[str]:
        return ["one & two"]


def test_one_table_as_text_json_html_and_polars() -> None:
    assert str(Two()) == "name  value  span\n<a>   0.500  [0.250, 0.750]\nb         –  –\none & two"
    assert Two().to_json()["rows"][0] == {"name": "<a>", "value": 0.5, "span": [0.25, 0.75]}
    html = Two()._repr_html_()
    assert "<td>&lt;a&gt;</td>" in html
    assert "<p>one &amp; two</p>" in html
    assert Two().to_polars()["span_low"].to_list() == [0.25, None]


def test_no_rows_is_said() -> None:
    assert text_table([]) == "(no rows)"
    assert text_table([{"ok": True}, {"ok": False}]) == "ok\nyes\nno"
