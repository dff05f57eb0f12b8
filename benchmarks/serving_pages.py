"""In-process serving of personalization: the top 100 from a raw history, and a whole page of 40 x 40, on one core.

What `benchmarks.serving` runs beside its HTTP rows. The recommender is the one that a catalogue of that size gets:
implicit factors, whose members are folded in from their raw history with every request; nothing of the member is kept
between two requests. The page goes the whole way of a decision: guards, rows, titles, conditional chances, the line in
the log.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, measured
from matinee.choices import Choice
from matinee.decisions import check_slate, choose
from matinee.domains.personalization.facts import Licence
from matinee.domains.personalization.page import Contract, Layout, PageModel, Pages, Relevance, Titles, shelves
from matinee.domains.personalization.recommenders import Histories, Recommender
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.wishes import Unhidden
from matinee.ledger import Ledger
from matinee.times import to_us, utc_now

Array = np.ndarray[Any, Any]
DAY = timedelta(days=1)
GENRES = 18
PAGE = mt.Decision(
    "page", unit="member", among="title", slots=1600,
    guards=[mt.licensed(Licence, territory="territory"), mt.maturity(), Unhidden(), mt.at_most(400, per="provider")],
)  # fmt: skip


def world(titles: int, members: int, history: int) -> tuple[pl.DataFrame, list[Array], mt.Candidates]:
    """A catalogue, histories of members with tastes, and the candidates as they are published. One seed."""
    rng = np.random.default_rng(0)
    names = np.array([f"Genre {i:02}" for i in range(GENRES)])
    main = rng.integers(0, GENRES, titles)
    more = rng.integers(0, GENRES, (titles, 2))
    genres = [sorted({names[a], *names[b[: a % 3]].tolist()}) for a, b in zip(main, more, strict=True)]
    providers = np.array([f"Provider {i:02}" for i in range(12)])[rng.integers(0, 12, titles)]
    ids = np.arange(1, titles + 1)
    frame = pl.DataFrame(
        {"title": ids, "genres": genres, "year": rng.integers(1950, 2026, titles), "provider": providers}
    )
    appeal = rng.pareto(1.2, titles) + 0.05
    own = [np.flatnonzero(main == g) for g in range(GENRES)]
    made = []
    for _ in range(members):
        likes = rng.integers(0, GENRES, 3)
        pool = np.concatenate([own[g] for g in likes])
        chance = appeal[pool] / appeal[pool].sum()
        made.append(ids[rng.choice(pool, min(history, len(pool) // 2), replace=False, p=chance)])
    now = utc_now()
    starts = np.array([to_us(now - int(d) * DAY) for d in rng.integers(1, 400, titles)])[:, None]
    columns = {
        "licence.starts": starts, "licence.ends": starts + rng.integers(300, 1500, (titles, 1)) * 86_400_000_000,
        "licence.territory": np.full((titles, 1), "*"), "maturity": rng.choice([0.0, 6.0, 12.0, 16.0, 18.0], titles),
        "plays_7d": rng.poisson(appeal * 20).astype(np.float64), "provider": np.unique(providers, return_inverse=True)[1],
    }  # fmt: skip
    return frame, made, mt.Candidates(ids, columns)


def request(member: int, history: Array, now: datetime) -> mt.Request:
    """What a server knows of a member at the moment of asking."""
    seen = history.tolist()
    features = {
        "played_recently": seen, "begun": seen[-3:], "begun_share": [0.95, 0.4, 0.3], "hidden_titles": seen[:2],
        "hidden_flags": [True, True], "shown_often": {int(t): 2 for t in seen[:20]},
    }  # fmt: skip
    return mt.Request("page", member, now, {"country": "DE", "maturity_limit": (12, 16, 18)[member % 3]}, features)


@contextmanager
def one_core() -> Iterator[None]:
    """This process on its first core only, as a server worker is."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def timed(step: Callable[[int], Any], requests: int, row: Row) -> Row:
    """Adds wall p50 and p99, and the processor time of a request, which a busy machine disturbs least."""
    for i in range(10):
        step(i)
    wall, cpu = np.zeros(requests), np.zeros(requests)
    with one_core(), measured(row):
        for i in range(requests):
            began, spent = time.perf_counter(), time.process_time()
            step(i)
            wall[i], cpu[i] = time.perf_counter() - began, time.process_time() - spent
    row |= {"p50_ms": 1e3 * float(np.quantile(wall, 0.5)), "p99_ms": 1e3 * float(np.quantile(wall, 0.99))}
    row |= {"cpu_p50_ms": 1e3 * float(np.quantile(cpu, 0.5)), "cpu_p99_ms": 1e3 * float(np.quantile(cpu, 0.99))}
    return row | {"requests": requests}


def check(choice: Choice, asked: mt.Request, candidates: mt.Candidates) -> None:
    """A page that is not what it should be measures nothing."""
    wrong = check_slate(PAGE, asked, candidates, choice.action)
    if choice.fallback or wrong:
        raise RuntimeError(choice.fallback or wrong[0])


def bare(vectors: Array) -> Row:
    """What the arithmetic alone takes: one pass over vectors of that size and the 100 largest."""
    def step(i: int) -> Array:
        return np.asarray(np.argpartition(-(vectors @ vectors[i % len(vectors)]), 100)[:100])

    return timed(step, 500, {"system": "NumPy: one product, 100 largest", "dataset": f"top-100 of {len(vectors):,}, in process"})


def run(titles: int, members: int, history: int, requests: int, rows: int, columns: int) -> list[Row]:
    """One row for the top 100, one for the page, one for the arithmetic alone."""
    frame, histories, candidates = world(titles, members, history)
    learned = Histories.of_sequences(histories)
    recommender: Recommender = Factors(sweeps=2).fit(learned)
    model = PageModel.fit(recommender, Titles.of(frame), learned, relevance=Relevance())
    model.name = "front-page@1"
    now = utc_now()
    found = [bare(recommender.vectors)]  # type: ignore[attr-defined]

    def best(i: int) -> None:
        recommender.recommend(histories[i % members], 100)

    found.append(timed(best, requests, {"system": "matinee", "dataset": f"top-100 of {titles:,}, in process"}))
    layout = Layout(rows=rows, columns=columns, contracts=(Contract("Provider 03", at_least=1, at_most=3, within=10),))
    policy = Pages(model, layout)
    asked = [request(m, histories[m % members], now) for m in range(min(members, 400))]
    for one in asked[:3]:
        numbers = np.random.default_rng(one.unit).random(PAGE.slots)
        choice = choose(PAGE, policy, one, candidates, uniforms=numbers)
        check(choice, one, candidates)
    rng = np.random.default_rng(1)
    filled = len(choice.action), len(shelves(choice))
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "log", "bench") as ledger:

        def page(i: int) -> None:
            made = choose(PAGE, policy, asked[i % len(asked)], candidates, uniforms=rng.random(PAGE.slots), policy_name="p@1")
            ledger.append(made)

        row: Row = {"system": "matinee", "dataset": f"page {rows} x {columns} of {titles:,}, in process, logged"}
        found.append(timed(page, requests, row) | {"slots": filled[0], "rows_filled": filled[1]})
    return found
