"""What the console asks of whoever fills its pages: a studio, or a test with sample pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from matinee.console.pages import (
    ChoicePage,
    DecisionPage,
    Front,
    LedgerPage,
    LineagePage,
    MemberPage,
    MembersPage,
    QuarantinePage,
    SearchPage,
    Shell,
)
from matinee.console.shown import ItemPage, PagePreview, ReachPage


@dataclass(frozen=True, slots=True)
class ReleaseForm:
    """A release as it was typed.

    Attributes:
        policy: Name of a saved policy.
        share: Share of the units it shall decide for.
        baseline: Share of the units held back on today's live policy.
        reason: Why, where a gate asks for a reason: no evidence, or other guards than before.
    """

    policy: str = ""
    share: str = ""
    baseline: str = ""
    reason: str = ""

    def fields(self) -> dict[str, str]:
        """As form fields."""
        return {"policy": self.policy, "share": self.share, "baseline": self.baseline, "reason": self.reason}

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> ReleaseForm:
        """From form fields, spaces around them left out."""
        return cls(*(fields.get(name, "").strip() for name in ("policy", "share", "baseline", "reason")))


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """What the reader of a decision page asked for in its address.

    Attributes:
        ask: "release" or "rollback" while that question is open.
        form: What the release form holds.
        to: The release to go back to; the one before where empty.
        done: Number of the release that was just made, as it was typed.
        held: What a gate said when it held the release of this form back.
    """

    ask: str = ""
    form: ReleaseForm = ReleaseForm()
    to: str = ""
    done: str = ""
    held: str = ""


@dataclass(frozen=True, slots=True)
class MemberQuery:
    """What a member page shows.

    Attributes:
        unit: Id of the member, invoice, ... as it was typed.
        decision: Which decision; the first one where empty.
        at: As of when; now where empty.
        slot: Whose reasons are shown.
        context: What the caller would send.
    """

    unit: str
    decision: str = ""
    at: str = ""
    slot: int = 1
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreviewQuery:
    """What a page preview shows, as it was typed.

    Attributes:
        unit: For whom; the form alone where empty.
        policy: Who draws; who is live where empty.
        against: A policy to stand beside it; none where empty.
        viewer: "" (as it is), "plain" (not profiled) or "kids".
        limit: Age limit of the moment.
        at: As of when; now where empty.
        draw: Which of the possible draws.
        chosen: Id of the candidate whose reason is shown.
        context: What else the caller would send.
    """

    unit: str = ""
    policy: str = ""
    against: str = ""
    viewer: str = ""
    limit: str = ""
    at: str = ""
    draw: str = ""
    chosen: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Which choices the ledger lists."""

    decision: str = ""
    unit: str = ""
    id: str = ""
    before: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class QuarantineQuery:
    """Which question is open, and which act was just done: "retry:12:3" is 12 taken, 3 still waiting."""

    ask: str = ""
    batch: str = ""
    done: str = ""


class Source(Protocol):
    """Builds the page models and carries out the acts. Called in a worker thread; may block."""

    def shell(self) -> Shell:
        """What stands around every page."""
        ...

    def front(self) -> Front:
        """The front page."""
        ...

    def decision(self, name: str, query: DecisionQuery, *, allowed: bool) -> DecisionPage:
        """One decision; raises UnknownNameError."""
        ...

    def lineage(self, node: str) -> LineagePage:
        """The graph, with one node in focus when it is named."""
        ...

    def quarantine(self, query: QuarantineQuery, *, allowed: bool) -> QuarantinePage:
        """What is in quarantine."""
        ...

    def members(self, decision: str, missing: str | None = None) -> MembersPage:
        """Where a unit is looked up."""
        ...

    def member(self, query: MemberQuery) -> MemberPage:
        """One unit."""
        ...

    def preview(self, name: str, query: PreviewQuery) -> PagePreview:
        """A page of a decision for one unit; raises UnknownNameError."""
        ...

    def reach(self, name: str, policy: str, against: str) -> ReachPage:
        """What the pages of a policy reach; raises UnknownNameError. Never waits for the pages to be drawn."""
        ...

    def item(self, entity: str, id: str) -> ItemPage:
        """One candidate; raises UnknownNameError."""
        ...

    def ledger(self, query: LedgerQuery) -> LedgerPage:
        """Logged choices."""
        ...

    def choice(self, id: str) -> ChoicePage:
        """One choice; raises UnknownNameError."""
        ...

    def search(self, q: str) -> SearchPage:
        """What is called that."""
        ...

    def release(self, name: str, form: ReleaseForm, by: str) -> int:
        """Release a policy to a share of units, the form having been checked; returns the release's number."""
        ...

    def rollback(self, name: str, to: int, by: str) -> int:
        """Go back to an earlier release; returns the new release's number."""
        ...

    def retry(self, batch: str, by: str) -> tuple[int, int]:
        """Try a batch again: rows taken, rows that still wait."""
        ...

    def drop(self, batch: str, by: str) -> int:
        """Let a batch go: rows dropped."""
        ...
