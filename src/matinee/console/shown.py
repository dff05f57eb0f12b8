"""What pages show of whole pages: a preview for one unit, two policies side by side, their reach, and one candidate alone.

Plain frozen data, as in `pages`: the template and the JSON twin are two prints of the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from matinee.console.pages import FeatureRow, Funnel, KeptOut
from matinee.console.parts import Card, Chart, Estimate, SheetItem


@dataclass(frozen=True, slots=True)
class ShelfRow:
    """A row of a page: its heading, the chance with which it came next, and its cards."""

    heading: str
    kind: str
    chance: float
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class GuardOut:
    """What one guard kept out of this page: how many, and those that would have ranked best."""

    name: str
    reason: str
    count: int
    examples: tuple[KeptOut, ...]


@dataclass(frozen=True, slots=True)
class MixRow:
    """A kind, its share of what the unit had before, and of what is shown."""

    name: str
    history: float
    shown: float


@dataclass(frozen=True, slots=True)
class Mix:
    """What the page is made of beside what the unit had: the largest kinds, the rest as one, and how far apart they are."""

    called: str
    history: int
    rows: tuple[MixRow, ...]
    apart: float
    measure: str


@dataclass(frozen=True, slots=True)
class Side:
    """The page that one policy draws.

    Attributes:
        policy: Its name; empty where nothing is released.
        says: What it is: its note, and whether it is live.
        rows: Of the page.
        slots: How many candidates are on it.
        allowed: Among how many it chose.
        learning: How many were drawn against the odds, to learn from.
        guards: What was kept out, by guard.
        funnel: From all candidates to those shown.
        mix: Against the unit's history; None where there is none.
        fallback: Why it fell back; None where it did not.
        before: How many things the unit had before are on it.
        young: How many were hardly shown yet, where the policy keeps a share for such.
    """

    policy: str
    says: str
    rows: tuple[ShelfRow, ...]
    slots: int
    allowed: int
    learning: int
    guards: tuple[GuardOut, ...]
    funnel: Funnel
    mix: Mix | None
    fallback: str | None
    before: int
    young: int | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Two pages of the same unit and moment.

    Attributes:
        common: Candidates on both.
        only: Candidates on the first only, and on the second only.
        moved: Candidates on both that stand in another row or place.
        rows: Rows with the same heading on both.
        first: Where the two differ first, in words; empty where they do not.
    """

    common: int
    only: tuple[int, int]
    moved: int
    rows: int
    first: str


@dataclass(frozen=True, slots=True)
class Control:
    """A field of the form.

    Attributes:
        name: As in the address.
        label: Its label.
        value: What it holds.
        options: Value and text of what can be chosen; empty for a field to type in.
        hints: What is usual, offered while typing.
        size: Letters it shows.
        error: What is wrong with its value.
    """

    name: str
    label: str
    value: str
    options: tuple[tuple[str, str], ...] = ()
    hints: tuple[str, ...] = ()
    size: int = 10
    error: str = ""


@dataclass(frozen=True, slots=True)
class PagePreview:
    """A page for one unit and moment, as one policy or two would draw it; never logged."""

    decision: str
    title: str
    unit: str
    unit_name: str
    thing: str
    headline: str
    lead: str
    controls: tuple[Control, ...]
    sides: tuple[Side, ...]
    compared: Compared | None
    chosen: str
    draw: int
    lately: tuple[tuple[str, datetime], ...] = ()
    as_posters: bool = True
    missing: str | None = None

    @property
    def error(self) -> bool:
        """True when a field holds what it must not."""
        return any(c.error for c in self.controls)

    @property
    def card(self) -> tuple[ShelfRow, Card] | None:
        """The card whose reason is shown, and its row; the first one where none was chosen."""
        found = [(row, card) for side in self.sides[:1] for row in side.rows for card in row.cards]
        return next((f for f in found if f[1].id == self.chosen), found[0] if found else None)


@dataclass(frozen=True, slots=True)
class ReachRow:
    """What the pages of one policy reach, over the same sample of units."""

    policy: str
    pages: int
    coverage: float
    shown: int
    among: int
    head: Estimate
    apart: Estimate | None
    fell_back: int


@dataclass(frozen=True, slots=True)
class ReachPage:
    """How much of the catalogue a policy's pages show, how much goes to the head, and whether they are like their readers."""

    decision: str
    title: str
    headline: str
    lead: str
    policies: tuple[str, ...]
    policy: str
    against: str
    rows: tuple[ReachRow, ...]
    charts: tuple[Chart, ...]
    done: int
    of: int
    looking: bool
    note: str
    measure: str = ""
    called: str = ""
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window in which a candidate may be shown."""

    fact: str
    where: str
    starts: datetime | None
    ends: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """How far a policy is with showing something new."""

    policy: str
    shown: int
    enough: int
    share: float
    budget: int
    says: str

    @property
    def done(self) -> float:
        """Share of what it takes to be judged, 0 to 1."""
        return min(1.0, self.shown / self.enough)


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A kind of row in which a candidate was shown, and where in it."""

    kind: str
    pages: int
    share: float
    place: float
    chance: float | None


@dataclass(frozen=True, slots=True)
class ShownBy:
    """How one decision shows a candidate, from its log.

    Attributes:
        decision, title: Which.
        choices: Read, over so many days.
        pages: How many of them show it.
        share: Of the choices, with its interval.
        over_time: Day by day; None with fewer than two days.
        places: By kind of row.
        kept_out: By guard, in how many of the newest choices it was kept out, and in how many that were looked at.
        read: How many of the newest choices were looked at for that.
    """

    decision: str
    title: str
    choices: int
    pages: int
    share: Estimate
    over_time: Chart | None
    places: tuple[PlaceRow, ...]
    kept_out: tuple[tuple[str, int], ...] = ()
    read: int = 0


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One candidate: what it is, whom it is shown to, how far it is, when it may be shown, what is like it."""

    entity: str
    id: str
    name: str
    kind: str
    lead: str
    sheet: tuple[SheetItem, ...]
    shown_by: tuple[ShownBy, ...]
    progress: tuple[ProgressRow, ...]
    progress_says: str
    windows: tuple[WindowRow, ...]
    similar: tuple[Card, ...]
    similar_by: str
    features: tuple[FeatureRow, ...]
    as_posters: bool
    previews: Mapping[str, str] = field(default_factory=dict)
