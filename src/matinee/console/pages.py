"""What each page shows, as plain frozen data: the template and the JSON twin are two prints of the same object.

A page model holds numbers, not their text, so that the twin can be read by a program; `formats` words them.
Texts may carry `**bold**` and backticked code, which the templates mark up after escaping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from matinee.console.parts import Act as Act
from matinee.console.parts import Card as Card
from matinee.console.parts import Chart as Chart
from matinee.console.parts import Empty as Empty
from matinee.console.parts import Estimate as Estimate
from matinee.console.parts import Lamp as Lamp
from matinee.console.parts import NavItem as NavItem
from matinee.console.parts import Point as Point
from matinee.console.parts import SheetItem as SheetItem
from matinee.console.parts import Shell as Shell
from matinee.console.parts import Step as Step

# ------------------------------------------------------------------------------------------------------- front page


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision on the front page."""

    name: str
    title: str
    mode: str
    live: str | None
    share: float | None
    worth: Estimate
    of_what: str
    judged_by: str
    kept_out: float | None
    choices: int
    history: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a person: what, since or until when, whose it is, and where to act."""

    when: str
    title: str
    text: str
    who: str
    path: str
    act: str


@dataclass(frozen=True, slots=True)
class HealthRow:
    """A day of health: 24 lamps, the oldest hour first, and where it stands now."""

    name: str
    note: str
    lamps: tuple[Lamp, ...]
    says: str
    value: str


@dataclass(frozen=True, slots=True)
class Leverage:
    """What each decision took from the platform instead of building it.

    Attributes:
        note: One grey line.
        things: What the platform gives, in order.
        rows: Decision and, for each thing, True (taken), or False (does not apply to its mode).
        chart: Lines written for each decision, when they are known.
        facts: The studio's own figures.
    """

    note: str
    things: tuple[str, ...]
    rows: tuple[tuple[str, tuple[bool, ...]], ...]
    chart: Chart | None = None
    facts: tuple[SheetItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Front:
    """How the studio is doing, and what needs a person; `looking` while the doctor has not found anything yet."""

    kicker: str
    headline: str
    lead: str
    decisions: tuple[DecisionRow, ...]
    needs: tuple[Need, ...]
    health: tuple[HealthRow, ...]
    leverage: Leverage | None = None
    worth: Chart | None = None
    empty: Empty | None = None
    done_today: int = 0
    looking: bool = False
    idle: tuple[NavItem, ...] = ()  # decisions that a domain brings and nobody uses


# ---------------------------------------------------------------------------------------------------- decision page


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy that is deciding for a share of the units."""

    policy: str
    how: str
    role: Literal["live", "challenger", "baseline", "earlier", "fallback"]
    share: float | None
    units: int
    choices: int
    value: Estimate
    against: Estimate | None
    fallbacks: float | None


@dataclass(frozen=True, slots=True)
class GuardRow:
    """What one guard kept out of the candidates it saw."""

    name: str
    reason: str
    share: float
    candidates: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """An answer, or a refusal to answer."""

    at: datetime | None
    question: str
    method: str
    value: Estimate
    says: str


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release: what changed, who did it, when."""

    number: int
    text: str
    at: datetime | None
    by: str
    live: bool = False
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class ReleasePanel:
    """The form that releases and rolls back.

    Attributes:
        title, note: Its heading and one grey line.
        policies: Names that can be released.
        form: What the form shows: policy, share, baseline, reason.
        facts: Label and value, about what is live.
        back_to: Release that a roll-back returns to; None when there is none.
        live: Number of the live release.
        ask_reason: What a reason is asked for; empty when none is needed.
        ask: The question that is open.
        done: What was just done, when something was.
        undo: The act that undoes it.
        error: What was wrong with the form, and in which field.
        allowed: False for a viewer.
    """

    title: str
    note: str
    policies: tuple[str, ...]
    form: Mapping[str, str]
    facts: tuple[SheetItem, ...]
    back_to: int | None
    live: int | None
    ask_reason: str = ""
    ask: Act | None = None
    done: str | None = None
    undo: Act | None = None
    error: tuple[str, str] | None = None
    allowed: bool = True


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """One decision: what it is worth, who decides, what is kept out, what is known about it."""

    name: str
    title: str
    unit: str
    mode: str
    mode_words: str
    lead: str
    sheet: tuple[SheetItem, ...]
    value: Chart | None
    value_missing: str
    release: ReleasePanel
    arms: tuple[Arm, ...]
    arms_note: str
    reward_unit: str
    period: str
    guards: tuple[GuardRow, ...]
    left: GuardRow | None
    guards_note: str
    evidence: tuple[EvidenceRow, ...]
    evidence_unit: str
    chance: Chart | None
    releases: tuple[ReleaseRow, ...]
    code: str
    previewed: bool = False  # whether its pages can be looked at as its units see them


# ------------------------------------------------------------------------------------------------------ lineage page


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node where it is drawn: its box in pixels, and how it stands to the node in focus."""

    uri: str
    kind: str
    name: str
    x: float
    y: float
    width: float
    height: float
    state: Literal["", "focus", "downstream", "upstream", "aside"] = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """An edge as an SVG path."""

    source: str
    target: str
    path: str
    state: Literal["", "downstream", "upstream", "aside"] = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A layered drawing of the graph."""

    width: float
    height: float
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    layers: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Impact:
    """What breaks if a node changes: its users, nearest first, and what it stands on."""

    uri: str
    kind: str
    name: str
    sentence: str
    breaks: tuple[tuple[str, str, str], ...]  # uri, kind, how
    needs: tuple[tuple[str, str, str], ...]
    facts: tuple[SheetItem, ...] = ()


@dataclass(frozen=True, slots=True)
class LineagePage:
    """What is made from what."""

    headline: str
    lead: str
    drawing: Drawing
    impact: Impact | None
    empty: Empty | None = None


# -------------------------------------------------------------------------------------------------- quarantine page


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Rows of one fact that were kept apart for the same reason."""

    fact: str
    reason: str
    rows: int
    batch: str
    source: str
    advice: str


@dataclass(frozen=True, slots=True)
class QuarantineBatch:
    """Rows of one fact with the same reasons, which are tried again, or let go, together.

    Attributes:
        fact: Whose rows.
        batch: Name of the batch; where several batches hold such rows, a name made from the fact and the reasons.
        batches: How many batches that is.
        source: Where the rows came from.
        rows: How many.
        title: Its heading.
        columns: Of the rows that are shown.
        sample: Cells of a row, and all its reasons.
        more: Rows that are not shown.
    """

    fact: str
    batch: str
    batches: int
    source: str
    rows: int
    title: str
    columns: tuple[str, ...]
    sample: tuple[tuple[tuple[str, ...], str], ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class QuarantinePage:
    """Rows that do not fit their fact: nothing is lost, somebody decides."""

    headline: str
    lead: str
    groups: tuple[QuarantineGroup, ...]
    batches: tuple[QuarantineBatch, ...] = ()
    ask: Act | None = None
    done: str | None = None
    error: str | None = None
    allowed: bool = True


# -------------------------------------------------------------------------------------------------- member and titles


@dataclass(frozen=True, slots=True)
class KeptOut:
    """A candidate that a guard kept out, with the reason stamped on."""

    id: str
    name: str
    guard: str
    reason: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many candidates were left after each guard, in order."""

    steps: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """A feature as it is held for a unit."""

    features: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A logged choice in a list."""

    id: str
    at: datetime
    decision: str
    unit: str
    action: tuple[str, ...]
    probability: float | None
    policy: str
    arm: str
    fallback: str | None
    outcomes: tuple[str, ...] = ()
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be decided now; never logged."""

    decision: str
    title: str
    policy: str
    arm: str
    slots: tuple[Card, ...]
    kept_out: tuple[KeptOut, ...]
    kept_out_total: int
    funnel: Funnel
    as_posters: bool
    allowed: int
    slot: int = 1
    fallback: str | None = None
    drivers: tuple[tuple[str, float], ...] = ()
    note: str = ""
    more: int = 0  # slots that are not shown here

    @property
    def chosen(self) -> Card | None:
        """The card whose reasons are shown."""
        return next((card for card in self.slots if card.slot == self.slot), None)


@dataclass(frozen=True, slots=True)
class MemberPage:
    """One unit: what would be decided for it now and why, what is held about it, what happened."""

    unit: str
    unit_name: str
    decision: str
    decisions: tuple[str, ...]
    headline: str
    lead: str
    context: tuple[tuple[str, str], ...]
    at: str
    preview: Preview | None
    features: tuple[FeatureRow, ...]
    choices: tuple[ChoiceRow, ...]
    error: str | None = None
    missing: str | None = None
    previewed: bool = False


@dataclass(frozen=True, slots=True)
class MembersPage:
    """Where a member is looked up."""

    headline: str
    lead: str
    units: tuple[tuple[str, str, int, datetime | None], ...]  # unit, decision, choices, last
    unit_name: str
    decisions: tuple[str, ...] = ()
    decision: str = ""
    q: str = ""
    missing: str | None = None


# --------------------------------------------------------------------------------------------------------- the ledger


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Choices as they were logged, the newest first."""

    headline: str
    lead: str
    decisions: tuple[str, ...]
    decision: str
    choices: tuple[ChoiceRow, ...]
    sealed: tuple[SheetItem, ...] = ()
    older: tuple[tuple[str, str], ...] | None = None  # the address of the next page, as fields
    missing: str | None = None
    unit: str = ""
    id: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A fact tied to a choice."""

    id: str
    fact: str
    at: datetime
    known: datetime
    row: str


@dataclass(frozen=True, slots=True)
class ChoicePage:
    """Everything that was logged with one choice."""

    id: str
    decision: str
    headline: str
    lead: str
    sheet: tuple[SheetItem, ...]
    slots: tuple[Card, ...]
    as_posters: bool
    blocked: tuple[tuple[str, tuple[str, ...], int], ...]  # guard, some names, how many
    context: tuple[SheetItem, ...]
    outcomes: tuple[OutcomeRow, ...]
    advice: tuple[tuple[str, Estimate, str], ...]
    raw: str
    unit: str = ""
    reward_unit: str = ""


# ------------------------------------------------------------------------------------------------- search and errors


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found."""

    kind: str
    name: str
    note: str
    path: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What was found for a few letters."""

    q: str
    hits: tuple[Hit, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Something that did not work: what is safe, what waits, what to do."""

    status: int
    title: str
    lead: str
    kicker: str = ""
    safe: tuple[tuple[str, str, Lamp], ...] = ()
    detail: str = ""
    reference: str = ""
    acts: tuple[tuple[str, str], ...] = field(default_factory=tuple)
