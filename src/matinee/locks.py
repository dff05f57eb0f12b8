"""A lock between processes that a crashed process lets go of by itself."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from matinee.exceptions import TableBusyError


@contextmanager
def exclusive(path: Path, what: str, *, timeout: float = 30.0) -> Iterator[None]:
    """Holds the lock file `path` alone, among threads and processes, until the block ends or the process dies.

    SQLite's file lock is used because it is the one lock that every platform has, that excludes threads of one
    process from each other, and that the operating system takes back from a process that was killed. The file stays
    empty; beside it, `NAME.holder` says which process holds it, for the error message alone.

    Args:
        path: The lock file; its folder is made when absent.
        what: What is locked, in the user's words, such as "table 'played'".
        timeout: Seconds to wait for another holder.

    Raises:
        TableBusyError: If another process or thread held it all that time.

    Example:
        >>> import tempfile
        >>> with exclusive(Path(tempfile.mkdtemp()) / "played.lock", "table 'played'"):
        ...     print("alone")
        alone
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".holder")
    with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise TableBusyError(
                f"{what} was held by {_holder(holder)} for {timeout:g} s, must be free: wait until that append, "
                "compaction or erasure ends and repeat (nothing was written); a process that crashed lets go by itself"
            ) from None
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            connection.execute("ROLLBACK")


def _holder(path: Path) -> str:
    """Who wrote its number last: the present holder, as the lock is taken before the number is written."""
    try:
        number = path.read_text()
    except FileNotFoundError:
        return "another process"
    return "another thread of this process" if number == str(os.getpid()) else f"process {number}"
