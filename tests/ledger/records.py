"""What the ledger's tests share: records, a sink in memory, and a studio's worth of facts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pyarrow as pa

from matinee.choices import Choice, Outcome, new_id
from matinee.exceptions import UnknownNameError
from matinee.facts import Fact, Range, Schema
from matinee.ledger import SealReport, seal

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


class Played(Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, Range(ge=0)]
    device: str | None


class Paid(Fact, key="invoice", unique=("invoice", "number")):
    invoice: str
    number: int
    receipt: bytes | None
    due: datetime | None
    tags: list[str] | None


FACTS: dict[str, Schema] = {"played": Played.schema, "paid": Paid.schema}


def choice(**given: Any) -> Choice:
    """A choice of one title among three."""
    plain: dict[str, Any] = {"decision": "home", "unit": 42, "at": NOW, "policy": "home@13", "candidates": [7, 8, 9]}
    return Choice(**{"id": new_id(), **plain, "action": [8], "propensities": [0.25], **given})


def outcome(**given: Any) -> Outcome:
    """Member 42 watched title 8."""
    row = {"member": 42, "title": 8, "seconds": 1800.0}
    plain: dict[str, Any] = {"choice": new_id(), "fact": "played", "row": row, "at": NOW, "known": NOW}
    return Outcome(**{"id": new_id(), **plain, **given})


class MemorySink:
    """Tables as lists of dicts; `write` is atomic."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.sealed: dict[str, dict[str, int]] = {}
        self.commits: list[tuple[str, int]] = []
        self._seq = itertools.count()

    def marks(self, table: str) -> Mapping[str, int]:
        return dict(self.sealed.get(table, {}))

    def write(self, table: str, data: pa.Table | pl.DataFrame, marks: Mapping[str, int]) -> None:
        rows = data.to_pylist() if isinstance(data, pa.Table) else data.to_dicts()
        for stream, number in marks.items():
            assert number > self.sealed.get(table, {}).get(stream, 0), "a mark must not go back"
        assert all("seq" not in row for row in rows)
        self.tables.setdefault(table, []).extend({**row, "seq": next(self._seq)} for row in rows)
        self.sealed.setdefault(table, {}).update(marks)
        self.commits.append((table, len(rows)))

    def counted(self, ids: Sequence[str]) -> Mapping[str, str]:
        wanted = set(ids)
        return {r["id"]: r["source"] for r in self.tables.get("outcomes", []) if r["id"] in wanted}

    def schema(self, fact: str) -> Schema:
        if fact not in FACTS:
            raise UnknownNameError("fact", fact, FACTS)
        return FACTS[fact]

    def present(self, schema: Schema, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        have = [{c: r[c] for c in columns} for r in self.tables.get(schema.name, [])]
        return pl.DataFrame(have, schema={c: rows.schema[c] for c in columns}).unique()

    def ids(self, table: str) -> list[str]:
        """Ids in the order they were written: of choices and outcomes, or of the outcomes in a fact's table."""
        return [r["id" if table in ("choices", "outcomes") else "outcome"] for r in self.tables.get(table, [])]


class Held(list[tuple[str, dict[str, Any], str, str]]):
    """A quarantine that remembers: (fact, row, reason, source)."""

    def __call__(self, fact: str, rows: Sequence[tuple[dict[str, Any], str, str]]) -> None:
        self.extend((fact, *row) for row in rows)


def sealed(folder: Path, sink: MemorySink | None = None, held: Held | None = None, **given: Any) -> MemorySink:
    """Seal into a sink in memory, at `NOW` and a minute."""
    sink = MemorySink() if sink is None else sink
    run(folder, sink, held, **given)
    return sink


def run(folder: Path, sink: Any, held: Held | None = None, **given: Any) -> SealReport:
    """`seal` with the tests' clock; rows held back fail the test unless it asks for them."""
    held_here = Held() if held is None else held
    report = seal(folder, sink, quarantine=held_here, clock=lambda: NOW + timedelta(minutes=1), **given)
    assert held is not None or not held_here, held_here
    return report
