"""Chart specifications, read as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from matinee.console import charts
from matinee.console.figures import chance_figure, lines_figure, value_figure
from matinee.console.parts import Point

DAY = datetime(2026, 11, 1, tzinfo=UTC)
POINTS = [Point(DAY + timedelta(days=i), 1.0 + i, 0.5 + i, 1.5 + i, 100 * i) for i in range(5)]


def layer(spec: charts.Spec, name: str) -> Any:
    return next(one for one in spec["layer"] if one["name"] == name)


def fields(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("field"), str):
            yield node["field"]
        for value in node.values():
            yield from fields(value)


def specs() -> list[charts.Spec]:
    chance = chance_figure("c", [0.003, 0.02, 0.2, 0.9], of="the title in slot 1")
    lines = lines_figure("l", [("home", 412), ("retry", 36)])
    assert chance is not None and lines is not None
    marks = [(DAY, "release 1")]
    gaps = [(DAY, DAY + timedelta(days=1), "left out")]
    value = charts.value_over_time(
        POINTS, title="t", subtitle="s", marks=marks, gaps=gaps, stop_at=(-1, "stops"), baseline=POINTS
    )
    return [value, dict(chance.spec), dict(lines.spec)]


@pytest.mark.parametrize("spec", specs(), ids=["value", "chance", "lines"])
def test_every_field_is_in_its_data_and_every_style_in_both_houses(spec: charts.Spec) -> None:
    json.dumps(spec, allow_nan=False)
    assert spec["title"]["text"] and spec["title"]["subtitle"] and spec["description"]
    for one in spec["layer"]:
        rows = one.get("data", spec.get("data"))["values"]
        for name in fields(one["encoding"]):
            assert all(name in row for row in rows), (one["name"], name)
        style = one["mark"]["style"]
        for scheme in ("light", "dark"):
            assert style in charts.config(scheme)["style"]  # type: ignore[arg-type]  # both are schemes


def test_the_value_has_its_interval_under_it_and_the_zero_line_over_the_band() -> None:
    spec = charts.value_over_time(POINTS, title="t", subtitle="s", unit="%", signed=True)
    names = [one["name"] for one in spec["layer"]]
    assert names.index("interval") < names.index("zero") < names.index("value")
    band = layer(spec, "interval")["encoding"]
    assert (band["y"]["field"], band["y2"]["field"]) == ("low", "high")
    assert layer(spec, "value")["encoding"]["y"]["axis"]["labelExpr"].endswith("+ ' %'")
    assert layer(spec, "last words")["data"]["values"][0]["text"] == "+5.0 % [4.5, 5.5]"


def test_a_day_without_a_value_is_a_gap_in_the_line() -> None:
    spec = charts.value_over_time([POINTS[0], Point(DAY, None), POINTS[2]], title="t", subtitle="s")
    assert [row["value"] for row in layer(spec, "value")["data"]["values"]] == [1.0, None, 3.0]


def test_light_and_dark_name_the_same_styles_with_other_colours() -> None:
    light, dark = charts.config("light"), charts.config("dark")
    assert light["style"].keys() == dark["style"].keys()
    assert light["style"]["ours"]["color"] == "#C47000" and dark["style"]["ours"]["color"] == "#FFB01F"


def test_the_histogram_counts_every_choice_once_and_says_the_least_chance() -> None:
    chart = chance_figure("c", [0.003] * 6 + [0.5] * 4 + [1.0, 0.0, float("nan")], of="what was chosen")
    assert chart is not None
    bins = layer(dict(chart.spec), "choices")["data"]["values"]
    assert sum(b["share"] for b in bins) == pytest.approx(100)
    assert all(a["high"] == pytest.approx(b["low"]) for a, b in pairwise(bins))
    assert bins[0]["low"] <= 0.3 and bins[-1]["high"] == 100
    for chance, share in ((0.3, 100 * 6 / 11), (50.0, 100 * 5 / 11)):  # a certain choice is in the last bar
        mine = next(b for b in bins if b["low"] <= chance * 1.0001 < b["high"])
        assert mine["share"] == pytest.approx(share)
    assert chart.title == "Nothing was chosen with a chance under 0.3 %"
    assert chance_figure("c", [], of="x") is None


def test_days_are_named_once_and_not_more_than_seven() -> None:
    points = [Point(DAY + timedelta(days=i), 1.0) for i in range(28)]
    spec = charts.value_over_time(points, title="t", subtitle="s")
    days = layer(spec, "value")["encoding"]["x"]["axis"]["values"]
    named = [datetime(d["year"], d["month"], d["date"], tzinfo=UTC) for d in days]  # plain numbers would not be drawn
    assert len(named) == 7 and named == sorted(set(named)) and named[-1].date() == points[-1].at.date()
    assert all(d["utc"] for d in days)


def test_the_table_beside_a_chart_has_a_row_for_each_point() -> None:
    chart = value_figure("v", POINTS, title="t", subtitle="s", unit="%", signed=True)
    assert chart.rows[0] == ("1 Nov", "0", "+1.0 %", "[+0.5, +1.5]")
    assert len(chart.rows) == len(POINTS)


def test_the_last_decision_is_ours_and_one_alone_is_no_chart() -> None:
    assert lines_figure("l", [("home", 412)]) is None
    chart = lines_figure("l", [("home", 412), ("retry", 36)])
    assert chart is not None
    rows = chart.spec["data"]["values"]
    assert [r["last"] for r in rows] == [False, True]
