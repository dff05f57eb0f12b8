"""Files of a published set: in a folder or a .zip, compressed or not, read in blocks that fit in memory.

Everything below a loader is UTF-8 text in whole lines: a line that is no UTF-8 is read as latin-1, which the older sets
are written in. A line that cannot be read is told to `hold`, by its number; the lines around it go on.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeVar

import matinee as mt

if TYPE_CHECKING:
    import msgspec
    import polars as pl

    T = TypeVar("T", bound=msgspec.Struct)

BLOCK = 1 << 25  # bytes of text parsed at once
DEPTH = 3  # folders below the one that was named
Hold = Callable[[type[mt.Fact], str, int, str], None]  # a line that cannot be read: fact, file, line number, reason

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DAMAGED = (EOFError, zipfile.BadZipFile, lzma.LZMAError, gzip.BadGzipFile, zlib.error)
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Entry:
    """One file of a set.

    Attributes:
        name: Its path below what the user named, without the ending of its compression.
        path: The file on disk that holds it.
        inside: Its name in the .zip at `path`; None where it is no archive.
    """

    name: str
    path: Path
    inside: str | None = None

    @property
    def base(self) -> str:
        """The name without folders."""
        return PurePosixPath(self.name).name

    @property
    def folder(self) -> str:
        """The folders before the name."""
        return str(PurePosixPath(self.name).parent)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes, decompressed.

        Raises:
            MatineeError: If the file is cut short or damaged, on reading that far.
        """
        ending = Path(self.inside or self.path.name).suffix.lower()
        with ExitStack() as stack:
            try:
                raw: IO[bytes]
                if self.inside is None:
                    raw = stack.enter_context(self.path.open("rb"))
                else:
                    raw = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.inside))
                yield stack.enter_context(_OPENERS[ending](raw)) if ending in _OPENERS else raw
            except _DAMAGED as error:
                raise mt.MatineeError(f"{self.name} is cut short or damaged: {error}") from error

    def digest(self) -> str:
        """A hash of the decompressed bytes: packed or not, the same file is the same file."""
        found = hashlib.blake2b(digest_size=16)
        with self.open() as stream:
            while block := stream.read(1 << 20):
                found.update(block)
        return found.hexdigest()


def entries(path: Path) -> list[Entry]:
    """The files of a folder and the folders in it, of a .zip, or the one file that was named.

    Raises:
        MatineeError: If the path is a .tar, or a .zip that is none.
    """
    if path.name.lower().endswith(_TARS):
        raise mt.MatineeError(f"path == {path.name!r}, must be a folder, a file or a .zip: unpack it first, tar -xf")
    if path.suffix.lower() == ".zip":
        return _of_zip(path, "")
    if path.is_file():
        return [Entry(_bare(path.name), path)]
    found: list[Entry] = []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        below = file.relative_to(path)
        if len(below.parts) > DEPTH or any(part.startswith(".") for part in below.parts):
            continue
        if file.suffix.lower() == ".zip":
            # One file packed alone, as train_triplets.txt.zip; an archive of many is a set of its own, to be named.
            packed = _of_zip(file, below.parent.as_posix())
            found += packed if len(packed) == 1 else []
        else:
            found.append(Entry(_bare(below.as_posix()), file))
    return found


def _of_zip(path: Path, folder: str) -> list[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise mt.MatineeError(f"path == {path.name!r}, must be a whole .zip: {error}") from error
    prefix = "" if folder in ("", ".") else f"{folder}/"
    kept = [n for n in sorted(names) if not n.startswith("__MACOSX") and not PurePosixPath(n).name.startswith(".")]
    return [Entry(_bare(prefix + n), path, n) for n in kept]


def _bare(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in _OPENERS else name


def named(files: Sequence[Entry], *patterns: str) -> list[Entry]:
    """The files whose base name fits one of the patterns, in order of name."""
    return sorted((e for e in files if any(fnmatch(e.base, p) for p in patterns)), key=lambda e: e.name)


def listing(path: Path) -> str:
    """The first names in a folder or .zip, for a message."""
    if not path.exists():
        return "nothing: it does not exist"
    if path.is_file() and path.suffix.lower() != ".zip":
        return "nothing: it is a file"
    names = [p.name for p in path.iterdir()] if path.is_dir() else [e.name for e in entries(path)]
    return ", ".join(sorted(names)[:8]) or "nothing"


def blocks(entry: Entry) -> Iterator[str]:
    """The text in blocks of whole lines, each ending at a line's end."""
    rest = b""
    with entry.open() as stream:
        while read := stream.read(BLOCK):
            cut = read.rfind(b"\n") + 1
            if not cut:
                rest += read
                continue
            yield _text(rest + read[:cut])
            rest = read[cut:]
        if rest:
            yield _text(rest)


def _text(raw: bytes) -> str:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "\n".join(_line(line) for line in raw.split(b"\n"))


def _line(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def lines(entry: Entry) -> Iterator[pl.DataFrame]:
    """Lines that are not blank, as `number` (from 1) and `line`, in batches."""
    import polars as pl

    done = 0
    for text in blocks(entry):
        every = pl.Series("line", [text.removesuffix("\n")]).str.split("\n").explode().str.strip_chars_end("\r")
        frame = pl.DataFrame({"number": pl.int_range(done + 1, done + 1 + len(every), eager=True), "line": every})
        done += len(every)
        yield frame.filter(pl.col("line").str.strip_chars() != "")


def first_line(entry: Entry) -> str:
    """The first line that is not blank; empty where there is none."""
    for text in blocks(entry):
        for line in text.splitlines():
            if line.strip():
                return line.rstrip("\r")
    return ""


def fields(
    entry: Entry,
    separator: str,
    names: Sequence[str],
    fact: type[mt.Fact],
    hold: Hold,
    *,
    header: str = "",
    at_most: int = 0,
) -> Iterator[pl.DataFrame]:
    """Lines of fields without quotes as text columns, in batches.

    A line with too few fields has nulls, and its fact says which it must have; one with too many is held.

    Args:
        entry: The file.
        separator: Between fields.
        names: Of the fields.
        fact: What the lines are for.
        hold: Is told of lines that cannot be read.
        header: First word of the first line, where it is a header to be left out.
        at_most: How many fields a line may have where those beyond `names` are of no interest.
    """
    import polars as pl

    most = max(at_most, len(names))
    begun = False
    for batch in lines(entry):
        if not begun and header and len(batch) and batch["line"][0].split(separator)[0].strip('"') == header:
            batch = batch[1:]
        begun = begun or len(batch) > 0
        parts = batch.with_columns(pl.col("line").str.split(separator).alias("part"))
        long = parts.filter(pl.col("part").list.len() > most)
        for number, part in long.select("number", pl.col("part").list.len()).iter_rows():
            hold(fact, entry.name, number, f"the line has {part} fields, must have {most}")
        kept = parts.filter(pl.col("part").list.len() <= most) if len(long) else parts
        yield kept.select(pl.col("part").list.get(i, null_on_oob=True).alias(n) for i, n in enumerate(names))


class _Utf8(io.RawIOBase):
    """The blocks of a file as a stream, for readers that take one."""

    def __init__(self, entry: Entry) -> None:
        self._blocks, self._left = blocks(entry), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = block.encode()
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


def csv(
    entry: Entry,
    columns: Mapping[str, str],
    fact: type[mt.Fact],
    hold: Hold,
    *,
    wanted: Sequence[str] = (),
    names: Sequence[str] = (),
    quotes: bool = True,
    separator: str = ",",
) -> Iterator[pl.DataFrame]:
    """A CSV as text columns, in batches; a line with the wrong number of fields is held.

    Args:
        entry: The file.
        columns: `{"name in the file": "name here"}`; those that the file lacks are left out.
        fact: What the lines are for.
        hold: Is told of lines that cannot be read.
        wanted: Names here that must be found.
        names: Of the file's columns, where it has no header.
        quotes: Whether a cell may stand in quotes, and then hold separators and line breaks.
        separator: Between cells.

    Raises:
        MatineeError: If a wanted column is absent, or the file is empty.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as pc

    first = [] if names else next(iter(_split(first_line(entry), separator)), [])
    heads = list(names) or first
    if not heads:
        raise mt.MatineeError(f"{entry.name} is empty, must hold at least a header")
    keep = {h: columns[h] for h in heads if h in columns}
    absent = [w for w in wanted if w not in keep.values()]
    if absent:
        raise mt.MatineeError(f"{entry.name} has columns {', '.join(heads)}, must have one for {absent[0]!r}")
    place = {h: f"c{i}" for i, h in enumerate(heads)}  # pandas writes an index without a name: places are names enough
    said = 0

    def bad(row: Any) -> str:
        nonlocal said
        said += 1
        where = row.number if row.number is not None else said
        hold(
            fact, entry.name, int(where), f"the line has {row.actual_columns} fields, must have {row.expected_columns}"
        )
        return "skip"

    try:
        reader = pc.open_csv(
            io.BufferedReader(_Utf8(entry), 1 << 20),
            read_options=pc.ReadOptions(
                use_threads=False, block_size=BLOCK, column_names=list(place.values()), skip_rows=0 if names else 1
            ),
            parse_options=pc.ParseOptions(
                delimiter=separator, quote_char='"' if quotes else False, double_quote=quotes,
                newlines_in_values=quotes, invalid_row_handler=bad,
            ),
            convert_options=pc.ConvertOptions(
                column_types={p: pa.string() for p in place.values()}, strings_can_be_null=True, null_values=[""],
                quoted_strings_can_be_null=True, include_columns=[place[h] for h in keep],
            ),
        )  # fmt: skip
        for batch in reader:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            yield frame.rename({place[h]: n for h, n in keep.items()})
    except pa.ArrowInvalid as error:
        raise mt.MatineeError(f"{entry.name} is no readable CSV: {str(error).splitlines()[0][:200]}") from error


def _split(line: str, separator: str) -> Iterator[list[str]]:
    import csv as standard

    yield from standard.reader([line], delimiter=separator)


def json_lines(entry: Entry, kind: type[T], fact: type[mt.Fact], hold: Hold) -> Iterator[list[T]]:
    """Lines of JSON as records of the fields that are of interest, in batches; a line that is none is held."""
    import msgspec

    decode = msgspec.json.Decoder(kind).decode
    for batch in lines(entry):
        found: list[T] = []
        for number, line in batch.iter_rows():
            try:
                found.append(decode(line))
            except msgspec.MsgspecError as error:
                hold(fact, entry.name, number, f"the line is no such record: {error}")
        yield found
