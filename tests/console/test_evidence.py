"""Recorded evidence in words: differences, refusals, and a policy that was judged on its own choices."""

from __future__ import annotations

from typing import Any

import pytest

from matinee.console.building import evidence
from matinee.console.parts import Estimate

ANSWER: dict[str, Any] = {
    "id": 1, "policy": "home@3", "against": "logged", "method": "dr", "value": 0.42, "interval": [0.40, 0.44],
    "difference": 0.02, "difference_interval": [0.01, 0.03], "logged": 0.40, "logged_interval": [0.38, 0.42],
    "effective_n": 8940.2, "choices": 12000, "refused": None, "missing": None, "unit": "plays", "at": 1_795_000_000.0,
}  # fmt: skip
REFUSAL = {
    **ANSWER, "difference": None, "difference_interval": None, "refused": "effective n == 1.9, must be >= 50",
    "missing": "about 15,000 more",
}  # fmt: skip


def test_an_answer_is_a_difference_with_its_interval() -> None:
    row = evidence.rows([ANSWER])[0]
    assert row.question == "**home@3** against what was logged"
    assert row.method == "Off-policy, doubly robust, 8,940 effective of 12,000 choices"
    assert (row.value.value, row.value.low, row.value.high, row.says) == (0.02, 0.01, 0.03, "Tells them apart: better")
    assert evidence.words(row.value, "plays a choice") == "**+0.020** plays a choice [+0.010, +0.030]"


def test_a_refusal_is_a_row_too_and_says_what_is_missing() -> None:
    row = evidence.rows([REFUSAL])[0]
    assert row.value.value is None and row.says == "effective n == 1.9, must be >= 50; about 15,000 more"


def test_per_cent_of_what_was_logged_is_as_wide_as_both_allow() -> None:
    e = evidence.relative(ANSWER)
    assert e.value == pytest.approx(5.0)
    assert (e.low, e.high) == (pytest.approx(100 * 0.01 / 0.42), pytest.approx(100 * 0.03 / 0.38))
    worse = evidence.relative({**ANSWER, "difference": -0.02, "difference_interval": [-0.03, -0.01]})
    assert (worse.low, worse.high) == (pytest.approx(-100 * 0.03 / 0.38), pytest.approx(-100 * 0.01 / 0.42))
    assert evidence.relative({**ANSWER, "logged_interval": [-0.1, 0.42]}).refused is not None
    assert evidence.relative(REFUSAL).refused == REFUSAL["refused"]


def test_a_policy_judged_on_its_own_choices_is_known() -> None:
    assert evidence.of_itself({**ANSWER, "effective_n": 12000.0})
    assert not evidence.of_itself(ANSWER)
    assert not evidence.of_itself({**ANSWER, "effective_n": 12000.0, "against": "home@1"})
    assert not evidence.of_itself({**REFUSAL, "choices": 0, "effective_n": None})


@pytest.mark.parametrize(
    ("e", "said"),
    [
        (Estimate(1.23, 0.4, 2.0, unit="%"), "a brings 1.2\u00a0% more than b"),
        (Estimate(-64.0, -101.0, -27.0, unit="%"), "a brings 64\u00a0% less than b"),
        (Estimate(1.0, -1.0, 3.0, unit="%"), "a and b cannot be told apart yet"),
        (Estimate(None, refused="20 units of 30 needed"), "a cannot be compared with b yet: 20 units of 30 needed"),
    ],
)
def test_a_comparison_is_a_sentence(e: Estimate, said: str) -> None:
    assert evidence.compare(e, "a", "b") == said
