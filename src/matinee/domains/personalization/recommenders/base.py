"""The contract of all recommenders: learn from histories, score every title, recommend, explain, save.

A recommender is a scorer as well: it proposes candidates from a catalogue and scores them for a request.
"""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.recommenders.histories import Histories

if TYPE_CHECKING:
    from matinee.policies import Candidates, Request, Scores

Array = np.ndarray[Any, Any]
PROPOSE = 300
EXPLAINED = 100  # newest distinct titles of a history that the general explanation tries without
BLOCK = 256  # members scored at a time

_KINDS: dict[str, type[Recommender]] = {}


@dataclass
class Recommender:
    """Base of the recommenders: what each must do, and what follows from its scores.

    A kind of its own declares `kind`, its fields with defaults, `fit` and `scores`; a vectorised `scores_of`, an exact
    `update` and an exact `explain` where there is one. `conformance.check_recommender` tries what is promised here.

    Histories may hold anything: unknown titles are ignored, a title may come many times, there may be nothing at all
    or 50,000 events.

    Attributes:
        kind: Its name in saved files.
        logarithmic: Whether scores are logs of what behaves like probabilities, rather than that itself; see `Blend`.
        titles: Ids of the titles it knows, sorted.
        name: Name and version in the studio.
        learned: The histories it was fitted on, for `update`; never saved, so that no model file holds a person's
            history and an erasure reaches everything.
    """

    kind: ClassVar[str] = ""
    logarithmic: ClassVar[bool] = False
    titles: Array = field(default_factory=lambda: np.array([], np.int64))
    name: str = ""
    learned: Histories | None = field(default=None, repr=False, compare=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.kind:
            _KINDS[cls.kind] = cls

    # What each kind does.

    @abstractmethod
    def fit(self, histories: Histories) -> Self:
        """Learn from histories, and from nothing that was learnt before."""

    def update(self, newer: Histories) -> Self:
        """Take in events that came after those it was fitted on; the same as fitting on all of them.

        In general it is that: the histories are joined and fitted again. Kinds that count take in the new events only.

        Raises:
            MatineeError: If it was loaded from a file, which holds no histories.
        """
        return self.fit(self._everything(newer))

    @abstractmethod
    def scores(self, history: Sequence[int] | Array) -> Array:
        """A score of every title for a history of title ids, oldest first; shape (titles,), float32."""

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """Scores for many members at once, the same as `scores` of each; shape (members, titles), float32.

        Args:
            histories: Of the members, in any catalogue; unknown titles are ignored.
            rows: Places among `histories.members`, in any order; None for all.
        """
        chosen = range(len(histories)) if rows is None else np.asarray(rows, np.int64).tolist()
        made = [self.scores(histories.history(row)) for row in chosen]
        return np.stack(made) if made else np.zeros((0, len(self.titles)), np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """What of a history drives the score of a title: (title of the history, contribution), largest first.

        In general a contribution is what the score loses when that title is taken out of the history, tried for the
        newest 100 distinct titles. Kinds whose score is a sum over the history give its terms, which add up to it.
        Titles that contribute nothing are left out; so is everything where the title is unknown.
        """
        at, known = self._positions(np.array([title]))
        back = self.titles[self._known(history)]
        if not known[0] or not len(back):
            return []
        distinct = list(dict.fromkeys(back[::-1].tolist()))[:EXPLAINED]
        without = Histories.of_sequences([back, *(back[back != one] for one in distinct)])
        scores = self.scores_of(without)[:, at[0]].astype(np.float64)
        return largest_first(zip(distinct, (scores[0] - scores[1:]).tolist(), strict=True))

    # What follows from the scores.

    def recommend(
        self, history: Sequence[int] | Array, k: int = 10, *, exclude_seen: bool = True
    ) -> tuple[Array, Array]:
        """The k best titles for a history, and their scores, best first; of equal scores the smaller id comes first.

        Args:
            history: Title ids, oldest first, of a member it was fitted on or of anybody else.
            k: How many; fewer come back where fewer are left, none where all were seen.
            exclude_seen: Leave out titles of the history.
        """
        must(k, "k", typ=int, ge=1)
        scores = np.array(self.scores(history), np.float32)
        if exclude_seen:
            scores[self._known(history)] = -np.inf
        best = top(scores, k)
        return self.titles[best], scores[best]

    def similar(self, title: int, k: int = 10) -> tuple[Array, Array]:
        """The k titles nearest to a title, and how near, best first: what follows from it alone as a history.

        Raises:
            MatineeError: If the title is not known.
        """
        if not self._positions(np.array([title]))[1][0]:
            raise mt.MatineeError(f"title == {title!r}, must be one of the {len(self.titles):,} titles of {self!r}")
        return self.recommend([title], k)

    # What makes it a scorer.

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's history."""
        from matinee.domains.personalization.features import taste

        return [taste]

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

    def save(self, folder: Path) -> None:
        """Write its arrays and settings, one safetensors file."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Array] = {}
        settings: dict[str, Any] = {}
        for one in self._saved():
            value = getattr(self, one)
            if isinstance(value, np.ndarray):
                arrays[one] = np.ascontiguousarray(value)
            else:
                settings[one] = value
        save_file(arrays, folder / "arrays.safetensors", metadata={"kind": self.kind, "settings": json.dumps(settings)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If the file is missing, cut short or of another kind.
        """
        arrays, metadata = _read(folder)
        try:
            given: dict[str, Any] = {**arrays, **json.loads(metadata["settings"])}
            return cls(**given)
        except (TypeError, ValueError, KeyError) as error:
            raise _damaged(folder) from error

    # Helpers of the kinds.

    def _saved(self) -> list[str]:
        """Names of the fields that are saved."""
        return [f.name for f in dataclasses.fields(self) if f.init and f.name not in ("name", "learned")]

    def _everything(self, newer: Histories) -> Histories:
        if self.learned is None:
            raise mt.MatineeError(
                f"{self!r} holds no histories, must be fitted in this process before it is updated: a saved model keeps "
                f"nobody's history; fit it on all of them"
            )
        return self.learned.joined(newer)

    def _positions(self, ids: Array) -> tuple[Array, Array]:
        """Position of each title among the known ones, and whether it is one."""
        if not len(self.titles):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        at = np.minimum(np.searchsorted(self.titles, ids), len(self.titles) - 1)
        return at, self.titles[at] == ids

    def _known(self, history: Sequence[int] | Array) -> Array:
        """Positions of the known titles of a history, oldest first."""
        at, known = self._positions(np.asarray(history, np.int64)) if len(history) else (np.array([], np.int64),) * 2
        return np.asarray(at[known.astype(np.bool_)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.titles)} titles)"


def load_recommender(folder: Path) -> Recommender:
    """The recommender that was saved there, of whatever kind.

    Raises:
        MatineeError: If the file is missing, cut short or of a kind that is not imported.
    """
    kind = _read(folder)[1].get("kind", "")
    if kind not in _KINDS:
        raise mt.MatineeError(f"kind == {kind!r}, must be one of {', '.join(sorted(_KINDS))}")
    return _KINDS[kind].load(folder)


def top(scores: Array, k: int) -> Array:
    """Positions of the k largest finite scores, best first, smaller positions first among equals."""
    k = min(k, len(scores))
    if not k:
        return np.array([], np.int64)
    # The k-th largest cuts; its equals are told apart by position, not by how the partition happened to fall.
    cut = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero(scores >= cut)
    candidates = candidates[np.isfinite(scores[candidates])]
    return np.asarray(candidates[np.argsort(-scores[candidates], kind="stable")][:k])


def largest_first(pairs: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Contributions summed by title, the largest first, nothings left out."""
    total: dict[int, float] = {}
    for title, value in pairs:
        total[int(title)] = total.get(int(title), 0.0) + float(value)
    return sorted(((t, v) for t, v in total.items() if v != 0), key=lambda tv: (-tv[1], tv[0]))


def blocks(rows: int, most: int = BLOCK) -> Iterator[slice]:
    """Slices of at most so many rows, in order."""
    for begin in range(0, rows, most):
        yield slice(begin, min(begin + most, rows))


def _read(folder: Path) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "arrays.safetensors", framework="numpy") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> mt.MatineeError:
    return mt.MatineeError(f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again")


def _history(request: Request) -> list[int]:
    from matinee.domains.personalization.features import recent

    return recent(request.features)
