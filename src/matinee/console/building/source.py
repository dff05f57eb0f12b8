"""A studio as the source of the console's pages."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from matinee.console.building import decision as decisions
from matinee.console.building import front as fronts
from matinee.console.building import items, previews
from matinee.console.building import ledger as ledgers
from matinee.console.building import lineage as lineages
from matinee.console.building import members as units
from matinee.console.building import quarantine as quarantines
from matinee.console.building import reach as reaches
from matinee.console.building import search as searches
from matinee.console.building.desk import Desk
from matinee.console.building.health import overall
from matinee.console.formats import capitalize_first
from matinee.console.pages import (
    ChoicePage,
    DecisionPage,
    Front,
    LedgerPage,
    LineagePage,
    MemberPage,
    MembersPage,
    NavItem,
    QuarantinePage,
    SearchPage,
    Shell,
)
from matinee.console.release_panel import shares
from matinee.console.render import load_templates
from matinee.console.shown import ItemPage, PagePreview, ReachPage
from matinee.console.source import (
    DecisionQuery,
    LedgerQuery,
    MemberQuery,
    PreviewQuery,
    QuarantineQuery,
    ReleaseForm,
)

if TYPE_CHECKING:
    from matinee.studio import Studio

IN_NAV = 5  # decisions with a place in the navigation; the front page and the search have all of them


class StudioSource:
    """Builds page models from a studio, and carries out what an operator decides."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.desk = studio, Desk(studio)
        studio.forgetting.append(self.desk.forget)

    def warm(self) -> None:
        """Make what the first page needs before somebody asks for it: templates, and the figures that are kept."""
        load_templates()
        fronts.figures(self.desk)
        self.shell()

    def shell(self) -> Shell:
        """What stands around every page."""
        listed = [
            NavItem(f"/decisions/{d.name}", capitalize_first(d.title), str(i + 1))
            for i, d in enumerate(self.desk.in_use[:IN_NAV])
        ]
        if listed:
            last = listed[-1]
            listed[-1] = NavItem(last.path, last.text, last.key, last_of_group=True)
        lamps, say = overall(self.desk)
        as_of = self.studio.health().get("as_of")
        return Shell(
            studio=self.desk.title,
            now=self.desk.now,
            nav=(
                NavItem("/", "Front", "f"),
                *listed,
                *self._previews(),
                NavItem("/members", "Members", "m"),
                NavItem("/lineage", "Lineage", "l"),
                NavItem("/quarantine", "Quarantine", "q"),
                NavItem("/choices", "Ledger", "c"),
            ),
            tables_as_of=datetime.fromisoformat(as_of) if as_of else None,
            lamps=lamps,
            lamps_say=say,
        )

    def _previews(self) -> tuple[NavItem, ...]:
        """The page preview, where a decision of the studio has pages to preview; the first of them with several rows."""
        shown = [d for d in self.studio.decisions.values() if self.desk.showing(d) is not None]
        first = max(shown, key=lambda d: d.slots, default=None)
        return (NavItem(f"/decisions/{first.name}/page", "Pages", "p"),) if first is not None else ()

    def front(self) -> Front:
        """The front page."""
        return fronts.front(self.desk)

    def decision(self, name: str, query: DecisionQuery, *, allowed: bool) -> DecisionPage:
        """One decision."""
        return decisions.decision_page(self.desk, name, query, allowed=allowed)

    def lineage(self, node: str) -> LineagePage:
        """The graph."""
        return lineages.lineage_page(self.desk, node)

    def quarantine(self, query: QuarantineQuery, *, allowed: bool) -> QuarantinePage:
        """What is in quarantine."""
        return quarantines.quarantine_page(self.desk, query, allowed=allowed)

    def members(self, decision: str, missing: str | None = None) -> MembersPage:
        """Where a unit is looked up."""
        return units.members_page(self.desk, decision, missing)

    def member(self, query: MemberQuery) -> MemberPage:
        """One unit."""
        return units.member_page(self.desk, query)

    def preview(self, name: str, query: PreviewQuery) -> PagePreview:
        """A page for one unit."""
        return previews.preview_page(self.desk, name, query)

    def reach(self, name: str, policy: str, against: str) -> ReachPage:
        """What the pages of a policy reach."""
        return reaches.reach_page(self.desk, name, policy, against)

    def item(self, entity: str, id: str) -> ItemPage:
        """One candidate."""
        return items.item_page(self.desk, entity, id)

    def ledger(self, query: LedgerQuery) -> LedgerPage:
        """Logged choices."""
        return ledgers.ledger_page(self.desk, query)

    def choice(self, id: str) -> ChoicePage:
        """One choice."""
        return ledgers.choice_page(self.desk, id)

    def search(self, q: str) -> SearchPage:
        """What is called that."""
        return searches.search_page(self.desk, q)

    # -- acts

    def release(self, name: str, form: ReleaseForm, by: str) -> int:
        """Release a policy after its gates; a reason answers the gates that ask for one."""
        decision = self.studio.decision(name)
        share, baseline = shares(form)
        asked = decisions.quick_gates(self.desk, decision, form.policy)[1]
        reason = form.reason or None
        made = self.studio.release(
            decision,
            form.policy,
            share,
            baseline=baseline,
            note=form.reason if not asked else "",
            by=by,
            without_evidence=reason if "measured" in asked else None,
            guards_changed=reason if "guards" in asked else None,
        )
        self.desk.forget()
        return made.number

    def rollback(self, name: str, to: int, by: str) -> int:
        """Go back to an earlier release."""
        made = self.studio.rollback(name, to, by=by)
        self.desk.forget()
        return made.number

    def retry(self, batch: str, by: str) -> tuple[int, int]:
        """Try a batch again."""
        taken = left = 0
        for name in quarantines.batches_of(self.desk, batch):
            done = self.studio.facts.retry(name)
            taken, left = taken + done.appended, left + done.quarantined
        self.desk.forget()
        return taken, left

    def drop(self, batch: str, by: str) -> int:
        """Let a batch go."""
        gone = sum(self.studio.quarantine.drop(name) for name in quarantines.batches_of(self.desk, batch))
        self.desk.forget()
        return gone
