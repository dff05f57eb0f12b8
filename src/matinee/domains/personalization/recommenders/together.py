"""What the same members play: linear autoencoders in closed form (EASE, DLAE, EDLAE, and DLAE with ordered windows)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.gram import gram_matrix, invert
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]
RIDGE = 300.0
ENOUGH = 400_000  # plays from which on that ridge is taken whole


@register
@dataclass(repr=False)
class Together(Recommender):
    """What the same members play: a linear autoencoder in closed form. Scores are x B for a history x of zeros and ones.

    With G the Gram matrix of titles, P = (G + diag L)^-1 and L = p / (1 - p) diag(G) + l:

    | constructor | B off the diagonal | source |
    |---|---|---|
    | `Together()` | -P diag(L), G weighed by length and half of it from windows | this module |
    | `dlae` | -P diag(L) | Steck 2020, "Autoencoders that don't overfit towards the identity" |
    | `edlae` | -P_ij / P_jj: the diagonal is held at zero while solving | the same, full-rank with emphasis |
    | `ease` | -P_ij / P_jj with p = 0 | Steck 2019, "Embarrassingly shallow autoencoders" |

    The default weighs a member of m titles by m^-.6, and half of its Gram matrix counts only pairs near each other in
    the order of playing, so that a change of taste is not averaged away. A member asked about needs no order.

    The diagonal of B is left out of the scores: it only says that what was seen was seen.

    Memory: one float32 matrix of 4 titles^2 bytes throughout (48 MB at 3,500 titles, 3.6 GB at 30,000), which becomes
    the weights; 8 bytes an event beside it. Time: `gram.invert`, and the square of each member's length for the counts.

    Attributes:
        weights: B with a diagonal of zero, shape (titles, titles), float32.
        dropout: p, 0 <= p < 1: share of the history that the autoencoder must do without.
        ridge: l. None: 300, or in proportion less below 400,000 plays, where it would pull everything to nothing.
        length_power: A member of m titles weighs m^-length_power.
        near: Share of the Gram matrix that comes from ordered windows.
        span: Events over which a pair in a window loses a factor e.
        zero_diagonal: Hold the diagonal at zero while solving (EASE, EDLAE).
        fewest: Titles with fewer plays are not learnt.
    """

    kind: ClassVar[str] = "together"
    weights: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    dropout: float = 0.33
    ridge: float | None = None
    length_power: float = 0.6
    near: float = 0.5
    span: float = 30.0
    zero_diagonal: bool = False
    fewest: int = 4

    def __post_init__(self) -> None:
        must(self.dropout, "dropout", ge=0, lt=1)
        must(self.near, "near", ge=0, le=1)
        must(self.span, "span", gt=0)
        if self.ridge is not None:
            must(self.ridge, "ridge", gt=0)

    @classmethod
    def ease(cls, ridge: float = 500.0) -> Self:
        """EASE, of all titles."""
        return cls(dropout=0.0, ridge=ridge, length_power=0.0, near=0.0, zero_diagonal=True, fewest=1)

    @classmethod
    def dlae(cls, dropout: float = 0.33, ridge: float = 500.0) -> Self:
        """The denoising linear autoencoder, of all titles."""
        return cls(dropout=dropout, ridge=ridge, length_power=0.0, near=0.0, fewest=1)

    @classmethod
    def edlae(cls, dropout: float = 0.33, ridge: float = 200.0) -> Self:
        """The emphasised denoising linear autoencoder of full rank, of all titles."""
        return cls(dropout=dropout, ridge=ridge, length_power=0.0, near=0.0, zero_diagonal=True, fewest=1)

    def fit(self, histories: Histories) -> Self:
        """Count, then solve; what was learnt before is let go of first."""
        self.learned = histories
        self.weights = np.zeros((0, 0), np.float32)
        histories = histories.without_rare(self.fewest)
        self.titles = histories.titles
        matrix = gram_matrix(histories, length_power=self.length_power, near=self.near, span=self.span)
        diagonal = np.diag_indices(len(matrix))
        counts = matrix[diagonal].astype(np.float64)
        # A title that nobody plays leaves a row of zeros; the ridge alone keeps it solvable.
        penalty = self.dropout / (1 - self.dropout) * counts + self._ridge(float(counts.sum()))
        matrix[diagonal] = counts + penalty
        matrix = invert(matrix)
        matrix *= -1.0 / matrix[diagonal] if self.zero_diagonal else -penalty.astype(np.float32)
        matrix[diagonal] = 0.0
        self.weights = matrix
        return self

    def _ridge(self, plays: float) -> float:
        return self.ridge if self.ridge is not None else max(RIDGE * min(1.0, plays / ENOUGH), 1.0)

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Sum over the distinct titles of the history."""
        seen = np.unique(self._known(history))
        return np.asarray(self.weights[seen].sum(axis=0), np.float32)

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        from scipy.sparse import csr_array

        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        seen = csr_array(
            (np.ones(len(known.items), np.float32), known.items, known.offsets),
            (len(known), len(self.titles)),
            copy=True,  # what is asked about stays as it is: duplicates are summed in place
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
