"""Tables of facts: one atomic commit an append, pinned snapshots, compaction, erasure of bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.checks import must
from matinee.exceptions import DeclarationError, MatineeError, StorageError, UnknownColumnError
from matinee.tables.hashing import BUCKETS, bucket_of
from matinee.tables.reports import CompactReport, DataFile, EraseReport, Pin, Snapshot
from matinee.tables.schemas import SEQ, arrow_schema, checked, fitted
from matinee.times import utc_now

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
    import pyarrow as pa
    from pyiceberg.table import Table

    from matinee.tables.warehouse import Warehouse

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}")
_NEXT_SEQ = "matinee.next-seq"
# Properties that are the table's own; marks of callers ("matinee.sealed.", "matinee.file.") are beside them.
_RESERVED = ("matinee.key", "matinee.buckets", "matinee.personal", "matinee.pin.", "matinee.next-seq")


class Tables:
    """The tables of one root folder: `root/tables.db` is the catalog, `root/tables/NAME` holds a table's files.

    Tables are Apache Iceberg (format 2), bucketed by key, and readable by any engine that reads Iceberg. All writers of
    a table, in threads and processes, take turns through a lock that a crashed process lets go of by itself. What a
    method returned from is on disk; what it raised for was not done.

    Args:
        root: The folder; made when absent.
        catalog: SQLAlchemy address of a catalog elsewhere, such as `postgresql+psycopg://...`; None: SQLite, in the
            folder.
        lock_timeout: Seconds to wait for another writer before `TableBusyError`.
        clock: Says what time it is, for the age of pins.

    Raises:
        StorageError: If the folder was moved or copied since the tables were made: they hold absolute paths. The
            message says how to go on (`matinee relocate`).

    Example:
        >>> import tempfile, polars as pl, pyarrow as pa
        >>> tables = Tables(Path(tempfile.mkdtemp()))
        >>> tables.create("played", pa.schema([("member", pa.int64()), ("seconds", pa.float64())]), key="member")
        >>> tables.append("played", pl.DataFrame({"member": [42, 7], "seconds": [1800.0, 60.0]})).rows
        2
        >>> tables.scan("played", keys=[42]).collect().rows()
        [(42, 1800.0)]
        >>> tables.erase("played", "member", [42]).rows, tables.rows("played")
        (1, 1)
    """

    def __init__(
        self,
        root: Path,
        *,
        catalog: str | None = None,
        lock_timeout: float = 30.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.root = Path(root).absolute()
        self._catalog_uri = catalog
        self._lock_timeout = must(lock_timeout, "lock_timeout", ge=0)
        self._clock = clock
        self._opened: Warehouse | None = None
        if catalog is None:
            from matinee.tables.relocation import recorded_root

            made_in = recorded_root(self.root / "tables.db", timeout=lock_timeout)
            if made_in is not None and not (made_in.exists() and made_in.samefile(self.root)):
                raise StorageError(
                    f"root == '{self.root}', must be '{made_in}', where its tables were made (paths are absolute): "
                    f"move the folder back, or adopt its new place with `matinee relocate --studio '{self.root}'`"
                )

    # -- Tables and their schemas -------------------------------------------------------------------------------------

    @property
    def _warehouse(self) -> Warehouse:
        if self._opened is None:
            from matinee.tables.warehouse import Warehouse

            self._opened = Warehouse(self.root, self._catalog_uri, self._lock_timeout)
        return self._opened

    def _load(self, name: str) -> Table:
        return self._warehouse.read(name, lambda table: table)

    def names(self) -> list[str]:
        """Names of the tables, in order."""
        with self._warehouse.speaking("the catalog"):
            return self._warehouse.names()

    def exists(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return name in self.names()

    def create(
        self, name: str, schema: pa.Schema, *, key: str, personal: Sequence[str] = (), buckets: int = BUCKETS
    ) -> None:
        """Makes the table, or fits the one that is there to the schema: new nullable columns are added in their place.

        Args:
            name: Letters, digits and underscores.
            schema: Columns of int64, float64, string, bool, timestamp (us, UTC), date, binary, and lists of
                int64, float64 and string.
            key: The column by which rows are bucketed and found; int64 or string.
            personal: Columns whose values must never enter metadata. (No column's do; these say so to other engines.)
            buckets: Number of buckets; 0 for small tables that are read whole.

        Raises:
            DeclarationError: A type that does not survive storage, or a change that rows already there cannot follow.
        """
        if not _NAME.fullmatch(name):
            raise DeclarationError(f"table name == {name!r}, must be letters, digits and underscores, at most 120")
        must(buckets, "buckets", ge=0, le=1024)
        schema = checked(name, schema, key)
        for column in personal:
            if column not in schema.names:
                raise UnknownColumnError(name, column, schema.names)
        from matinee.tables import declaring
        from matinee.tables.warehouse import retried

        with self._warehouse.writing(name):
            retried(lambda: declaring.create(self._warehouse, name, schema, key, personal, buckets))

    def rename_column(self, name: str, old: str, new: str) -> None:
        """Gives a column another name, without touching a file; rows written before are found under the new one.

        Does nothing when it has been done already.
        """
        from matinee.tables import declaring

        self._warehouse.change(name, lambda table: declaring.rename_column(table, name, old, new))

    def schema(self, name: str) -> pa.Schema:
        """The table's columns, in order."""
        return arrow_schema(self._load(name).schema())

    def properties(self, name: str) -> dict[str, str]:
        """The marks set by appends, and the table's settings."""
        return dict(self._load(name).properties)

    # -- Writing ------------------------------------------------------------------------------------------------------

    def append(
        self,
        name: str,
        data: pa.Table | pl.DataFrame,
        *,
        mark: Mapping[str, str] | None = None,
        if_absent: Mapping[str, str] | None = None,
    ) -> Snapshot:
        """Adds rows, all or none.

        A column `seq` that the data lacks is numbered on from the last append, whichever process made it.

        Args:
            name: The table.
            data: Its columns, in any order; absent nullable columns are null. Row order is kept within a bucket.
            mark: Properties set in the same commit, such as "sealed up to here": true exactly when the rows are in.
            if_absent: Properties that say that these rows are in already. When the table has all of them, with these
                values, nothing is written; else they are set in the same commit. A repeated append is then harmless.

        Raises:
            MatineeError: A column is unknown, missing, of another type, or null where it must not be.
            TableBusyError: Another writer held the table for longer than `lock_timeout`. Nothing was written.
            StorageError: The disk is full or broken. Nothing was acknowledged.
        """
        from matinee.tables import appending

        marks = {**(mark or {}), **(if_absent or {})}
        for own in marks:
            if own.startswith(_RESERVED):
                raise MatineeError(
                    f"mark == {own!r}, must not begin with {' or '.join(_RESERVED)}: those are the table's own"
                )
        with self._warehouse.writing(name):
            table = self._warehouse.load(name)
            if if_absent and all(table.properties.get(k) == v for k, v in if_absent.items()):
                return Snapshot(table.metadata.current_snapshot_id, 0, appended=False)
            schema = arrow_schema(table.schema())
            frame = fitted(name, data, schema)
            if SEQ in schema.names:
                frame, following = appending.numbered(frame, int(table.properties.get(_NEXT_SEQ, "0")))
                if not frame.is_empty():
                    marks[_NEXT_SEQ] = str(following)
            return appending.append(table, frame.select(schema.names), marks, self._clock())

    def compact(self, name: str, *, min_files: int = 8) -> CompactReport:
        """Rewrites the small files of each bucket that holds at least `min_files`, sorted by key and time.

        The rows stay the same. Pinned snapshots keep the files they saw.
        """
        from matinee.tables import upkeep

        must(min_files, "min_files", ge=2)
        with self._warehouse.writing(name):
            key = self._warehouse.load(name).properties["matinee.key"]
            return upkeep.compact(self._warehouse, name, key, min_files, self._clock())

    def erase(self, name: str, column: str, values: Sequence[Any]) -> EraseReport:
        """Removes the rows whose column has one of the values: from the table, from every pin, and from the disk.

        One commit swaps the files in the table and in each pin and forgets all other snapshots; then every file that is
        no longer referred to is deleted. Scans planned before fail. If it is interrupted, repeat it: the result is the
        same. Rows whose column is null are kept.

        Returns:
            Rows removed, also where nothing matched (0), and rows that each pinned snapshot lost.
        """
        from matinee.tables import upkeep

        with self._warehouse.writing(name):
            return upkeep.erase(self._warehouse, name, column, values, self._clock())

    def expire(self, name: str, *, grace: timedelta = timedelta(hours=1)) -> int:
        """Drops pins past their age, then every snapshot that is neither the newest nor pinned, and frees the disk.

        Appends do this by themselves every twenty commits.

        Args:
            name: The table.
            grace: Data files replaced more recently stay on disk for scans that were planned on them.

        Returns:
            Number of snapshots dropped.
        """
        from matinee.tables import upkeep

        def expire_and_sweep(table: Table) -> int:
            dropped = upkeep.expire(table, now)
            upkeep.sweep(table, now - grace)
            return dropped

        now = self._clock()
        return self._warehouse.change(name, expire_and_sweep)

    def sweep(self, name: str, *, grace: timedelta = timedelta(hours=1)) -> int:
        """Deletes files that no snapshot refers to: what a crash left over, what was replaced; returns how many."""
        from matinee.tables import upkeep

        return self._warehouse.change(name, lambda table: upkeep.sweep(table, self._clock() - grace))

    # -- Reading ------------------------------------------------------------------------------------------------------

    def scan(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        keys: Sequence[Any] | None = None,
        known_before: datetime | None = None,
        snapshot: int | str | None = None,
        buckets: Sequence[int] | None = None,
    ) -> pl.LazyFrame:
        """The table as a lazy frame. It reads the files of now: later appends are not in it. Row order is not defined.

        Args:
            name: The table.
            columns: These columns, in this order; all, in the table's order, when None.
            keys: Only rows with these keys; other buckets are not read.
            known_before: Only rows with `known <= known_before` (a time with its zone).
            snapshot: A snapshot's id, or the name of a pin; the newest when None.
            buckets: Only these buckets (-1: rows whose key is null).
        """
        from matinee.tables import reading
        from matinee.times import instant

        known = None if known_before is None else instant(known_before, "known_before")
        request = reading.Request(columns=columns, keys=keys, known_before=known, snapshot=snapshot, buckets=buckets)
        return self._warehouse.read(name, lambda table: reading.selected(table, name, request))

    def files(self, name: str, *, snapshot: int | str | None = None) -> list[DataFile]:
        """The Parquet files of a snapshot, by bucket."""
        from matinee.tables import reading

        return self._warehouse.read(name, lambda table: reading.described(table, name, snapshot))

    def bucket_of(
        self, key_values: npt.NDArray[Any] | pl.Series | Sequence[Any], buckets: int = BUCKETS
    ) -> npt.NDArray[np.int32]:
        """The bucket of each key value: `bucket_of([7, 8])` is `[3, 15]`."""
        return bucket_of(key_values, buckets)

    def snapshot(self, name: str) -> int | None:
        """The id of the newest snapshot; None where nothing was appended yet."""
        return self._load(name).metadata.current_snapshot_id

    def rows(self, name: str, snapshot: int | str | None = None) -> int:
        """Number of rows of a snapshot, from metadata."""
        from matinee.tables import reading

        return self._warehouse.read(name, lambda table: reading.row_count(table, name, snapshot))

    # -- Pins ---------------------------------------------------------------------------------------------------------

    def pin(self, name: str, tag: str, *, max_age: timedelta, snapshot: int | None = None) -> int:
        """Keeps a snapshot, the newest unless given, until it is unpinned or the pin is `max_age` old.

        Pinning the same snapshot under the same tag again starts its age anew.

        Returns:
            The snapshot's id. An erasure moves the pin to another snapshot: scan by tag, not by id.
        """
        from matinee.tables import pinning

        if max_age <= timedelta(0):
            raise MatineeError(f"max_age == {max_age}, must be > 0")
        now = self._clock()
        return self._warehouse.change(name, lambda table: pinning.pin(table, name, tag, snapshot, max_age, now))

    def unpin(self, name: str, tag: str) -> None:
        """Lets a pinned snapshot expire."""
        from matinee.tables import pinning

        self._warehouse.change(name, lambda table: pinning.unpin(table, name, tag))

    def pins(self, name: str) -> list[Pin]:
        """The pins of the table, oldest first."""
        from matinee.tables import pinning

        return pinning.pins(self._load(name))

    # -- A moved folder -----------------------------------------------------------------------------------------------

    @staticmethod
    def relocate(root: Path | str) -> list[str]:
        """Adopts the new place of a root folder that was moved or copied; returns the names of its tables.

        Only metadata is rewritten: snapshots, pins and rows stay what they were. If it is interrupted, repeat it.
        Nothing else may have the folder open meanwhile.
        """
        from matinee.tables import relocation

        return relocation.relocate(Path(root).absolute())
