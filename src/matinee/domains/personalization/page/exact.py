"""The best small page there is: rows, places and titles at once, as an integer programme (SciPy's HiGHS).

What stage-wise construction is measured against. The value of a page is sum over places of
row_decay^row * column_decay^column * weight of the row's kind * worth of the title, no title twice, rows of at least
`least` titles, contracts kept: what `construct` maximises one row at a time, without its calibration, diversity and
stability, which look back at the rows above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.page.construct import Scene
from matinee.domains.personalization.page.settings import Layout

Array = np.ndarray[Any, Any]
MOST = 40_000  # (title, row, place) variables


@dataclass(frozen=True)
class Best:
    """The best page that was found.

    Attributes:
        rows: Index into the scene's rows, one a row of the page.
        titles: The candidates of each, in order.
        value: What the page is worth.
        bound: What no page can be worth more than; the value itself where the search ended.
    """

    rows: list[int]
    titles: list[list[int]]
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """How far the value may be from the best, as a share of the bound."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


def value(scene: Scene, layout: Layout, rows: Sequence[int], titles: Sequence[Sequence[int]]) -> float:
    """What a page is worth, by examination alone."""
    total = 0.0
    for i, (row, shown) in enumerate(zip(rows, titles, strict=True)):
        looked = layout.row_decay**i * layout.column_decay ** np.arange(len(shown))
        total += layout.weight(scene.rows[row].kind) * float(looked @ scene.worth[np.asarray(shown, np.int64)])
    return total


def solve(scene: Scene, layout: Layout, *, seconds: float = 30.0) -> Best:
    """The page of the most value.

    Args:
        scene: Rows and titles; limits over the page are not part of the programme.
        layout: Size, decays, weights of kinds, contracts.
        seconds: When to stop with the best page found so far and the bound on any.

    Raises:
        MatineeError: If the page is too large for it, has limits, or none was found in time.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    if scene.limits:
        raise mt.MatineeError("the scene has limits between slots, must have none: contracts are the rows' limits")
    places = [
        (r, i, j, int(t)) for r, row in enumerate(scene.rows) for t in row.titles
        for i in range(layout.rows) for j in range(layout.columns)
    ]  # fmt: skip
    if not places or len(places) > MOST:
        raise mt.MatineeError(f"{len(places):,} places for titles, must be 1 to {MOST:,}: an exact page is a small one")
    r, i, j, t = (np.array(column) for column in zip(*places, strict=True))
    count, rows, columns = len(scene.rows), layout.rows, layout.columns
    n = len(places)
    weight = np.array([layout.weight(row.kind) for row in scene.rows])
    gain = weight[r] * layout.row_decay**i * layout.column_decay**j * scene.worth[t]
    chosen = n + np.arange(count * rows).reshape(count, rows)  # whether row r stands at place i
    total = n + count * rows
    lines: list[tuple[Array, Array, Array, Array, Array]] = []

    def add(line: Array, variable: Array, factor: Array | float, low: Array | float, high: Array | float) -> None:
        many = int(line.max()) + 1 if len(line) else 0
        lines.append((
            line, variable, np.broadcast_to(np.asarray(factor, np.float64), line.shape),
            np.broadcast_to(np.asarray(low, np.float64), (many,)), np.broadcast_to(np.asarray(high, np.float64), (many,)),
        ))  # fmt: skip

    x = np.arange(n)
    add(t, x, 1, -np.inf, 1)  # no title twice
    cell = (r * rows + i) * columns + j
    add(np.concatenate([cell, np.arange(count * rows * columns)]), np.concatenate([x, np.repeat(chosen.ravel(), columns)]),
        np.concatenate([np.ones(n), -np.ones(count * rows * columns)]), -np.inf, 0)  # one title a place, of the row there
    # No gap within a row: a place is filled only where the one before it is.
    later, before = np.flatnonzero(j > 0), np.flatnonzero(j < columns - 1)
    gap = (r * rows + i) * (columns - 1)
    if columns > 1:
        add(np.concatenate([gap[later] + j[later] - 1, gap[before] + j[before]]), np.concatenate([later, before]),
            np.concatenate([np.ones(len(later)), -np.ones(len(before))]), -np.inf, 0)
    least = min(layout.least, columns)
    own = r * rows + i
    add(np.concatenate([own, np.arange(count * rows)]), np.concatenate([x, chosen.ravel()]),
        np.concatenate([np.ones(n), np.full(count * rows, -float(least))]), 0, np.inf)
    add(np.tile(np.arange(rows), count), chosen.ravel(), 1, -np.inf, 1)  # one row at each place
    add(np.repeat(np.arange(count), rows), chosen.ravel(), 1, -np.inf, 1)  # each row once
    for k in range(rows - 1):  # no gap between rows
        add(np.zeros(2 * count, np.int64), np.concatenate([chosen[:, k + 1], chosen[:, k]]),
            np.concatenate([np.ones(count), -np.ones(count)]), -np.inf, 0)
    for one in layout.contracts:
        theirs = [k for k, row in enumerate(scene.rows) if row.provider == one.provider]
        if not theirs:
            continue
        within = chosen[theirs, : one.within or rows].ravel()
        owed = min(one.at_least, len(theirs))
        add(np.zeros(len(within), np.int64), within, 1, owed, np.inf)
        every = chosen[theirs].ravel()
        add(np.zeros(len(every), np.int64), every, 1, -np.inf, np.inf if one.at_most is None else one.at_most)
    line, variable, factor, low, high = (list(column) for column in zip(*lines, strict=True))
    begins = np.concatenate([[0], np.cumsum([len(one) for one in low])])
    where = np.concatenate([one + begin for one, begin in zip(line, begins[:-1], strict=True)]), np.concatenate(variable)
    matrix = coo_array((np.concatenate(factor), where), shape=(int(begins[-1]), total)).tocsr()
    limits = LinearConstraint(matrix, np.concatenate(low), np.concatenate(high))
    found = milp(
        np.concatenate([-gain, np.zeros(count * rows)]), constraints=limits, integrality=np.ones(total), bounds=Bounds(0, 1),
        options={"time_limit": float(seconds), "mip_rel_gap": 1e-6},
    )  # fmt: skip
    if found.x is None:
        raise mt.MatineeError(f"no page was found in {seconds:g} s: {found.message}")
    there = found.x[:n] > 0.5
    page: dict[int, dict[int, tuple[int, int]]] = {}
    for row, at, place, title in zip(r[there], i[there], j[there], t[there], strict=True):
        page.setdefault(int(at), {})[int(place)] = (int(row), int(title))
    order = sorted(page)
    chosen_rows = [page[at][min(page[at])][0] for at in order]
    shown = [[page[at][k][1] for k in sorted(page[at])] for at in order]
    own_value = value(scene, layout, chosen_rows, shown)
    return Best(chosen_rows, shown, own_value, max(own_value, -float(found.mip_dual_bound)))
