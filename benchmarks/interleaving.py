"""Users needed to find the better of two rankers at 95% power: interleaving against an A/B test of the same visits.

    python -m benchmarks.interleaving [--members 12000] [--visits 7] [--noises .5,.6 .5,.7 .8,1.0] [--seed 0]

Simulated members like 50 titles more or less (normal), look at 10 slots less and less (1 / log2(slot + 1)), click what they
like with a chance of `--clicks`, and are as active as log-normal with sigma 1. Two rankers know what a member likes up to
noise; the one with less is better. In both designs a member visits `--visits` times; rows with one visit say how much of the
figure that is. `users` counts both arms of the A/B test.

What an experiment of n users finds follows from the mean and variance of a member's score. The mean is taken of expected
clicks at mean activity, whose noise is small (`error` is what it leaves in `users`, one standard error, relative), and the
variance of drawn clicks. `power` is then measured: the share of `--repeats` experiments of `users` members, drawn from those
simulated and moved to that mean, that find the right ranker. `false_alarms` is the share of experiments without a difference
that find one, 5% being nominal: rankers alike in noise (`alike`), and rankers that differ where members like all titles
alike and click by place only (`indifferent`: the second puts the first one's best title at the end of the page).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from benchmarks import harness
from matinee.experiments import draft, interleaved

Floats = np.ndarray[Any, np.dtype[np.float64]]
TITLES, SLOTS = 50, 10
ALPHA, POWER = 0.05, 0.95
Z = float(special.ndtri(1 - ALPHA / 2) + special.ndtri(POWER))
PLACE = 1 / np.log2(np.arange(2, SLOTS + 2))
CREDITS = ("matinee", "team draft", "rank credit")


@dataclass(frozen=True)
class World:
    """How members are simulated."""

    noises: tuple[float, float]
    visits: int
    clicks: float = 0.3
    sigma: float = 1.0
    indifferent: bool = False  # all titles are liked alike, and the rankers differ in one of them


@dataclass
class Scores:
    """One number a member and system: of drawn clicks, and expected at mean activity, given the pages."""

    drawn: dict[str, Floats]
    expected: dict[str, Floats]


def simulate(world: World, members: int, rng: np.random.Generator) -> Scores:
    """Visits of members to interleaved pages, and of their like to the page of each ranker."""
    most = 1 / world.clicks  # a chance is at most one
    activity = np.minimum(most, np.exp(world.sigma * rng.normal(size=members) - world.sigma**2 / 2))
    worth = np.zeros((members, TITLES)) if world.indifferent else rng.normal(size=(members, TITLES))
    if world.indifferent:
        last = np.concatenate([np.arange(1, SLOTS), [0], np.arange(SLOTS, TITLES)])
        orders = [np.tile(order, (members, 1)) for order in (np.arange(TITLES), last)]
    else:
        orders = [np.argsort(-(worth + n * rng.normal(size=worth.shape)), axis=1) for n in world.noises]
    liked = world.clicks / (1 + np.exp(1.0 - worth))
    mean = _mean_activity(world.sigma, most)
    names = ("first arm", "second arm", "before", *CREDITS)
    drawn = {n: np.zeros(members) for n in names}
    expected = {n: np.zeros(members) for n in names}
    for name, order in zip(names[:2], orders, strict=True):
        p = np.take_along_axis(liked, order[:, :SLOTS], 1) * PLACE
        expected[name] = world.visits * mean * p.sum(axis=1)
        p *= activity[:, None]
        drawn[name] = rng.binomial(world.visits, p).sum(axis=1).astype(np.float64)
        if name == "first arm":  # as many visits before the test, to the page that everybody had
            drawn["before"] = rng.binomial(world.visits, p).sum(axis=1).astype(np.float64)
    for m in range(members):
        first, second = orders[0][m].tolist(), orders[1][m].tolist()
        ranks = [{t: r for r, t in enumerate(one[:SLOTS])} for one in (first, second)]
        for _ in range(world.visits):
            page = draft(first, second, SLOTS, rng)
            p = liked[m, list(page.page)] * PLACE
            clicked = rng.random(SLOTS) < activity[m] * p
            rank = [ranks[1].get(t, SLOTS) - ranks[0].get(t, SLOTS) for t in page.page]
            for name, credit in zip(CREDITS, (page.credit, page.sides, rank), strict=True):
                drawn[name][m] += clicked @ credit
                expected[name][m] += mean * (p @ credit)
    return Scores(drawn, expected)


def _mean_activity(sigma: float, most: float) -> float:
    """Mean of a log-normal of mean 1 that is cut at `most`."""
    cut = math.log(most) / sigma
    return float(special.ndtr(cut - sigma / 2) + most * special.ndtr(-cut - sigma / 2))


@dataclass(frozen=True)
class Needed:
    """Users a system needs, and the relative standard error of that."""

    users: int
    error: float


def needed(scores: Scores) -> dict[str, Needed]:
    """Users by system, from the mean and variance of a member's score; A/B tests in both arms."""
    a, b, before = (scores.drawn[n] for n in ("first arm", "second arm", "before"))
    lift = scores.expected["first arm"] - scores.expected["second arm"]
    kept = [1 - np.corrcoef(before, arm)[0, 1] ** 2 for arm in (a, b)]
    sizes = {
        "A/B": _needed(lift, 2 * (a.var(ddof=1) + b.var(ddof=1))),
        "A/B with CUPED": _needed(lift, 2 * (kept[0] * a.var(ddof=1) + kept[1] * b.var(ddof=1))),
    }
    return sizes | {name: _needed(scores.expected[name], scores.drawn[name].var(ddof=1)) for name in CREDITS}


def _needed(expected: Floats, variance: float) -> Needed:
    mean, error = float(expected.mean()), float(expected.std(ddof=1)) / math.sqrt(len(expected))
    return Needed(math.ceil(Z * Z * variance / mean**2), 2 * error / mean)


def power(drawn: Floats, mean: float, size: int, repeats: int, rng: np.random.Generator) -> float:
    """Share of experiments of `size` members that find the first ranker better; drawn from those simulated, moved to the mean."""
    moved, who = drawn - drawn.mean() + mean, np.arange(size)
    right = sum(interleaved(who, moved[rng.integers(0, len(moved), size)]).better == "first" for _ in range(repeats))
    return right / repeats


def false_alarms(world: World, members: int, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of experiments that name a better ranker, by system."""
    scores = simulate(world, members * repeats, rng)
    who = np.arange(members)
    return {
        name: sum(interleaved(who, s).better is not None for s in scores.drawn[name].reshape(repeats, members))
        / repeats
        for name in CREDITS
    }


def run(args: argparse.Namespace) -> list[harness.Row]:
    """All rows."""
    rows: list[harness.Row] = []
    for pair in args.noises:
        noises = tuple(float(n) for n in pair.split(","))
        for visits in dict.fromkeys((args.visits, 1)):
            rows += compare(World((noises[0], noises[1]), visits, args.clicks), args)
    for name, world in (
        ("alike", World((0.6, 0.6), 2, args.clicks)),
        ("indifferent", World((1.0, 1.0), 2, args.clicks, indifferent=True)),
    ):
        own: harness.Row = {}
        with harness.measured(own):
            alarms = false_alarms(world, args.null_members, args.null_repeats, np.random.default_rng(args.seed + 2))
        rows += [{"system": s, "dataset": name, "false_alarms": alarms[s], **own} for s in CREDITS]
    return rows


def compare(world: World, args: argparse.Namespace) -> list[harness.Row]:
    """Users by system in one world."""
    name = f"noise {world.noises[0]:g} against {world.noises[1]:g}, {world.visits} visits"
    own: harness.Row = {}
    rng = np.random.default_rng(args.seed)
    with harness.measured(own):
        scores = simulate(world, args.members, rng)
        sizes = needed(scores)
        means = {s: float(scores.expected[s].mean()) for s in CREDITS}
        found = {s: power(scores.drawn[s], means[s], sizes[s].users, args.repeats, rng) for s in CREDITS}
    return [
        {
            "system": system, "dataset": name, "users": one.users, "error": one.error,
            "times_fewer": sizes["A/B"].users / one.users, "times_fewer_than_cuped": sizes["A/B with CUPED"].users / one.users,
            "power": found.get(system), **own,
        }
        for system, one in sorted(sizes.items(), key=lambda pair: pair[1].users)
    ]  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    parser.add_argument("--members", type=int, default=12_000, help="members simulated in a world")
    parser.add_argument("--visits", type=int, default=7, help="visits of a member during the experiment: two weeks")
    parser.add_argument(
        "--clicks", type=float, default=0.3, help="chance of a click on a title that is looked at and liked"
    )
    parser.add_argument("--noises", nargs="+", default=[".5,.6", ".5,.7", ".8,1.0"], help="noise of the two rankers")
    parser.add_argument("--repeats", type=int, default=400, help="experiments whose power is measured")
    parser.add_argument("--null-members", type=int, default=200, help="members of an experiment without a difference")
    parser.add_argument("--null-repeats", type=int, default=400, help="such experiments")
    parser.add_argument("--seed", type=int, default=0)


def main(argv: Sequence[str] | None = None) -> list[harness.Row]:
    """Runs it."""
    columns = [
        "dataset",
        "system",
        "users",
        "error",
        "times_fewer",
        "times_fewer_than_cuped",
        "power",
        "false_alarms",
        "cpu_seconds",
    ]
    return harness.main("interleaving", run, options, columns=columns, argv=None if argv is None else list(argv))


if __name__ == "__main__":
    main()
