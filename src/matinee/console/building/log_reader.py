"""The log read back for pages: what is sealed and what is not yet, as one.

A choice may carry thousands of candidates, and a studio millions of choices. So unsealed lines are decoded without
their lists, the table is read by the columns that are needed, and a whole record is made only of what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from matinee.choices import Advice, Choice, Id, Outcome, Plan
from matinee.exceptions import UnknownNameError

if TYPE_CHECKING:
    import polars as pl

    from matinee.ledger.columns import LoggedChoice
    from matinee.studio import Studio

T = TypeVar("T")
MOST_BYTES = 64 << 20  # of the newest unsealed lines of each stream that are looked through


class Keep(Protocol):
    """Gives what `make` gave lately."""

    def __call__(self, key: tuple[object, ...], make: Callable[[], T], seconds: float = 60.0) -> T:
        """What is kept under the key, or made now."""
        ...


class LogReader:
    """Choices and outcomes of a studio."""

    def __init__(self, studio: Studio, kept: Keep) -> None:
        self.studio, self._kept = studio, kept

    # -- what is not sealed yet

    def unsealed(self) -> list[LoggedChoice | Outcome]:
        """Records that are not in the tables yet, newest first; their lists are left as JSON."""
        return self._kept(("unsealed",), lambda: _read(self.studio.root / "log"), 2.0)

    def fresh(self) -> list[LoggedChoice]:
        """The choices among them."""
        return [r for r in self.unsealed() if not isinstance(r, Outcome)]

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

    # -- the table

    def sealed(
        self, columns: Sequence[str], *, decision: str = "", since: datetime | None = None, limit: int | None = None
    ) -> pl.DataFrame:
        """These columns of sealed choices, newest first; none when nothing was sealed."""
        import polars as pl

        if not self.studio.tables.exists("choices"):
            return _none(columns)
        needed = list(dict.fromkeys([*columns, "id", "at", "decision"]))
        rows = self.studio.tables.scan("choices", columns=needed)
        if decision:
            rows = rows.filter(pl.col("decision") == decision)
        if since is not None:
            rows = rows.filter(pl.col("at") >= since)
        rows = rows.sort("at", "id", descending=True)
        return (rows if limit is None else rows.head(limit)).select(columns).collect()

    def newest(self, columns: Sequence[str], decision: str, limit: int) -> pl.DataFrame:
        """Wide columns of the newest sealed choices: when they were made is looked up first, so that few are read."""
        times = self.sealed(["at"], decision=decision, limit=limit)
        if not len(times):
            return _none(columns)
        return self.sealed(columns, decision=decision, since=times["at"].min(), limit=limit)  # type: ignore[arg-type]  # a datetime

    # -- choices

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

        def matches(c: LoggedChoice) -> bool:
            return (
                (not decision or c.decision == decision)
                and (not unit or str(c.unit) == unit)
                and (before is None or c.at < before)
                and (not action or action in map(str, msgspec.json.decode(c.action)))
            )

        found = {c.id: c for c in self._rows(decision, unit, action, before, limit)}
        fresh = sorted((c for c in self.fresh() if c.id not in found and matches(c)), key=lambda c: (c.at, c.id))
        found |= {c.id: whole(c) for c in fresh[-limit:]}
        return sorted(found.values(), key=lambda c: (c.at, c.id), reverse=True)[:limit]

    def _rows(self, decision: str, unit: str, action: str, before: datetime | None, limit: int) -> list[Choice]:
        import polars as pl

        from matinee.ledger import choice_from_row

        if not self.studio.tables.exists("choices"):
            return []
        keys = [unit] if unit else None
        narrow = ["id", "at", "decision", "unit", *(["action"] if action else [])]
        rows = self.studio.tables.scan("choices", columns=narrow, keys=keys)
        conditions = [
            *([pl.col("decision") == decision] if decision else []),
            *([pl.col("unit") == unit] if unit else []),
            *([pl.col("action").list.contains(action)] if action else []),
            *([pl.col("at") < before] if before is not None else []),
        ]
        for condition in conditions:
            rows = rows.filter(condition)
        wanted = rows.sort("at", "id", descending=True).head(limit).select("id", "at").collect()
        if not len(wanted):
            return []
        between = (pl.col("at") >= wanted["at"].min()) & (pl.col("at") <= wanted["at"].max())
        full = self.studio.tables.scan("choices", keys=keys).filter(between)
        return [
            choice_from_row(r) for r in full.filter(pl.col("id").is_in(wanted["id"].to_list())).collect().to_dicts()
        ]

    def choice(self, choice_id: str) -> Choice:
        """One choice by its id; raises UnknownNameError."""
        import polars as pl

        from matinee.ledger import choice_from_row

        for record in self.fresh():
            if record.id == choice_id:
                return whole(record)
        if self.studio.tables.exists("choices"):
            rows = self.studio.tables.scan("choices").filter(pl.col("id") == choice_id).head(1).collect()
            if len(rows):
                return choice_from_row(rows.to_dicts()[0])
        raise UnknownNameError("choice", choice_id, [c.id for c in self.choices(limit=5)])

    def units(self, decision: str, limit: int) -> list[tuple[str, str, datetime]]:
        """Unit, decision and time of the newest choices."""
        rows = self.sealed(["id", "unit", "decision", "at"], decision=decision, limit=limit)
        found = {r[0]: r[1:] for r in rows.iter_rows()}
        found |= {c.id: (str(c.unit), c.decision, c.at) for c in self.fresh() if not decision or c.decision == decision}
        return sorted(((u, d, at.astimezone(UTC)) for u, d, at in found.values()), key=lambda r: r[2], reverse=True)[
            :limit
        ]

    def has_unit(self, decision: str, unit: str) -> bool:
        """True when something was decided for this unit."""
        if any(str(c.unit) == unit and c.decision == decision for c in self.fresh()):
            return True
        if not self.studio.tables.exists("choices"):
            return False
        import polars as pl

        rows = self.studio.tables.scan("choices", columns=["unit", "decision"], keys=[unit])
        return bool(len(rows.filter((pl.col("unit") == unit) & (pl.col("decision") == decision)).head(1).collect()))

    # -- outcomes

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
                for outcome in self._facts(str(fact[0]), part["unit"].unique().to_list(), list(wanted)):
                    found[outcome.choice].setdefault(outcome.id, outcome)
        return {i: sorted(o.values(), key=lambda x: (x.at, x.id)) for i, o in found.items()}

    def _facts(self, fact: str, keys: list[str], choices: list[str]) -> list[Outcome]:
        import polars as pl

        schema = self.studio.facts.fact(fact).schema
        ids: list[Id] = [int(k) for k in keys] if schema.field(schema.key).kind == "int" else list(keys)
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

    # -- the last day

    def hours(self, now: datetime) -> pl.DataFrame:
        """Choices of the last 24 hours: `decision`, `hour` (0 the oldest), `n`, and `fell`, how many fell back."""
        return self._kept(("hours",), lambda: self._hours(now), 20.0)

    def _hours(self, now: datetime) -> pl.DataFrame:
        import polars as pl

        since = now - timedelta(hours=24)
        shape: dict[str, Any] = {
            "id": pl.String, "decision": pl.String, "at": pl.Datetime("us", "UTC"), "fell": pl.Boolean,
        }  # fmt: skip
        fresh = [(c.id, c.decision, c.at, c.fallback is not None) for c in self.fresh()]
        there = self.sealed(["id", "decision", "at", "fallback"], since=since)
        there = there.select("id", "decision", "at", pl.col("fallback").is_not_null().alias("fell"))
        rows = pl.concat([there.cast(pl.Schema(shape)), pl.DataFrame(fresh, schema=shape, orient="row")]).unique("id")
        rows = rows.filter((pl.col("at") > since) & (pl.col("at") <= now))
        hour = ((pl.col("at") - since).dt.total_seconds() // 3600).clip(0, 23).alias("hour")
        return rows.group_by("decision", hour).agg(pl.len().alias("n"), pl.col("fell").sum())


def _none(columns: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    from matinee.ledger import CHOICES_SCHEMA

    empty = pl.from_arrow(CHOICES_SCHEMA.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty.select(columns)


def whole(logged: LoggedChoice) -> Choice:
    """The choice with its lists."""
    decode = msgspec.json.decode
    return Choice(
        id=logged.id,
        decision=logged.decision,
        unit=logged.unit,
        at=logged.at.astimezone(UTC),
        policy=logged.policy,
        arm=logged.arm,
        mode=logged.mode,
        context=decode(logged.context),
        candidates=decode(logged.candidates),
        blocked=decode(logged.blocked),
        groups=decode(logged.groups),
        action=decode(logged.action),
        propensities=logged.propensities,
        fallback=logged.fallback,
        items_at=logged.items_at,
        estimated=logged.estimated,
        cluster=logged.cluster,
        advice=decode(logged.advice, type=list[Advice]),
        chosen_by=logged.chosen_by,
        plan=decode(logged.plan, type=Plan | None),
    )


def _read(folder: Path) -> list[LoggedChoice | Outcome]:
    """Every stream's newest lines; what cannot be read is passed over, as sealing reports it."""
    from matinee import ledger

    found: list[LoggedChoice | Outcome] = []
    for stream in ledger.streams(folder):
        room = MOST_BYTES
        for segment in reversed(ledger.segments(folder, stream)):
            if room <= 0:
                break
            data = _bytes(segment.path, room)
            room -= len(data)
            found += _records(data, segment.path)
    return sorted(found, key=lambda r: r.known if isinstance(r, Outcome) else r.at, reverse=True)


def _bytes(path: Path, most: int) -> bytes:
    """The end of a segment, which may have been closed, and so renamed, since it was listed; nothing if it is sealed."""
    for one in (path, path.with_suffix(".wal")):
        try:
            with one.open("rb") as file:
                file.seek(max(0, one.stat().st_size - most))
                return file.read()
        except FileNotFoundError:
            continue
    return b""


def _records(data: bytes, path: Path) -> list[LoggedChoice | Outcome]:
    from matinee.ledger import BadLine
    from matinee.ledger.columns import decode_logged
    from matinee.ledger.lines import payloads

    found = []
    for _, payload in payloads(data, path):
        if isinstance(payload, BadLine):  # also the piece of a line that the end of a segment begins with
            continue
        try:
            found.append(decode_logged(payload))
        except msgspec.DecodeError:
            continue
    return found
