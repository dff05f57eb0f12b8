"""Where features read facts from: the Source protocol, and two sources without a studio: frames, and Parquet files.

Both divide keys into buckets as the tables do, so that a bucket holds the same keys wherever a fact lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from matinee.checks import must
from matinee.exceptions import BadInputError, UnknownColumnError, UnknownNameError
from matinee.facts import Fact
from matinee.tables import bucket_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl


class Source(Protocol):
    """What features need of a fact store. All calls of one batch see the same rows: the source pins its snapshot."""

    @property
    def buckets(self) -> int:
        """Into how many parts facts are divided by the hash of their own key."""

    def bucket_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
        """The bucket of each key value, shape (n,)."""

    def scan(
        self,
        fact: type[Fact] | str,
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of a fact: all columns or those named, all or those with `known <= known_before`, one bucket or all."""

    def snapshot(self, fact: type[Fact] | str) -> int | None:
        """What the rows are pinned to; None where there are no snapshots."""

    def rows(self, fact: type[Fact] | str) -> int | None:
        """How many rows the fact has; None where that is not known without reading them."""


FEW_ROWS = 1_000_000  # facts with fewer are read in one go: opening a table once a bucket would cost more than its rows


def in_buckets(source: Source, facts: Iterable[type[Fact]]) -> bool:
    """Whether work on these facts is better done bucket by bucket."""
    if source.buckets == 1:
        return False
    counts = [source.rows(fact) for fact in facts]
    return any(n is None for n in counts) or sum(n or 0 for n in counts) > FEW_ROWS


def _name(fact: type[Fact] | str) -> str:
    return fact if isinstance(fact, str) else fact.schema.name


def _narrow(frame: pl.LazyFrame, columns: Sequence[str] | None, known_before: datetime | None) -> pl.LazyFrame:
    import polars as pl

    if known_before is not None:
        frame = frame.filter(pl.col("known") <= known_before)
    return frame if columns is None else frame.select(list(columns))


class MemorySource:
    """Frames in memory as a source: for tests, notebooks and small jobs.

    Args:
        frames: A frame for each fact: declared columns and `at`; `known` (else `at`) and `seq` (else the row's
            position) where they matter.
        buckets: Into how many parts to divide each by its own key.

    Raises:
        UnknownColumnError: If a declared column is absent.

    Example:
        >>> from datetime import UTC, datetime
        >>> import polars as pl
        >>> class Played(Fact, key="member"):
        ...     member: int
        ...     title: int
        >>> row = {"member": 42, "title": 7, "at": datetime(2026, 1, 1, tzinfo=UTC)}
        >>> MemorySource({Played: pl.DataFrame([row])}).scan(Played).collect().columns
        ['member', 'title', 'at', 'known', 'seq', 'choice', 'outcome']
    """

    def __init__(self, frames: Mapping[type[Fact], pl.DataFrame], *, buckets: int = 1) -> None:
        self.buckets: int = must(buckets, "buckets", typ=int, ge=1)
        self._frames = {fact.schema.name: complete(fact, frame) for fact, frame in frames.items()}
        self._parts: dict[str, list[pl.DataFrame]] = {}
        for fact in frames:
            frame = self._frames[fact.schema.name]
            part = self.bucket_of(frame[fact.schema.key].to_numpy())
            self._parts[fact.schema.name] = [frame.filter(part == b) for b in range(buckets)]

    def bucket_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
        """The bucket of each key value, shape (n,)."""
        return bucket_of(values, self.buckets)

    def scan(
        self,
        fact: type[Fact] | str,
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of a fact, as in `Source.scan`."""
        if _name(fact) not in self._frames:
            raise UnknownNameError("fact", _name(fact), self._frames)
        frame = self._frames[_name(fact)] if bucket is None else self._parts[_name(fact)][bucket]
        return _narrow(frame.lazy(), columns, known_before)

    def snapshot(self, fact: type[Fact] | str) -> int | None:
        """None: frames have no snapshots."""
        return None

    def rows(self, fact: type[Fact] | str) -> int | None:
        """None: not known without reading."""
        return None


class ParquetSource:
    """A folder with one Parquet file for each fact and bucket, `played/3.parquet`: facts beyond memory, no studio.

    Args:
        folder: Where `write` puts the files.
        buckets: As many as were written.
    """

    def __init__(self, folder: Path | str, *, buckets: int = 16) -> None:
        self.folder, self.buckets = Path(folder), int(must(buckets, "buckets", typ=int, ge=1))

    def write(self, fact: type[Fact], frame: pl.DataFrame) -> None:
        """Writes all rows of a fact, replacing what is there; a row's bucket is the hash of its key."""
        folder = self.folder / fact.schema.name
        folder.mkdir(parents=True, exist_ok=True)
        frame = complete(fact, frame)
        parts = self.bucket_of(frame[fact.schema.key].to_numpy())
        for bucket in range(self.buckets):
            frame.filter(parts == bucket).write_parquet(folder / f"{bucket}.parquet")

    def bucket_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
        """The bucket of each key value, shape (n,)."""
        return bucket_of(values, self.buckets)

    def scan(
        self,
        fact: type[Fact] | str,
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of a fact, as in `Source.scan`."""
        import polars as pl

        folder = self.folder / _name(fact)
        if not folder.is_dir():
            raise UnknownNameError("fact", _name(fact), [f.name for f in self.folder.glob("*") if f.is_dir()])
        chosen = range(self.buckets) if bucket is None else [bucket]
        return _narrow(pl.scan_parquet([folder / f"{b}.parquet" for b in chosen]), columns, known_before)

    def snapshot(self, fact: type[Fact] | str) -> int | None:
        """None: plain files have no snapshots."""
        return None

    def rows(self, fact: type[Fact] | str) -> int | None:
        """None: not known without reading."""
        return None


def complete(fact: type[Fact], frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in the fact's own columns, order and types, with `known` and `seq` filled where absent.

    Raises:
        UnknownColumnError: If a declared column or `at` is absent.
        BadInputError: If a column cannot be read as its type, or a key, `at` or `known` is null.
    """
    import polars as pl

    kinds = fact.schema.polars()
    for name in [*fact.schema.columns, "at"]:
        if name not in frame.columns:
            raise UnknownColumnError(f"the frame of {fact.__name__}", name, frame.columns)
    filled = frame.lazy()
    if "known" not in frame.columns:
        filled = filled.with_columns(known=pl.col("at"))
    if "seq" not in frame.columns:
        filled = filled.with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    for name in ("at", "known"):
        given = frame.schema.get(name)
        if isinstance(given, pl.Datetime) and given.time_zone is None:
            raise BadInputError(f"{fact.__name__}.{name} is {given}, must have a time zone (UTC)")
    absent = [pl.lit(None, kinds[c]).alias(c) for c in ("choice", "outcome") if c not in frame.columns]
    try:
        whole = filled.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in kinds.items()).collect()
    except pl.exceptions.PolarsError as error:
        said = f"the frame of {fact.__name__} == {dict(frame.schema)}, must have columns {kinds}"
        raise BadInputError(f"{said}: {error}") from None
    for name in (fact.schema.key, "at", "known"):
        if whole[name].null_count():
            raise BadInputError(f"{fact.__name__}.{name} is null in {whole[name].null_count()} rows, must be given")
    return whole
