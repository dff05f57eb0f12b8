"""Small worlds whose right answer is known in closed form."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from matinee.evaluate import Logged, SlateLog


def two_arms(n: int = 4_000, *, seed: int = 0, left: float = 0.2, right: float = 0.3) -> Logged:
    """Two arms by a coin; the policy always goes right, so its value is the mean of the right arm."""
    rng = np.random.default_rng(seed)
    went = rng.random(n) < 0.5
    reward = (rng.random(n) < np.where(went, right, left)).astype(float)
    q = np.where(went, right, left)
    return Logged(reward, np.full(n, 0.5), went.astype(float), q, np.full(n, right), action=went, policy="always right")


def never(n: int = 1_000) -> Logged:
    """A policy that never plays what the log plays."""
    return Logged(np.tile([0.0, 1.0], n // 2), np.full(n, 0.5), np.zeros(n), action=np.full(n, "red"))


def uniform_slates(n: int, items: int, slots: int, *, seed: int = 0) -> tuple[SlateLog, float]:
    """`slots` of `items` uniformly, a slot pays its item's number; the policy lists the highest items, best first.

    P(slate) = 1 / (items (items - 1) ... (items - slots + 1)) and the policy's value is the sum of the highest numbers.
    """
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((n, items)), axis=1)[:, :slots]
    propensity = np.broadcast_to(1.0 / (items - np.arange(slots)), (n, slots))
    wanted = items - 1 - np.arange(slots)
    follows = np.cumprod(chosen == wanted, axis=1).astype(bool)
    # Once the logged slate has left the policy's list, its next pick is the best item not yet shown.
    best_left = np.empty((n, slots), dtype=np.int64)
    for k in range(slots):
        left = np.ones((n, items), dtype=bool)
        left[np.arange(n)[:, None], chosen[:, :k]] = False
        best_left[:, k] = np.where(left, np.arange(items), -1).max(axis=1)
    assert (follows[:, 0] == (chosen[:, 0] == wanted[0])).all()
    log = SlateLog(chosen.astype(float), propensity, (chosen == best_left).astype(float))
    return log, float(wanted.sum())


@st.composite
def logs(draw: st.DrawFn, *, clusters: bool = True) -> Logged:
    """Any valid log of 5-60 rows with a reward model."""
    n = draw(st.integers(5, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mu = rng.uniform(0.02, 1.0, n)
    pi = rng.uniform(0.0, 1.0, n) * (rng.random(n) < 0.8)
    pi[0] = max(pi[0], 0.1)
    label = rng.integers(0, max(2, n // 3), n) if clusters and draw(st.booleans()) else None
    return Logged(
        rng.normal(1.0, 2.0, n), mu, pi, q=rng.normal(1.0, 1.0, n), q_policy=rng.normal(1.0, 1.0, n), cluster=label
    )
