"""What training costs as members, titles and events grow, on synthetic plays.

    python -m benchmarks.scaling [--most-events 10000000] [--json FILE] [--chart FILE]

Three sweeps, one size growing while the others stay: events (members and titles fixed), titles (events fixed), members
(events fixed). Titles are drawn from a Zipf law within a member's own part of the catalogue, so that there is something
to learn. A point is one fit of one recommender in a process of its own: `cpu_seconds`, `seconds`, and `peak_mb`, the
resident memory beyond the plays themselves; nothing here says how good a model is. A recommender is not asked for sizes
that its docstring rules out (`absent` says why). `--chart` writes a Vega-Lite specification with the points as data.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, main
from matinee import engine
from matinee.domains.personalization.recommenders import Factors, Following, Histories, Popular, Recommender, Together
from matinee.domains.personalization.recommenders.nearby import Nearby

Array = np.ndarray[Any, Any]
PARTS = 20  # parts of the catalogue; a member mostly stays in one
ZIPF = 0.8
SWEEPS = ("events", "titles", "members")
MAKES: dict[str, Callable[[], Recommender]] = {
    "popular": Popular,
    "following": Following,
    "nearby": Nearby,
    "together": Together,
    "factors": lambda: Factors(width=64, sweeps=1),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--most-events", type=int, default=10_000_000, help="largest number of events; 100000000 needs 12 GB"
    )
    parser.add_argument(
        "--most-closed",
        type=int,
        default=10_000,
        help="titles up to which a closed form is solved; 30000 take half an hour",
    )
    parser.add_argument("--systems", nargs="*", choices=list(MAKES), default=list(MAKES), help="recommenders measured")
    parser.add_argument("--chart", type=Path, help="write a Vega-Lite chart here")
    parser.add_argument("--smoke", action="store_true", help="a few thousand events: does it run at all")


def synthetic(members: int, titles: int, events: int, seed: int = 0) -> Histories:
    """Plays without structure in time: each member has a part of the catalogue, and leaves it one time in five.

    Memory: 24 bytes an event at the peak, 16 when done (positions as int64, days as float64).
    """
    rng = np.random.default_rng(seed)
    # Lengths of histories are skewed as they are in life; each member has at least one.
    share = rng.gamma(0.8, size=members) + 1e-3
    lengths = np.maximum(1, np.floor(share / share.sum() * events)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total, size = int(offsets[-1]), max(titles // PARTS, 1)
    own, every = _zipf(size), _zipf(titles)
    items = np.empty(total, np.int64)
    for begin in range(0, members, 100_000):
        rows = np.arange(begin, min(begin + 100_000, members))
        some = slice(int(offsets[rows[0]]), int(offsets[rows[-1] + 1]))
        count = some.stop - some.start
        inside = np.searchsorted(own, rng.random(count)) * PARTS + np.repeat(rows % PARTS, lengths[rows])
        outside = np.searchsorted(every, rng.random(count))
        items[some] = np.minimum(np.where(rng.random(count) < 0.8, inside, outside), titles - 1)
    day = np.arange(total, dtype=np.float64)
    day -= np.repeat(offsets[:-1], lengths)
    return Histories(np.arange(titles), items, offsets, np.arange(members), day)


def _zipf(n: int) -> Array:
    """Cumulative chances."""
    chance = np.arange(1, n + 1, dtype=np.float64) ** -ZIPF
    return np.asarray(np.cumsum(chance / chance.sum()))


def points(most_events: int) -> list[tuple[str, int, int, int]]:
    """(what grows, members, titles, events), from small to large."""
    # A hundred events a member and a catalogue of 5,000 at every size: one of the three moves at a time.
    events = [
        e for e in (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000) if e <= most_events
    ]
    events = events or [most_events]
    middle = min(1_000_000, most_events)
    plan = [("events", max(e // 100, 10), 5_000 if most_events > 50_000 else 300, e) for e in events]
    if most_events > 50_000:
        plan += [("titles", middle // 100, t, middle) for t in (1_000, 3_000, 10_000, 30_000, 100_000)]
        plan += [("members", m, 5_000, middle) for m in (3_000, 10_000, 30_000, 100_000) if m <= middle // 5]
    return plan


def fit(point: tuple[str, int, int, int]) -> dict[str, float]:
    """One fit, in whatever process this is called: what it costs beyond making the plays."""
    system, members, titles, events = point
    small = synthetic(20, 30, 200)
    MAKES[system]().fit(small)  # compiled first
    histories = synthetic(members, titles, events)
    before = _resident()
    begun, cpu = time.perf_counter(), time.process_time()
    MAKES[system]().fit(histories)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu, "events": float(len(histories.items)),
        "peak_mb": max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before),
    }  # fmt: skip


def _resident() -> float:
    """Memory held now, in megabytes: what is left of the peak is the fit's own."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1e3


def run(args: argparse.Namespace) -> list[Row]:
    most = 3_000 if args.smoke else args.most_events
    rows: list[Row] = []
    for grows, members, titles, events in points(most):
        dataset = f"{grows}: {members:,} members, {titles:,} titles, {events:,} events"
        for system in args.systems:
            row: Row = {
                "system": system, "dataset": dataset, "grows": grows, "members": members, "titles": titles, "events": events,
            }  # fmt: skip
            if titles > args.most_closed and system == "together":
                row["absent"] = f"a matrix of {titles:,} x {titles:,}: --most-closed is {args.most_closed:,}"
            elif args.smoke:
                row |= fit((system, members, titles, events))
            else:
                row |= engine.map(fit, [(system, members, titles, events)], engine="local", workers=1)[0]
            rows.append(row)
    if args.chart:
        args.chart.parent.mkdir(parents=True, exist_ok=True)
        args.chart.write_text(json.dumps(chart(rows), indent=1))
    return rows


def chart(rows: list[Row]) -> dict[str, Any]:
    """Processor seconds of a fit against what grows, a panel a sweep, both axes logarithmic; Vega-Lite."""
    measured = [r for r in rows if "cpu_seconds" in r]
    values = [
        {k: r[k] for k in ("system", "grows", "cpu_seconds", "peak_mb")} | {"size": r[r["grows"]]}
        for r in measured
    ]  # fmt: skip
    axis = {"field": "size", "type": "quantitative", "scale": {"type": "log"}, "title": None}
    cost = {
        "field": "cpu_seconds", "type": "quantitative", "scale": {"type": "log"}, "title": "processor seconds of a fit",
    }  # fmt: skip
    panels = [
        {
            "title": f"{grows} grow",
            "transform": [{"filter": {"field": "grows", "equal": grows}}],
            "mark": {"type": "line", "point": True},
            "encoding": {"x": axis | {"title": grows}, "y": cost, "color": {"field": "system", "type": "nominal"}},
        }
        for grows in SWEEPS
        if any(v["grows"] == grows for v in values)
    ]
    return {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "data": {"values": values}, "hconcat": panels}


COLUMNS = ["system", "grows", "members", "titles", "events", "cpu_seconds", "seconds", "peak_mb", "absent"]

if __name__ == "__main__":
    main("scaling", run, options, columns=COLUMNS)
