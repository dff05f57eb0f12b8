"""Follows what a static model cannot know: a processor that has begun to approve more, or less, than it used to.

Each processor has a few segments of payments (the leaves of a small tree). A segment remembers its last attempts with
fading weight: how many more were approved than the model expected, S, and the spread that was to be expected, V. The
model's log-odds are shifted by strength * S / (V + prior): a score-test step, shrunk to nothing where little was seen.
Memory is counted in attempts, not hours, so that a processor with little traffic is not forgotten overnight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]

# Chosen by week cross-validation on one month of a public log; flat around these (memory 40 to 90, strength .45 to .7).
MEMORY = 60.0
PRIOR = 1.0
STRENGTH = 0.6


@dataclass
class Drift:
    """What was seen lately, by processor and segment.

    Attributes:
        surplus: Fading sum of approved minus expected, shape (processors, segments).
        spread: Fading sum of q (1 - q), shape (processors, segments).
        memory: Attempts of a segment after which a weight has faded to 1/e.
        prior: Spread that is taken for granted; the larger, the slower a segment shifts.
        strength: How much of the estimated shift is believed.
    """

    surplus: Array
    spread: Array
    memory: float = MEMORY
    prior: float = PRIOR
    strength: float = STRENGTH

    @classmethod
    def fresh(cls, processors: int, segments: int, settings: Mapping[str, float] | None = None) -> Drift:
        """Nothing seen yet."""
        return cls(np.zeros((processors, segments)), np.zeros((processors, segments)), **(settings or {}))

    def copy(self) -> Drift:
        """The same state, to be changed on its own."""
        return Drift(self.surplus.copy(), self.spread.copy(), self.memory, self.prior, self.strength)

    def emptied(self) -> Drift:
        """The same settings, nothing seen yet."""
        return Drift(np.zeros_like(self.surplus), np.zeros_like(self.spread), self.memory, self.prior, self.strength)

    def shifts(self, segments: Array) -> Array:
        """Shift of the log-odds now, for the segments (rows, processors) that payments fall into."""
        which = np.arange(segments.shape[1])[None, :]
        moved: Array = self.strength * self.surplus[which, segments] / (self.spread[which, segments] + self.prior)
        return moved

    def replay(self, logits: Array, segments: Array, action: Array, approved: Array) -> Array:
        """Shifts before each row's own answer, row by row in time; the state ends after the last row.

        Args:
            logits: Static log-odds, shape (rows, processors).
            segments: Segment of each row for each processor, shape (rows, processors).
            action: Index of the processor that was tried, shape (rows,).
            approved: Its answer, 0 or 1, shape (rows,).
        """
        out = np.empty(logits.shape)
        _replay(
            np.ascontiguousarray(logits, np.float64), np.ascontiguousarray(segments, np.int64),
            np.asarray(action, np.int64), np.asarray(approved, np.float64), self.surplus, self.spread,
            np.exp(-1.0 / self.memory), self.prior, self.strength, out,
        )  # fmt: skip
        return out


@numba.njit(cache=True)
def _replay(logits, segments, action, approved, surplus, spread, fade, prior, strength, out):  # type: ignore[no-untyped-def]
    rows, processors = logits.shape
    for i in range(rows):
        for p in range(processors):
            s = segments[i, p]
            out[i, p] = strength * surplus[p, s] / (spread[p, s] + prior)
        p = action[i]
        s = segments[i, p]
        expected = 1.0 / (1.0 + np.exp(-logits[i, p]))
        surplus[p, s] = surplus[p, s] * fade + approved[i] - expected
        spread[p, s] = spread[p, s] * fade + expected * (1.0 - expected)
