"""What the page builders share: the clock, names of candidates, the log read back, and figures kept for a minute."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from matinee.choices import Choice, Id, Outcome
from matinee.console.formats import capitalize_first
from matinee.decisions import Decision
from matinee.exceptions import MatineeError, UnknownNameError

if TYPE_CHECKING:
    import polars as pl

    from matinee.studio import Studio

T = TypeVar("T")
KEPT_SECONDS = 60.0
UNSEALED = 20_000  # newest records of the log that are looked through
PERIOD = timedelta(days=28)


class Desk:
    """A studio, read for pages."""

    def __init__(self, studio: Studio, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self.studio, self._ticks = studio, ticks
        self._kept: dict[tuple[object, ...], tuple[float, Any]] = {}
        self._lock = threading.RLock()

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
        """What `make` gives, kept for a minute: pages are looked at in bursts, and their figures move slowly."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None and self._ticks() - found[0] < seconds:
                return found[1]  # type: ignore[no-any-return]  # stored under the key of its maker
            made = make()
            if len(self._kept) > 200:
                self._kept.clear()
            self._kept[key] = (self._ticks(), made)
            return made

    def forget(self) -> None:
        """Drop what is kept: somebody acted, and wants to see it."""
        with self._lock:
            self._kept.clear()

    # -- decisions

    def decision(self, name: str) -> Decision:
        """The decision of that name; raises UnknownNameError."""
        return self.studio.decision(name)

    def first_decision(self) -> Decision | None:
        """The first decision that was declared."""
        return next(iter(self.studio.decisions.values()), None)

    def reward_unit(self, decision: Decision) -> str:
        """What the reward is measured in."""
        return decision.reward_unit or "reward"

    # -- names

    def names(self, decision: Decision, ids: Iterable[Id]) -> dict[str, str]:
        """What people call these candidates; the id where nobody says."""
        wanted = list(dict.fromkeys(ids))
        named: Mapping[Any, str] = {}
        domain = self.studio.domain_of(decision.name)
        entity = decision.entity
        if domain is not None and entity is not None and entity in domain.names and wanted:
            named = domain.names[entity](self.studio, wanted)
        return {str(i): str(named.get(i) or i) for i in wanted}

    def as_posters(self, decision: Decision) -> bool:
        """Whether its candidates are drawn as posters: titles are, options are not."""
        return decision.entity is not None and decision.entity in ("title", "artwork", "film", "series")

    # -- units

    def unit_id(self, decision: Decision, text: str) -> Id:
        """The id as the decision's facts hold it: a number where they hold numbers."""
        return int(text) if self._unit_kind(decision) == "int" and text.lstrip("-").isdigit() else text

    def _unit_kind(self, decision: Decision) -> str:
        kinds = [f.key_kind for f in self.studio.features.values() if f.key == decision.unit and f.key_kind]
        if kinds:
            return str(kinds[0])
        for name in self.studio.facts.names():
            schema = self.studio.facts.fact(name).schema
            if schema.key == decision.unit:
                return schema.field(schema.key).kind
        newest = self.choices(decision=decision.name, limit=1)
        return "int" if newest and isinstance(newest[0].unit, int) else "str"

    # -- the log

    def unsealed(self) -> list[Choice | Outcome]:
        """Records that are not in the tables yet, newest first."""
        from matinee import ledger

        folder = self.studio.root / "log"
        return self.kept(("unsealed",), lambda: ledger.recent(folder, UNSEALED) if folder.is_dir() else [], 2.0)

    def unsealed_count(self, decision: str, sealed: set[str]) -> int:
        """Choices of a decision that are not among the sealed ones."""
        return sum(isinstance(r, Choice) and r.decision == decision and r.id not in sealed for r in self.unsealed())

    def choices(
        self,
        *,
        decision: str = "",
        unit: str = "",
        action: str = "",
        before: datetime | None = None,
        limit: int = 50,
    ) -> list[Choice]:
        """Logged choices, sealed or not, newest first."""
        fresh = [
            c
            for c in self.unsealed()
            if isinstance(c, Choice)
            and (not decision or c.decision == decision)
            and (not unit or str(c.unit) == unit)
            and (not action or action in map(str, c.action))
            and (before is None or c.at < before)
        ]
        found = {c.id: c for c in [*fresh, *self._sealed(decision, unit, action, before, limit)]}
        return sorted(found.values(), key=lambda c: (c.at, c.id), reverse=True)[:limit]

    def _sealed(self, decision: str, unit: str, action: str, before: datetime | None, limit: int) -> list[Choice]:
        import polars as pl

        from matinee.ledger import choice_from_row

        if not self.studio.tables.exists("choices"):
            return []
        rows = self.studio.tables.scan("choices", keys=[unit] if unit else None)
        if decision:
            rows = rows.filter(pl.col("decision") == decision)
        if unit:
            rows = rows.filter(pl.col("unit") == unit)
        if action:
            rows = rows.filter(pl.col("action").list.contains(action))
        if before is not None:
            rows = rows.filter(pl.col("at") < before)
        return [choice_from_row(r) for r in rows.sort("at", "id", descending=True).head(limit).collect().to_dicts()]

    def choice(self, choice_id: str) -> Choice:
        """One choice by its id; raises UnknownNameError."""
        import polars as pl

        from matinee.ledger import choice_from_row

        for record in self.unsealed():
            if isinstance(record, Choice) and record.id == choice_id:
                return record
        if self.studio.tables.exists("choices"):
            rows = self.studio.tables.scan("choices").filter(pl.col("id") == choice_id).head(1).collect()
            if len(rows):
                return choice_from_row(rows.to_dicts()[0])
        raise UnknownNameError("choice", choice_id, [c.id for c in self.choices(limit=5)])

    def outcomes(self, choices: Iterable[Choice]) -> dict[str, list[Outcome]]:
        """Outcomes by choice; the rows of sealed ones are read from their facts, for these units only."""
        import polars as pl

        wanted = {c.id: c for c in choices}
        found: dict[str, dict[str, Outcome]] = {i: {} for i in wanted}
        for record in self.unsealed():
            if isinstance(record, Outcome) and record.choice in found:
                found[record.choice].setdefault(record.id, record)
        if wanted and self.studio.tables.exists("outcomes"):
            rows = self.studio.tables.scan("outcomes", columns=["id", "choice", "fact", "unit"])
            sealed = rows.filter(pl.col("choice").is_in(list(wanted))).collect()
            for fact, part in sealed.group_by("fact"):
                for outcome in self._rows(str(fact[0]), part["unit"].unique().to_list(), list(wanted)):
                    found[outcome.choice].setdefault(outcome.id, outcome)
        return {i: sorted(o.values(), key=lambda x: (x.at, x.id)) for i, o in found.items()}

    def _rows(self, fact: str, keys: list[str], choices: list[str]) -> list[Outcome]:
        import polars as pl

        schema = self.studio.facts.fact(fact).schema
        ids: list[Any] = [int(k) for k in keys] if schema.field(schema.key).kind == "int" else keys
        rows = self.studio.tables.scan(fact, keys=ids).filter(pl.col("choice").is_in(choices)).collect()
        return [
            Outcome(
                id=r["outcome"] or "",
                choice=r["choice"],
                fact=fact,
                row={c: r[c] for c in schema.columns},
                at=r["at"].astimezone(UTC),
                known=r["known"].astimezone(UTC),
            )
            for r in rows.to_dicts()
        ]

    def oldest_unsealed(self) -> tuple[datetime | None, int]:
        """When the oldest record that is not in the tables was made, and how many segments wait."""
        from matinee import ledger

        folder = self.studio.root / "log"
        oldest: datetime | None = None
        waiting = 0
        for stream in ledger.streams(folder):
            for segment in ledger.segments(folder, stream):
                record = next(iter(ledger.read(segment.path, lambda line: None)), None)
                if record is None:
                    continue
                waiting += 1
                at = record.at if isinstance(record, Choice) else record.known
                oldest = at if oldest is None or at < oldest else oldest
        return oldest, waiting

    def hours(self) -> pl.DataFrame:
        """Choices of the last 24 hours: `decision`, `hour` (0 the oldest), `n`, and `fell`, how many fell back."""
        return self.kept(("hours",), self._hours, 20.0)

    def _hours(self) -> pl.DataFrame:
        import polars as pl

        now = self.now
        since = now - timedelta(hours=24)
        fresh = [
            (c.id, c.decision, c.at, c.fallback is not None)
            for c in self.unsealed()
            if isinstance(c, Choice) and since < c.at <= now
        ]
        shape: dict[str, Any] = {
            "id": pl.String,
            "decision": pl.String,
            "at": pl.Datetime("us", "UTC"),
            "fell": pl.Boolean,
        }
        rows = pl.DataFrame(fresh, schema=shape, orient="row")
        if self.studio.tables.exists("choices"):
            sealed = self.studio.tables.scan("choices", columns=["id", "decision", "at", "fallback"])
            sealed = sealed.filter((pl.col("at") > since) & (pl.col("at") <= now))
            there = sealed.select("id", "decision", "at", pl.col("fallback").is_not_null().alias("fell")).collect()
            rows = pl.concat([there.cast(pl.Schema(shape)), rows]).unique("id")
        hour = ((pl.col("at") - since).dt.total_seconds() // 3600).clip(0, 23).alias("hour")
        return rows.group_by("decision", hour).agg(pl.len().alias("n"), pl.col("fell").sum())

    def context_keys(self, decision: str) -> dict[str, str]:
        """Context keys that callers of this decision send, with a usual value, most usual first."""

        def read() -> dict[str, str]:
            seen: dict[str, dict[str, int]] = {}
            for choice in self.choices(decision=decision, limit=100):
                for key, value in choice.context.items():
                    if isinstance(value, str | int | float | bool) and key != "profiled":
                        counts = seen.setdefault(key, {})
                        counts[str(value)] = counts.get(str(value), 0) + 1
            order = sorted(seen, key=lambda k: -sum(seen[k].values()))
            return {k: max(seen[k], key=lambda v: seen[k][v]) for k in order[:5]}

        return self.kept(("context", decision), read)


def as_value(text: str) -> Any:
    """A context value as it was typed: a JSON number, boolean or null where it is one, else text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if not isinstance(value, dict | list) else text


def safe_name(error: Exception) -> str:
    """The error in words for a page: users' errors as they are, others with their class."""
    return str(error) if isinstance(error, MatineeError) else f"{type(error).__name__}: {error}"
