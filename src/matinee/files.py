"""Read facts from files in batches: Parquet, CSV, JSON lines. A file larger than memory is streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.exceptions import BadInputError

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 1_000_000
_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def read(
    path: Path, *, columns: Mapping[str, str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pl.DataFrame]:
    """Frames of at most about `batch_rows` rows, in the file's order.

    Text formats are read as text and typed by the fact that takes them, so that a bad cell costs its row, not the file.

    Args:
        path: A file ending in .parquet, .csv, .tsv, .jsonl or .ndjson.
        columns: `{"name in the file": "name in the fact"}` for columns called otherwise.
        batch_rows: Rows a frame.

    Raises:
        BadInputError: If the file is absent, empty, cut short, or not of its format.
    """
    if not path.is_file():
        raise BadInputError(f"file == {path.name!r}, must be a file that exists; {_nearby(path)}")
    kind = _ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise BadInputError(f"file == {path.name!r}, must end in one of {', '.join(_ENDINGS)}")
    if path.stat().st_size == 0:
        raise BadInputError(f"{path.name} is empty, must hold at least a header")
    reader = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[kind]
    rename = dict(columns or {})
    for frame in reader(path, batch_rows):
        absent = [c for c in rename if c not in frame.columns]
        if absent:
            raise BadInputError(
                f"column == {absent[0]!r}, must be a column of {path.name} ({', '.join(frame.columns)})"
            )
        yield frame.rename(rename)


def _nearby(path: Path) -> str:
    from matinee.exceptions import did_you_mean

    if not path.parent.is_dir():
        return f"the folder {path.parent.name!r} does not exist either"
    here = [p.name for p in path.parent.iterdir()]
    return f"its folder holds {len(here)} others{did_you_mean(path.name, here)}"


def _parquet(path: Path, batch_rows: int) -> Iterator[pl.DataFrame]:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=batch_rows):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            yield frame
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(
            f"{path.name} is no whole Parquet file: it may be cut short ({_first_line(error)})"
        ) from error


def _csv(path: Path, batch_rows: int) -> Iterator[pl.DataFrame]:
    import polars as pl

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        lazy = pl.scan_csv(path, infer_schema=False, separator=separator, truncate_ragged_lines=False)
        yield from lazy.collect_batches(chunk_size=batch_rows, maintain_order=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInputError(f"{path.name} is no readable CSV: {_first_line(error)}") from error


def _jsonl(path: Path, batch_rows: int) -> Iterator[pl.DataFrame]:
    import msgspec

    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(decode(line))
            except msgspec.MsgspecError as error:
                raise BadInputError(f"{path.name} line {number}: {error}; each line must be one JSON object") from error
            if len(rows) >= min(batch_rows, 200_000):
                yield frame_of(rows)
                rows = []
    if rows:
        yield frame_of(rows)


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A frame of plain rows; a column whose values do not share a type becomes text, and is typed by its fact."""
    import polars as pl

    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=True)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        names = list(dict.fromkeys(n for r in rows for n in r))
        return pl.DataFrame({n: _series(n, [r.get(n) for r in rows]) for n in names})


def _series(name: str, values: list[Any]) -> pl.Series:
    import polars as pl

    try:
        return pl.Series(name, values, strict=True)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
