"""Files that survive: written whole or not at all, and still there after the machine was killed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from matinee.exceptions import StorageError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: a temporary file, synced, then renamed into place.

    When it returns the file survives a killed machine.

    Args:
        path: The file; its folder is made when absent.
        data: All of it.

    Raises:
        StorageError: If the disk is full; an older file of that name is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes" / "one.txt"
        >>> write_whole(path, b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    # Threads of one process may write the same file at once.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
        sync(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{path.name} could not be written ({error.strerror}); nothing was changed") from error


def sync(path: Path) -> None:
    """Make a file, or what was made, renamed or deleted in a folder, survive a loss of power."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
