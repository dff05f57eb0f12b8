"""What a ranker reads of a member and a title together: places in the recommenders' orders, what was shown in vain, language.

Each is a scorer of one number a candidate, so that it is computed by the same code in training and in serving.

A place, not a score: the score of a recommender changes its scale when it is fitted again on more events, and a ranker
that learned the old scale would then read nonsense. Its order keeps its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.domains.personalization.facts import Member, Played, Shown
from matinee.domains.personalization.features import recent
from matinee.domains.personalization.recommenders import Recommender, load_recommender
from matinee.scorers import propose, register

if TYPE_CHECKING:
    from matinee.policies import Candidates, Request

Array = np.ndarray[Any, Any]
FINISHED = 0.7  # share of a title from which it counts as watched to its end
WEARY = "14d"  # how long a title that was shown in vain is remembered

memory = mt.Features(
    "member",
    name="memory",
    titles_shown=mt.counts(Shown.title, WEARY),
    titles_begun=mt.counts(Played.title, WEARY),
    titles_played=mt.counts(Played.title),
    titles_finished=mt.counts(Played.title, where=Played.share >= FINISHED),  # type: ignore[operator]  # a column
)

moment = mt.Features(
    "member",
    name="moment",
    shown_30m=mt.count(Shown, "30m"),  # how far into the session
    shown_1d=mt.count(Shown, "1d"),
    unseen_days=mt.recency(Shown) / 86_400,
)

tongue = mt.Features("member", name="tongue", speaks=mt.state(Member.language))

FEATURES = [memory, moment, tongue]


@register
@dataclass
class Place:
    """The place of a title in a recommender's own order of all titles, as minus its logarithm: 0 is the best.

    Attributes:
        part: The recommender, fitted.
        name: Name and version in the studio.
    """

    kind: ClassVar[str] = "place"
    part: Recommender
    name: str = ""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """What the recommender reads."""
        return self.part.needs

    def score(self, request: Request, candidates: Candidates) -> mt.Scores:
        """Minus log2 of one plus the number of titles it puts before; a title it does not know comes after all."""
        scores = np.asarray(self.part.scores(recent(request.features)))
        at, known = self.part._positions(candidates.ids)
        before = len(scores) - np.searchsorted(np.sort(scores), scores[at], side="right") if len(scores) else at
        return mt.Scores(-np.log2(1.0 + np.where(known, before, len(scores))))

    def propose(self, request: Request, candidates: Candidates) -> Array | None:
        """What the recommender proposes."""
        found: Array | None = propose(self.part, request, candidates)
        return found

    def save(self, folder: Path) -> None:
        """Write the recommender."""
        (folder / "part").mkdir(parents=True, exist_ok=True)
        self.part.save(folder / "part")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The place of the recommender that was saved there."""
        return cls(load_recommender(folder / "part"))


MEMORIES = ("in_vain", "played", "finished")


@register
@dataclass
class Memory:
    """How often a title met the member: shown and not played of late ("in_vain"), ever played, played to its end.

    Attributes:
        what: Which of these.
        name: Name and version in the studio.
    """

    kind: ClassVar[str] = "memory"
    what: str
    name: str = ""

    def __post_init__(self) -> None:
        if self.what not in MEMORIES:
            raise mt.MatineeError(f"what == {self.what!r}, must be one of {', '.join(MEMORIES)}")

    @property
    def needs(self) -> Sequence[mt.Features]:
        """Counts by title."""
        return [memory]

    def score(self, request: Request, candidates: Candidates) -> mt.Scores:
        """A count a candidate, as log(1 + n): the first time in vain tires most."""
        known = request.features
        if self.what == "in_vain":
            begun = _counts(known.get("titles_begun"))
            found: Mapping[Any, int] = {
                title: n for title, n in _counts(known.get("titles_shown")).items() if title not in begun
            }
        else:
            found = _counts(known.get(f"titles_{self.what}"))
        return mt.Scores(np.log1p(np.array([found.get(title, 0) for title in candidates.ids.tolist()], np.float64)))

    def save(self, folder: Path) -> None:
        """Write which it is."""
        (folder / "memory.json").write_text(json.dumps({"what": self.what}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The one that was saved there."""
        return cls(json.loads((folder / "memory.json").read_text())["what"])


@register
@dataclass
class Language:
    """Whether a title's original language is that of the member's interface; half where either is not known."""

    kind: ClassVar[str] = "language"
    name: str = ""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's language."""
        return [tongue]

    def score(self, request: Request, candidates: Candidates) -> mt.Scores:
        """1, 0 or 0.5 a candidate; only the language counts, not the region: "en-GB" is "en"."""
        own = str(request.features.get("speaks") or "").partition("-")[0].lower()
        given = candidates.columns.get("language")
        if given is None or not own:
            return mt.Scores(np.full(len(candidates), 0.5))
        theirs = [str(one).partition("-")[0].lower() for one in given.tolist()]
        return mt.Scores(np.array([0.5 if not one else float(one == own) for one in theirs]))

    def save(self, folder: Path) -> None:
        """There is nothing to write: only that it was kept."""
        (folder / "language.json").write_text("{}")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The one that was saved there."""
        if not (folder / "language.json").is_file():
            raise mt.MatineeError(f"{folder.name} holds no language.json, must be a saved Language")
        return cls()


def _counts(given: Any) -> Mapping[Any, int]:
    """Counts by value: a dict online, a list of value and count from a frame."""
    if not given:
        return {}
    return given if isinstance(given, Mapping) else {one["value"]: one["count"] for one in given}
