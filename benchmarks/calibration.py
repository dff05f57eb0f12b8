"""Calibration: the genre mix of a list of ten against the mix of the member's history (Steck 2018), and what it costs.

    python -m benchmarks.calibration --ratings ml-1m/ratings.parquet [--movies ml-1m/movies.dat] [--json FILE]

Members, histories and targets are those of `strong_generalization`: 80% of what a held-out member liked is the history,
the other 20% is to be found. `ndcg10` and `kl` are means over members; `loss` and `drop` are relative to the same
recommender without re-ranking; `loss_low` and `loss_high` are the 95% interval of the loss, paired by member.

A method that draws a list at random has two divergences. `kl` is that of what it shows on average over visits, as in
ExCalibR; `kl_list` is the mean over single lists. For a method with one list both are the same.

Every weight of the curve is shown; the rows without a `weight` column to compare are the ones that were chosen: the
largest weight that cost at most 1% of ndcg10 on the validation members, over several splits of their histories.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, main, measured
from benchmarks.strong_generalization import Held, Split, standard
from matinee.domains.personalization.page import Lottery, Relevance, divergence, exchange, greedy, lottery, mix, shares
from matinee.domains.personalization.page.relevance import descending
from matinee.domains.personalization.page.rerank import discounts
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.recommenders.together import Together

Array = np.ndarray[Any, Any]
LENGTH = 10
DEEP = 400  # titles of a member that a list is chosen from
SPLITS = 3  # of each validation member's likes, in choosing a weight
SHARE = 0.55  # of the closed form in the recommender, the rest implicit factors
MOST_LOSS = 0.01
SEARCHED: dict[str, tuple[float, ...]] = {
    "greedy": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9),
    "exchange": (0.005, 0.01, 0.02, 0.03, 0.035, 0.04, 0.05, 0.07, 0.1, 0.2),
    "lottery": (0.005, 0.01, 0.02, 0.03, 0.035, 0.04, 0.045, 0.05, 0.07, 0.1, 0.2),
}
NAMES = {
    "greedy": "greedy re-rank (Steck 2018), on scores", "exchange": "matinee, one list (exchanges, on chances)",
    "lottery": "matinee",
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """The files, and how many members are held out."""
    parser.add_argument("--ratings", type=Path, required=True, help="Parquet: user, item, rating, pos (rank in time)")
    parser.add_argument("--movies", type=Path, help="id::title::genre|genre; movies.dat beside the ratings by default")
    parser.add_argument("--held-out", type=int, default=500, help="validation members, and as many test members")
    parser.add_argument("--smoke", action="store_true", help="narrow factors, few weights: does it run at all")


@dataclass
class Case:
    """One held-out member.

    Attributes:
        scores: Of every title, minus infinity for those in the history.
        history: How many titles are in it.
        wanted: Its mix.
        targets: Positions of the titles to be found.
    """

    scores: Array
    history: int
    wanted: Array
    targets: Array

    @property
    def ideal(self) -> float:
        """Discounted gain of the best possible list."""
        return float(discounts(min(LENGTH, len(self.targets))).sum())


class Recommending:
    """The recommender that is re-ranked: the closed form and implicit factors, each in its own deviations."""

    def __init__(self, train: Histories, *, smoke: bool = False) -> None:
        self.parts = (Together().fit(train), (Factors(width=8, sweeps=2) if smoke else Factors()).fit(train))
        self.titles = train.titles

    def scores(self, given: Histories) -> Array:
        """Scores of all titles for all members, shape (members, titles)."""
        out = np.zeros((len(given), len(self.titles)))
        for share, part in zip((SHARE, 1 - SHARE), self.parts, strict=True):
            found = part.scores_of(given).astype(np.float64)
            whole = np.repeat(found.min(axis=1, keepdims=True), len(self.titles), axis=1)
            whole[:, np.searchsorted(self.titles, part.titles)] = found
            out += share * standard(whole)
        return out


def cases(one: Recommending, held: Held, genres: Array) -> list[Case]:
    """The members who have something to be found."""
    scores, out = one.scores(held.given), []
    for m in range(len(held.given)):
        own = held.given.items[held.given.offsets[m] : held.given.offsets[m + 1]]
        targets = held.targets[held.offsets[m] : held.offsets[m + 1]]
        if len(targets) and len(own):
            scores[m, own] = -np.inf
            out.append(Case(scores[m], len(own), mix(genres, own), targets))
    return out


def resplit(held: Held, seed: int) -> Held:
    """The same members with another fifth of what they liked to be found."""
    rng = np.random.default_rng(seed)
    given, sought, offsets = [], [], [0]
    for m in range(len(held.given)):
        own = held.given.items[held.given.offsets[m] : held.given.offsets[m + 1]]
        every = np.concatenate([own, held.targets[held.offsets[m] : held.offsets[m + 1]]])
        hide = np.zeros(len(every), np.bool_)
        if len(every) >= 5:
            hide[rng.choice(len(every), int(0.2 * len(every)), replace=False)] = True
        given.append(held.given.titles[every[~hide]])
        sought.append(every[hide])
        offsets.append(offsets[-1] + int(hide.sum()))
    histories = Histories.of_sequences(given, held.given.members.tolist()).against(held.given.titles)
    return Held(histories, held.low, np.concatenate(sought), np.array(offsets))


@dataclass
class Outcome:
    """What a method came to with each member: gain, divergence of what it shows on average, and of single lists."""

    ndcg: Array
    kl: Array
    kl_list: Array
    microseconds: float


def judge(method: str, weight: float, members: list[Case], genres: Array, relevance: Relevance) -> Outcome:
    """Re-rank every member's list."""
    ndcg, kl, kl_list = (np.zeros(len(members)) for _ in range(3))
    spent = 0.0
    for m, one in enumerate(members):
        begin = time.process_time()
        best = descending(one.scores)[:DEEP]
        best = best[np.isfinite(one.scores[best])]
        if method == "none":
            made = Lottery(np.arange(min(LENGTH, len(best)))[None, :], np.ones(1))
        elif method == "greedy":
            # As published: on the scores themselves, here between 0 and 1 for each member.
            s = one.scores[best]
            s = (s - s.min()) / max(float(np.ptp(s)), 1e-12)
            made = Lottery(greedy(s, genres[best], one.wanted, weight, LENGTH)[None, :], np.ones(1))
        else:
            # A hit counts for more with a member of whom few are to be found; their number is a quarter of the history.
            worth = relevance.of(one.scores, one.history)[best]
            worth = worth / discounts(min(LENGTH, max(1, one.history // 4))).sum()
            if method == "exchange":
                made = Lottery(exchange(worth, genres[best], one.wanted, weight, LENGTH)[None, :], np.ones(1))
            else:
                made = lottery(worth, genres[best], one.wanted, weight, LENGTH)
        spent += time.process_time() - begin
        steps, shown = discounts(LENGTH), np.zeros(genres.shape[1])
        for chosen, chance in zip(made.lists, made.chances, strict=True):
            own = mix(genres, best[chosen])
            hit = np.isin(best[chosen], one.targets)
            ndcg[m] += chance * float(hit @ steps[: len(hit)]) / one.ideal
            kl_list[m] += chance * divergence(one.wanted, own)
            shown += chance * own
        kl[m] = divergence(one.wanted, shown)
    return Outcome(ndcg, kl, kl_list, 1e6 * spent / max(1, len(members)))


def row(system: str, weight: float | None, found: Outcome, plain: Outcome) -> Row:
    """One point of the curve."""
    base = float(plain.ndcg.mean())
    lost = plain.ndcg - found.ndcg
    error = 1.96 * float(lost.std()) / len(lost) ** 0.5 / base
    loss = float(lost.mean()) / base
    return {
        "system": system, "weight": weight, "ndcg10": float(found.ndcg.mean()), "kl": float(found.kl.mean()),
        "kl_list": float(found.kl_list.mean()), "loss": loss, "loss_low": loss - error, "loss_high": loss + error,
        "drop": 1 - float(found.kl.mean() / plain.kl.mean()), "drop_list": 1 - float(found.kl_list.mean() / plain.kl.mean()),
        "us_per_member": found.microseconds, "members": len(lost),
    }  # fmt: skip


def chosen_weight(method: str, splits: list[list[Case]], genres: Array, relevance: Relevance, grid: tuple[float, ...]) -> float:
    """The largest weight that loses at most 1% on the validation members, going up until one loses more."""
    plain = np.concatenate([judge("none", 0, one, genres, relevance).ndcg for one in splits])
    best = grid[0]
    for weight in grid:
        found = np.concatenate([judge(method, weight, one, genres, relevance).ndcg for one in splits])
        if 1 - found.mean() / plain.mean() > MOST_LOSS:
            break
        best = weight
    return best


def genres_of(path: Path, titles: Array) -> Array:
    """Genre shares of the titles, from `id::title::genre|genre` in Latin-1."""
    found: dict[int, list[str]] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        parts = line.split("::")
        if len(parts) != 3 or not parts[0].isdigit():
            raise mt.MatineeError(f"{path.name}: {line[:60]!r}, must be id::title::genre|genre")
        found[int(parts[0])] = parts[2].split("|")
    return shares([found.get(t) for t in titles.tolist()])[1]


def run(args: argparse.Namespace) -> list[Row]:
    """Chosen points first, then the curves on the test members."""
    split = Split.of(pl.read_parquet(args.ratings), args.held_out)
    genres = genres_of(args.movies or args.ratings.with_name("movies.dat"), split.train.titles)
    dataset = args.ratings.parent.name
    searched = {k: v[2:4] if args.smoke else v for k, v in SEARCHED.items()}
    cost: Row = {}
    with measured(cost):
        one = Recommending(split.train, smoke=args.smoke)
        halves = [split.validation, *(resplit(split.validation, s) for s in range(1, 1 if args.smoke else SPLITS))]
        splits = [cases(one, held, genres) for held in halves]
        test = cases(one, split.test, genres)
        relevance = Relevance.fit([(c.scores, c.history, c.targets) for c in splits[0]])
        plain = judge("none", 0, test, genres, relevance)
        chosen = {m: chosen_weight(m, splits, genres, relevance, grid) for m, grid in searched.items()}
        curve = {
            (m, w): judge(m, w, test, genres, relevance) for m, grid in searched.items() for w in grid
        }  # fmt: skip
    rows = [row("no re-rank", None, plain, plain)]
    rows += [row(name, chosen[m], curve[m, chosen[m]], plain) for m, name in reversed(NAMES.items())]
    rows.append({"system": "ExCalibR (linear programming)", "absent": "no code was published"})
    rows += [row(f"curve: {m}", w, found, plain) for (m, w), found in curve.items()]
    return [{"system": r["system"], "dataset": dataset, **r, **cost} for r in rows]


COLUMNS = [
    "system", "dataset", "weight", "ndcg10", "loss", "loss_low", "loss_high", "kl", "drop", "kl_list", "drop_list",
    "us_per_member", "absent",
]  # fmt: skip

if __name__ == "__main__":
    main("calibration", run, options, columns=COLUMNS)
