"""Posters drawn from a title's name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.console import posters

TOKENS = (Path(posters.__file__).parent / "static" / "tokens.css").read_text()


def test_the_same_title_has_the_same_poster_in_every_process() -> None:
    assert posters.poster(7, "Glass Harbour") == posters.poster("7", "Glass Harbour")
    assert (posters.poster(7, "x").shape, posters.poster(7, "x").palette) == ("lighthouse", 5)


def test_all_sixteen_shapes_and_ten_palettes_are_used() -> None:
    made = [posters.poster(i, f"Title {i}") for i in range(2000)]
    shapes, palettes = Counter(p.shape for p in made), Counter(p.palette for p in made)
    assert len(posters.SHAPES) == 16 and set(shapes) == set(posters.SHAPES) and set(palettes) == set(range(1, 11))
    assert max(shapes.values()) < 3 * min(shapes.values())


@pytest.mark.parametrize("name", list(posters.SHAPES))
def test_a_shape_is_drawn_in_three_inks_only(name: str) -> None:
    root = ET.fromstring(f"<g>{posters.SHAPES[name]()}</g>")
    marks = list(root)
    assert marks and {m.get("class") for m in marks} <= {"a", "b", "p"}
    assert not any(m.get("fill") or m.get("style") for m in marks)


def test_short_names_are_large_and_long_ones_fit() -> None:
    assert posters.fit("Halogen") == 28.0
    assert 13.0 <= posters.fit("The Cartographer’s Wife") <= 20.5
    assert posters.fit("A Very Long Title That Goes On and On Through the Night") <= 17.5


def test_a_word_too_long_for_the_card_is_set_small_and_broken() -> None:
    assert posters.fit("W" * 40) == 11.0


@given(st.text(min_size=1, max_size=60))
def test_every_name_gets_a_size(name: str) -> None:
    assert 11.0 <= posters.fit(name) <= 28.0


def test_symbols_are_written_once_and_hidden_from_readers() -> None:
    cards = [posters.poster(7, "a"), posters.poster(7, "b")]
    text = str(posters.symbols(cards))
    assert text.count("<symbol") == 1 and 'aria-hidden="true"' in text
    assert str(posters.symbols([])) == ""


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours `#RRGGBB` (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_name_can_be_read_on_every_palette() -> None:
    found = re.findall(r"\.k(\d+) \{ --pp: (#\w{6}); --pi: (#\w{6})", TOKENS)
    assert len(found) == posters.PALETTES
    assert all(contrast(paper, ink) >= 4.5 for _, paper, ink in found)
