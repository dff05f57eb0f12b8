"""One decision: 200 candidates, 10 slots, 3 guards, exact slate propensities, and the line in the log.

    python -m benchmarks.decide [--seconds S] [--smoke] [--json FILE]

Ours is `matinee.decisions.choose` and `Ledger.append` with the durability of a default studio. The peer is what one
would write by hand: the same masks, a softmax drawn slot by slot in NumPy, and one line of msgspec into a file.
Both see the same candidates, contexts and uniforms, in blocks by turns, so that a busy machine disturbs them alike.
`p50_us` and `p99_us` are wall time of a whole decision; `p50_best_block_us` is the median of the block of 50 that was
disturbed least: on a busy machine it is nearer to what the code takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import matinee as mt
from benchmarks.harness import Row, main, measured
from matinee.choices import new_id
from matinee.decisions import Decision, choose
from matinee.ledger import Ledger
from matinee.policies import Candidates, Request, Scores, Softmax
from matinee.times import to_us, utc_now

CANDIDATES, SLOTS, PROVIDERS, BLOCK, REQUESTS = 200, 10, 12, 50, 256


class Window(mt.Fact, key="title", scheduled=True):
    """When a title may be shown."""

    title: int
    starts: datetime
    ends: datetime


class Dot:
    """Scores titles by the product of their vectors with the unit's."""

    name = "dot"
    needs = ()

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """One product a candidate."""
        return Scores(candidates.columns["vector"] @ request.features["taste"])


DECISION = Decision(
    "home", unit="member", among="title", slots=SLOTS,
    guards=[mt.licensed(Window), mt.maturity(limit="age"), mt.at_most(3, per="provider")],
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """How long to measure."""
    parser.add_argument("--seconds", type=float, default=6.0, help="of decisions, both systems together")
    parser.add_argument("--smoke", action="store_true", help="a quarter of a second")


def world() -> tuple[list[Request], Candidates, np.ndarray[Any, Any]]:
    """Requests, candidates and uniforms; everything from one seed."""
    rng = np.random.default_rng(0)
    now = to_us(utc_now())
    day = 86_400_000_000
    starts = now + rng.integers(-40, 4, (CANDIDATES, 2)) * day
    candidates = Candidates(
        np.arange(1, CANDIDATES + 1),
        {
            "vector": rng.normal(size=(CANDIDATES, 32)),
            "maturity": rng.choice([0.0, 6.0, 12.0, 16.0, 18.0], CANDIDATES),
            "provider": rng.integers(0, PROVIDERS, CANDIDATES),
            "window.starts": starts,
            "window.ends": starts + 30 * day,
        },
    )
    requests = [
        Request("home", unit, utc_now(), {"age": (12, 16, 18)[unit % 3], "device": "tv"}, {"taste": rng.normal(size=32) / 8})
        for unit in range(REQUESTS)
    ]
    return requests, candidates, rng.random((REQUESTS, SLOTS))


def by_hand(request: Request, candidates: Candidates, uniforms: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The same decision in plain NumPy: masks, then a softmax over what is left, slot by slot."""
    columns, now = candidates.columns, to_us(request.at)
    licensed = ((columns["window.starts"] <= now) & (now < columns["window.ends"])).any(axis=1)
    mature = columns["maturity"] <= request.context["age"]
    allowed = licensed & mature
    where = np.flatnonzero(allowed)
    provider, used = columns["provider"][where], np.zeros(PROVIDERS, np.int64)
    scores = columns["vector"][where] @ request.features["taste"]
    power = np.exp(scores - scores.max())
    open_ = np.ones(len(where), np.bool_)
    action, chances = [], []
    for u in uniforms:
        p = np.where(open_, power, 0.0)
        p /= p.sum()
        at = min(int(np.searchsorted(np.cumsum(p), u, side="right")), len(p) - 1)
        action.append(int(where[at]))
        chances.append(float(p[at]))
        open_[at] = False
        used[provider[at]] += 1
        if used[provider[at]] >= 3:
            open_ &= provider != provider[at]
    return {
        "id": new_id(), "decision": request.decision, "unit": request.unit, "at": request.at, "policy": "home@1",
        "context": request.context, "candidates": candidates.ids[where].tolist(),
        "blocked": {"licence": candidates.ids[~licensed].tolist(), "maturity": candidates.ids[licensed & ~mature].tolist()},
        "groups": {"provider": provider.tolist()}, "action": candidates.ids[action].tolist(), "propensities": chances,
    }  # fmt: skip


def timed(step: Callable[[int], None], begin: int, count: int) -> list[float]:
    """Microseconds of each of `count` calls."""
    spent, clock = [], time.perf_counter_ns
    for i in range(begin, begin + count):
        start = clock()
        step(i % REQUESTS)
        spent.append((clock() - start) / 1e3)
    return spent


def run(args: argparse.Namespace) -> list[Row]:
    """One row for us, one for plain NumPy."""
    seconds = 0.25 if args.smoke else args.seconds
    requests, candidates, uniforms = world()
    policy = Softmax(Dot(), temperature=0.5)
    encoder = msgspec.json.Encoder()
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "log", "bench") as ledger:
        plain = os.open(Path(folder) / "plain.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def alone(i: int) -> None:
            choose(DECISION, policy, requests[i], candidates, uniforms=uniforms[i], policy_name="home@1")

        def ours(i: int) -> None:
            ledger.append(choose(DECISION, policy, requests[i], candidates, uniforms=uniforms[i], policy_name="home@1"))

        def theirs(i: int) -> None:
            os.write(plain, encoder.encode(by_hand(requests[i], candidates, uniforms[i])) + b"\n")

        check(policy, requests, candidates, uniforms)
        steps = {"matinee": ours, "matinee without the log": alone, "plain NumPy and msgspec": theirs}
        spent: dict[str, list[float]] = {name: [] for name in steps}
        rows: dict[str, Row] = {name: {"system": name, "dataset": f"{SLOTS} of {CANDIDATES}"} for name in steps}
        for name, step in steps.items():
            timed(step, 0, BLOCK)  # compiled, and the segment open
            with measured(rows[name]):
                timed(step, 0, BLOCK)
        totals = {name: [0.0, 0.0] for name in steps}
        until, begin = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            for name, step in steps.items():
                wall, cpu = time.perf_counter(), time.process_time()
                spent[name] += timed(step, begin, BLOCK)
                totals[name][0] += time.perf_counter() - wall
                totals[name][1] += time.process_time() - cpu
            begin += BLOCK
        os.close(plain)
    for name, row in rows.items():
        p50, p99 = np.percentile(spent[name], [50, 99])
        row |= {"p50_us": float(p50), "p99_us": float(p99), "decisions": len(spent[name])}
        blocks = np.median(np.array(spent[name]).reshape(-1, BLOCK), axis=1)
        row["p50_best_block_us"] = float(blocks.min())
        row |= {"seconds": totals[name][0], "cpu_seconds": totals[name][1]}
        row |= {"cpu_us": 1e6 * totals[name][1] / len(spent[name])}
    return list(rows.values())


def check(
    policy: Softmax, requests: list[Request], candidates: Candidates, uniforms: np.ndarray[Any, Any]
) -> None:
    """Both make the same choices with the same chances: otherwise the times compare nothing."""
    for request, u in zip(requests, uniforms, strict=True):
        ours = choose(DECISION, policy, request, candidates, uniforms=u)
        scaled = Request(
            request.decision, request.unit, request.at, request.context,
            {"taste": request.features["taste"] / policy.temperature},
        )  # fmt: skip
        theirs = by_hand(scaled, candidates, u)
        if ours.action != theirs["action"] or not np.allclose(ours.propensities, theirs["propensities"]):
            raise RuntimeError(f"unit {request.unit}: {ours.action} by us, {theirs['action']} by hand; must be the same")


COLUMNS = [
    "system", "dataset", "p50_us", "p99_us", "p50_best_block_us", "cpu_us", "decisions", "seconds", "cpu_seconds", "peak_mb",
]  # fmt: skip

if __name__ == "__main__":
    main("decide", run, options, columns=COLUMNS)
