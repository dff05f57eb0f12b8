"""How much each of several scores counts: a multinomial logit on titles that were held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders.base import blocks
from matinee.domains.personalization.recommenders.histories import Histories

Array = np.ndarray[Any, Any]
MOST_CASES = 1000
# Titles not chosen, drawn alike from all, that stand for them. Few of them are rarely the ones that compete with the
# target, and weights learnt against easy titles order the hard ones badly: all titles, where memory allows.
CHOICES = 5000
RIDGE = 1e-3  # penalty of a weight, a case
STEPS = 50

Evidence = Callable[[Histories], list[Array]]
"""Scores of every title for each of some members: one array of shape (members, titles) a source."""


def learn_weights(evidence: Evidence, histories: Histories, *, sources: int, seed: int = 0) -> Array:
    """Weights w that make the newest title of each member likeliest: P(j | member) ~ exp(sum_s w_s evidence_s[j]).

    Members are sampled (1,000), and so are the titles that were not chosen (5,000 of those not seen before).

    Args:
        evidence: From histories that lack the newest title; fitted without them.
        histories: With the newest title.
        sources: Number of arrays that `evidence` gives.
        seed: Of the samples.

    Returns:
        Shape (sources,), float64.

    Raises:
        MatineeError: If no member has two events.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(histories.lengths >= 2)
    if not len(rows):
        raise mt.MatineeError("no history has two events, must have some to learn how much each source counts")
    rows = np.sort(rng.permutation(rows)[:MOST_CASES])
    some = histories.rows(rows)
    target, before = some.items[some.offsets[1:] - 1], some.without_last(1)
    n = len(histories.titles)
    others = np.sort(rng.choice(n, min(CHOICES, n), replace=False))
    tables = []
    for block in blocks(len(some)):
        part = before.rows(np.arange(block.start, block.stop))
        seen = np.zeros((len(part), n), np.bool_)
        seen[np.repeat(np.arange(len(part)), part.lengths), part.items] = True
        own = target[block]
        seen[np.arange(len(part)), own] = True  # the target stands in the first column, not among the others
        made = np.stack([_picked(e, own, others) for e in evidence(part)], axis=2)
        made[:, 1:][seen[:, others]] = -np.inf
        tables.append(made)
    return _newton(np.concatenate(tables), sources)


def _picked(table: Array, own: Array, others: Array) -> Array:
    """The target's column first, then the others'."""
    return np.concatenate([table[np.arange(len(own)), own][:, None], table[:, others]], axis=1).astype(np.float32)


def _newton(features: Array, sources: int) -> Array:
    """Weights of the most likely first column; features of shape (cases, choices, sources), -inf where not allowed."""
    allowed: Array = np.all(np.isfinite(features), axis=2)
    x = np.where(allowed[:, :, None], features, np.float32(0))
    scale = np.sqrt(np.maximum(np.einsum("ijs,ijs->s", x, x) / max(allowed.sum(), 1), 1e-12)).astype(np.float32)
    x /= scale
    weights = np.zeros(sources)
    ridge = RIDGE * len(x)

    def value(w: Array) -> float:
        z = np.where(allowed, x @ w.astype(np.float32), -np.inf)
        top = z.max(axis=1)
        return float((z[:, 0] - top - np.log(np.exp(z - top[:, None]).sum(axis=1))).sum() - 0.5 * ridge * w @ w)

    now = value(weights)
    for _ in range(STEPS):
        z = np.where(allowed, x @ weights.astype(np.float32), -np.inf)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = np.einsum("ij,ijs->is", p, x)
        slope = (x[:, 0] - mean).sum(axis=0) - ridge * weights
        px = p[:, :, None] * x
        curve = px.reshape(-1, sources).T @ x.reshape(-1, sources) - mean.T @ mean + ridge * np.eye(sources)
        step, length = np.linalg.solve(curve, slope), 1.0
        while length > 1e-6 and value(weights + length * step) < now:
            length /= 2
        weights = weights + length * step
        after = value(weights)
        if after - now < 1e-6 * len(x):
            break
        now = after
    return np.asarray(weights / scale)
