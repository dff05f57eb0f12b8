"""Splits: stable, in the shares promised, independent between salts, and only ever adding units."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import DeclarationError, MatineeError, UnknownNameError
from matinee.experiments import Split
from matinee.experiments.split import point

UNITS = range(20_000)


def test_known_answers_do_not_change() -> None:
    # A change of the hash would move every member of every running experiment.
    assert point("home@1", 42) == pytest.approx(0.541700677196587, abs=1e-12)
    assert point("home@1", "ann") == pytest.approx(0.28106480681390217, abs=1e-12)


def test_it_is_the_same_in_another_process() -> None:
    code = "from matinee.experiments import Split; s = Split('x', {'a': .5, 'b': .5}); print(*map(s.assign, range(50)))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    split = Split("x", {"a": 0.5, "b": 0.5})
    assert there == [split.assign(u) for u in range(50)]


def test_serving_needs_no_numpy() -> None:
    code = "import sys, matinee.experiments; print({'numpy', 'scipy', 'polars'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


@pytest.mark.parametrize(
    "arms", [{"a": 0.95, "b": 0.05}, {"a": 0.2, "b": 0.3, "c": 0.5}, {"a": 0.1, "b": 0.7, "c": 0.2}]
)
def test_shares_are_as_promised(arms: dict[str, float]) -> None:
    split = Split("shares", arms)
    counts = Counter(split.assign(u) for u in UNITS)
    for arm, share in arms.items():
        assert split.probability(arm) == share
        assert abs(counts[arm] / len(UNITS) - share) < 4 * (share * (1 - share) / len(UNITS)) ** 0.5


def test_salts_are_independent() -> None:
    one, two = Split("one", {"a": 0.5, "b": 0.5}), Split("two", {"a": 0.5, "b": 0.5})
    table = Counter((one.assign(u), two.assign(u)) for u in UNITS)
    expected = len(UNITS) / 4
    assert sum((n - expected) ** 2 / expected for n in table.values()) < 16.3  # chi-square, 3 df, p = .001
    assert Split("one", {"a": 0.5, "b": 0.5}, salt="two").assign(7) == two.assign(7)


def test_neighbouring_units_are_independent() -> None:
    split = Split("x", {"a": 0.5, "b": 0.5})
    same = sum(split.assign(u) == split.assign(u + 1) for u in UNITS)
    assert abs(same / len(UNITS) - 0.5) < 0.015


def test_units_are_the_same_as_numbers_and_as_text() -> None:
    split = Split("x", {"a": 0.5, "b": 0.5})
    assert all(split.assign(u) == split.assign(str(u)) for u in range(500))
    assert point("ab", "c") != point("a", "bc")


shares = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(lambda xs: [x / (sum(xs) + 20) for x in xs])


@given(before=shares, grow=st.lists(st.floats(0, 1), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_segments_fill_the_line_with_the_shares(before: list[float], grow: list[float]) -> None:
    arms = {"base": 1 - sum(before)} | {f"t{i}": s for i, s in enumerate(before)}
    split = Split("x", arms)
    assert split.segments[0].low == 0 and split.segments[-1].high == pytest.approx(1)
    assert all(a.high == pytest.approx(b.low) for a, b in pairwise(split.segments))
    for arm, share in arms.items():
        assert sum(s.high - s.low for s in split.segments if s.arm == arm) == pytest.approx(share, abs=1e-6)


@given(small=st.floats(0.01, 0.4), more=st.floats(1.0, 2.4), arms=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_ramp_only_adds_units(small: float, more: float, arms: int) -> None:
    each = small / arms
    before = Split("ramp", {"base": 1 - each * arms} | {f"t{i}": each for i in range(arms)})
    after = before.ramp({"base": 1 - each * more * arms} | {f"t{i}": each * more for i in range(arms)})
    for unit in range(2_000):
        arm = before.assign(unit)
        if arm != "base":
            assert after.assign(unit) == arm


def test_an_arm_may_join_or_grow_alone() -> None:
    one = Split("x", {"base": 0.9, "a": 0.05, "b": 0.05})
    two = one.ramp({"base": 0.6, "a": 0.35, "b": 0.05})
    assert all(two.assign(u) == one.assign(u) for u in range(5_000) if one.assign(u) != "base")
    full = Split("x", {"base": 0.95, "a": 0.05}).ramp({"base": 0.0, "a": 1.0})
    assert {full.assign(u) for u in range(1_000)} == {"a"}


def test_an_arm_that_ends_gives_its_units_to_the_base() -> None:
    one = Split("x", {"base": 0.5, "a": 0.25, "b": 0.25})
    two = one.ramp({"base": 0.75, "a": 0.25, "b": 0.0})
    for unit in range(5_000):
        expected = {"b": "base"}.get(one.assign(unit), one.assign(unit))
        assert two.assign(unit) == expected


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"base": 0.5, "b": 0.5}, "arm == 'a', must stay in a ramp"),
        ({"a": 0.3, "base": 0.4, "b": 0.3}, "base == 'a', must be 'base'"),
        ({"base": 0.0, "a": 0.2, "b": 0.8}, "would (move|take) units"),
        ({"base": 0.6, "a": 0.6, "b": 0.2}, "sum to 1.4"),
    ],
)
def test_ramps_that_would_move_units_are_refused(arms: dict[str, float], says: str) -> None:
    split = Split("x", {"base": 0.2, "a": 0.4, "b": 0.4})
    with pytest.raises(DeclarationError, match=says):
        split.ramp(arms)


def test_a_ramp_keeps_the_salt_that_placed_the_units() -> None:
    split = Split("x@1", {"base": 0.9, "new": 0.1}, salt="since the first release")
    wider = split.ramp({"base": 0.7, "new": 0.3})
    assert wider.salt == split.salt
    before = [u for u in UNITS if split.assign(u) == "new"]
    assert before
    assert all(wider.assign(u) == "new" for u in before)


def test_an_arm_that_outgrows_its_part_takes_what_others_reach_last() -> None:
    split = Split("x", {"base": 0.2, "a": 0.6, "b": 0.2})
    assert [(s.arm, round(s.low, 9), round(s.high, 9)) for s in split.segments] == [
        ("a", 0.0, 0.5), ("b", 0.5, 0.7), ("base", 0.7, 0.9), ("a", 0.9, 1.0),
    ]  # fmt: skip
    full = split.ramp({"base": 0.0, "a": 0.6, "b": 0.4})  # both stay, until the base has nothing left to give
    assert {full.assign(u) for u in UNITS if split.assign(u) == "b"} == {"b"}
    assert {full.assign(u) for u in UNITS if split.assign(u) == "a"} == {"a"}


def test_a_ramp_that_would_put_units_back_whose_arm_does_not_shrink_is_refused() -> None:
    """A new arm moves the parts that all arms grow into: units of `b` would go back to the base although it grows."""
    split = Split("x", {"base": 0.9, "a": 0.05, "b": 0.05})
    with pytest.raises(DeclarationError, match="would take units from 'b', whose share does not shrink"):
        split.ramp({"base": 0.75, "a": 0.05, "b": 0.1, "c": 0.1})


def test_each_edge_belongs_to_the_arm_on_its_right() -> None:
    split = Split("x", {"a": 0.5, "b": 0.25, "c": 0.25})
    assert [split._at(s.low) for s in split.segments] == [s.arm for s in split.segments]
    assert split._at(0.0) == split.segments[0].arm


def test_excluded_units_are_in_no_arm() -> None:
    split = Split("x", {"a": 0.5, "b": 0.5})
    found = split.assign_all(range(100), excluded=[u % 2 == 0 for u in range(100)])
    assert found == [None if u % 2 == 0 else split.assign(u) for u in range(100)]


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(DeclarationError, match="at least one arm"):
        Split("x", {})
    with pytest.raises(DeclarationError, match=r"arms sum to 0.9, must sum to 1"):
        Split("x", {"a": 0.5, "b": 0.4})
    with pytest.raises(MatineeError, match=r"arms\['a'\] == -0.5, must be >= 0"):
        Split("x", {"a": -0.5, "b": 1.5})
    with pytest.raises(UnknownNameError, match="did you mean 'control'"):
        Split("x", {"control": 1.0}).probability("contrl")
