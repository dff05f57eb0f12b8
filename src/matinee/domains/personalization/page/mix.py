"""Genre mixes: what a history is made of, what a list is made of, and how far apart the two are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import matinee as mt

Array = np.ndarray[Any, Any]
SMOOTHING = 0.01  # share of the history's own mix in the list's, so that a genre missing from the list has a finite price


def shares(genres: Sequence[Sequence[str] | None]) -> tuple[list[str], Array]:
    """Names of the genres, sorted, and each title's share of each, shape (titles, genres); rows sum to one.

    A title splits its weight evenly over its genres; one without any has a row of zeros.

    Example:
        >>> shares([["Drama", "War"], ["Drama"], None])[1].tolist()
        [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]
    """
    distinct = [list(dict.fromkeys(g or ())) for g in genres]
    names = sorted({g for own in distinct for g in own})
    column = {g: k for k, g in enumerate(names)}
    out = np.zeros((len(distinct), len(names)))
    for row, own in enumerate(distinct):
        for g in own:
            out[row, column[g]] = 1 / len(own)
    return names, out


def mix(titles: Array, of: Array) -> Array:
    """The mean mix of some titles, shape (genres,); sums to one, or to zero where none has a genre.

    Args:
        titles: Shares of all titles, shape (titles, genres).
        of: Positions of the titles meant; one that comes twice counts twice.
    """
    total: Array = np.asarray(titles[of], np.float64).sum(axis=0)
    weight = float(total.sum())
    return total / weight if weight > 0 else total


def divergence(wanted: Array, shown: Array, smoothing: float = SMOOTHING) -> float:
    """KL(p || (1 - a) q + a p): how far the mix shown is from the one wanted (Steck 2018, "Calibrated recommendations").

    0 when they are the same; at most log(1 / a), when they share nothing.

    Args:
        wanted: The history's mix p, shape (genres,).
        shown: The list's mix q, shape (genres,).
        smoothing: a, within (0, 1).

    Example:
        >>> divergence(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        0.0
    """
    if not 0 < smoothing < 1:
        raise mt.MatineeError(f"smoothing == {smoothing!r}, must be > 0 and < 1")
    there = smoothing * wanted > 0  # a share that vanishes in that product is none
    p = wanted[there]
    return float(p @ np.log(p / ((1 - smoothing) * shown[there] + smoothing * p)))
