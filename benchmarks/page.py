"""Small pages: stage-wise construction against the best page there is (an integer programme, proven).

    python -m benchmarks.page [--pages N] [--size ROWS COLUMNS] [--seconds S] [--json FILE]

Scenes are drawn from one seed: rows that overlap in a third to two thirds of their titles, as genres and decades do,
some of them owed to a provider. Value is what `matinee.domains.personalization.page.exact` maximises; `share` is the
value as a share of the best page's, `worst` the least of all scenes, `gap` what the solver could not prove in its time.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.harness import Row as Line
from benchmarks.harness import main, measured
from matinee.domains.personalization.page import Contract, Layout, Row, Scene, construct
from matinee.domains.personalization.page.construct import sparse
from matinee.domains.personalization.page.exact import solve, value

Array = np.ndarray[Any, Any]


def options(parser: argparse.ArgumentParser) -> None:
    """How many pages, how large, how long the solver may take."""
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(3, 4), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--titles", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=7, help="rows that a page is chosen from")
    parser.add_argument("--seconds", type=float, default=20.0, help="for the solver, a page")
    parser.add_argument("--smoke", action="store_true", help="two tiny pages")


def scene(seed: int, titles: int, candidates: int, columns: int) -> Scene:
    """Rows with overlapping titles of falling worth."""
    rng = np.random.default_rng(seed)
    worth = np.sort(rng.beta(1, 6, titles))[::-1].copy()
    kinds = ["genre", "era", "because", "new", "pair", "provider"]
    rows = []
    for k in range(candidates):
        kind = kinds[k % len(kinds)]
        own = np.sort(rng.choice(titles, min(titles, int(rng.integers(columns, 3 * columns))), replace=False))
        rows.append(Row(kind, str(k), own, provider="Alder" if kind == "provider" else ""))
    return Scene(rows, worth, sparse(np.zeros((titles, 1))), np.arange(titles), np.zeros(1))


def grid(rows: list[int], picked: Array, lengths: list[int]) -> list[list[int]]:
    """The titles of each row."""
    cuts = np.cumsum([0, *lengths]).tolist()
    return [picked[cuts[k] : cuts[k + 1]].tolist() for k in range(len(rows))]


def run(args: argparse.Namespace) -> list[Line]:
    """One row a system: stage-wise, in any order of rows, exact."""
    if args.smoke:
        args.pages, args.size, args.titles, args.candidates = 2, (2, 2), 8, 4
    rows, columns = args.size
    size = Layout(
        rows=rows, columns=columns, least=2, temperature=1e-3, floor=0.0, calibration=0.0, diversity=1.0, stability=0.0,
        row_decay=0.8, contracts=(Contract("Alder", at_least=1),),
    )  # fmt: skip
    scenes = [scene(seed, args.titles, args.candidates, columns) for seed in range(args.pages)]
    name = f"{rows} x {columns}, {args.candidates} rows, {args.titles} titles"
    construct(scenes[0], size, np.zeros(size.slots))  # compiled before it is timed
    found: dict[str, tuple[Line, list[float], list[float]]] = {}
    best = []
    line: Line = {"system": "exact (HiGHS)", "dataset": name}
    spent = []
    with measured(line):
        for one in scenes:
            began = time.perf_counter()
            best.append(solve(one, size, seconds=args.seconds))
            spent.append(time.perf_counter() - began)
    found["exact"] = line, [b.value for b in best], spent
    line, values, spent = {"system": "matinee", "dataset": name}, [], []
    with measured(line):
        for one in scenes:
            began = time.perf_counter()
            page = construct(one, size, np.full(size.slots, 0.5))
            spent.append(time.perf_counter() - began)
            values.append(value(one, size, page.rows, grid(page.rows, page.picked, page.lengths)))
    found["matinee"] = line, values, spent
    line, values, spent = {"system": "rows in a fixed order", "dataset": name}, [], []
    with measured(line):
        for one in scenes:
            began = time.perf_counter()
            shown: list[list[int]] = []
            for row in one.rows[:rows]:
                taken = {t for titles in shown for t in titles}
                shown.append([t for t in row.titles.tolist() if t not in taken][:columns])
            spent.append(time.perf_counter() - began)
            values.append(value(one, size, list(range(rows)), shown))
    found["fixed"] = line, values, spent
    out = []
    for line, values, spent in (found["matinee"], found["fixed"], found["exact"]):
        share = np.array(values) / np.array([b.value for b in best])
        out.append(line | {
            "share": float(share.mean()), "worst": float(share.min()), "best_found": int((share > 1 - 1e-6).sum()),
            "pages": len(scenes), "ms_a_page": 1e3 * float(np.mean(spent)),
        })  # fmt: skip
    out[-1]["gap"] = float(np.mean([b.gap for b in best]))
    return out


COLUMNS = ["system", "dataset", "share", "worst", "best_found", "pages", "ms_a_page", "gap"]

if __name__ == "__main__":
    main("page", run, options, columns=COLUMNS)
