"""The studio's side of sealing: which tables, whose quarantine, one sealer; and reading sealed choices back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from matinee.choices import Choice, Outcome
from matinee.exceptions import UnknownColumnError
from matinee.ledger import CHOICES_SCHEMA, SealReport, TableSink
from matinee.ledger import seal as seal_log
from matinee.ledger.sealing import HeldRow

if TYPE_CHECKING:
    import polars as pl

    from matinee.studio import Studio


def seal(studio: Studio, held: list[str] | None = None) -> SealReport:
    """Move the log into the tables, exactly once; the open segment of this process is closed first.

    Args:
        studio: Whose log.
        held: Takes the names of the quarantine batches that were made.
    """
    from matinee.ledger import close_open_segments

    def hold(fact: str, rows: Sequence[HeldRow]) -> None:
        batch = studio.quarantine.put_each(fact, ((row, [reason], place) for row, reason, place in rows))
        if held is not None and batch is not None:
            held.append(batch)

    close_open_segments(studio.root / "log")
    return seal_log(studio.root / "log", _sink(studio), quarantine=hold, clock=studio.clock)


def relog(studio: Studio, outcomes: Sequence[Outcome]) -> tuple[int, int, list[str]]:
    """Send outcomes that waited in quarantine through the log once more: the way on which an id counts once.

    Returns:
        How many count that did not before, how many are still bad, and the quarantine batches of these.
    """
    from matinee.ledger import Ledger

    ids = list({o.id for o in outcomes})
    before = _sink(studio).counted(ids)
    with Ledger(studio.root / "log", "retry", clock=studio.clock) as ledger:
        for one in outcomes:
            ledger.append(one)
    batches: list[str] = []
    seal(studio, batches)
    after = _sink(studio).counted(ids)
    return len(after) - len(before), sum(o.id not in after for o in outcomes), batches


def _sink(studio: Studio) -> TableSink:
    return TableSink(studio.tables, lambda name: studio.facts.fact(name).schema, commit=studio.facts.commit)


def log(studio: Studio, made: Iterable[Choice]) -> int:
    """Write choices that were made elsewhere into the log and seal it; those that are sealed already are left out."""
    import polars as pl

    from matinee.ledger import Ledger

    seal(studio)
    have: set[str] = set()
    if studio.tables.exists("choices"):
        have = set(studio.tables.scan("choices", columns=["id"]).select(pl.col("id")).collect()["id"].to_list())
    written = 0
    with Ledger(studio.root / "log", "import", clock=studio.clock) as ledger:
        for choice in made:
            if choice.id not in have:
                have.add(choice.id)
                ledger.append(choice)
                written += 1
    seal(studio)
    return written


def choices(
    studio: Studio,
    decision: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    snapshot: int | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Rows of the `choices` table of one decision, newest first; none when nothing was sealed yet. See `Studio.choices`."""
    import polars as pl

    wanted = CHOICES_SCHEMA.names if columns is None else list(columns)
    for name in wanted:
        if name not in CHOICES_SCHEMA.names:
            raise UnknownColumnError("choices", name, CHOICES_SCHEMA.names)
    if not studio.tables.exists("choices"):
        empty: pl.DataFrame = pl.from_arrow(CHOICES_SCHEMA.empty_table())  # type: ignore[assignment]  # a table is a frame
        return empty.select(wanted)
    read = list(dict.fromkeys([*wanted, "decision", "at", "id"]))
    rows = studio.tables.scan("choices", columns=read, snapshot=snapshot).filter(pl.col("decision") == decision)
    if since is not None:
        rows = rows.filter(pl.col("at") >= since)
    if until is not None:
        rows = rows.filter(pl.col("at") < until)
    rows = rows.sort("at", "id", descending=True)
    return (rows.head(limit) if limit is not None else rows).select(wanted).collect()
