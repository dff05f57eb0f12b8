"""Numbers, times and whiskers as the console writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.console.formats import (
    NBSP,
    chance,
    clip,
    decimals,
    fixed,
    in_words,
    interval_text,
    large,
    length,
    moment,
    percent,
    rich,
    scale,
    spark,
    value_text,
    whisker,
)
from matinee.console.parts import Estimate, Point

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [
        (2.2, 4.0, 1),
        (5.76, 5.81, 2),
        (0.7, 1.4, 1),
        (8.6, 11.0, 1),
        (120, 180, 0),
        (0.0003, 0.0009, 4),
        (1, 1, 1),
        (None, 2, 1),
    ],
)
def test_an_interval_decides_how_many_decimals(low: float | None, high: float | None, places: int) -> None:
    assert decimals(low, high) == places


def test_a_value_is_written_with_its_interval_a_real_minus_and_a_space_that_does_not_break() -> None:
    e = Estimate(0.8, -0.1, 1.7, unit="%", signed=True)
    assert (value_text(e), interval_text(e)) == (f"+0.8{NBSP}%", "[−0.1, +1.7]")
    refused = Estimate(None, refused="overlap")
    assert (value_text(refused), interval_text(refused)) == ("no answer", "")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.612, "61.2 %"), (0.0, "0 %"), (1.0, "100 %"), (0.00002, "under 0.1 %"), (None, "–"), (float("nan"), "–")],
)
def test_shares(share: float | None, text: str) -> None:
    assert percent(share).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.182, "18 %"), (0.0092, "0.92 %"), (1.0, "100 %"), (0.00012, "0.012 %"), (1e-9, "under 0.0001 %")]
)
def test_chances_keep_two_digits(p: float, text: str) -> None:
    assert chance(p).replace(NBSP, " ") == text


def test_words() -> None:
    assert (large(2_410_332), large(48_730), in_words(4), in_words(48)) == ("2.41 million", "48,730", "four", "48")
    assert (length(timedelta(seconds=41)), length(timedelta(minutes=14)), length(timedelta(days=9))) == (
        "41 s",
        "14 min",
        "9 days",
    )
    assert clip("title_attributes@77aa01", 12) == "title_a…aa01"
    at = datetime(2025, 11, 2, 9, 5, tzinfo=UTC)
    assert moment(at, datetime(2026, 1, 1, tzinfo=UTC)) == "2 Nov 2025 09:05"


def test_rich_text_marks_up_after_escaping() -> None:
    assert str(rich("**<b>** `x<y` & **`code` in bold**")) == (
        "<b>&lt;b&gt;</b> <code>x&lt;y</code> &amp; <b><code>code</code> in bold</b>"
    )


@given(st.text())
def test_rich_text_never_lets_markup_through(text: str) -> None:
    out = str(rich(text))
    for tag in ("<b>", "</b>", "<code>", "</code>"):
        out = out.replace(tag, "")
    assert "<" not in out and ">" not in out


def test_a_scale_holds_zero_and_labels_its_last_tick_with_the_unit() -> None:
    on = scale([Estimate(3.1, 2.2, 4.0, unit="%", signed=True), Estimate(9.8, 8.6, 11.0, unit="%", signed=True)])
    assert [t for _, t in on.ticks] == ["0", "+5", f"+10{NBSP}%"]
    assert 0 < on.at(0) < on.at(3.1) < on.at(9.8) < 100


def test_one_very_wide_interval_does_not_flatten_the_others() -> None:
    narrow = [Estimate(1.0, 0.8, 1.2), Estimate(1.4, 1.2, 1.6)]
    assert scale([*narrow, Estimate(0, -500, 500)]).high < 3


def test_whiskers() -> None:
    on = scale([Estimate(1, -1, 3)])
    assert whisker(Estimate(1, 0.5, 1.5), on)[0] == ""
    assert whisker(Estimate(1, -0.5, 1.5), on)[0] == "open"
    assert whisker(Estimate(None), on)[0] == "none"
    assert whisker(Estimate(1, 0.5, 1.5, baseline=True), on)[0] == "base"
    assert whisker(Estimate(1, 0.5, 1.5, reference=-9), on)[0] == "nz"  # no tick where there is nothing to stand on


@given(st.lists(st.tuples(FINITE, FINITE, FINITE), max_size=8))
def test_every_mark_stays_inside_its_column(triples: list[tuple[float, float, float]]) -> None:
    estimates = [Estimate(v, min(a, b), max(a, b)) for v, a, b in triples]
    on = scale(estimates)
    assert on.low < on.high
    assert all(0 <= on.at(v) <= 100 for e in estimates for v in (e.value or 0.0, e.low or 0.0, e.high or 0.0))


@given(FINITE, st.integers(0, 4))
def test_a_number_written_is_that_number(value: float, places: int) -> None:
    text = fixed(value, places, signed=True).replace("−", "-").replace(",", "").replace("+", "")
    assert float(text) == pytest.approx(value, abs=0.51 * 10**-places)


def test_a_spark_needs_three_points_and_stays_in_its_box() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    one, two, three = Point(at, 1.0, 0.5, 1.5), Point(at, 2.0, 1.0, 3.0), Point(at, 1.5, 1.0, 2.0)
    assert spark([one, Point(at, None), two]) is None
    drawn = spark([one, Point(at, None), two, three])
    assert drawn is not None and drawn.line == "M0.0 16.0L50.0 8.0L100.0 12.0" and drawn.zero == 24.0


def test_a_column_of_nothing_but_refusals_has_no_figures_on_its_scale() -> None:
    assert scale([Estimate(None, unit="%", refused="too few")]).ticks == ((0.0, "0"),)
