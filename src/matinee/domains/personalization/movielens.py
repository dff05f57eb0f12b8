"""The MovieLens formats: 100K, latest, 1M, 10M, 20M, 25M, 32M, told apart by the files in the folder.

| files | set | traps |
|---|---|---|
| u.data, u.item | 100K | tabs, or pipes with a header; latin-1 |
| ratings.dat, movies.dat | 1M, 10M | `::` between fields; 1M is latin-1, 10M UTF-8 |
| ratings.csv, movies.csv | latest, 20M, 25M, 32M | the header is userId or user_id |
| ratings.parquet, movies.dat | 1M without times | `pos` is the place in the member's own order, -1 where unknown |

Rows go on as they are: a row with too few fields has nulls, and is quarantined by the fact it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import matinee as mt
from matinee.domains.personalization.facts import Rated, Tagged, Title

if TYPE_CHECKING:
    import polars as pl

Parts = Iterator[tuple[type[mt.Fact], "pl.DataFrame"]]
BEGINNING = datetime(1990, 1, 1, tzinfo=UTC)  # catalogues are known before anything is watched
ML_1M_START = datetime(2000, 4, 25, tzinfo=UTC)  # the day of the first rating of the original file
BATCH = 2_000_000

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
# What the files of the different sets call the same column.
_NAMES = {
    "userId": "member", "user_id": "member", "user": "member",
    "movieId": "title", "movie_id": "title", "item": "title",
    "rating": "stars", "timestamp": "time",
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """What a folder was recognised as.

    Attributes:
        name: Which set.
        files: What is read of it: the same bytes again are the same import.
        parts: Gives the frames, from the beginning each time it is called.
        said: What the set does not say, and what was put in its place.
    """

    name: str
    files: tuple[Path, ...]
    parts: Callable[[], Parts]
    said: tuple[str, ...] = ()


def recognise(path: Path) -> Format:
    """Which of the formats a folder holds.

    Raises:
        MatineeError: If it is none of them: what was looked for, and what is there.
    """

    def found(*names: str, also: str = "") -> tuple[Path, ...]:
        here = tuple(path / n for n in names if (path / n).is_file())
        more = (path / also,) if also and (path / also).is_file() else ()
        return (*here, *more) if len(here) == len(names) else ()

    if files := found("u.data", "u.item"):
        return Format("ml-100k", files, lambda: _ml_100k(path))
    if files := found("ratings.dat", "movies.dat", also="tags.dat"):
        return Format("ml-1m or ml-10m", files, lambda: _ml_dat(path))
    if files := found("ratings.csv", "movies.csv", also="tags.csv"):
        return Format("ml-latest, 20m, 25m or 32m", files, lambda: _ml_csv(path))
    if files := found("ratings.parquet", "movies.dat"):
        no_times = (
            f"it has no times: each member's first rating is put at {ML_1M_START:%Y-%m-%d}, the others follow in their "
            "own order, a minute apart; the order between members, and any season, are not real"
        )
        return Format("ml-1m without times", files, lambda: _ml_1m_parquet(path), (no_times,))
    raise mt.MatineeError(
        f"path == {path.name!r}, must be a MovieLens folder: u.data and u.item (100K), ratings.dat and movies.dat "
        "(1M, 10M), ratings.csv and movies.csv (latest, 20M, 25M, 32M), or ratings.parquet and movies.dat; "
        f"it holds {listing(path)}"
    )


def listing(path: Path) -> str:
    """The first names in a folder, for a message."""
    if not path.is_dir():
        return "nothing: it is a file" if path.is_file() else "nothing: it does not exist"
    return ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"


def stamped(frame: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """The rows, so and known since `at`."""
    import polars as pl

    when = pl.lit(at, dtype=pl.Datetime("us", "UTC"))
    return frame.with_columns(at=when, known=when)


def titles_of(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    """Rows of the fact Title from `title`, `name` ("Toy Story (1995)") and `genres` ("Animation|Comedy")."""
    import polars as pl

    none = ["(no genres listed)", "unknown", ""]
    genres = pl.col("genres").str.split("|").list.eval(pl.element().filter(~pl.element().is_in(none)))
    year = pl.col("name").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64, strict=False)
    typed = frame.select("title", "name", genres=genres, year=year, kind=pl.lit("film"))
    return Title, stamped(typed, BEGINNING)


def _time(column: str = "time") -> pl.Expr:
    """Seconds since 1970, as text, as a UTC time; what is no number is null."""
    import polars as pl

    return (pl.col(column).cast(pl.Int64, strict=False) * 1_000_000).cast(pl.Datetime("us", "UTC"))


def _rated(frame: pl.DataFrame, at: pl.Expr) -> tuple[type[mt.Fact], pl.DataFrame]:
    import polars as pl

    # A history is imported as it was lived: each rating was known when it was given.
    return Rated, frame.select("member", "title", "stars", at=at).with_columns(known=pl.col("at"))


def _tagged(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    import polars as pl

    return Tagged, frame.select("title", "member", "tag", at=_time()).with_columns(known=pl.col("at"))


def _ml_100k(path: Path) -> Parts:
    import polars as pl

    for frame in split_lines(path / "u.item", None, ("title", "name", *(f"_{i}" for i in range(22))), "|"):
        flags = [pl.when(pl.col(f"_{i + 3}") == "1").then(pl.lit(g)) for i, g in enumerate(GENRES_100K)]
        genres = pl.concat_list(flags).list.drop_nulls().list.join("|")
        yield titles_of(frame.select("title", "name", genres=genres))
    for frame in split_lines(path / "u.data", None, ("member", "title", "stars", "time")):
        yield _rated(frame, _time())


def _ml_dat(path: Path) -> Parts:
    for frame in split_lines(path / "movies.dat", "::", ("title", "name", "genres")):
        yield titles_of(frame)
    for frame in split_lines(path / "ratings.dat", "::", ("member", "title", "stars", "time")):
        yield _rated(frame, _time())
    if (path / "tags.dat").is_file():
        for frame in split_lines(path / "tags.dat", "::", ("member", "title", "tag", "time")):
            yield _tagged(frame)


def _ml_1m_parquet(path: Path) -> Parts:
    import polars as pl

    for frame in split_lines(path / "movies.dat", "::", ("title", "name", "genres")):
        yield titles_of(frame)
    frame = pl.read_parquet(path / "ratings.parquet").rename({"user": "member", "item": "title", "rating": "stars"})
    # Ratings whose place is unknown (-1) come a minute before the first of their member, all at one time.
    at = pl.lit(ML_1M_START, dtype=pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("pos").cast(pl.Int64))
    yield _rated(frame.with_columns(pl.col("stars").cast(pl.Float64)), at)


def _ml_csv(path: Path) -> Parts:
    for frame in _csv(
        path / "movies.csv", {"movieId": "title", "movie_id": "title", "title": "name"}, ("title", "name", "genres")
    ):
        yield titles_of(frame)
    for frame in _csv(path / "ratings.csv", _NAMES, ("member", "title", "stars", "time")):
        yield _rated(frame, _time())
    if (path / "tags.csv").is_file():
        for frame in _csv(path / "tags.csv", _NAMES, ("member", "title", "tag", "time")):
            yield _tagged(frame)


def _csv(path: Path, names: Mapping[str, str], wanted: tuple[str, ...]) -> Iterator[pl.DataFrame]:
    """Text frames of a CSV with the wanted columns, whichever of the sets' names they go by."""
    from matinee import files

    with path.open(encoding="utf-8", errors="replace") as lines:
        head = lines.readline().strip().split(",")
    rename = {h: names[h] for h in head if h in names}
    absent = [w for w in wanted if w not in {rename.get(h, h) for h in head}]
    if absent:
        raise mt.MatineeError(f"{path.name} has columns {', '.join(head)}, must have one for {absent[0]!r}")
    for frame in files.read(path, columns=rename, batch_rows=BATCH):
        yield frame.select(wanted)


def split_lines(path: Path, separator: str | None, names: tuple[str, ...], other: str = "\t") -> Iterator[pl.DataFrame]:
    """Lines of fields as text columns, in batches; missing fields are null, blank lines are left out.

    Args:
        path: The file; UTF-8 where all of it is, else latin-1.
        separator: Between fields; None for the 100K files, which have pipes and a header, or `other` and none.
        names: Of the fields.
        other: What stands between the fields of the classic 100K file.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding) as lines:
        head: list[str] = []
        if separator is None:
            first = lines.readline().rstrip("\r\n")
            separator = "|" if first.count("|") >= len(names) - 1 else other
            # The header of the pipe-separated variant begins with a word, a row of data with a number.
            head = [] if not first[:1].isdigit() else [first]
        batch = head
        for line in lines:
            if line.strip():
                batch.append(line.rstrip("\r\n"))
            if len(batch) >= BATCH:
                yield _fields(batch, separator, names)
                batch = []
    if batch:
        yield _fields(batch, separator, names)


def _encoding(path: Path) -> str:
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                decoder.decode(block)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _fields(lines: list[str], separator: str, names: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl

    parts = pl.DataFrame({"line": lines}).select(pl.col("line").str.split(separator).alias("p"))
    return parts.select(pl.col("p").list.get(i, null_on_oob=True).alias(n) for i, n in enumerate(names))
