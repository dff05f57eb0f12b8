"""One append: number the rows, write the files, commit them together with the marks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl
from pyiceberg.table import Table

from matinee.tables import upkeep
from matinee.tables.local_io import to_path
from matinee.tables.reports import Snapshot
from matinee.tables.schemas import SEQ
from matinee.tables.warehouse import Attempt, retried
from matinee.tables.writing import Writer


def numbered(frame: pl.DataFrame, following: int) -> tuple[pl.DataFrame, int]:
    """The frame with its `seq`, and the number after the last; a `seq` that the data brought is kept."""
    if SEQ in frame.columns:
        last = frame[SEQ].max()
        return frame, following if last is None else max(following, int(last) + 1)  # type: ignore[arg-type]  # an Int64
    end = following + frame.height
    return frame.with_columns(pl.int_range(following, end, dtype=pl.Int64, eager=True).alias(SEQ)), end


def append(table: Table, frame: pl.DataFrame, marks: Mapping[str, str], now: datetime) -> Snapshot:
    """Commits the rows and the marks at once. Upkeep comes first: a failure of it acknowledges nothing."""
    retried(lambda: upkeep.tidy(table, now), table.refresh)
    if frame.is_empty():
        if marks:
            retried(lambda: _commit(table, None, marks), table.refresh)
        return Snapshot(table.metadata.current_snapshot_id, 0, appended=False)
    buckets = int(table.properties["matinee.buckets"])
    folder = to_path(table.location()) / "data"
    with Writer(table.metadata, folder, table.properties["matinee.key"], buckets) as writer:
        writer.write(frame)
        retried(lambda: _commit(table, writer, marks), table.refresh)
    return Snapshot(table.metadata.current_snapshot_id, frame.height, appended=True)


def _commit(table: Table, writer: Writer | None, marks: Mapping[str, str]) -> None:
    attempt = Attempt(table)
    if writer is not None:
        writer.attempt = attempt
        producer = attempt.update_snapshot().merge_append()
        for file in writer.files:
            producer.append_data_file(file)
        producer.commit()
    if marks:
        attempt.set_properties(dict(marks))
    attempt.commit_transaction()
