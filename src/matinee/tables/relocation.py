"""A root folder that was moved or copied: noticing it, and adopting its new place.

Catalog, metadata and manifests hold absolute locations: through a copied folder the original would be read, and
written.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.exceptions import StorageError, TableBusyError
from matinee.locks import exclusive

if TYPE_CHECKING:
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

_ROOT = "WHERE namespace = 'matinee' AND property_key = 'root'"


def recorded_root(database: Path, *, timeout: float = 30.0) -> Path | None:
    """The folder in which a catalog file was made, read without loading the table library."""
    if not database.exists():
        return None
    # Not read-only: a process that was killed in the middle of a commit left a journal, which whoever reads rolls back.
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout)) as connection:
        try:
            row = connection.execute(f"SELECT property_value FROM iceberg_namespace_properties {_ROOT}").fetchone()
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):  # another process is making it at this moment
                return None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise TableBusyError(
                    f"the catalog {database} was locked for {timeout:g} s, must be free: close the program that keeps "
                    "it open and repeat"
                ) from None
            raise StorageError(f"{database}: {error}, must be the catalog of a studio") from None
    return None if row is None else Path(row[0])


def relocate(root: Path) -> list[str]:
    """See `Tables.relocate`. The catalog is switched over in one transaction, after all new metadata is on disk."""
    database = root / "tables.db"
    old = recorded_root(database)
    if old is None:
        raise StorageError(f"root == '{root}', must be the folder of a studio: it has no catalog of tables")
    with ExitStack() as held:
        connection = held.enter_context(closing(sqlite3.connect(database, timeout=30.0)))
        rows = connection.execute(
            "SELECT table_name, metadata_location FROM iceberg_tables ORDER BY table_name"
        ).fetchall()
        moved = {}
        for name, location in rows:
            held.enter_context(exclusive(root / "locks" / f"{name}.lock", f"table {name!r}"))
            moved[name] = _Relocation(f"file://{old}/", f"file://{root}/").table(location)
        with connection:
            for name, location in moved.items():
                connection.execute(
                    "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = NULL "
                    "WHERE table_name = ?",
                    (location, name),
                )
            connection.execute(f"UPDATE iceberg_namespace_properties SET property_value = ? {_ROOT}", (str(root),))
    return list(moved)


class _Relocation:
    """Rewrites one table's metadata from one prefix of its locations to another, as new files beside the old ones."""

    def __init__(self, old: str, new: str) -> None:
        from matinee.tables.local_io import LocalIO

        self._old, self._new = old, new
        self._io = LocalIO()
        self._manifests: dict[str, ManifestFile] = {}  # by old location: snapshots share manifests

    def _moved(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._new + value.removeprefix(self._old) if value.startswith(self._old) else value
        if isinstance(value, dict):
            return {k: self._moved(v) for k, v in value.items()}
        return [self._moved(v) for v in value] if isinstance(value, list) else value

    def table(self, location: str) -> str:
        """The location of the rewritten metadata."""
        from pyiceberg.table.metadata import TableMetadataUtil

        place = self._moved(location)
        try:
            with self._io.new_input(place).open() as file:
                stored = self._moved(json.loads(file.read()))
        except FileNotFoundError as error:
            raise StorageError(f"{error.filename} is gone, must be there: move or copy the folder whole") from None
        metadata = TableMetadataUtil.parse_raw(json.dumps(stored))
        lists = {snapshot.snapshot_id: self._manifest_list(metadata, snapshot) for snapshot in metadata.snapshots}
        for snapshot in stored.get("snapshots", []):
            snapshot["manifest-list"] = lists[snapshot["snapshot-id"]]
        stored["metadata-log"] = []  # the versions before hold the old place
        place = place.rpartition("/")[0]
        version = f"{place}/{location.rpartition('/')[2].partition('-')[0]}-{uuid.uuid4()}.metadata.json"
        with self._io.new_output(version).create() as out:
            out.write(json.dumps(stored).encode())
        return version

    def _manifest_list(self, metadata: TableMetadata, snapshot: Snapshot) -> str:
        from pyiceberg.manifest import write_manifest_list

        location = f"{snapshot.manifest_list.rpartition('/')[0]}/snap-{snapshot.snapshot_id}-{uuid.uuid4()}.avro"
        manifests = [self._manifest(metadata, manifest) for manifest in snapshot.manifests(self._io)]
        with write_manifest_list(
            format_version=metadata.format_version,
            output_file=self._io.new_output(location),
            snapshot_id=snapshot.snapshot_id,
            parent_snapshot_id=snapshot.parent_snapshot_id,
            sequence_number=snapshot.sequence_number,
            avro_compression="deflate",
        ) as writer:
            writer.add_manifests(manifests)
        return location

    def _manifest(self, metadata: TableMetadata, manifest: ManifestFile) -> ManifestFile:
        from pyiceberg.manifest import write_manifest

        old = manifest.manifest_path
        if old not in self._manifests:
            manifest[0] = self._moved(old)  # its path; records are written to by position
            with write_manifest(
                format_version=metadata.format_version,
                spec=metadata.specs()[manifest.partition_spec_id],
                schema=metadata.schema(),
                output_file=self._io.new_output(f"{manifest.manifest_path.rpartition('/')[0]}/{uuid.uuid4()}-m0.avro"),
                snapshot_id=manifest.added_snapshot_id or 0,
                avro_compression="deflate",
            ) as writer:
                for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=False):
                    entry.data_file[1] = self._moved(entry.data_file.file_path)
                    writer.add_entry(entry)
            rewritten = writer.to_manifest_file()
            rewritten.sequence_number = manifest.sequence_number
            rewritten.min_sequence_number = manifest.min_sequence_number
            self._manifests[old] = rewritten
        return self._manifests[old]
