"""What the page builders share: the clock, names of candidates, the log read back, and figures kept for a minute."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from matinee.choices import Id
from matinee.console.building.checkup import Checkup
from matinee.console.building.log_reader import LogReader
from matinee.console.building.sampling import Reach
from matinee.console.formats import capitalize_first
from matinee.decisions import Decision
from matinee.exceptions import MatineeError

if TYPE_CHECKING:
    from matinee.showing import Kinds, Showing
    from matinee.studio import Studio

T = TypeVar("T")
KEPT_SECONDS = 60.0
MOST_KEPT = 200
PERIOD = timedelta(days=28)
_INT = r"-?[0-9]{1,18}"  # what a column of whole numbers holds


class Desk:
    """A studio, read for pages."""

    def __init__(self, studio: Studio, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self.studio, self._ticks = studio, ticks
        self._kept: dict[tuple[object, ...], tuple[float, Any]] = {}
        self._making: dict[tuple[object, ...], threading.RLock] = {}
        self._lock = threading.Lock()
        self.log = LogReader(studio, self.kept)
        self.checkup = Checkup(lambda: studio.doctor(), lambda: self.now)
        self.reach = Reach(lambda decision, unit, policy: studio.live.rehearse(decision, unit, {}, policy=policy))

    @property
    def now(self) -> datetime:
        """The studio's clock: simulated worlds have their own."""
        return self.studio.clock()

    @property
    def title(self) -> str:
        """What the studio is called."""
        return str(self.studio.config.get("title") or capitalize_first(self.studio.root.name.replace("-", " ")))

    def own_facts(self) -> list[str]:
        """Facts of this studio, without the consents that every studio has."""
        return [name for name in self.studio.facts.names() if name != "consent"]

    def kept(self, key: tuple[object, ...], make: Callable[[], T], seconds: float = KEPT_SECONDS) -> T:
        """What `make` gives, kept for a minute: pages are looked at in bursts, and their figures move slowly.

        Two who ask for the same at once wait for one answer; nobody waits for another's.
        """
        with self._lock:
            if len(self._kept) > MOST_KEPT:
                self._kept, self._making = {}, {}
            kept, mine = self._kept, self._making.setdefault(key, threading.RLock())
        with mine:
            found = kept.get(key)
            if found is not None and self._ticks() - found[0] < seconds:
                return found[1]  # type: ignore[no-any-return]  # stored under the key of its maker
            # Into the shelf of when it was begun: what was read before somebody acted is not kept beyond the act.
            made = make()
            kept[key] = (self._ticks(), made)
            return made

    def forget(self) -> None:
        """Drop what is kept: somebody acted and wants to see it, or was erased."""
        with self._lock:
            self._kept, self._making = {}, {}
        self.checkup.forget()
        self.reach.forget()

    # -- decisions

    def decision(self, name: str) -> Decision:
        """The decision of that name; raises UnknownNameError."""
        return self.studio.decision(name)

    def first_decision(self) -> Decision | None:
        """The first decision that is in use."""
        return next(iter(self.in_use), None)

    @property
    def in_use(self) -> list[Decision]:
        """Decisions that somebody made a policy for, or asks: a domain brings more. All of them while there is none."""
        every = list(self.studio.decisions.values())
        made = {n.data.get("decision") for n in self.studio.graph.nodes("policy")}

        def asked(decision: Decision) -> bool:
            return bool(self.kept(("asked", decision.name), lambda: self.log.choices(decision=decision.name, limit=1)))

        return [d for d in every if d.name in made or asked(d)] or every

    @property
    def idle(self) -> list[Decision]:
        """The other decisions."""
        used = {d.name for d in self.in_use}
        return [d for d in self.studio.decisions.values() if d.name not in used]

    def reward_unit(self, decision: Decision) -> str:
        """What the reward is measured in."""
        return decision.reward_unit or "reward"

    # -- names

    def names(self, decision: Decision, ids: Iterable[Id]) -> dict[str, str]:
        """What people call these candidates; the id where nobody says."""
        wanted = list(dict.fromkeys(ids))
        domain = self.studio.domain_of(decision.name)
        entity = decision.entity
        if domain is None or entity is None or entity not in domain.names:
            return {str(i): str(i) for i in wanted}
        # Asking reads a table, and a page of choices names the same few: what is known is kept for a minute.
        known: dict[Id, str] = self.kept(("names", decision.name), dict)
        missing = [i for i in wanted if i not in known]
        if missing:
            named: Mapping[Any, str] = domain.names[entity](self.studio, missing)
            known |= {i: str(named.get(i) or i) for i in missing}
        return {str(i): known[i] for i in wanted}

    def showing(self, decision: Decision) -> Showing | None:
        """How its domain shows its choices; None where it does not say."""
        domain = self.studio.domain_of(decision.name)
        return domain.showings.get(decision.name) if domain is not None else None

    def kinds(self, decision: Decision) -> Kinds | None:
        """What its candidates are made of, kept for five minutes; None where nobody says."""
        showing = self.showing(decision)
        make = showing.kinds if showing is not None else None
        if make is None:
            return None
        return self.kept(("kinds", decision.name), lambda: make(self.studio), 300.0)

    def leading(self, decision: Decision, ids: Iterable[Id]) -> dict[str, str]:
        """What each of these is most, such as its genre; those of which nothing is known are left out."""
        kinds = self.kinds(decision)
        if kinds is None:
            return {}
        found: dict[str, str] = {}
        for one in ids:
            shares = kinds.of(one)
            if shares is not None and shares.max(initial=0.0) > 0:
                found[str(one)] = kinds.names[int(shares.argmax())]
        return found

    def as_posters(self, decision: Decision) -> bool:
        """Whether its candidates are drawn as posters: titles are, options are not."""
        return decision.entity is not None and decision.entity in ("title", "artwork", "film", "series")

    # -- units

    def unit_id(self, decision: Decision, text: str) -> Id:
        """The id as the decision's facts hold it: a number where they hold numbers."""
        return int(text) if self._unit_kind(decision) == "int" and re.fullmatch(_INT, text) else text

    def _unit_kind(self, decision: Decision) -> str:
        kinds = [f.key_kind for f in self.studio.features.values() if f.key == decision.unit and f.key_kind]
        if kinds:
            return str(kinds[0])
        for name in self.studio.facts.names():
            schema = self.studio.facts.fact(name).schema
            if schema.key == decision.unit:
                return schema.field(schema.key).kind
        newest = self.log.choices(decision=decision.name, limit=1)
        return "int" if newest and isinstance(newest[0].unit, int) else "str"

    def context_keys(self, decision: str) -> dict[str, str]:
        """Context keys that callers of this decision send, with a usual value, most usual first."""

        def read() -> dict[str, str]:
            seen: dict[str, dict[str, int]] = {}
            for choice in self.log.choices(decision=decision, limit=100):
                for key, value in choice.context.items():
                    if isinstance(value, str | int | float | bool) and key not in ("profiled", "advice", "layout"):
                        counts = seen.setdefault(key, {})
                        counts[str(value)] = counts.get(str(value), 0) + 1
            order = sorted(seen, key=lambda k: -sum(seen[k].values()))
            return {k: max(seen[k], key=lambda v: seen[k][v]) for k in order[:5]}

        return self.kept(("context", decision), read)


def unit_words(decision: Decision) -> str:
    """What people call its unit: "title language" for `title_language`."""
    return decision.unit.replace("_", " ")


def as_value(text: str) -> Any:
    """A context value as it was typed: a JSON number, boolean or null where it is one, else text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if not isinstance(value, dict | list) else text


def safe_name(error: Exception) -> str:
    """The error in words for a page: users' errors as they are, others with their class."""
    return str(error) if isinstance(error, MatineeError) else f"{type(error).__name__}: {error}"
