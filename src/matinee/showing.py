"""How a domain shows what its decisions chose: pages of rows, why each candidate stands there, and one candidate alone.

The console knows no domain. A domain that wants its decisions seen as its users see them gives each a `Showing`, and
each kind of candidate an `About`-maker; both are plain functions over the public studio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from matinee.choices import Id

if TYPE_CHECKING:
    import numpy as np

    from matinee.choices import Choice
    from matinee.policies import Request

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PageRow:
    """A row of what was chosen, in the order in which it is looked at.

    Attributes:
        heading: What stands over it: "Because you watched Heat".
        kind: What rows of its kind are called, whoever they are for: "Because you watched something".
        chance: With which the row came next on the page; 1 where rows are not drawn.
        candidates: In order.
        reasons: Why each stands there, in words its user understands, one for each candidate; none where only the log
            is known.
    """

    heading: str
    kind: str
    chance: float
    candidates: tuple[Id, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kinds:
    """What candidates are made of, such as genres.

    Attributes:
        called: What the kinds are: "genre".
        names: Of the kinds.
        ids: Candidates in ascending order.
        shares: Of each candidate, shape (ids, names); a row sums to one, or to zero where nothing is known.
        apart: How far a mix shown (second) is from a mix wanted (first), >= 0.
        measure: What `apart` is called, and who says so.
    """

    called: str
    names: tuple[str, ...]
    ids: Array
    shares: Array
    apart: Callable[[Array, Array], float]
    measure: str

    @cached_property
    def _place(self) -> dict[Any, int]:
        return {one: k for k, one in enumerate(self.ids.tolist())}

    def of(self, candidate: Id) -> Array | None:
        """The shares of one candidate, shape (names,); None for one that is not known."""
        at = self._place.get(candidate)
        return None if at is None else self.shares[at]

    def mix(self, of: Sequence[Id]) -> Array:
        """The mean mix of these, shape (names,); sums to one, or to zero where nothing is known of any."""
        place = self._place
        total: Array = self.shares[[place[i] for i in of if i in place]].sum(axis=0)
        weight = float(total.sum())
        return total / weight if weight > 0 else total


@dataclass(frozen=True)
class Showing:
    """How the choices of one decision are shown.

    Attributes:
        rows: `rows(studio, choice, request)`: the rows of a choice. `request` is what it was made from, and None for a
            choice of the log, of which only that is known; rows then carry no reasons.
        history: `history(request)`: what its unit had before, oldest first.
        kinds: `kinds(studio)`: what candidates are made of, to compare a page's mix with a history's.
        moment: What a caller may say of the moment, and usual values of it: `{"device": ("tv", "phone")}`.
    """

    rows: Callable[[Any, Choice, Request | None], Sequence[PageRow]]
    history: Callable[[Request], Sequence[Id]] | None = None
    kinds: Callable[[Any], Kinds] | None = None
    moment: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a policy is with showing a new candidate until it can be judged.

    Attributes:
        policy: Which.
        shown: How often it was shown, as published.
        enough: How often it has to be shown.
        share: Of every slot, kept for those that are not there yet.
        budget: The share ends when so many of them are on a page.
    """

    policy: str
    shown: float
    enough: int
    share: float
    budget: int

    @property
    def owed(self) -> float:
        """Times that it is still owed; 0 when it is judged like every other."""
        return max(0.0, self.enough - self.shown)


@dataclass(frozen=True)
class About:
    """What a domain knows of one candidate beyond its facts.

    Attributes:
        similar: Candidates like it, nearest first, with how near.
        similar_by: The model that says so.
        progress: How far each policy is with showing it, where it is new.
    """

    similar: tuple[tuple[Id, float], ...] = ()
    similar_by: str = ""
    progress: tuple[Progress, ...] = ()
