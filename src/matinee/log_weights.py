"""What a log of shown candidates must be weighted by, to learn from it as if it had not chosen what it showed.

A candidate that is often shown is often learned from, whatever it is worth: rows are weighted by the inverse of the
probability with which they were shown (Swaminathan and Joachims, 2015), clipped, since a row of one in a thousand would
otherwise outweigh all others. What stands far down a page is looked at less: a reward there says more than one at the
top, by the inverse of the chance that the slot is looked at at all (Joachims, Swaminathan and Schnabel, 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from matinee.checks import must
from matinee.exceptions import BadInputError

Array = np.ndarray[Any, Any]
STEEPEST = 2.0  # a slot is looked at at least e^-2 times as often as the one before it


@dataclass(frozen=True)
class LogWeights:
    """How rows of a log are weighted when a model learns from it.

    Attributes:
        clip: How far a row's inverse propensity may lie from the log's median one, as a factor; 1 weighs all alike, which
            is right for a model that compares what stood on one page: what was shown together was chosen alike.
        position: Whether a reward weighs the inverse of the chance that its slot is looked at.
        most: Largest such inverse.

    Example:
        >>> LogWeights(clip=2.0, position=False).of([0, 1, 2], [1.0, 0.0, 0.0], [0.5, 0.5, 0.05]).tolist()
        [0.75, 0.75, 1.5]
        >>> LogWeights().of([0, 0, 1, 1], [1.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]).round(2).tolist()
        [0.8, 0.8, 1.6, 0.8]
    """

    clip: float = 1.0
    position: bool = True
    most: float = 10.0

    def __post_init__(self) -> None:
        must(self.clip, "clip", ge=1)
        must(self.most, "most", ge=1)

    def of(self, slot: ArrayLike, reward: ArrayLike, propensity: ArrayLike) -> Array:
        """One weight a row, of mean one.

        Args:
            slot: Place on its page, from 0, shape (rows,).
            reward: What it brought, shape (rows,).
            propensity: Probability of the row's action in its slot, shape (rows,), in (0, 1].

        Raises:
            BadInputError: If shapes differ or a propensity is no probability.
        """
        k, y, p = (np.asarray(a, np.float64) for a in (slot, reward, propensity))
        if k.ndim != 1 or not len(k) or not k.shape == y.shape == p.shape:
            raise BadInputError(
                f"slot, reward and propensity have shapes {k.shape}, {y.shape}, {p.shape}, must be one a row"
            )
        if not ((p > 0) & (p <= 1)).all():
            bad = int(np.argmax(~((p > 0) & (p <= 1))))
            raise BadInputError(f"propensity[{bad}] == {p[bad]}, must be > 0 and <= 1")
        inverse = 1 / p
        weight = np.clip(inverse / np.median(inverse), 1 / self.clip, self.clip)
        if self.position:
            looks = np.exp(-examination(k, y, weight) * k)
            weight = np.where(y > 0, weight * np.minimum(1 / looks, self.most), weight)
        found: Array = weight / weight.mean()
        return found


def examination(slot: ArrayLike, reward: ArrayLike, weight: ArrayLike) -> float:
    """How fast attention falls along a page: lambda >= 0 of exp(-lambda k), by maximum likelihood.

    Rewards of slot k are Poisson with mean c exp(-lambda k), the rows weighted so that all slots hold like candidates. At
    the maximum the mean slot of the rewards is the mean slot under the model, which falls with lambda.

    Args:
        slot, reward, weight: As in `LogWeights.of`; rewards below zero count as none.

    Example:
        >>> round(examination([0, 1], [2.0, 1.0], [1.0, 1.0]), 4)
        0.6931
    """
    k, w = np.asarray(slot, np.float64), np.asarray(weight, np.float64)
    y = np.maximum(np.asarray(reward, np.float64), 0.0) * w
    if y.sum() <= 0 or np.ptp(k) == 0:
        return 0.0
    wanted = float(y @ k / y.sum())

    def mean(rate: float) -> float:
        e = w * np.exp(-rate * k)
        return float(e @ k / e.sum())

    if mean(0.0) <= wanted:
        return 0.0
    low, high = 0.0, STEEPEST
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if mean(middle) > wanted else (low, middle)
    return 0.5 * (low + high)
