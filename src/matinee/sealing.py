"""The studio's side of sealing: which tables, whose quarantine, one sealer; and reading sealed choices back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.choices import Choice
from matinee.ledger import CHOICES_SCHEMA, SealReport, TableSink
from matinee.ledger import seal as seal_log

if TYPE_CHECKING:
    import polars as pl

    from matinee.studio import Studio


def seal(studio: Studio) -> SealReport:
    """Move the log into the tables, exactly once; the open segment of this process is closed first."""
    from matinee.ledger import close_open_segments

    def hold(fact: str, row: dict[str, Any], reason: str, source: str) -> None:
        studio.quarantine.put(fact, [(row, [reason])], source)

    sink = TableSink(
        studio.tables,
        lambda name: studio.facts.fact(name).schema,
        reserve=lambda rows: studio.registry.reserve("seq", max(rows, 1)),
    )
    close_open_segments(studio.root / "log")
    return seal_log(studio.root / "log", sink, quarantine=hold, clock=studio.clock)


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
) -> pl.DataFrame:
    """Rows of the `choices` table of one decision, newest first; none when nothing was sealed yet."""
    import polars as pl

    if not studio.tables.exists("choices"):
        return pl.from_arrow(CHOICES_SCHEMA.empty_table())  # type: ignore[return-value]  # a table becomes a frame
    rows = studio.tables.scan("choices", snapshot=snapshot).filter(pl.col("decision") == decision)
    if since is not None:
        rows = rows.filter(pl.col("at") >= since)
    if until is not None:
        rows = rows.filter(pl.col("at") < until)
    rows = rows.sort("at", "id", descending=True)
    return (rows.head(limit) if limit is not None else rows).collect()
