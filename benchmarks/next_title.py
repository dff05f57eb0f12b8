"""Next title: what a member plays next, every title ranked, the last event of each member held out.

    python -m benchmarks.next_title --ratings ml-1m/ratings.parquet [--budget SECONDS ...] [--peer-python PATH] [--json FILE]
    python -m benchmarks.next_title --sequences beauty/Beauty.txt [--systems NAME ...] [--json FILE]

The last event of a member is the test target, the one before it the validation target, and every system learns from the
rest alone; at a test everything before the target is the history, the validation event with it. All titles are ranked
but those of the history; equal scores count half above. Nothing is chosen on the test targets: what a system learns
about itself (weights of a blend, number of trees) it learns inside its training part, and `validation_ndcg10` is what
the defaults were chosen by.

`matinee` is what `choose` picks for a budget of processor seconds, with its reasons; each row with the 95 % interval of
its ndcg10 over members. Accuracy stands beside coverage of the catalogue, accuracy with popular targets thinned out, and
novelty (mean information of the titles shown, in bits: how unlikely a member is to have played them). On MovieLens the
order of ratings follows the order in which the site listed titles: what a sequence model gains there is more than it
gains on plays.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, main, measured
from benchmarks.markov import MarkovWindow
from benchmarks.peers import lists_of
from matinee.checks import must
from matinee.domains.personalization.recommenders import Chain, Following, Histories, Popular, Successor, Together
from matinee.domains.personalization.recommenders.base import blocks, top
from matinee.domains.personalization.recommenders.choosing import FORMS, choose, closed_forms
from matinee.domains.personalization.recommenders.transformer import Transformer
from matinee.evaluate.metrics import coverage, debiased_events

Array = np.ndarray[Any, Any]
Scores = Callable[[Histories, Array], Array]
SHOWN = 10
BUDGETS = (180.0, 1500.0)
COLUMNS = [
    "system", "budget", "hr10", "ndcg10", "ndcg10_low", "ndcg10_high", "validation_hr10", "validation_ndcg10", "coverage10",
    "debiased_ndcg10", "novelty10", "cpu_seconds", "peak_mb", "absent",
]  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ratings", type=Path, help="Parquet: user, item, pos (rank in time, -1 is left out)")
    source.add_argument(
        "--sequences", type=Path, help="text: a line a user, the id, then items oldest first; 0 is left out"
    )
    parser.add_argument(
        "--budget",
        type=float,
        action="append",
        help="processor seconds for ours; may come again (default 180 and 1500)",
    )
    parser.add_argument("--systems", nargs="+", help=f"only these, of: matinee, {', '.join(systems())}, implicit")
    parser.add_argument("--peer-python", default="", help="an interpreter that has implicit and RecTools")
    parser.add_argument("--seed", type=int, default=0)


def read_ratings(path: Path) -> Histories:
    """Histories in the order of `pos`."""
    rows = pl.read_parquet(path).filter(pl.col("pos") >= 0).sort("user", "pos", maintain_order=True)
    grouped = rows.group_by("user", maintain_order=True).agg("item")
    return Histories.of_sequences(grouped["item"].to_list(), grouped["user"].to_list())


def read_sequences(path: Path) -> Histories:
    """Histories as they stand, by user."""
    found: dict[int, list[int]] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            user, *items = map(int, line.split())
        except ValueError:
            raise mt.MatineeError(f"{path.name} line {number}: must be whole numbers, a user and then items") from None
        found[user] = [item for item in items if item != 0]
    return Histories.of_sequences([found[u] for u in sorted(found)], sorted(found))


@dataclass(frozen=True)
class Judged:
    """A system on the targets that stand so many events from the end.

    Attributes:
        rank: Titles above each target, half of the equal ones among them, shape (members,).
        lists: Positions of the first ten, best first, -1 where there are fewer, shape (members, 10).
    """

    rank: Array
    lists: Array

    @property
    def gain(self) -> Array:
        """Discounted gain of each member."""
        return np.where(self.rank < SHOWN, 1.0 / np.log2(self.rank + 2.0), 0.0)


def judged(scores: Scores, everything: Histories, back: int) -> Judged:
    """Rank the target `back` events from the end of each member."""
    given, targets = everything.without_last(back), everything.items[everything.offsets[1:] - back]
    ranks, lists = [], np.full((len(given), SHOWN), -1)
    for block in blocks(len(given)):
        some = np.arange(len(given))[block]
        table = np.array(scores(given, some), np.float32)
        part = given.rows(some)
        # A title met before is never a candidate, the target included: a target met before cannot be found.
        table[np.repeat(np.arange(len(some)), part.lengths), part.items] = -np.inf
        own = table[np.arange(len(some)), targets[block]][:, None]
        place = (table > own).sum(axis=1) + ((table == own).sum(axis=1) - 1) / 2.0
        ranks.append(np.where(np.isfinite(own[:, 0]), place, np.inf))
        for i, row in enumerate(table):
            best = top(row, SHOWN)
            lists[block.start + i, : len(best)] = best
    return Judged(np.concatenate(ranks), lists)


def metrics(found: Judged, everything: Histories, train: Histories, back: int) -> Row:
    """What stands in a row."""
    targets, n, gain = everything.items[everything.offsets[1:] - back], len(everything.titles), found.gain
    error = 1.96 * gain.std() / np.sqrt(len(gain))
    bits = -np.log2(np.maximum(np.bincount(train.items, minlength=n), 0.5) / max(len(train), 1))
    fair = debiased_events(targets)
    return {
        "hr10": float((found.rank < SHOWN).mean()), "ndcg10": float(gain.mean()),
        "ndcg10_low": float(gain.mean() - error), "ndcg10_high": float(gain.mean() + error),
        "coverage10": coverage(found.lists, n), "debiased_ndcg10": float(gain[fair].mean()),
        "novelty10": float(bits[found.lists[found.lists >= 0]].mean()),
    }  # fmt: skip


def systems(*, sparse: bool = False) -> dict[str, Callable[[], Any]]:
    """Single recommenders and plain peers that run in this process, by name."""
    return {
        "popularity": Popular, "markov": lambda: MarkovWindow(sparse=sparse), "following": Following,
        "together": Together, "chain": Chain, **{f"successor-{name}": make for name, make in FORMS.items()},
        "transformer": lambda: Transformer(seconds=600.0),
    }  # fmt: skip


def run(args: argparse.Namespace) -> list[Row]:
    path = args.ratings or args.sequences
    everything = read_ratings(path) if args.ratings else read_sequences(path)
    everything = everything.rows(np.flatnonzero(everything.lengths >= 3))
    if not len(everything):
        raise mt.MatineeError(
            f"{path.name} has no user of three events, must have some: one is learnt from, two are targets"
        )
    train = everything.without_last(2)
    dataset = f"{path.parent.name}/{path.name}, {len(everything):,} members, {len(everything.titles):,} titles"
    known = systems(sparse=not closed_forms(train))
    asked = args.systems or ["matinee", "popularity", "markov", "implicit"]
    for name in asked:
        must(name, "systems", one_of=["matinee", *known, "implicit"])
    warm_up()
    return [{"dataset": dataset} | row for name in asked for row in rows_of(name, args, everything, train, known)]


def rows_of(
    name: str, args: argparse.Namespace, everything: Histories, train: Histories, known: dict[str, Callable[[], Any]]
) -> Iterator[Row]:
    """The rows of one name."""
    if name == "implicit":
        yield from peers(args.peer_python, everything, train)
        return
    if name != "matinee":
        yield measure({"system": name}, known[name](), everything, train)
        return
    for budget in args.budget or BUDGETS:
        chosen = choose(train, seconds=budget, seed=args.seed)
        row: Row = {"system": "matinee", "budget": budget, "reasons": str(chosen)}
        yield measure(row, chosen.recommender, everything, train)


def measure(row: Row, one: Any, everything: Histories, train: Histories) -> Row:
    """Fit, judge on both targets, and note what it took."""
    with measured(row):
        one.fit(train)
    validation, test = (judged(one.scores_of, everything, back) for back in (2, 1))
    row |= metrics(test, everything, train, 1)
    for metric in ("hr10", "ndcg10"):
        row[f"validation_{metric}"] = metrics(validation, everything, train, 2)[metric]
    return row


def peers(python: str, everything: Histories, train: Histories) -> Iterator[Row]:
    """implicit and RecTools, each with those of its settings that are best on the validation targets."""
    if not python:
        yield {"system": "implicit ALS", "absent": "no interpreter that has it: give --peer-python"}
        yield {"system": "RecTools EASE", "absent": "no interpreter that has it: give --peer-python"}
        return
    found = lists_of(python, train, everything.without_last(2), everything.without_last(1), SHOWN)
    for name, settings in found.items():
        if isinstance(settings, str):
            yield {"system": name, "absent": settings}
            continue
        rows = [(of_lists(one.validation, everything, train, 2), one) for one in settings]
        validation, one = max(rows, key=lambda row: float(row[0]["ndcg10"]))
        row: Row = {"system": name, "settings": one.settings} | one.cost | of_lists(one.test, everything, train, 1)
        yield row | {f"validation_{m}": validation[m] for m in ("hr10", "ndcg10")}


def of_lists(lists: Array, everything: Histories, train: Histories, back: int) -> Row:
    """The metrics of lists alone: a target that is not on its member's list is not found."""
    hit = lists[:, :SHOWN] == everything.items[everything.offsets[1:] - back][:, None]
    rank = np.where(hit.any(axis=1), hit.argmax(axis=1), SHOWN).astype(np.float64)
    return metrics(Judged(rank, lists[:, :SHOWN]), everything, train, back)


def warm_up() -> None:
    """Compile every kernel on a handful of events, before anything is timed."""
    rng = np.random.default_rng(0)
    few = Histories.of_sequences([rng.integers(0, 60, 30).tolist() for _ in range(80)])
    choose(few, kind="blend", torch=False).recommender.fit(few)
    Successor().fit(few)


if __name__ == "__main__":
    main("next_title", run, options, columns=COLUMNS)
