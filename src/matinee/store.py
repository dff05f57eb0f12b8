"""The facts of a studio: append frames and files, read them as of a time, send bad rows to quarantine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.choices import Outcome
from matinee.exceptions import BadInputError, MatineeError, UnknownNameError
from matinee.facts import SYSTEM, Fact, Schema, fact_class
from matinee.graph import Graph
from matinee.locks import exclusive
from matinee.quarantine import NO_FACT, Held, Quarantine
from matinee.registry import Registry
from matinee.results import Table
from matinee.times import instant
from matinee.validate import check_columns, check_rows

if TYPE_CHECKING:
    import polars as pl

    from matinee.tables import Tables

Progress = Callable[[int], None]
# Sends outcomes through the log once more; says how many count that did not, and where those are that are still bad.
Relog = Callable[[Sequence[Outcome]], tuple[int, int, Sequence[str]]]


@dataclass(frozen=True)
class Appended(Table):
    """What an append did: every row is in its table or in quarantine."""

    fact: str
    appended: int
    quarantined: int
    batches: tuple[str, ...] = ()
    again: bool = False

    def rows(self) -> list[dict[str, Any]]:
        return [{"fact": self.fact, "appended": self.appended, "quarantined": self.quarantined}]

    def notes(self) -> Sequence[str]:
        notes = []
        if self.again:
            notes.append("this file was appended before; nothing was done")
        if self.quarantined:
            notes.append("`matinee quarantine list` says what was wrong with the rows held back")
        return notes


class FactStore:
    """Facts by name over the tables; also the source that features read from."""

    def __init__(
        self,
        tables: Tables,
        quarantine: Quarantine,
        registry: Registry,
        graph: Graph,
        clock: Callable[[], datetime],
        relog: Relog,
    ) -> None:
        self.tables, self.quarantine = tables, quarantine
        self._registry, self._graph, self._clock, self._relog = registry, graph, clock, relog
        self._facts: dict[str, type[Fact]] = {}
        self.listeners: list[Callable[[type[Fact], pl.DataFrame], None]] = []  # told of every frame that was appended
        for node in graph.nodes("fact"):
            if node.data:
                self._facts[node.name] = fact_class(Schema.from_json(node.data))

    # -- declarations

    def register(self, fact: type[Fact]) -> None:
        """Make the fact's table, or evolve it: added columns appear, renamed ones keep their rows."""
        schema = fact.schema
        known = self._facts.get(schema.name)
        if known is not None and known.schema == schema and self.tables.exists(schema.name):
            self._facts[schema.name] = fact
            return
        if self.tables.exists(schema.name):
            have = set(self.tables.schema(schema.name).names)
            for new, old in schema.renamed.items():
                if old in have and new not in have:
                    self.tables.rename_column(schema.name, old, new)
        self.tables.create(schema.name, schema.arrow(), key=schema.key, personal=_personal(schema))
        self._graph.put(f"fact://{schema.name}", schema.to_json())
        self._facts[schema.name] = fact

    def fact(self, name: str | type[Fact]) -> type[Fact]:
        """The fact of that table or class name."""
        if isinstance(name, type):
            if self._facts.get(name.schema.name) is not name:
                self.register(name)
            return name
        for one in self._facts.values():
            if name in (one.schema.name, one.__name__):
                return one
        raise UnknownNameError("fact", name, self._facts)

    def names(self) -> list[str]:
        """Names of all facts, sorted."""
        return sorted(self._facts)

    # -- writing

    def append(
        self, fact: str | type[Fact], data: Any, *, source: str = "append", mark: Mapping[str, str] | None = None
    ) -> Appended:
        """Append a frame in one atomic commit; rows that are not as declared go to quarantine with their reasons.

        Args:
            fact: The fact or its name.
            data: A Polars frame, an Arrow table, a list of dicts, or a list of the fact's own rows.
            source: Where the rows come from, for the person who looks into quarantine.
            mark: Table properties to set in the same commit (what makes a retried file free).

        Raises:
            BadInputError: If the frame lacks a required column, has an unknown one, or brings ids of outcomes: an
                outcome counts once, and only the log sees to that (`Studio.record`).
        """
        kind = self.fact(fact)
        now = self._clock()
        frame = as_frame(data)
        if "outcome" in frame.columns and frame["outcome"].null_count() < len(frame):
            raise BadInputError(
                f"column 'outcome' of {kind.schema.name} holds ids, must be left out: record outcomes of a choice with "
                "studio.record, where an id counts once"
            )
        checked = check_rows(kind.schema, frame, now=now)
        good, bad = checked.good, checked.bad
        if kind.schema.unique and len(good):
            good, twice = self._new_only(kind, good)
            bad = _more_bad(bad, twice, kind.schema)
        # Quarantine first: if the process dies between the two, a retry writes the same batch again, under the same name.
        batch = self.quarantine.put_frame(kind.schema.name, bad, source) if len(bad) else None
        if len(good) or mark:
            numbered = self.commit(kind.schema.name, good, mark).select([*kind.schema.columns, *SYSTEM])
            for listener in self.listeners:
                listener(kind, numbered)
        return Appended(kind.schema.name, len(good), len(bad), (batch,) if batch else ())

    def append_file(
        self,
        fact: str | type[Fact],
        path: Path | str,
        *,
        columns: Mapping[str, str] | None = None,
        ignore_extra: bool = False,
        progress: Progress = lambda rows: None,
    ) -> Appended:
        """Append a Parquet, CSV or JSON-lines file, streamed. The same file twice is appended once.

        A file of several batches is several commits, each of which marks in the table how far it came: after a crash
        the same call goes on where it stopped.

        Args:
            fact: The fact or its name.
            path: The file.
            columns: `{"name in the file": "name in the fact"}`.
            ignore_extra: Leave out columns that the fact does not have, instead of refusing the file.
            progress: Called with the number of rows done.
        """
        from matinee import files

        kind, path = self.fact(fact), Path(path)
        digest = file_digest(path) if path.is_file() else ""
        key = f"append:{kind.schema.name}:{digest}:{json.dumps(dict(columns or {}), sort_keys=True)}"
        before = self._registry.recall(key)
        if before is not None:
            return Appended(
                kind.schema.name, before["appended"], before["quarantined"], tuple(before["batches"]), again=True
            )
        mark = f"matinee.file.{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
        done = int(self.tables.properties(kind.schema.name).get(mark, "0"))
        appended = quarantined = 0
        batches: list[str] = []
        for i, frame in enumerate(files.read(path, columns=columns)):
            if i >= done:
                if ignore_extra:
                    keep = {*kind.schema.columns, "at", "known"}
                    frame = frame.select([c for c in frame.columns if c in keep])
                part = self.append(kind, frame, source=path.name, mark={mark: str(i + 1)})
                appended, quarantined = appended + part.appended, quarantined + part.quarantined
                batches += part.batches
            progress(len(frame))
        result = {"appended": appended, "quarantined": quarantined, "batches": batches}
        self._registry.remember(key, "append", result)
        return Appended(kind.schema.name, appended, quarantined, tuple(batches))

    def retry(self, batch: str) -> Appended:
        """Try the rows of a quarantined batch again; those that are still bad stay, with their reasons of today.

        Outcomes of choices go through the log again, where an id counts once, whichever way and however often it
        comes; features see them with the next `publish`. A retry that was interrupted is repeated with the name that
        `quarantine.list()` has for the batch by then, and appends nothing twice.

        Raises:
            UnknownNameError: If there is no such batch, or nobody declared its fact.
            BadInputError: If the rows lack a required column or have one that the fact does not have.
        """
        with self.quarantine.changing():
            held = self.quarantine.rows(batch)
            if held[0].fact == NO_FACT:
                raise MatineeError(
                    f"batch == {batch!r} holds lines of the log that are no rows, must be looked at and let go: "
                    f"`matinee quarantine show {batch}`"
                )
            kind = self.fact(held[0].fact)
            outcomes = [_outcome(kind, h) for h in held if h.row.get("outcome") is not None]
            frame = as_frame([{**h.row, "outcome": None} for h in held if h.row.get("outcome") is None])
            if len(frame):
                check_columns(kind.schema, frame)
            done = Appended(kind.schema.name, 0, 0)
            claimed = self.quarantine.claim(batch)
            # If the process dies before the batch is gone, the mark says that its rows are in.
            mark = f"matinee.retry.{claimed}"
            if len(frame) and mark not in self.tables.properties(kind.schema.name):
                done = self.append(kind, frame, source=held[0].source, mark={mark: "done"})
            taken, left, batches = self._relog(outcomes) if outcomes else (0, 0, ())
            self.quarantine.let_go(claimed)
        return Appended(
            kind.schema.name, done.appended + taken, done.quarantined + left, (*done.batches, *batches)
        )

    def commit(self, table: str, rows: pl.DataFrame, mark: Mapping[str, str] | None = None) -> pl.DataFrame:
        """Number rows (`seq`) and append them, as one commit; returns them numbered.

        Alone in its table: the order of the numbers is the order of the commits. Whoever has seen all up to a number
        finds what came since by its greater numbers.
        """
        import polars as pl

        with exclusive(self.tables.root / "locks" / f"{table}.numbers.lock", f"table {table!r}"):
            first = self._registry.reserve("seq", max(len(rows), 1))
            numbered = rows.with_columns(pl.int_range(first, first + len(rows), dtype=pl.Int64).alias("seq"))
            self.tables.append(table, numbered, mark=mark)
        return numbered

    def _new_only(self, kind: type[Fact], good: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        unique = list(kind.schema.unique)
        keys = good[kind.schema.key].unique().to_list()
        columns = list(dict.fromkeys([*unique, kind.schema.key]))
        there = self.tables.scan(kind.schema.name, columns=columns, keys=keys if len(keys) <= 1000 else None)
        have = there.select(unique).unique().collect()
        return good.join(have, on=unique, how="anti", maintain_order="left"), good.join(
            have, on=unique, how="semi", maintain_order="left"
        )

    # -- reading

    @property
    def buckets(self) -> int:
        """Number of buckets of every fact table, by its key."""
        from matinee.tables import BUCKETS

        return BUCKETS

    def bucket_of(self, values: Any) -> Any:
        """Bucket of each key value."""
        return self.tables.bucket_of(values)

    def snapshot(self, fact: str | type[Fact]) -> int | None:
        """Id of the table's newest snapshot."""
        return self.tables.snapshot(self.fact(fact).schema.name)

    def rows(self, fact: str | type[Fact], snapshot: int | None = None) -> int | None:
        """Number of rows of a fact, at its newest snapshot where none is given."""
        return self.tables.rows(self.fact(fact).schema.name, snapshot)

    def edge(self, fact: str | type[Fact]) -> tuple[int | None, int]:
        """Id of the table's newest snapshot, and a number (`seq`) that is above all of its rows and none of later ones."""
        name = self.fact(fact).schema.name
        while True:
            snapshot = self.tables.snapshot(name)
            following = int(self.tables.properties(name).get("matinee.next-seq", "0"))
            if self.tables.snapshot(name) == snapshot:  # else somebody appended between the two
                return snapshot, following

    def scan(
        self,
        fact: str | type[Fact],
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
        snapshot: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of a fact, not yet read: by column, by bucket, up to what was known at a time, at a pinned snapshot."""
        return self.tables.scan(
            self.fact(fact).schema.name,
            columns=None if columns is None else list(columns),
            known_before=known_before,
            buckets=None if bucket is None else [bucket],
            snapshot=snapshot,
        )

    def as_of(
        self, fact: str | type[Fact], at: datetime | str | None = None, known: datetime | str | None = None
    ) -> pl.DataFrame:
        """The fact as it stood: rows that had happened by `at` and were known by `known`.

        What an entity or a scheduled fact says may lie ahead, so its rows count from `known` on, as in features. An
        entity is reduced to its current state, the latest row by `at`, then `known`, then order of appending. Where
        `known` is later than `at`, rows of an entity learned in between count only if they had happened by `at`: what
        was so then, as far as is known now.

        Args:
            fact: The fact or its name.
            at: The time looked at; now where not given.
            known: What was known; the same as `at` where not given, so that late rows do not leak into the past.
        """
        import polars as pl

        kind = self.fact(fact)
        moment = self._clock() if at is None else instant(at)
        learned = moment if known is None else instant(known, "known")
        rows = self.scan(kind, known_before=learned)
        if kind.schema.scheduled:
            return rows.sort("at", "known", "seq").collect()
        if kind.schema.entity:
            rows = rows.filter((pl.col("at") <= moment) | (pl.col("known") <= moment)).sort("at", "known", "seq")
            rows = rows.group_by(kind.schema.key, maintain_order=True).last()
            return rows.select([*kind.schema.columns, *SYSTEM]).sort(kind.schema.key).collect()
        return rows.filter(pl.col("at") <= moment).sort("at", "known", "seq").collect()


def as_frame(data: Any) -> pl.DataFrame:
    """A Polars frame of whatever rows were given."""
    import polars as pl

    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if hasattr(data, "__arrow_c_stream__") or type(data).__module__.startswith("pyarrow"):
        frame = pl.from_arrow(data)
        if isinstance(frame, pl.DataFrame):
            return frame
    if isinstance(data, Fact):
        data = [data]
    if isinstance(data, list):
        from matinee.files import frame_of

        rows = [{**r.row, "at": r.at, "known": r.known} if isinstance(r, Fact) else r for r in data]
        if all(isinstance(r, dict) for r in rows):
            # A column of nothing but None has no type of its own; leaving it out gives it the fact's default.
            names = {n for r in rows for n, v in r.items() if v is not None}
            return frame_of([{n: v for n, v in r.items() if n in names} for r in rows])
    raise BadInputError(
        f"rows are {type(data).__name__}, must be a Polars frame, an Arrow table, a list of dicts or of facts"
    )


def _outcome(kind: type[Fact], held: Held) -> Outcome:
    """The outcome that a quarantined row was logged as."""
    row = dict(held.row)
    columns = {name: row.pop(name, None) for name in ("choice", "outcome", "at", "known")}
    if not columns["choice"]:
        raise MatineeError(f"outcome {columns['outcome']!r} names no choice, must name the one it answers")
    return Outcome(
        id=str(columns["outcome"]), choice=str(columns["choice"]), fact=kind.schema.name, row=row,
        at=instant(columns["at"]), known=instant(columns["known"], "known"),
    )  # fmt: skip


def file_digest(path: Path) -> str:
    """A hash of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _more_bad(bad: pl.DataFrame, twice: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    import polars as pl

    if not len(twice):
        return bad
    reason = f"duplicate key: the table already has this {', '.join(schema.unique)}, must be unique"
    more = twice.with_columns(pl.lit([reason], dtype=pl.List(pl.String)).alias("reasons"))
    if not len(bad):
        return more
    both = (
        [f.with_columns(pl.exclude("reasons").cast(pl.String, strict=False)) for f in (bad, more)]
        if _listless(bad, more)
        else [bad, more]
    )
    return pl.concat(both, how="diagonal_relaxed")


def _listless(*frames: pl.DataFrame) -> bool:
    return not any(t.is_nested() for f in frames for n, t in f.schema.items() if n != "reasons")


def _personal(schema: Schema) -> list[str]:
    return [*schema.personal, *([schema.key] if schema.field(schema.key).kind == "str" else [])]
