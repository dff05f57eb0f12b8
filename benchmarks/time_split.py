"""One cut in time: every event after it predicted from its own prefix.

    python -m benchmarks.time_split --data ml-100k [--json FILE]

The cut is the .9 quantile of all times (protocol P3). Models learn from what came up to it; each later event of a title
known by then is asked about with everything the member did before it (a first event has nothing before it, and stands in
`ndcg10_first`). Titles of the prefix are out of the list. Means are over members of their means over events. MovieLens
stamps batches of ratings with one second: events of one member at one second stand in the order of title ids.

`over_markov` is the quotient of ndcg10 to the Markov window's with a 95 % interval from a bootstrap over members, paired.
Cold members have no event up to the cut; cold titles have fewer than five plays by then, some none: a system that does
not know a title scores 0 there. What is chosen (half-lives) is chosen by a second cut inside the training part.
`order of events` comes from rating sessions on a site that listed titles in an order of its own: gains of sequence models
here overstate what real viewing gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, main, measured
from matinee.domains.personalization.facts import Rated, Tagged, Title
from matinee.domains.personalization.loaders.movielens import recognise
from matinee.domains.personalization.recommenders import (
    Content,
    Descriptions,
    Factors,
    Following,
    Popular,
    Recommender,
    Successor,
    Together,
)
from matinee.domains.personalization.recommenders.nearby import Nearby
from matinee.domains.personalization.recommenders.timed import Timed, windows
from matinee.domains.personalization.time_split import DRAWS, FEW_PLAYS, Answers, TimeCut

Array = np.ndarray[Any, Any]
MOST_KEPT = 5  # places of ten
HALF_LIVES = (30.0, 120.0, 365.0, 1500.0, float("inf"))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="a MovieLens folder, of any size")
    parser.add_argument("--cut", type=float, default=0.9, help="quantile of all times")
    parser.add_argument("--smoke", action="store_true", help="narrow factors and few trees: does it run at all")


def read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Events (`member`, `title`, `at`), titles and tags of a MovieLens folder."""
    parts: dict[str, list[pl.DataFrame]] = {"rated": [], "title": [], "tagged": []}
    names = {Rated: "rated", Title: "title", Tagged: "tagged"}

    def refuse(fact: type[mt.Fact], file: str, line: int, reason: str) -> None:
        raise mt.MatineeError(f"{file}, line {line}: {reason}; a benchmark reads whole files")

    for fact, frame in recognise(folder).parts(refuse):
        if fact in names:
            parts[names[fact]].append(frame.with_columns(pl.col("title").cast(pl.Int64, strict=False)))
    rated = pl.concat(parts["rated"]).with_columns(pl.col("member").cast(pl.Int64, strict=False))
    events = rated.select("member", "title", "at").drop_nulls().sort("member", "at", "title")
    titles = pl.concat(parts["title"]).drop_nulls("title")
    tags = (
        pl.concat(parts["tagged"]).select("title", "tag")
        if parts["tagged"]
        else pl.DataFrame(schema={"title": pl.Int64, "tag": pl.String()})
    )
    return events, titles, tags.drop_nulls()


class Asked:
    """The cut, and which of its targets count where."""

    def __init__(self, cut: TimeCut) -> None:
        self.cut = cut
        before = cut.targets - np.searchsorted(cut.owner, cut.owner[cut.targets])
        plays = cut.plays_before()
        self.known, self.first = (plays > 0) & (before > 0), (plays > 0) & (before == 0)
        self.cold_titles = (plays < FEW_PLAYS) & (before > 0)
        self.warm_members = cut.warm_members()

    def row(self, answers: Answers) -> Row:
        """All metrics of one system."""
        gain, hit, known, warm = answers.gain(), answers.hit(), self.known, self.warm_members
        low, high = answers.interval(gain, known)
        return {
            "hr10": answers.mean(hit, known), "ndcg10": answers.mean(gain, known), "ndcg10_low": low, "ndcg10_high": high,
            "coverage10": answers.coverage, "debiased_ndcg10": answers.debiased(),
            "ndcg10_warm_members": answers.mean(gain, known & warm), "ndcg10_cold_members": answers.mean(gain, known & ~warm),
            "ndcg10_warm_titles": answers.mean(gain, known & ~self.cold_titles),
            "ndcg10_cold_titles": answers.mean(gain, self.cold_titles),
            "hr10_cold_titles": answers.mean(hit, self.cold_titles), "ndcg10_first": answers.mean(gain, self.first),
        }  # fmt: skip


def quotient(answers: Answers, base: Answers, among: Array) -> Row:
    """Mean gain over that of another system on the same targets, with an interval over members."""
    ours, theirs = answers.by_member(answers.gain(), among), base.by_member(base.gain(), among)
    drawn = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    found = ours[drawn].mean(axis=1) / np.maximum(theirs[drawn].mean(axis=1), 1e-12)
    return {
        "over_markov": float(ours.mean() / max(theirs.mean(), 1e-12)),
        "over_markov_low": float(np.quantile(found, 0.025)),
        "over_markov_high": float(np.quantile(found, 0.975)),
    }


def best_half_life(cut: TimeCut, make: Callable[[float], Recommender]) -> float:
    """By ndcg10 after a second cut inside the training part."""
    inner = Asked(TimeCut.of(cut.before))

    def value(half_life: float) -> float:
        answers = Answers.of(make(half_life).fit(inner.cut.histories), inner.cut)
        return answers.mean(answers.gain(), inner.known)

    return max(HALF_LIVES, key=value)


def kept_places(cut: TimeCut, make: Callable[[], Timed]) -> int:
    """The fewest last places of ten for rare titles with which coverage is no lower than the Markov window's.

    Both after a second cut inside the training part; all that may be kept where none is enough.
    """
    inner = TimeCut.of(cut.before)
    wanted = Answers.of(Nearby().fit(inner.histories), inner).coverage
    timed = make().fit(inner.histories)
    for places in range(MOST_KEPT):
        timed.rare_places = places
        if Answers.of(timed, inner).coverage >= wanted:
            return places
    return MOST_KEPT


def run(args: argparse.Namespace) -> list[Row]:
    events, titles, tags = read(args.data)
    asked = Asked(TimeCut.of(events, args.cut))
    cut = asked.cut
    people, new = len(np.unique(cut.owner[cut.targets][asked.known])), int((cut.plays_before() == 0).sum())
    dataset = (
        f"{args.data.name}: cut {cut.at:%Y-%m-%d}, {int(asked.known.sum()):,} targets of {people:,} members, "
        f"{new:,} never seen before"
    )
    rows: list[Row] = []
    found: dict[str, Answers] = {}
    narrow = {"width": 8, "sweeps": 2} if args.smoke else {"width": 64}
    few = {"trees": 20, "fewest": 20} if args.smoke else {}

    def system(name: str, make: Callable[[], Recommender], **more: Any) -> tuple[Recommender, Row]:
        cost: Row = {}
        with measured(cost):
            one = make().fit(cut.histories)
        answered(name, one, cost, **more)
        return one, cost

    def answered(name: str, one: Recommender, cost: Row, **more: Any) -> None:
        asking: Row = {}
        with measured(asking):
            found[name] = Answers.of(one, cut)
        took = cost | {"answer_seconds": asking["seconds"], "peak_mb": max(cost["peak_mb"], asking["peak_mb"])}
        rows.append({"system": name, "dataset": dataset} | took | asked.row(found[name]) | more)

    chosen = best_half_life(cut, lambda h: Popular(half_life=h))
    near = best_half_life(cut, lambda h: Nearby(back=1.0, half_life=h))
    told = Descriptions.of(titles, tags)
    system("popularity", Popular)
    system("decayed popularity", lambda: Popular(half_life=chosen), half_life=chosen)
    system("Markov window", Nearby)
    system("following", Following)
    system("together", Together)
    system("factors", lambda: Factors(**narrow))
    system("content", lambda: Content.about(told, **narrow))
    system("successor", Successor)
    system("nearby", lambda: Nearby(back=1.0, half_life=near), half_life=near)
    kept = kept_places(cut, lambda: Timed(parts=windows(near), **few))
    timed, cost = system(
        "matinee", lambda: Timed(parts=windows(near), rare_places=kept, **few), half_life=near, places_kept=kept
    )
    assert isinstance(timed, Timed)
    timed.rare_places = 0
    answered("matinee, no place kept", timed, cost, half_life=near, places_kept=0)
    for row in rows:
        row |= quotient(found[row["system"]], found["Markov window"], asked.known)
    return rows


COLUMNS = [
    "system", "hr10", "ndcg10", "ndcg10_low", "ndcg10_high", "over_markov", "over_markov_low", "over_markov_high", "coverage10",
    "debiased_ndcg10", "ndcg10_warm_members", "ndcg10_cold_members", "ndcg10_warm_titles", "ndcg10_cold_titles",
    "hr10_cold_titles", "ndcg10_first", "half_life", "places_kept", "cpu_seconds", "answer_seconds", "peak_mb",
]  # fmt: skip

if __name__ == "__main__":
    main("time_split", run, options, columns=COLUMNS)
