"""The words of a bound."""

from __future__ import annotations

from typing import Any

import pytest

from matinee.checks import must
from matinee.exceptions import MatineeError


@pytest.mark.parametrize(
    ("value", "rule", "words"),
    [
        (1.4, {"le": 1}, "share == 1.4, must be <= 1"),
        (0, {"gt": 0}, "share == 0, must be > 0"),
        (-1, {"ge": 0}, "share == -1, must be >= 0"),
        (5, {"lt": 5}, "share == 5, must be < 5"),
        (float("nan"), {"ge": 0}, "share == nan, must be a number"),
        ("1", {"typ": int}, "share == '1', must be int, not str"),
        (True, {"typ": int}, "share == True, must be int, not bool"),
        ("x", {"typ": (int, float)}, "share == 'x', must be int or float, not str"),
        ("decid", {"one_of": ["decide", "plan"]}, "share == 'decid', must be one of 'decide', 'plan'; did you mean 'decide'?"),
    ],
)
def test_what_is_out_of_bounds_is_said(value: Any, rule: dict[str, Any], words: str) -> None:
    with pytest.raises(MatineeError) as raised:
        must(value, "share", **rule)
    assert str(raised.value) == words


@pytest.mark.parametrize(
    ("value", "rule"), [(1, {"le": 1}), (True, {"typ": bool}), (0, {"ge": 0, "lt": 1}), ("a", {"one_of": ["a"]})]
)
def test_what_is_within_comes_back(value: Any, rule: dict[str, Any]) -> None:
    assert must(value, "share", **rule) is value
