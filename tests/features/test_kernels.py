"""The loops under the batch plan, against NumPy, as written and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from matinee.features import kernels

Run = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture(params=["interpreted", "compiled"])
def run(request: pytest.FixtureRequest) -> Run:
    return (lambda kernel: kernel) if request.param == "interpreted" else kernels._compiled


def test_rows_are_grouped_in_their_order(run: Run) -> None:
    offsets, order = run(kernels.group_rows)(np.array([1, 0, -1, 1, 3, 0]), 4)
    assert offsets.tolist() == [0, 2, 4, 4, 5] and order.tolist() == [1, 5, 0, 3, 4]


@pytest.mark.parametrize("kind", ["sorted", "late", "reversed", "random", "equal", "files"])
def test_groups_are_sorted_by_three_keys(run: Run, kind: str) -> None:
    rng = np.random.default_rng(1)
    n = 600
    first = np.arange(n) // 3
    if kind == "late":
        first = first + np.where(rng.random(n) < 0.1, -40, 0)
    elif kind == "reversed":
        first = first[::-1].copy()
    elif kind == "random":
        first = rng.integers(0, 50, n)
    elif kind == "files":
        first = np.concatenate([np.sort(rng.integers(0, 200, n // 5)) for _ in range(5)])
    elif kind == "equal":
        first = np.zeros(n, np.int64)
    second, third, code = rng.integers(0, 3, n), rng.permutation(n), rng.integers(0, 5, n)
    offsets, order = run(kernels.group_rows)(code, 5)
    run(kernels.sort_groups)(offsets, first, second, third, order)
    assert order.tolist() == np.lexsort((third, second, first, code)).tolist()


def test_groups_keep_the_order_of_equal_rows(run: Run) -> None:
    same = np.zeros(50, np.int64)
    first = np.arange(50)[::-1] // 10
    offsets, order = run(kernels.group_rows)(same, 1)
    run(kernels.sort_groups)(offsets, first, same, same, order)
    assert order.tolist() == np.argsort(first, kind="stable").tolist()


def test_few_rows_are_interpreted_until_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_interpreted", 0)
    for _ in range(1_000):
        assert kernels.fast(kernels.group_rows, kernels.TINY - 1) is kernels.group_rows
    for _ in range(3):
        kernels.fast(kernels.group_rows, kernels.SMALL // 2)
    assert kernels.fast(kernels.group_rows, 1) is not kernels.group_rows
