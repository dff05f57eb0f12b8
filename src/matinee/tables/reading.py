"""Which files a snapshot holds, and a lazy frame over them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile as IcebergFile
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from matinee.exceptions import MatineeError, StorageError, UnknownColumnError, UnknownNameError
from matinee.tables.hashing import bucket_of
from matinee.tables.local_io import to_path
from matinee.tables.reports import DataFile
from matinee.tables.schemas import arrow_schema, polars_schema
from matinee.times import to_us

_FIELD_ID = b"PARQUET:field_id"


def snapshot_of(table: Table, name: str, snapshot: int | str | None) -> Snapshot | None:
    """The snapshot of that id or pin; the newest for None; None where nothing was appended yet."""
    if snapshot is None:
        return table.current_snapshot()
    if isinstance(snapshot, str):
        refs = table.metadata.refs
        tags = [tag for tag, ref in refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG]
        if snapshot not in tags:
            raise UnknownNameError(f"pin of {name}", snapshot, tags)
        snapshot = refs[snapshot].snapshot_id
    found = table.metadata.snapshot_by_id(snapshot)
    if found is None:
        raise MatineeError(
            f"snapshot == {snapshot}, must be one that table {name!r} still holds: it has expired, or was rewritten by "
            "an erasure; pin what must stay, and name the pin"
        )
    return found


def data_files(io: FileIO, manifests: Iterable[ManifestFile]) -> list[IcebergFile]:
    """The files that the manifests hold. One that only records removals, as a compaction leaves, is not opened."""
    return [
        entry.data_file
        for manifest in manifests
        if manifest.content == ManifestContent.DATA and holds_files(manifest)
        for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
    ]


def holds_files(manifest: ManifestFile) -> bool:
    """Whether the manifest does more than record removals."""
    return manifest.has_added_files() or manifest.has_existing_files()


def snapshot_files(
    table: Table,
    snapshot: Snapshot | None,
    *,
    buckets: Collection[int] | None = None,
    known_before: datetime | None = None,
) -> list[IcebergFile]:
    """The snapshot's data files, without those that cannot hold a row of the buckets or one known by that time."""
    if snapshot is None:
        return []
    files = data_files(table.io, snapshot.manifests(table.io))
    if buckets is not None:
        files = [f for f in files if bucket_in(f) in buckets]
    if known_before is not None:
        field = table.schema().find_field("known").field_id
        limit = to_us(known_before)
        # An absent bound says nothing about the file: it is read.
        bounds = [(f, (f.lower_bounds or {}).get(field)) for f in files]
        files = [f for f, low in bounds if low is None or int.from_bytes(low, "little", signed=True) <= limit]
    return files


def bucket_in(file: IcebergFile) -> int:
    """The bucket of a file: -1 where the key is null, -2 in a table without buckets."""
    if len(file.partition) == 0:
        return -2
    bucket = file.partition[0]
    return -1 if bucket is None else int(bucket)


def frame(table: Table, files: Sequence[IcebergFile], *, path_as: str | None = None) -> pl.LazyFrame:
    """All columns of the files, under the table's present names, in its order; columns added later are null.

    `path_as` names one more column, with the path of the file that the row is in.
    """
    schema = polars_schema(arrow_schema(table.schema()))
    if not files:
        return pl.LazyFrame(schema=schema)
    groups: dict[tuple[str, ...], list[str]] = {}
    for file, names in zip(files, _names_in(table, files), strict=True):
        groups.setdefault(names, []).append(str(to_path(file.file_path)))
    parts = []
    for names, paths in groups.items():
        stored = dict(zip(names, schema.values(), strict=True))
        part = pl.scan_parquet(
            paths,
            schema=stored,
            missing_columns="insert",
            glob=False,
            hive_partitioning=False,
            cache=False,
            include_file_paths=path_as,
        )
        parts.append(part.rename({old: new for old, new in zip(names, schema, strict=True) if old != new}))
    return pl.concat(parts) if len(parts) > 1 else parts[0]


def collected(rows: pl.LazyFrame, files: Sequence[IcebergFile]) -> pl.DataFrame:
    """The rows, or an error that names the file that is damaged or gone."""
    try:
        return rows.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StorageError(
            f"{_damaged(files)} cannot be read ({str(error).splitlines()[0]}), must be as it was written: restore it "
            "from a backup"
        ) from error


def _damaged(files: Sequence[IcebergFile]) -> Path:
    """The first file that is not as long as the table says or has no readable footer; else the first."""
    for file in files:
        path = to_path(file.file_path)
        try:
            if path.stat().st_size != file.file_size_in_bytes:
                return path
            pq.read_metadata(path)
        except (OSError, pa.ArrowInvalid):
            return path
    return to_path(files[0].file_path)


def _names_in(table: Table, files: Sequence[IcebergFile]) -> list[tuple[str, ...]]:
    """The name that each present column has in each file. Files are opened only if a column was ever renamed."""
    fields = table.schema().fields
    ever = {(f.field_id, f.name) for schema in table.metadata.schemas for f in schema.fields}
    present = tuple(f.name for f in fields)
    if len(ever) == len({field_id for field_id, _ in ever}):
        return [present] * len(files)
    out = []
    for file in files:
        inside = pq.read_schema(to_path(file.file_path))
        named = {int(f.metadata[_FIELD_ID]): f.name for f in inside if f.metadata and _FIELD_ID in f.metadata}
        # A column that the file lacks must not be taken from another one that once had its present name.
        out.append(tuple(named.get(f.field_id, f"{f.name} (not in this file)") for f in fields))
    return out


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a scan asks for; see `Tables.scan`."""

    columns: Sequence[str] | None
    keys: Sequence[Any] | None
    known_before: datetime | None
    snapshot: int | str | None
    buckets: Sequence[int] | None


def selected(table: Table, name: str, request: Request) -> pl.LazyFrame:
    """The rows asked for, reading no file that cannot hold one."""
    key, buckets = table.properties["matinee.key"], int(table.properties["matinee.buckets"])
    schema = polars_schema(arrow_schema(table.schema()))
    known = request.known_before
    for column in [*(request.columns or ()), *(["known"] if known is not None else [])]:
        if column not in schema:
            raise UnknownColumnError(name, column, schema)
    wanted = None if request.keys is None else values_of(name, key, schema, request.keys)
    allowed = None if request.buckets is None else set(request.buckets)
    if wanted is not None and buckets:
        hit = set(bucket_of(wanted, buckets).tolist())
        allowed = hit if allowed is None else allowed & hit
    snapshot = snapshot_of(table, name, request.snapshot)
    rows = frame(table, snapshot_files(table, snapshot, buckets=allowed, known_before=known))
    if wanted is not None:
        rows = rows.filter(pl.col(key).is_in(wanted.implode(), nulls_equal=True))
    if known is not None:
        rows = rows.filter(pl.col("known") <= known)
    return rows if request.columns is None else rows.select(request.columns)


def values_of(name: str, column: str, schema: dict[str, pl.DataType], values: Sequence[Any]) -> pl.Series:
    """The values as the column holds them, or an error that names the column."""
    if column not in schema:
        raise UnknownColumnError(name, column, schema)
    try:
        return pl.Series(column, values, dtype=schema[column], strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        raise MatineeError(f"values of {name}.{column} == {values!r:.80}, must be {schema[column]}") from None


def described(table: Table, name: str, snapshot: int | str | None) -> list[DataFile]:
    """The snapshot's files, by bucket and path."""
    return sorted(
        (
            DataFile(
                str(to_path(file.file_path)),
                None if len(file.partition) == 0 else bucket_in(file),
                file.record_count,
                file.file_size_in_bytes,
            )
            for file in snapshot_files(table, snapshot_of(table, name, snapshot))
        ),
        key=lambda file: (file.bucket is not None, file.bucket, file.path),
    )


def row_count(table: Table, name: str, snapshot: int | str | None) -> int:
    """Rows of the snapshot, as its summary says."""
    found = snapshot_of(table, name, snapshot)
    return 0 if found is None else summed(found, "total-records")


def summed(snapshot: Snapshot, count: str) -> int:
    """A count from a snapshot's summary."""
    return int((snapshot.summary and snapshot.summary[count]) or 0)
