"""Keeping tables small and forgetting people: expiry, compaction, erasure, and the sweep that frees the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from pyiceberg.manifest import DataFile as IcebergFile
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots, _OverwriteFiles

from matinee.tables import pinning, reading, writing
from matinee.tables.hashing import bucket_of
from matinee.tables.local_io import SCHEME, to_path, to_uri
from matinee.tables.reports import CompactReport, EraseReport
from matinee.tables.schemas import arrow_schema, polars_schema
from matinee.tables.warehouse import Attempt, Warehouse, retried

EXPIRE_EVERY = 20  # snapshots that nothing holds, before an append expires them; 400 of them make a commit take 0.4 s
GRACE = timedelta(hours=1)  # how long readers may go on with files that a compaction replaced
_BATCH_ROWS = 1 << 25  # rows compacted in one commit, about
_MUCH_LARGER = 4


# -- Expiry and sweep --------------------------------------------------------------------------------------------------


def unheld(table: Table) -> list[int]:
    """Snapshots that are neither the newest nor pinned."""
    held = {ref.snapshot_id for ref in table.metadata.refs.values()}
    return [s.snapshot_id for s in table.metadata.snapshots if s.snapshot_id not in held]


def expire(table: Table, now: datetime) -> int:
    """Drops pins past their age, then every snapshot that nothing holds. Metadata only; returns snapshots dropped."""
    stale = [pin.tag for pin in pinning.pins(table) if pin.created + pin.max_age <= now]
    attempt = Attempt(table)
    pinning.drop(attempt, stale)
    return _expire_and_commit(attempt, table)


def _expire_and_commit(attempt: Attempt, table: Table) -> int:
    before = attempt.table_metadata
    held = {ref.snapshot_id for ref in before.refs.values()}
    gone = [s.snapshot_id for s in before.snapshots if s.snapshot_id not in held]
    if gone:
        ExpireSnapshots(attempt).by_ids(gone).commit()
    attempt.commit_transaction()
    return len(gone)


def tidy(table: Table, now: datetime) -> None:
    """The upkeep inside an append: when enough snapshots wait, expires them and frees what only they used.

    Data files that a compaction replaced stay for `GRACE`, so that a scan planned before it can still be read. Whether
    there are any is told by counting: as a rule there are none, and nothing but the metadata folder is looked at.
    """
    if len(unheld(table)) < EXPIRE_EVERY:
        return
    expire(table, now)
    current = table.current_snapshot()
    live = 0 if current is None else reading.summed(current, "total-data-files")
    more = len(_stored(table, "data")) > live
    sweep(table, now - GRACE, data=more)


def sweep(
    table: Table, replaced_before: datetime, *, data: bool = True, buckets: Collection[int] | None = None
) -> int:
    """Deletes files in the table's folder that no snapshot refers to; returns how many.

    Under the table's lock nobody writes, so that what is not referred to is left over from a crash or replaced. A
    replaced data file goes only if that was before `replaced_before` (its time stamp says when, see `_replaced`).
    With `buckets`, data files whose name says another bucket stay: to remove one takes a fifth of a millisecond, and
    after many small appends there are thousands.
    """
    manifests, used = {}, {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.metadata.snapshots:
        used.add(snapshot.manifest_list)
        manifests.update({m.manifest_path: m for m in snapshot.manifests(table.io)})
    used |= manifests.keys()
    removed = 0
    for path in _stored(table, "metadata"):
        if SCHEME + path not in used:
            os.unlink(path)  # noqa: PTH108  # a path object for each of thousands takes as long as the removal
            removed += 1
    if data:
        before = replaced_before.timestamp()
        used = {file.file_path for file in reading.data_files(table.io, manifests.values())}
        for path in _stored(table, "data"):
            if buckets is not None and writing.bucket_named(path) not in {None, *buckets}:
                continue
            if SCHEME + path not in used and os.stat(path).st_mtime <= before:  # noqa: PTH116
                os.unlink(path)  # noqa: PTH108
                removed += 1
    return removed


def _stored(table: Table, folder: str) -> list[str]:
    """Files of the table on disk, as text: thousands of them. Other engines put theirs in folders by bucket."""
    place = to_path(table.location()) / folder
    return [f"{parent}/{name}" for parent, _, names in os.walk(place) for name in names]


def _replaced(files: Iterable[IcebergFile], now: datetime) -> None:
    """Stamps data files with the moment they were replaced, which the sweep reads."""
    for file in files:
        os.utime(to_path(file.file_path), (now.timestamp(), now.timestamp()))


# -- Compaction --------------------------------------------------------------------------------------------------------


def compact(warehouse: Warehouse, name: str, key: str, min_files: int, now: datetime) -> CompactReport:
    """Rewrites the small files of buckets that hold many, sorted by key and time; see `Tables.compact`."""
    table = warehouse.load(name)
    groups = _groups(reading.snapshot_files(table, table.current_snapshot()), min_files)
    after, rows = 0, 0
    batch: list[list[IcebergFile]] = []
    for index, group in enumerate(groups):
        batch.append(group)
        if index + 1 == len(groups) or sum(f.record_count for g in batch for f in g) >= _BATCH_ROWS:
            files, taken = batch, table  # bound now: the lambda outlives this turn of the loop

            def once(files: list[list[IcebergFile]] = files, table: Table = taken) -> list[IcebergFile]:
                return _merge(table, files, key, now)

            merged = retried(once, table.refresh)
            after, rows, batch = after + len(merged), rows + sum(f.record_count for f in merged), []
    buckets = {reading.bucket_in(group[0]) for group in groups}
    return CompactReport(len(buckets), sum(map(len, groups)), after, rows)


def _groups(files: Iterable[IcebergFile], min_files: int) -> list[list[IcebergFile]]:
    """Files to be merged: small ones of one bucket, as many as make a full file; only where there are `min_files`.

    A file much larger than all the smaller ones together is left alone: rewriting a year for the sake of a day would
    cost more with every day.
    """
    by_bucket: dict[int, list[IcebergFile]] = {}
    for file in files:
        if file.record_count < writing.FILE_ROWS // 2:
            by_bucket.setdefault(reading.bucket_in(file), []).append(file)
    groups = []
    for _, found in sorted(by_bucket.items()):
        group: list[IcebergFile] = []
        size = 0
        for file in sorted(found, key=lambda f: (f.record_count, f.file_path)):
            if len(group) >= min_files and file.record_count > _MUCH_LARGER * size:
                break
            if size + file.record_count > writing.FILE_ROWS:
                groups.append(group)
                group, size = [], 0
            group.append(file)
            size += file.record_count
        groups.append(group)
    full = {reading.bucket_in(group[0]) for group in groups if len(group) >= min_files}
    return [group for group in groups if len(group) > 1 and reading.bucket_in(group[0]) in full]


def _merge(table: Table, groups: Sequence[list[IcebergFile]], key: str, now: datetime) -> list[IcebergFile]:
    """One commit that replaces each group by sorted files; returns the new files."""
    order = [c for c in (key, "at", "seq") if c in table.schema().column_names]
    with _writer(table) as writer, ThreadPoolExecutor(writing.workers()) as pool:

        def rewrite(group: list[IcebergFile]) -> list[IcebergFile]:
            rows = reading.collected(reading.frame(table, group), group).sort(order, maintain_order=True)
            return writer.write_bucket(rows, reading.bucket_in(group[0]))

        new = [file for files in pool.map(rewrite, groups) for file in files]
        attempt = writer.attempt = Attempt(table)
        old = [file for group in groups for file in group]
        _stage_swap(attempt, MAIN_BRANCH, old, new)
        _replaced(old, now)  # before the commit: a crash after it would leave files that look replaced long ago
        attempt.commit_transaction()
    return new


def _writer(table: Table) -> writing.Writer:
    return writing.Writer(table.metadata, to_path(table.location()) / "data", None, 0)


class _Swap(_OverwriteFiles):
    """An overwrite that does not open manifests without a file in them, such as a compaction leaves behind."""

    def _build_manifest_evaluator(self, spec_id: int) -> Callable[[ManifestFile], bool]:
        may_match = super()._build_manifest_evaluator(spec_id)
        return lambda manifest: reading.holds_files(manifest) and may_match(manifest)


def _stage_swap(attempt: Attempt, branch: str, old: Iterable[IcebergFile], new: Iterable[IcebergFile]) -> None:
    producer = _Swap(operation=Operation.OVERWRITE, transaction=attempt, io=attempt.io, branch=branch)
    for file in old:
        producer.delete_data_file(file)
    for file in new:
        producer.append_data_file(file)
    producer.commit()


# -- Erasure -----------------------------------------------------------------------------------------------------------


def erase(warehouse: Warehouse, name: str, column: str, values: Sequence[Any], now: datetime) -> EraseReport:
    """Removes rows from the table, from every pin and from the disk; see `Tables.erase`."""
    table = warehouse.load(name)
    wanted = reading.values_of(name, column, polars_schema(arrow_schema(table.schema())), values)
    buckets = None
    if column == table.properties.get("matinee.key") and int(table.properties["matinee.buckets"]):
        buckets = set(bucket_of(wanted, int(table.properties["matinee.buckets"])).tolist())
    counts = retried(lambda: _erase_rows(warehouse.load(name), column, wanted, buckets))
    whenever = now + timedelta(days=36_500)  # replaced a moment ago or left over long since: it goes
    removed = sweep(warehouse.load(name), whenever, buckets=buckets)
    rows = counts.pop(MAIN_BRANCH, 0)
    return EraseReport(rows, counts, removed)


def _erase_rows(table: Table, column: str, wanted: pl.Series, buckets: set[int] | None) -> dict[str, int]:
    """One commit that swaps the touched files in the table and in each pin and expires all else; rows by ref.

    It is one commit so that a crash leaves either everything as it was or only a sweep to do: there is no state in
    which the table has forgotten a person and a pin has not.
    """
    matches = pl.col(column).is_in(wanted.implode()).fill_null(value=False)
    files: dict[int, list[IcebergFile]] = {}  # by snapshot
    for ref in table.metadata.refs.values():
        if ref.snapshot_id not in files:
            snapshot = table.metadata.snapshot_by_id(ref.snapshot_id)
            files[ref.snapshot_id] = reading.snapshot_files(table, snapshot, buckets=buckets)
    every = {file.file_path: file for held in files.values() for file in held}
    hits = _matching(table, every, matches)

    with _writer(table) as writer, ThreadPoolExecutor(writing.workers()) as pool:

        def rewrite(path: str) -> list[IcebergFile]:
            rest = reading.collected(reading.frame(table, [every[path]]).filter(~matches), [every[path]])
            return writer.write_bucket(rest, reading.bucket_in(every[path]))

        new = dict(zip(hits, pool.map(rewrite, hits), strict=True))
        attempt = writer.attempt = Attempt(table)
        counts = _stage_refs(attempt, table, files, hits, new)
        _expire_and_commit(attempt, table)
    return counts


def _matching(table: Table, files: Mapping[str, IcebergFile], matches: pl.Expr) -> dict[str, int]:
    """Rows that match in each file that has any. Row groups whose bounds exclude the values are not decoded."""
    if not files:
        return {}
    where = "path of the file"
    found = reading.frame(table, list(files.values()), path_as=where).filter(matches)
    counted = reading.collected(found.group_by(where).agg(pl.len()).sort(where), list(files.values()))
    return {to_uri(Path(path)): int(rows) for path, rows in counted.iter_rows()}


def _stage_refs(
    attempt: Attempt,
    table: Table,
    files: Mapping[int, list[IcebergFile]],
    hits: Mapping[str, int],
    new: Mapping[str, list[IcebergFile]],
) -> dict[str, int]:
    """Stages the swap for each snapshot that a ref holds, and moves its pins to the result; rows by ref."""
    counts: dict[str, int] = {}
    refs = table.metadata.refs
    noted = {pin.tag: pin for pin in pinning.pins(table)}
    for snapshot in files:
        old = [file for file in files[snapshot] if file.file_path in hits]
        names = sorted(ref for ref, held in refs.items() if held.snapshot_id == snapshot)
        counts |= {ref: sum(hits[file.file_path] for file in old) for ref in names}
        if not old:
            continue
        branch = MAIN_BRANCH if MAIN_BRANCH in names else f"erasing {snapshot}"
        if branch != MAIN_BRANCH:
            ManageSnapshots(attempt).create_branch(snapshot, branch).commit()
        _stage_swap(attempt, branch, old, [file for one in old for file in new[one.file_path]])
        head = attempt.table_metadata.refs[branch].snapshot_id
        for tag in set(names) - {MAIN_BRANCH}:
            pin = noted[tag]
            pinning.stage(attempt, replace(pin, snapshot=head, erased=pin.erased + counts[tag]))
        if branch != MAIN_BRANCH:
            ManageSnapshots(attempt).remove_branch(branch).commit()
    return counts
