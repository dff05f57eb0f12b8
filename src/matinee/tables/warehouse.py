"""Where a studio's tables are: the catalog, one lock a table, and errors in the user's words."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from pyiceberg.io import FileIO
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, TableUpdate
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from matinee.exceptions import MatineeError, StorageError, TableBusyError, UnknownNameError
from matinee.locks import exclusive
from matinee.tables.local_io import to_uri

T = TypeVar("T")
NAMESPACE = "matinee"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TRIES = 5

# Commit time grows with the number of snapshots and of metadata files: both are kept small. A merge of manifests
# rewrites its entries, 16 for each small append, at a third of a millisecond each: rather more manifests and no large
# ones. Nothing of a column enters the metadata, times excepted: bounds are values of people, and would outlive them.
SETTINGS = {
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "5",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "30",
    "commit.manifest.target-size-bytes": str(1 << 16),
    "write.metadata.metrics.default": "none",
    "write.metadata.metrics.column.at": "full",
    "write.metadata.metrics.column.known": "full",
}


class Attempt(Transaction):
    """A transaction that is tried once.

    pyiceberg's own retry re-adds snapshots but forgets tags and branches staged with them, and would commit half of
    an erasure. A conflict here starts the whole operation again instead.

    It also keeps the metadata as staged so far: pyiceberg copies all of it at each of some twenty looks a commit, which
    takes more time than the commit. And it holds from the start that nobody else moved the newest snapshot: a change
    of pins alone would not ask, and fail on the numbering of snapshots instead.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._snapshots: set[int] = set()
        newest = {"ref": MAIN_BRANCH, "snapshot-id": table.metadata.current_snapshot_id}
        self._requirements = (AssertRefSnapshotId.model_validate(newest),)

    _staged: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    def landed(self) -> bool:
        """Whether the commit is in the catalog after all, when an error left that open (True when that is unknown)."""
        if not self._snapshots:
            return False
        try:
            self._table.refresh()
        except (OSError, DatabaseError):
            return True
        return any(snapshot.snapshot_id in self._snapshots for snapshot in self._table.metadata.snapshots)

    @property
    def io(self) -> FileIO:
        """The table's files."""
        return self._table.io

    def commit_transaction(self) -> Table:
        self._snapshots = {u.snapshot.snapshot_id for u in self._updates if isinstance(u, AddSnapshotUpdate)}
        return super().commit_transaction()

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._staged is None or self._staged[0] is not base or self._staged[1] is not updates:
            self._staged = (base, updates, super().table_metadata)
        return self._staged[2]

    def _rebuild_snapshot_updates(self) -> None:
        raise CommitFailedException("the table was changed by another writer")


class Warehouse:
    """The catalog of one root folder. Safe for threads, and for a process that forks."""

    def __init__(self, root: Path, catalog: str | None, lock_timeout: float) -> None:
        self.root, self.lock_timeout = root, lock_timeout
        self._uri = catalog
        self._opened: tuple[int, SqlCatalog] | None = None

    @property
    def catalog(self) -> SqlCatalog:
        """The catalog; opened anew in a forked child, as a database connection does not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            uri = self._uri
            if uri is None:
                self.root.mkdir(parents=True, exist_ok=True)
                place = {"timeout": str(self.lock_timeout)}
                uri = URL.create("sqlite", database=str(self.root / "tables.db"), query=place).render_as_string()
            with exclusive(self.root / "locks" / "catalog.lock", "the catalog", timeout=self.lock_timeout):
                properties = {"uri": uri, "warehouse": to_uri(self.root / "tables")}
                properties["py-io-impl"] = "matinee.tables.local_io.LocalIO"
                catalog = SqlCatalog(NAMESPACE, **properties)
                if not catalog.namespace_exists(NAMESPACE):
                    catalog.create_namespace(NAMESPACE, {"root": str(self.root)})
            self._opened = (os.getpid(), catalog)
        return self._opened[1]

    def names(self) -> list[str]:
        """Names of the tables, in order."""
        return sorted(name for _, name in self.catalog.list_tables(NAMESPACE))

    def load(self, name: str) -> Table:
        """The table as it is now."""
        try:
            return self.catalog.load_table((NAMESPACE, name))
        except NoSuchTableError:
            raise UnknownNameError("table", name, self.names()) from None

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by whoever writes the table: append, compaction, erasure and upkeep are one writer."""
        return exclusive(self.root / "locks" / f"{name}.lock", f"table {name!r}", timeout=self.lock_timeout)

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """The lock, with what goes wrong inside it said in the user's words."""
        with self.speaking(f"table {name!r}"), self.lock(name):
            yield

    def read(self, name: str, operation: Callable[[Table], T]) -> T:
        """The result of an operation that takes no lock: what it finds gone was expired meanwhile, so it looks again."""
        with self.speaking(f"table {name!r}"):
            for _ in range(_TRIES - 1):
                with suppress(FileNotFoundError):
                    return operation(self.load(name))
            return operation(self.load(name))

    def change(self, name: str, operation: Callable[[Table], T]) -> T:
        """The result of an operation that ends in a commit: alone, and once more where another engine was first."""
        with self.writing(name):
            return retried(lambda: operation(self.load(name)))

    @contextmanager
    def speaking(self, what: str) -> Iterator[None]:
        """Turns errors of disks, databases and commits into ours; what was not acknowledged was not done."""
        try:
            yield
        except MatineeError:
            raise
        except OSError as error:
            raise self._storage_error(what, error, error.errno in _FULL) from error
        except (OperationalError, sqlite3.OperationalError) as error:
            code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise TableBusyError(
                    f"{what}: the catalog {self._uri or self.root / 'tables.db'} was locked for "
                    f"{self.lock_timeout:g} s, must be free: close the program that keeps it open and repeat "
                    "(nothing was written)"
                ) from error
            raise self._storage_error(what, error, code == sqlite3.SQLITE_FULL) from error
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise self._storage_error(what, error, full=False) from error
        except (CommitFailedException, ValidationException) as error:
            raise TableBusyError(
                f"{what} was changed by another engine in each of {_TRIES} tries, must be left alone meanwhile: stop "
                "the other writer and repeat (nothing was written)"
            ) from error

    def _storage_error(self, what: str, error: Exception, full: bool) -> StorageError:
        if full:
            return StorageError(
                f"{what}: the disk of {self.root} is full, must have room: nothing of this write was acknowledged and "
                "what was there before is intact; free some space and repeat"
            )
        if isinstance(error, FileNotFoundError):
            return StorageError(
                f"{what}: {error.filename} is gone, must be there: something other than Matinee removed it; restore it "
                "from a backup of the whole folder"
            )
        return StorageError(
            f"{what}: {self.root} cannot be read or written ({error}), must be a healthy, writable folder"
        )


def retried(operation: Callable[[], T], refresh: Callable[[], object] = lambda: None) -> T:
    """The result of an operation that ends in a commit, started again when another engine commits first.

    Who calls it holds a table as it is under the lock, and says how to `refresh` it before another try: each look at
    the catalog costs as much as two small files.
    """
    for left in reversed(range(_TRIES)):
        try:
            return operation()
        except (CommitFailedException, ValidationException):
            if not left:
                raise
            refresh()
    raise AssertionError("unreachable")
