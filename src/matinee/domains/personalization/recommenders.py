"""Recommenders: what a history says about every title. Each is a scorer that also proposes candidates from a catalogue.

| name | what it counts | good for |
|---|---|---|
| Popular | plays, with a half-life | members without a history, and the honest baseline |
| Following | what is played soon after what (a decayed window) | the next title |
| Together | what is played by the same members (closed-form autoencoder) | taste over the long run |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.scorers import register

if TYPE_CHECKING:
    import polars as pl

    from matinee.policies import Candidates, Request, Scores

Array = np.ndarray[Any, Any]
MOST_TITLES = 12_000  # a closed form of n titles takes n^3 / 3 operations and two n x n float32 matrices
PROPOSE = 300
FEW_EVENTS = 4
_SETTINGS = ("half_life", "decay", "window", "dropout", "ridge")  # numbers, saved as arrays of one


@dataclass(frozen=True)
class Histories:
    """Members' histories, oldest first, as flat arrays.

    Attributes:
        titles: Ids of the titles, sorted; everything else speaks of their positions.
        items: Positions, one an event, member by member, oldest first, shape (events,).
        offsets: Where each member's events begin; one more for the end, shape (members + 1,).
        members: Ids, shape (members,).
        day: Days since 1970 of each event, shape (events,).
    """

    titles: Array
    items: Array
    offsets: Array
    members: Array
    day: Array

    @classmethod
    def of(cls, events: pl.DataFrame, *, most_titles: int = MOST_TITLES) -> Histories:
        """From rows `member`, `title`, `at`; at most so many titles are kept, the most played ones.

        A title repeated at once counts once. Equal times keep the order of the rows, which is the order of appending.
        """
        import polars as pl

        if not len(events):
            raise mt.MatineeError(
                "there are no plays or ratings yet, must have some to learn from: import or append them"
            )
        counts = events.group_by("title").len().sort("len", "title", descending=[True, False])
        kept = counts.head(most_titles)["title"]
        events = events.filter(pl.col("title").is_in(kept.implode())).sort("member", "at", maintain_order=True)
        repeated = (pl.col("title") == pl.col("title").shift(1)) & (pl.col("member") == pl.col("member").shift(1))
        events = events.filter(~repeated.fill_null(value=False))
        titles = np.sort(kept.to_numpy())
        members, starts = np.unique(events["member"].to_numpy(), return_index=True)
        items = np.searchsorted(titles, events["title"].to_numpy())
        days = events["at"].cast(pl.Int64).to_numpy() / 86_400e6
        return cls(titles, items.astype(np.int64), np.append(starts, len(items)).astype(np.int64), members, days)

    def without_rare(self, fewest: int) -> Histories:
        """The same without titles of fewer events than that: what is hardly played says nothing about company."""
        counts = np.bincount(self.items, minlength=len(self.titles))
        kept = counts >= fewest
        if kept.all() or not kept.any():
            return self
        place = np.cumsum(kept) - 1
        stays = kept[self.items]
        offsets = np.concatenate([[0], np.cumsum(stays)])[self.offsets]
        return Histories(self.titles[kept], place[self.items[stays]], offsets, self.members, self.day[stays])


@dataclass
class Recommender:
    """Base of the recommenders: finds titles among candidates, reads histories, saves arrays.

    Attributes:
        titles: Ids of the titles it knows, sorted.
        name: Name and version in the studio.
    """

    kind: ClassVar[str] = ""
    titles: Array = field(default_factory=lambda: np.array([], np.int64))
    name: str = ""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's history."""
        from matinee.domains.personalization.features import taste

        return [taste]

    @abstractmethod
    def fit(self, histories: Histories) -> Self:
        """Learn from histories."""

    @abstractmethod
    def scores(self, history: Sequence[int]) -> Array:
        """A score of every title for a history of title ids, oldest first; shape (titles,), float32."""

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """One score a candidate; a title it does not know gets the least."""
        everything = self.scores(_history(request))
        at, known = self._positions(candidates.ids)
        low = float(everything.min()) if len(everything) else 0.0
        return mt.Scores(np.where(known, everything[at], low).astype(np.float64))

    def propose(self, request: Request, candidates: Candidates) -> Array | None:
        """The positions of its best candidates, besides what was seen; None where the catalogue is small."""
        if len(candidates) <= PROPOSE:
            return None
        scores = self.score(request, candidates).mean
        seen = _history(request)
        if seen:
            scores[np.isin(candidates.ids, np.asarray(seen, candidates.ids.dtype))] = -np.inf
        return np.argpartition(-scores, PROPOSE)[:PROPOSE]

    def _positions(self, ids: Array) -> tuple[Array, Array]:
        """Position of each candidate among the known titles, and whether it is one."""
        if not len(self.titles):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        at = np.minimum(np.searchsorted(self.titles, ids), len(self.titles) - 1)
        return at, self.titles[at] == ids

    def _known(self, history: Sequence[int]) -> Array:
        """Positions of the known titles of a history, oldest first."""
        at, known = self._positions(np.asarray(history, np.int64)) if len(history) else (np.array([], np.int64),) * 2
        return np.asarray(at[known.astype(np.bool_)])

    def _arrays(self) -> Mapping[str, Array]:
        return {"titles": self.titles}

    def save(self, folder: Path) -> None:
        """Write its arrays."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(v) for k, v in self._arrays().items()}, folder / "arrays.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read its arrays."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            found = load_file(folder / "arrays.safetensors")
            arrays: dict[str, Any] = {k: v.item() if k in _SETTINGS else v for k, v in found.items()}
            return cls(**arrays)
        except (SafetensorError, OSError, TypeError) as error:
            raise mt.MatineeError(
                f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again"
            ) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.titles)} titles)"


def _history(request: Request) -> list[int]:
    from matinee.domains.personalization.features import recent

    return recent(request.features)


@register
@dataclass(repr=False)
class Popular(Recommender):
    """How often a title is played, each play counting half as much after every half-life. No history is read."""

    kind: ClassVar[str] = "popular"
    counts: Array = field(default_factory=lambda: np.array([], np.float32))
    half_life: float = float("inf")  # days

    def fit(self, histories: Histories) -> Self:
        """Count plays up to the last one."""
        self.titles = histories.titles
        age = histories.day.max() - histories.day if len(histories.day) else histories.day
        half = self.half_life
        weight = np.ones(len(age)) if not np.isfinite(half) else np.exp2(-age / half)
        self.counts = np.bincount(histories.items, weights=weight, minlength=len(histories.titles)).astype(np.float32)
        return self

    def scores(self, history: Sequence[int]) -> Array:
        """log(1 + decayed plays)."""
        return np.log1p(self.counts)

    def _arrays(self) -> Mapping[str, Array]:
        return {"titles": self.titles, "counts": self.counts, "half_life": np.array([float(self.half_life)])}


@register
@dataclass(repr=False)
class Following(Recommender):
    """What is played soon after what: counts of pairs in a window, decayed by their distance, lifted by popularity.

    A Markov chain over a window: C[i, j] = sum over pairs with j after i of decay^(distance - 1). Scores add over the
    last titles of a history, again decayed: sum_r decay^(r - 1) C[i_r, j] / (C[i_r, .] + shrink).
    """

    kind: ClassVar[str] = "following"
    weights: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    decay: float = 0.7
    window: int = 10

    def fit(self, histories: Histories) -> Self:
        """Count pairs."""
        self.titles = histories.titles
        n = len(self.titles)
        counts = np.zeros((n, n), np.float32)
        _count_pairs(histories.items, histories.offsets, counts, self.decay, self.window)
        popularity = np.bincount(histories.items, minlength=n).astype(np.float32)
        # The exponent takes part of popularity out: what follows everything says little about what follows this.
        self.weights = counts / (counts.sum(axis=1, keepdims=True) + 5.0) / (popularity[None, :] + 1.0) ** 0.15
        return self

    def scores(self, history: Sequence[int]) -> Array:
        """Decayed sum over the last titles."""
        last = self._known(history)[-self.window :][::-1]
        if not len(last):
            return np.zeros(len(self.titles), np.float32)
        strength = self.decay ** np.arange(len(last), dtype=np.float32)
        return np.asarray(strength @ self.weights[last], np.float32)

    def _arrays(self) -> Mapping[str, Array]:
        return {
            "titles": self.titles, "weights": self.weights, "decay": np.array([float(self.decay)]),
            "window": np.array([int(self.window)]),
        }  # fmt: skip


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
        histories = histories.without_rare(FEW_EVENTS)
        self.titles = histories.titles
        n = len(self.titles)
        lengths = np.diff(histories.offsets).astype(np.float64)
        power = np.maximum(lengths, 1) ** -0.6
        gram, near = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
        _count_together(histories.items, histories.offsets, power, gram, near)
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

    def scores(self, history: Sequence[int]) -> Array:
        """Sum over the distinct titles of the history."""
        seen = np.unique(self._known(history))
        if not len(seen):
            return np.zeros(len(self.titles), np.float32)
        return np.asarray(self.weights[seen].sum(axis=0))

    def _arrays(self) -> Mapping[str, Array]:
        return {
            "titles": self.titles, "weights": self.weights, "dropout": np.array([float(self.dropout)]),
            "ridge": np.array([float(self.ridge)]),
        }  # fmt: skip


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


def _count_pairs(items: Array, offsets: Array, counts: Array, decay: float, window: int) -> None:
    _kernels()[0](items, offsets, counts, decay, window)


def _count_together(items: Array, offsets: Array, power: Array, gram: Array, near: Array) -> None:
    _kernels()[1](items, offsets, power, gram, near)


_COMPILED: list[tuple[Any, Any]] = []


def _kernels() -> tuple[Any, Any]:
    if _COMPILED:
        return _COMPILED[0]
    import numba

    @numba.njit(cache=True)
    def pairs(items, offsets, counts, decay, window):  # type: ignore[no-untyped-def]
        for m in range(len(offsets) - 1):
            for y in range(offsets[m] + 1, offsets[m + 1]):
                strength = 1.0
                for x in range(y - 1, max(offsets[m] - 1, y - 1 - window), -1):
                    if items[x] != items[y]:
                        counts[items[x], items[y]] += strength
                    strength *= decay

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

    _COMPILED.append((pairs, together))
    return _COMPILED[0]
