"""Erase a person: the bytes leave the tables, pinned snapshots, the log, the online store and quarantine.

What a pinned training set lost is written into the lineage. The request itself is kept as a hash only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from matinee.choices import Id
from matinee.exceptions import MatineeError
from matinee.facts import Fact
from matinee.online import erase as erase_online
from matinee.quarantine import NO_FACT
from matinee.results import Table
from matinee.rights import Consent

if TYPE_CHECKING:
    from matinee.studio import Studio

_TICKET, _COUNTER = "erase:", "erasures"


@dataclass(frozen=True)
class Erased(Table):
    """What an erasure removed."""

    unit: str
    tables: dict[str, int] = field(default_factory=dict)
    pins: dict[str, int] = field(default_factory=dict)
    online: int = 0
    quarantined: int = 0

    @property
    def total(self) -> int:
        """Rows removed from the tables."""
        return sum(self.tables.values())

    def rows(self) -> list[dict[str, Any]]:
        places = [{"place": f"table {t}", "rows": n} for t, n in self.tables.items()]
        places += [{"place": f"pinned set {p}", "rows": n} for p, n in self.pins.items()]
        return [
            *places,
            {"place": "online store", "rows": self.online},
            {"place": "quarantine", "rows": self.quarantined},
        ]

    def notes(self) -> list[str]:
        if self.total + self.online + self.quarantined == 0:
            return [f"nothing of this {self.unit} was there"]
        return ["models trained before are unchanged; `matinee publish` and the next training no longer see these rows"]


def erase(studio: Studio, unit: str, key: Id, *, by: str = "") -> Erased:
    """Erase everything of one key; see `Studio.erase`. Running it again after a crash finishes it.

    Raises:
        MatineeError: If no fact and no decision of the studio has that unit.
    """
    facts = [studio.facts.fact(n) for n in studio.facts.names()]
    holding = [f for f in facts if unit in f.schema.columns]
    decisions = [d.name for d in studio.decisions.values() if d.unit == unit]
    if not holding and not decisions:
        known = sorted({f.schema.key for f in facts} | {d.unit for d in studio.decisions.values()})
        raise MatineeError(
            f"unit == {unit!r}, must be a column of some fact or the unit of a decision ({', '.join(known)})"
        )
    ticket = f"{_TICKET}{_digest(unit, str(key))}"
    studio.registry.remember(ticket, "erase", {"unit": unit, "begun": studio.clock().timestamp(), "ended": None, "by": by})
    # The log first: afterwards nothing of the person sits in an open segment.
    studio.seal()
    tables: dict[str, int] = {}
    pins: dict[str, int] = {}

    def remove(table: str, column: str, values: list[Any]) -> int:
        if not values or not studio.tables.exists(table):
            return 0
        report = studio.tables.erase(table, column, values)
        if report.rows:
            tables[table] = tables.get(table, 0) + report.rows
        for tag, lost in report.per_pin.items():
            if lost:
                pins[f"{table}@{tag}"] = pins.get(f"{table}@{tag}", 0) + lost
        return report.rows

    choices, outcomes = _logged(studio, unit, key, decisions, [f.schema.name for f in holding])
    for fact in holding:
        remove(fact.schema.name, unit, [_typed(fact, unit, key)])
    remove(Consent.schema.name, "person", [str(key)])
    # Rows that only their choice ties to the person: servers that hold such rows in memory are told of the choices.
    tied = sum(remove(fact.schema.name, "choice", choices) for fact in facts)
    remove("choices", "id", choices)
    remove("outcomes", "id", outcomes)
    keys: dict[str, list[Id]] = {
        f.name: [_by_kind(f.key_kind, key)] if f.key == unit else [str(key)]
        for f in studio.features.values()
        if f.key in (unit, "person")
    }
    online = erase_online(studio.root / "online", keys)
    answered = set(choices)
    quarantined = studio.quarantine.erase(lambda fact, row: _is_about(fact, row, unit, key, answered))
    for pin, lost in pins.items():
        _note_loss(studio, pin, lost)
    # Number and ticket appear together: whoever sees the number finds the ticket.
    with studio.registry.transaction():
        done = {
            "unit": unit, "begun": None, "ended": studio.clock().timestamp(), "by": by,
            "number": studio.registry.reserve(_COUNTER),
            "choices": [_digest("choice", one) for one in choices] if tied else [],
        }  # fmt: skip
        studio.registry.remember(ticket, "erase", done)
    studio.refresh_served()
    return Erased(unit, tables, pins, online, quarantined)


def unfinished(studio: Studio) -> int:
    """How many erasures were begun and did not end."""
    rows = studio.registry.query("SELECT result FROM runs WHERE verb = 'erase'")
    return sum(json.loads(r[0])["ended"] is None for r in rows)


@dataclass(frozen=True)
class Gone:
    """Who was erased, by digests: whether a row is theirs can be told by whoever has the row, who they are by nobody."""

    units: Mapping[str, Collection[str]]  # unit -> digests of its erased keys
    choices: Collection[str] = ()  # digests of choices whose answers were erased with them

    def finder(self) -> Callable[[Mapping[str, Any]], bool]:
        """A test of rows of facts; it remembers what it digested, so it is for one use over many rows."""
        digest = cache(_digest)

        def is_about(row: Mapping[str, Any]) -> bool:
            for unit, erased in self.units.items():
                for column in (unit, "person"):
                    cell = row.get(column)
                    if cell is not None and digest(unit, str(cell)) in erased:
                        return True
            return bool(self.choices) and row.get("choice") is not None and digest("choice", row["choice"]) in self.choices

        return is_about


def latest(studio: Studio) -> int:
    """The number of the newest finished erasure; 0 where there was none."""
    found = studio.registry.query("SELECT value FROM counters WHERE name = ?", _COUNTER)
    return int(found[0][0]) if found else 0


def since(studio: Studio, number: int) -> Gone:
    """Who was erased after the erasure of that number, by whatever process."""
    units: dict[str, set[str]] = {}
    choices: set[str] = set()
    for ticket, result in studio.registry.query("SELECT key, result FROM runs WHERE verb = 'erase'"):
        done = json.loads(result)
        if done.get("number", 0) > number:
            units.setdefault(done["unit"], set()).add(ticket.removeprefix(_TICKET))
            choices.update(done["choices"])
    return Gone(units, choices)


def _digest(kind: str, key: str) -> str:
    return hashlib.blake2b(json.dumps([kind, key]).encode(), digest_size=16).hexdigest()


def _logged(studio: Studio, unit: str, key: Id, decisions: list[str], facts: list[str]) -> tuple[list[str], list[str]]:
    """Ids of the person's choices, and of the outcomes of these choices or of their own facts."""
    import polars as pl

    choices: list[str] = []
    if studio.tables.exists("choices"):
        rows = studio.tables.scan("choices", columns=["id", "decision", "unit"])
        mine = rows.filter((pl.col("unit") == str(key)) & pl.col("decision").is_in(decisions))
        choices = mine.select("id").collect()["id"].to_list()
    outcomes: list[str] = []
    if studio.tables.exists("outcomes"):
        keyed = [f for f in facts if studio.facts.fact(f).schema.key == unit]
        rows = studio.tables.scan("outcomes", columns=["id", "choice", "fact", "unit"])
        mine = rows.filter(
            pl.col("choice").is_in(choices) | ((pl.col("unit") == str(key)) & pl.col("fact").is_in(keyed))
        )
        outcomes = mine.select("id").collect()["id"].to_list()
    return choices, outcomes


def _is_about(fact: str, row: Mapping[str, Any], unit: str, key: Id, choices: Collection[str]) -> bool:
    """Whether a quarantined row is the person's: by its key, by the choice that it answers, or as a line of the log."""
    if fact == NO_FACT:
        line = str(row.get("line"))
        # A line that cannot be read is searched as it stands, as JSON writes ids.
        return any(f'"{name}":{shown}' in line for name in ("unit", unit) for shown in (f"{key},", f"{key}}}", f'"{key}"'))
    # What did not fit its fact may be text with spaces, or a float where a whole number should be.
    cells = [row.get(unit), row.get("person")]
    shown = {str(int(c)) if isinstance(c, float) and c.is_integer() else str(c).strip() for c in cells if c is not None}
    return str(key) in shown or row.get("choice") in choices


def _typed(fact: type[Fact], column: str, key: Id) -> Id:
    return _by_kind(fact.schema.field(column).kind, key)


def _by_kind(kind: str | None, key: Id) -> Id:
    if kind == "int":
        try:
            return int(key)
        except ValueError:
            raise MatineeError(f"key == {key!r}, must be a whole number") from None
    return str(key)


def _note_loss(studio: Studio, pin: str, lost: int) -> None:
    uri = f"pin://{pin}"
    known = {n.uri: n for n in studio.graph.nodes("pin")}
    if uri in known:
        data = dict(known[uri].data)
        data["erased"] = int(data.get("erased", 0)) + lost
        studio.graph.put(uri, data)
