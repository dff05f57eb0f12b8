"""Worlds with a known truth, for coverage of intervals: draw a log, ask for the estimates, compare with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from matinee.evaluate.evidence import Evidence, estimate
from matinee.evaluate.logged import Logged, SlateLog
from matinee.evaluate.logistic import Design, fit_logistic
from matinee.evaluate.thresholds import Thresholds

Floats = NDArray[np.float64]
SINGLE = ("ips", "snips", "dr", "sndr")
SLATES = ("standard-ips", "interaction-ips", "independent-ips", "cascade-dr")
OPEN = Thresholds(effective_n=1, events=0, clusters=2, mean_weight_errors=1e9)
"""No refusals: coverage counts every world, also those in which a user would be refused a number."""


@dataclass(frozen=True)
class World:
    """A way to draw logs, the policy's true value, and the estimators that claim to cover it."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator], Logged | SlateLog]
    methods: tuple[str, ...]


def members(n: int = 600) -> World:
    """Two arms by a coin, 600 members of 1-5 rows whose rewards share a member effect: clusters matter."""
    truth = 0.3

    def draw(rng: np.random.Generator) -> Logged:
        size = rng.integers(1, 6, n)
        member = np.repeat(np.arange(n), size)
        taste = np.clip(rng.normal(0, 0.12, n), -0.2, 0.2)[member]
        right = rng.random(len(member)) < 0.5
        reward = (rng.random(len(member)) < np.where(right, 0.3, 0.2) + taste).astype(float)
        q = np.where(right, 0.27, 0.22)
        q_policy = np.full(len(member), 0.27)
        return Logged(reward, np.full(len(member), 0.5), right.astype(float), q, q_policy, cluster=member)

    return World("members, two arms", truth, draw, SINGLE)


@cache
def _items(actions: int = 80) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(5)
    q = 0.004 * np.exp(rng.normal(0, 0.6, actions) - 0.18)
    pi = np.exp(rng.normal(0, 0.9, actions) + np.log(q / 0.004))
    return q, pi / pi.sum()


def clicks(n: int = 10_000) -> World:
    """80 items shown uniformly, clicks .4%: about 40 clicks, as in the Open Bandit sample."""
    q, pi = _items()

    def draw(rng: np.random.Generator) -> Logged:
        action = rng.integers(0, len(q), n)
        reward = (rng.random(n) < q[action]).astype(float)
        guess = 0.5 * q + 0.002  # a model that shrinks towards the mean
        return Logged(
            reward, np.full(n, 1 / len(q)), pi[action], guess[action], np.full(n, float(pi @ guess)), action=action
        )

    return World("clicks .4%, 80 items", float(pi @ q), draw, SINGLE)


def contexts(n: int = 3000, actions: int = 10) -> World:
    """Continuous contexts, a logging policy that prefers bad actions, q cross-fitted in each world."""
    rng = np.random.default_rng(11)
    B, a, P = rng.normal(0, 0.7, (3, actions)), rng.normal(-1.0, 0.5, actions), rng.normal(0, 0.8, (3, actions))

    def parts(x: Floats) -> tuple[Floats, Floats, Floats]:
        q = special.expit(x @ B + a)
        return q, special.softmax(-2.0 * q, axis=1), special.softmax(x @ P, axis=1)

    big = np.random.default_rng(12).normal(size=(400_000, 3))
    truth = float(np.mean([(q * pi).sum(axis=1).mean() for q, _, pi in map(parts, np.split(big, 40))]))

    def draw(rng: np.random.Generator) -> Logged:
        x = rng.normal(size=(n, 3))
        q, mu, pi = parts(x)
        action = (mu.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
        rows = np.arange(n)
        reward = (rng.random(n) < q[rows, action]).astype(float)
        fold = rng.integers(0, 2, n)
        guess = np.empty((n, actions))
        design = Design((action,), (actions,), x)
        for k in range(2):
            found = fit_logistic(design.rows(fold != k), reward[fold != k], np.ones(int((fold != k).sum())))
            guess[fold == k] = special.expit((x[fold == k] @ found[1:4] + found[0])[:, None] + found[4:])
        return Logged(reward, mu[rows, action], pi[rows, action], guess[rows, action], np.einsum("na,na->n", pi, guess))

    return World("contexts, 10 actions", truth, draw, SINGLE)


def slates(n: int = 3000, items: int = 6, slots: int = 3) -> World:
    """3 of 6 items drawn in sequence; a click on a slot makes the next ones likelier: a true cascade."""
    rng = np.random.default_rng(3)
    likes, wants = rng.uniform(0.1, 0.5, items), np.exp(rng.normal(0, 0.5, items))

    def chance(item: NDArray[np.int64], clicked: Floats) -> Floats:
        return likes[item] * np.where(clicked > 0, 1.2, 1.0)

    def sequence(rng: np.random.Generator, weight: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
        left = np.tile(weight, (count, 1))
        chosen = np.empty((count, slots), dtype=np.int64)
        p = np.empty((count, slots))
        for k in range(slots):
            share = left / left.sum(axis=1, keepdims=True)
            chosen[:, k] = (share.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
            p[:, k] = share[np.arange(count), chosen[:, k]]
            left[np.arange(count), chosen[:, k]] = 0.0
        return chosen, p

    def worth(items_left: tuple[int, ...], clicked: float, depth: int) -> float:
        """Expected clicks from here on, over the policy's draws; exact, as a list has few continuations."""
        if depth == slots:
            return 0.0
        weight = wants[list(items_left)]
        total = 0.0
        for item, share in zip(items_left, weight / weight.sum(), strict=True):
            rest = tuple(i for i in items_left if i != item)
            p = float(likes[item] * (1.2 if clicked else 1.0))
            total += share * (p * (1.0 + worth(rest, 1.0, depth + 1)) + (1 - p) * worth(rest, clicked, depth + 1))
        return total

    def rewards(rng: np.random.Generator, chosen: NDArray[np.int64]) -> Floats:
        out = np.zeros(chosen.shape)
        clicked = np.zeros(len(chosen))
        for k in range(slots):
            out[:, k] = rng.random(len(chosen)) < chance(chosen[:, k], clicked)
            clicked = clicked + out[:, k]
        return out

    truth = worth(tuple(range(items)), 0.0, 0)

    def draw(rng: np.random.Generator) -> SlateLog:
        chosen, p = sequence(rng, np.ones(items), n)
        reward = rewards(rng, chosen)
        left = np.tile(wants, (n, 1))
        pi, q_policy = np.empty((n, slots)), np.empty((n, slots))
        later = 0.33 * (slots - 1 - np.arange(slots))
        guess = 0.5 * likes + 0.16
        for k in range(slots):
            share = left / left.sum(axis=1, keepdims=True)
            pi[:, k] = share[np.arange(n), chosen[:, k]]
            q_policy[:, k] = share @ guess + later[k]
            left[np.arange(n), chosen[:, k]] = 0.0
        return SlateLog(reward, p, pi, guess[chosen] + later, q_policy)

    # Items without replacement and the bonus break independence between slots: independent IPS claims nothing here.
    return World("slates, 3 of 6", truth, draw, ("standard-ips", "interaction-ips", "cascade-dr"))


WORLDS: dict[str, Callable[[], World]] = {"members": members, "clicks": clicks, "contexts": contexts, "slates": slates}


def coverage(world: World, count: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Share of worlds whose 95% interval holds the truth, and the mean width, for each method."""
    held: dict[str, list[bool]] = {m: [] for m in world.methods}
    width: dict[str, list[float]] = {m: [] for m in world.methods}
    for i in range(count):
        log = world.draw(np.random.default_rng([seed, i]))
        for method in world.methods:
            found: Evidence = estimate(log, method, thresholds=OPEN)
            if found.low is None or found.high is None:
                held[method].append(False)
                continue
            held[method].append(found.low <= world.truth <= found.high)
            width[method].append(found.high - found.low)
    return {m: (float(np.mean(held[m])), float(np.mean(width[m]))) for m in world.methods}
