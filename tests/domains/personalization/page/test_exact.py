"""The exact page: against every page there is, and against stage-wise construction."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.page import Contract, Layout, Row, Scene, construct
from matinee.domains.personalization.page.exact import solve, value
from matinee.draw import Limit

from .scenes import scene, whole
from .test_construct import grid


def layout(**more: object) -> Layout:
    plain: dict[str, object] = {
        "rows": 2, "columns": 2, "least": 1, "temperature": 0.01, "floor": 0.0, "calibration": 0.0, "diversity": 1.0,
        "stability": 0.0, "row_decay": 0.8, "column_decay": 0.7,
    }  # fmt: skip
    return Layout(**{**plain, **more})  # type: ignore[arg-type]


def every_page(at: Scene, size: Layout) -> float:
    """Value of the best page, by trying them all."""
    best = 0.0

    def extend(rows: list[int], titles: list[list[int]]) -> None:
        nonlocal best
        if rows:
            best = max(best, value(at, size, rows, titles))
        if len(rows) == size.rows:
            return
        taken = {t for shown in titles for t in shown}
        for r, row in enumerate(at.rows):
            left = [t for t in row.titles.tolist() if t not in taken]
            if r in rows:
                continue
            for n in range(size.least, min(size.columns, len(left)) + 1):
                for shown in permutations(left, n):
                    extend([*rows, r], [*titles, list(shown)])

    extend([], [])
    return best


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_pages(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = scene([rng.permutation(6)[: rng.integers(2, 5)].tolist() for _ in range(3)], rng.random(6).tolist(),
               ["genre", "picked", "new"])  # fmt: skip
    size = layout(least=int(rng.integers(1, 3)))
    found = solve(at, size)
    assert found.value == pytest.approx(every_page(at, size), rel=1e-5)
    assert found.gap < 1e-4
    assert len({t for shown in found.titles for t in shown}) == sum(map(len, found.titles))
    made = construct(at, size, np.full(4, 0.5))
    assert value(at, size, made.rows, grid(made)) <= found.value + 1e-9


def test_greedy_takes_the_bait_and_the_exact_page_does_not() -> None:
    """The best row uses up the titles that make the other two rows good."""
    at = scene([[0, 1], [0, 2], [1, 3]], [0.5, 0.5, 0.45, 0.45])
    size = layout(column_decay=1.0, row_decay=1.0)
    made = construct(at, size, np.full(4, 0.5))
    found = solve(at, size)
    assert sorted(found.rows) == [1, 2]
    assert found.value == pytest.approx(1.9)
    assert value(at, size, made.rows, grid(made)) == pytest.approx(1.45)


def test_contracts_are_part_of_it() -> None:
    rows = [Row("genre", str(k), np.array([2 * k, 2 * k + 1]), provider="Alder" if k == 2 else "") for k in range(3)]
    at = whole(rows, np.array([0.9, 0.9, 0.8, 0.8, 0.1, 0.1]), np.zeros((6, 1)), np.zeros(1))
    assert solve(at, layout()).rows == [0, 1]
    assert solve(at, layout(contracts=(Contract("Alder", at_least=1),))).rows == [0, 2]
    assert solve(at, layout(contracts=(Contract("Alder", at_least=1, within=1),))).rows == [2, 0]
    assert solve(at, layout(rows=3, contracts=(Contract("Alder", at_most=0),))).rows == [0, 1]


def test_what_it_cannot_do_is_said() -> None:
    at = scene([[0, 1]], [0.5, 0.4])
    at.limits = [Limit(np.zeros(2, np.int64), 1)]
    with pytest.raises(mt.MatineeError, match="must have none"):
        solve(at, layout())
    big = scene([list(range(400))] * 5, [0.5] * 400)
    with pytest.raises(mt.MatineeError, match="80,000 places for titles, must be 1 to 40,000"):
        solve(big, layout(rows=8, columns=5))
