"""Payment processors: whom they get approved, what they cost, when they are down.

Acceptance of a payable charge = sigmoid(own level + country + amount + night + card + drift), times `outage_factor`
while the processor is down. It is the part of a charge that routing can influence; the member's own reasons are in
`retry`. Shapes follow section 8 of the payments notes in a milder form and in time rather than in transactions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from matinee.worlds.people import COUNTRIES
from matinee.worlds.settings import Settings

PROCESSORS = ("alder", "birch", "cedar", "dogwood")
# Cents for an approved and for a declined attempt, and the logit that goes with the price: the dear ones get more
# approved, as in public routing data.
FEES_SUCCESS_MINOR = np.array([12, 18, 26, 40])
FEES_FAILURE_MINOR = np.array([3, 5, 8, 12])
_LEVEL = np.array([-0.30, -0.10, 0.10, 0.30])
_LATENCY_MS = np.array([420.0, 310.0, 260.0, 350.0])
MEDIAN_MINOR = 1_000
STEP_HOURS = 0.25


class Processors:
    """Acceptance over time for each country and processor, laid out for the whole calendar."""

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        self.settings = settings
        countries, count = len(COUNTRIES), len(PROCESSORS)
        s = settings
        level = math.log(s.acceptance / (1 - s.acceptance)) + _LEVEL + rng.normal(0, s.processor_spread, count)
        # Every country has one processor that acquires locally, in an order drawn anew for each four countries.
        local = np.zeros((countries, count))
        order = np.concatenate([rng.permutation(count) for _ in range(-(-countries // count))])
        local[np.arange(countries), order[:countries]] = s.local_acquiring
        self.segment = level + local + rng.normal(0, s.segment_spread, (countries, count))
        self.amount_slope = rng.normal(0, s.amount_spread, count)
        self.night = rng.normal(0, s.night_spread, count)
        self.card = np.stack([np.zeros(count), rng.normal(0, 0.15, count)])  # by network
        self.debit = -0.15
        self.drift = self._make_drift(rng)
        self.down = self._make_outages(rng)

    def _make_drift(self, rng: np.random.Generator) -> np.ndarray:
        """Hourly z <- decay z + noise per country and processor, shape (hours, countries, processors)."""
        hours = self.settings.calendar_days * 24
        noise = rng.normal(0, self.settings.drift_spread, (hours, *self.segment.shape))
        for hour in range(1, hours):
            noise[hour] += self.settings.drift_decay * noise[hour - 1]
        return noise

    def _make_outages(self, rng: np.random.Generator) -> np.ndarray:
        """Whether a processor is down, by quarter of an hour, shape (steps, processors)."""
        s = self.settings
        steps = int(s.calendar_days * 24 / STEP_HOURS)
        table = np.zeros((steps, len(PROCESSORS)), dtype=bool)
        for processor in range(len(PROCESSORS)):
            for begin in rng.integers(0, steps, rng.poisson(s.outages_per_month * s.calendar_days / 30)):
                table[begin : begin + int(rng.uniform(*s.outage_hours) / STEP_HOURS), processor] = True
        return table

    def acceptance(
        self, country: np.ndarray, amount_minor: np.ndarray, network: np.ndarray, debit: np.ndarray, day: np.ndarray
    ) -> np.ndarray:
        """Probability that a payable charge is approved by each processor, shape (charges, processors)."""
        hour = (day * 24).astype(np.int64)
        of_day = hour % 24
        at_night = (of_day >= 22) | (of_day < 6)
        logit = (
            self.segment[country]
            + np.log(amount_minor / MEDIAN_MINOR)[:, None] * self.amount_slope
            + at_night[:, None] * self.night
            + self.card[network]
            + self.debit * debit[:, None]
            + self.drift[hour, country]
        )
        down = self.down[(day * 24 / STEP_HOURS).astype(np.int64)]
        return np.asarray(np.where(down, self.settings.outage_factor, 1.0) / (1 + np.exp(-logit)))

    def acceptance_of(
        self, country: int, amount_minor: int, network: int, debit: bool, day: float, processor: int
    ) -> float:
        """The same for one charge through one processor, without arrays."""
        hour = int(day * 24)
        logit = (
            self.segment.item(country, processor)
            + math.log(amount_minor / MEDIAN_MINOR) * self.amount_slope.item(processor)
            + self.card.item(network, processor)
            + self.debit * debit
            + self.drift.item(hour, country, processor)
        )
        if hour % 24 >= 22 or hour % 24 < 6:
            logit += self.night.item(processor)
        p = 1 / (1 + math.exp(-logit))
        return p * self.settings.outage_factor if self.is_down(day, processor) else p

    def is_down(self, day: float, processor: int) -> bool:
        """Whether the processor has an outage then."""
        return bool(self.down.item(int(day * 24 / STEP_HOURS), processor))


def latency_ms(processor: np.ndarray, uniform: np.ndarray, down: np.ndarray) -> np.ndarray:
    """How long the answer takes: a long tail over the processor's median, four times as long while it is down."""
    return np.asarray(_LATENCY_MS[processor] * _tail(uniform) * np.where(down, 4.0, 1.0))


def latency_ms_of(processor: int, uniform: float, down: bool) -> float:
    """The same for one attempt."""
    median: float = _LATENCY_MS.item(processor)
    return median * float(_tail(uniform)) * (4.0 if down else 1.0)


def _tail(uniform: Any) -> Any:
    return 0.6 + 0.8 * uniform**3 / (1.02 - uniform)
