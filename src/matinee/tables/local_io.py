"""Local files for pyiceberg, each on disk before the catalog can refer to it.

pyiceberg's own file layer leaves metadata in the operating system's cache: after a loss of power the catalog, which
SQLite does force to disk, would point to a file of zeros and the whole table would be unreadable.
"""

from __future__ import annotations

import os
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

from pyiceberg.io import FileIO as IcebergIO
from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream

SCHEME = "file://"


def to_uri(path: Path) -> str:
    """The absolute location of a file as tables store it. Not percent-encoded: no engine decodes these."""
    return SCHEME + str(path.absolute())


def to_path(uri: str) -> Path:
    """The file at a stored location."""
    return Path(uri.removeprefix(SCHEME))


class _SyncedWriter(BufferedWriter):
    """A file that is on disk when it is closed."""

    def close(self) -> None:
        if not self.closed:
            self.flush()
            os.fsync(self.fileno())
        super().close()


class _LocalFile(InputFile, OutputFile):
    def __len__(self) -> int:
        return to_path(self.location).stat().st_size

    def exists(self) -> bool:
        return to_path(self.location).exists()

    def open(self, seekable: bool = True) -> InputStream:
        stream: Any = to_path(self.location).open("rb")
        return stream  # type: ignore[no-any-return]  # a Python file has every method of the protocol

    def to_input_file(self) -> InputFile:
        return self

    def create(self, overwrite: bool = False) -> OutputStream:
        path = to_path(self.location)
        try:
            raw = FileIO(path, "w" if overwrite else "x")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = FileIO(path, "w" if overwrite else "x")
        stream: Any = _SyncedWriter(raw)
        return stream  # type: ignore[no-any-return]  # a Python file has every method of the protocol


class LocalIO(IcebergIO):
    """What the catalog is told to use, as `py-io-impl`."""

    def new_input(self, location: str) -> InputFile:
        return _LocalFile(location)

    def new_output(self, location: str) -> OutputFile:
        return _LocalFile(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        to_path(location if isinstance(location, str) else location.location).unlink()
