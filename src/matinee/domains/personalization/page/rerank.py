"""Calibrated lists: titles that a member will like, in the proportions of what the member watches.

| function | what it gives | its price |
|---|---|---|
| `greedy` | one list, title by title (Steck 2018) | the first titles do not know the last |
| `exchange` | one list, improved by exchanges until none helps | ten titles cannot hold 3% of a genre |
| `lottery` | lists with their chances: the best mix over visits | one list is less calibrated than all |

All maximise value - weight * divergence, where the value of a list is its discounted gain, sum_j discount_j relevance_j.
`relevance` must be a chance on one scale for all members (see `relevance.Relevance`): one weight then trades the same
amount of gain for the same amount of divergence with everybody, which is what makes the total trade the best one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.page.mix import SMOOTHING

Array = np.ndarray[Any, Any]
ROUNDS = 60  # of the lottery; each adds at most one list
ENOUGH = 1e-4  # the lottery stops when no list could gain more than that


@dataclass(frozen=True)
class Lottery:
    """Lists with their chances.

    Attributes:
        lists: Positions among the candidates, one list a row, best title first, shape (lists, length).
        chances: Shape (lists,); they sum to one.
    """

    lists: Array
    chances: Array

    def draw(self, uniform: float) -> tuple[Array, Array]:
        """One list, and the conditional chance of each of its titles given those before it.

        Example:
            >>> both = Lottery(np.array([[0, 1], [0, 2]]), np.array([0.25, 0.75]))
            >>> [a.tolist() for a in both.draw(0.9)]
            [[0, 2], [1.0, 0.75]]
        """
        which = min(int(np.searchsorted(np.cumsum(self.chances), uniform, side="right")), len(self.lists) - 1)
        return self.lists[which], self.chances_along(self.lists[which])

    def chances_along(self, titles: Array) -> Array:
        """The conditional chance of each title of a list given those before it; 0 from where no list goes on so."""
        alive = np.ones(len(self.lists), np.bool_)
        before, out = 1.0, np.zeros(len(titles))
        for k, title in enumerate(titles):
            if k >= self.lists.shape[1]:
                break
            alive &= self.lists[:, k] == title
            now = float(self.chances[alive].sum())
            if now <= 0:
                break
            out[k], before = now / before, now
        return out

    def marginals(self, candidates: int) -> Array:
        """How often each candidate stands in each place, shape (candidates, length); columns sum to one."""
        out = np.zeros((candidates, self.lists.shape[1]))
        for one, chance in zip(self.lists, self.chances, strict=True):
            out[one, np.arange(len(one))] += chance
        return out


def discounts(length: int) -> Array:
    """1 / log2(place + 1): how much a place counts in a discounted gain."""
    return np.asarray(1 / np.log2(np.arange(2, length + 2)))


def greedy(relevance: Array, titles: Array, wanted: Array, weight: float, length: int) -> Array:
    """Title by title, the one that most improves (1 - weight) * sum of relevance - weight * divergence (Steck 2018).

    Args:
        relevance: Of each candidate, shape (candidates,).
        titles: Genre shares of each candidate, shape (candidates, genres).
        wanted: The mix to come near to, shape (genres,).
        weight: From 0, relevance alone, to 1, the mix alone.
        length: How many titles.

    Returns:
        Positions among the candidates, most relevant first: the order has no influence on the mix.
    """
    must(weight, "weight", ge=0, le=1)
    count = min(must(length, "length", typ=int, ge=0), len(relevance))
    r, g, p = _floats(relevance), _floats(titles), _floats(wanted)
    return _best_first(r, _kernels()[0](r, g, p, float(weight), count, SMOOTHING))


def exchange(relevance: Array, titles: Array, wanted: Array, weight: float, length: int) -> Array:
    """Start from the most relevant titles; make the exchange of one title that helps most, until none does.

    Arguments and result as in `greedy`; `weight` is the gain that one unit of divergence is worth, from 0 on.
    """
    must(weight, "weight", ge=0)
    r, g, p = _floats(relevance), _floats(titles), _floats(wanted)
    count = min(must(length, "length", typ=int, ge=0), len(r))
    order = np.argsort(-r, kind="stable")
    found = _kernels()[1](r[order], g[order], p, float(weight), discounts(count), SMOOTHING)
    return np.asarray(order[found])


def lottery(
    relevance: Array, titles: Array, wanted: Array, weight: float, length: int, *, rounds: int = ROUNDS
) -> Lottery:
    """The chances of lists whose mix is, on average over visits, the best trade against the expected gain.

    The expected mix is linear in the chances of (title, place), which form a doubly stochastic matrix, and the
    divergence is convex in it: a concave programme over that polytope, as in ExCalibR (arXiv 2304.12311). It is solved by
    Frank-Wolfe steps. Each step asks for the best list at the present prices of genres, found exactly by dynamic
    programming; the lists met on the way, with the weights of the steps, are the decomposition into lists at once.

    Arguments as in `exchange`; `rounds` bounds the number of lists.
    """
    must(weight, "weight", ge=0)
    r, g, p = _floats(relevance), _floats(titles), _floats(wanted)
    count = min(must(length, "length", typ=int, ge=0), len(r))
    if not count:
        return Lottery(np.zeros((1, 0), np.int64), np.ones(1))
    order = np.argsort(-r, kind="stable")
    lists, chances = _kernels()[2](
        r[order], g[order], p, float(weight), discounts(count), SMOOTHING, must(rounds, "rounds", typ=int, ge=1), ENOUGH
    )
    kept = chances > 0
    chances = chances[kept]
    return Lottery(np.asarray(order[lists[kept]]), chances / chances.sum())


def _floats(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float64)


def _best_first(relevance: Array, chosen: Array) -> Array:
    return np.asarray(chosen[np.argsort(-relevance[chosen], kind="stable")])


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    import numba

    @numba.njit(cache=True)
    def apart(p, total, weight, a):  # type: ignore[no-untyped-def]
        """Divergence of the mix `total`, whose shares sum to `weight`."""
        value = 0.0
        for c in range(len(p)):
            if p[c] > 0:
                q = total[c] / weight if weight > 0 else 0.0
                value += p[c] * np.log(p[c] / ((1 - a) * q + a * p[c]))
        return value

    @numba.njit(cache=True)
    def one_by_one(r, g, p, weight, count, a):  # type: ignore[no-untyped-def]
        n, genres = g.shape
        used, out = np.zeros(n, np.bool_), np.zeros(count, np.int64)
        total, gain, mass = np.zeros(genres), 0.0, 0.0
        trial = np.zeros(genres)
        own = g.sum(axis=1)
        for k in range(count):
            best, at = -np.inf, -1
            for i in range(n):
                if used[i]:
                    continue
                for c in range(genres):
                    trial[c] = total[c] + g[i, c]
                value = (1 - weight) * (gain + r[i]) - weight * apart(p, trial, mass + own[i], a)
                if value > best:
                    best, at = value, i
            used[at], out[k] = True, at
            gain, mass = gain + r[at], mass + own[at]
            for c in range(genres):
                total[c] += g[at, c]
        return out

    @numba.njit(cache=True)
    def gain_of(chosen, r, d):  # type: ignore[no-untyped-def]
        """Discounted gain of ascending positions into descending relevance."""
        value = 0.0
        for k in range(len(chosen)):
            value += d[k] * r[chosen[k]]
        return value

    @numba.njit(cache=True)
    def swaps(r, g, p, weight, d, a):  # type: ignore[no-untyped-def]
        n, genres, count = len(r), g.shape[1], len(d)
        chosen, inside = np.arange(count), np.zeros(n, np.bool_)
        total, trial, other = np.zeros(genres), np.zeros(genres), np.zeros(count, np.int64)
        own, mass = g.sum(axis=1), 0.0
        for k in range(count):
            inside[k] = True
            mass += own[k]
            for c in range(genres):
                total[c] += g[k, c]
        now = gain_of(chosen, r, d) - weight * apart(p, total, mass, a)
        while True:
            best, out, into = now + 1e-12, -1, -1
            for k in range(count):
                leaving = chosen[k]
                for i in range(n):
                    if inside[i]:
                        continue
                    # The others keep their order; the newcomer is inserted where its relevance puts it.
                    at = 0
                    placed = False
                    value = 0.0
                    for j in range(count):
                        if j == k:
                            continue
                        if not placed and i < chosen[j]:
                            value += d[at] * r[i]
                            at += 1
                            placed = True
                        value += d[at] * r[chosen[j]]
                        at += 1
                    if not placed:
                        value += d[at] * r[i]
                    for c in range(genres):
                        trial[c] = total[c] - g[leaving, c] + g[i, c]
                    value -= weight * apart(p, trial, mass - own[leaving] + own[i], a)
                    if value > best:
                        best, out, into = value, k, i
            if out < 0:
                return chosen
            leaving = chosen[out]
            inside[leaving], inside[into] = False, True
            for c in range(genres):
                total[c] += g[into, c] - g[leaving, c]
            mass += own[into] - own[leaving]
            other[:] = chosen
            other[out] = into
            chosen = np.sort(other)
            now = gain_of(chosen, r, d) - weight * apart(p, total, mass, a)

    @numba.njit(cache=True)
    def best_list(r, c, d, value, take):  # type: ignore[no-untyped-def]
        """The list that maximises sum_k d_k r_i + c_i, taking positions in ascending order: exact, by places filled."""
        n, count = len(r), len(d)
        value[:] = -np.inf
        value[0] = 0.0
        for i in range(n):
            for k in range(min(count, i + 1), 0, -1):
                take[i, k] = value[k - 1] + d[k - 1] * r[i] + c[i] > value[k]
                if take[i, k]:
                    value[k] = value[k - 1] + d[k - 1] * r[i] + c[i]
        out, k = np.zeros(count, np.int64), count
        for i in range(n - 1, -1, -1):
            if k > 0 and k <= i + 1 and take[i, k]:
                k -= 1
                out[k] = i
        return out

    @numba.njit(cache=True)
    def steps(r, g, p, weight, d, a, rounds, enough):  # type: ignore[no-untyped-def]
        n, genres, count = len(r), g.shape[1], len(d)
        lists, chances = np.zeros((rounds + 1, count), np.int64), np.zeros(rounds + 1)
        value, take = np.zeros(count + 1), np.zeros((n, count + 1), np.bool_)
        q, other, price, c = np.zeros(genres), np.zeros(genres), np.zeros(genres), np.zeros(n)
        lists[0], chances[0] = np.arange(count), 1.0
        gain = gain_of(lists[0], r, d)
        for k in range(count):
            q += g[k] / count
        for step in range(1, rounds + 1):
            for j in range(genres):
                price[j] = (1 - a) * p[j] / ((1 - a) * q[j] + a * p[j]) if p[j] > 0 else 0.0
            for i in range(n):
                c[i] = 0.0
                for j in range(genres):
                    c[i] += g[i, j] * price[j]
                c[i] *= weight / count
            found = best_list(r, c, d, value, take)
            its = gain_of(found, r, d)
            other[:] = 0.0
            for k in range(count):
                other += g[found[k]] / count
            better = its - gain
            for j in range(genres):
                better += weight * (other[j] - q[j]) * price[j]
            if better < enough:
                return lists[:step], chances[:step]
            low, high = 0.0, 1.0
            for _ in range(40):
                x = 0.5 * (low + high)
                slope = its - gain
                for j in range(genres):
                    if p[j] > 0:
                        mixed = (1 - a) * (q[j] + x * (other[j] - q[j])) + a * p[j]
                        slope += weight * p[j] * (1 - a) * (other[j] - q[j]) / mixed
                if slope > 0:
                    low = x
                else:
                    high = x
            x = 0.5 * (low + high)
            chances[:step] *= 1 - x
            lists[step], chances[step] = found, x
            q += x * (other - q)
            gain += x * (its - gain)
        return lists, chances

    return one_by_one, swaps, steps
