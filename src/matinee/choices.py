"""The logged records: a Choice (one decision, with its probability) and an Outcome (a fact tied to a choice)."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

import msgspec

Id = int | str


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One option of an advised decision, as the person saw it."""

    option: Id
    value: float | None = None
    low: float | None = None
    high: float | None = None
    drivers: dict[str, float] = {}
    blocked_by: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a solver claims about a plan: its value, a bound that no other plan passes, and whether the two meet."""

    value: float
    bound: float | None = None
    proven: bool = False

    @property
    def gap(self) -> float | None:
        """How far the bound lies from the value, as a share of the bound; None without one."""
        return None if self.bound is None else abs(self.bound - self.value) / max(abs(self.bound), 1e-12)


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag="choice"):
    """The record of one decision: context, candidates, action, propensities, guards that bit, policy, arm.

    `propensities[k]` is the exact probability of `action[k]` given the slots before it, among the candidates the
    guards allowed. A fallback has propensity 1 and its reason in `fallback`.
    """

    id: str
    decision: str
    unit: Id
    at: datetime
    policy: str
    arm: str = ""
    mode: str = "decide"
    context: dict[str, Any] = {}
    candidates: list[Id] = []
    blocked: dict[str, list[Id]] = {}
    groups: dict[str, list[int]] = {}  # guard between slots -> group of each candidate, aligned with `candidates`
    action: list[Id] = []
    propensities: list[float] = []
    fallback: str | None = None
    items_at: datetime | None = None  # the generation of candidate features that was read
    estimated: bool = False  # propensities estimated from a foreign log: a weaker claim than logged ones
    cluster: str | None = None  # choices that depend on each other; the unit where absent
    advice: list[Advice] = []
    chosen_by: str | None = None  # advise: the person
    plan: Plan | None = None  # plan: what the solver claims; nothing was drawn, so there are no propensities

    @property
    def probability(self) -> float:
        """Probability of the whole slate: the product over slots."""
        product = 1.0
        for p in self.propensities:
            product *= p
        return product


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """A fact tied to a choice. The same `id` counts once, however often and late it arrives."""

    id: str
    choice: str
    fact: str  # table name of the fact
    row: dict[str, Any]
    at: datetime
    known: datetime


def new_id() -> str:
    """A unique id that sorts by time: 48 bits of milliseconds, 80 random bits, in hex (as in UUIDv7)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
