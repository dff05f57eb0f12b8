"""What the same members play: a linear autoencoder in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]
FEW_EVENTS = 4


@register
@dataclass(repr=False)
class Together(Recommender):
    """What the same members play: a linear autoencoder in closed form, half of its Gram matrix from ordered windows.

    B = I - (G + diag L)^-1 diag(L), with L = p / (1 - p) diag(G) + l (Steck 2020, "Autoencoders that don't overfit
    towards the identity"). G weighs a member's events by (length of the history)^-.6, and half of it counts only pairs
    near each other in time, so that a change of taste is not averaged away.
    """

    kind: ClassVar[str] = "together"
    weights: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    dropout: float = 0.33
    ridge: float = 300.0

    def fit(self, histories: Histories) -> Self:
        """Solve for the weights; about n^3 / 3 operations for n titles."""
        self.learned = histories
        histories = histories.without_rare(FEW_EVENTS)
        self.titles = histories.titles
        n = len(self.titles)
        lengths = np.diff(histories.offsets).astype(np.float64)
        power = np.maximum(lengths, 1) ** -0.6
        gram, near = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
        count_together(histories.items, histories.offsets, power, gram, near)
        total = float(len(histories.items))
        for matrix in (gram, near):
            matrix *= total / max(float(np.trace(matrix)), 1e-9)
        gram = 0.5 * gram + 0.5 * near
        # Few events need less ridge, or everything would be pulled to nothing.
        ridge = self.ridge * min(1.0, total / 400_000)
        p = self.dropout
        lam = p / (1 - p) * np.diag(gram) + max(ridge, 1.0)
        gram[np.diag_indices(n)] += lam
        self.weights = -_inverse(gram) * lam[None, :].astype(np.float32)
        self.weights[np.diag_indices(n)] = 0.0
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Sum over the distinct titles of the history."""
        seen = np.unique(self._known(history))
        if not len(seen):
            return np.zeros(len(self.titles), np.float32)
        return np.asarray(self.weights[seen].sum(axis=0))

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        from scipy.sparse import csr_array

        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        seen = csr_array(
            (np.ones(len(known.items), np.float32), known.items, known.offsets), (len(known), len(self.titles))
        )
        seen.sum_duplicates()
        seen.data[:] = 1.0  # a title counts once, however often it came
        return np.asarray(seen @ self.weights, np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        at, known = self._positions(np.array([title]))
        seen = np.unique(self._known(history))
        if not known[0] or not len(seen):
            return []
        return largest_first(zip(self.titles[seen].tolist(), self.weights[seen, at[0]].tolist(), strict=True))


def _inverse(gram: Array) -> Array:
    """Inverse of a positive definite matrix, from its Cholesky factor in place: a third of the work of solving."""
    from scipy.linalg.lapack import spotrf, spotri

    factor, info = spotrf(gram, lower=0, overwrite_a=1)
    if info == 0:
        upper, info = spotri(factor, lower=0, overwrite_c=1)
    if info != 0:
        raise mt.MatineeError("the matrix of what is played together cannot be inverted: give Together a larger ridge")
    upper = np.triu(upper)
    return np.asarray(upper + np.triu(upper, 1).T)


def count_together(items: Array, offsets: Array, power: Array, gram: Array, near: Array) -> None:
    """Add every member's pairs to both Gram matrices, in place: `gram` whole histories, `near` ordered windows.

    Args:
        items: Positions, shape (events,).
        offsets: Where each member begins, and the end, shape (members + 1,).
        power: Weight of each member, shape (members,).
        gram, near: Shape (titles, titles), float32.
    """
    _kernel()(items, offsets, power, gram, near)


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True)
    def together(items, offsets, power, gram, near):  # type: ignore[no-untyped-def]
        for m in range(len(offsets) - 1):
            start, end, w = offsets[m], offsets[m + 1], power[m]
            for x in range(start, end):
                # Beyond 2,000 events the whole history says no more than its recent part.
                for y in range(max(start, x - 2000), x + 1):
                    a, b = items[x], items[y]
                    gram[a, b] += w
                    if a != b:
                        gram[b, a] += w
                    gap = x - y
                    if gap <= 120:
                        strength = w * np.exp(-gap / 30.0)
                        near[a, b] += strength
                        if a != b:
                            near[b, a] += strength

    return together
