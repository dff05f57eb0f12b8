"""The MovieLens formats: 100K, latest, 1M, 10M, 20M, 25M, 32M, told apart by the files in the folder.

| files | set | traps |
|---|---|---|
| u.data, u.item, u.user | 100K | tabs and pipes, or pipes with a header everywhere; latin-1 |
| ratings.dat, movies.dat, users.dat | 1M | `::` between fields; latin-1; age and occupation as codes |
| ratings.dat, movies.dat, tags.dat | 10M | `::` between fields; UTF-8 |
| ratings.csv, movies.csv, tags.csv | latest, 20M, 25M, 32M | the header is userId or user_id |
| ratings.parquet, movies.dat, users.dat | 1M without times | `pos` is the place in the member's own order, -1 where unknown |

Rows go on as they are: a row with too few fields has nulls, and is quarantined by the fact it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Rated, Tagged, Title
from matinee.domains.personalization.loaders.importing import (
    Format,
    Imported,
    Parts,
    Progress,
    epoch,
    granted,
    lived,
    run,
    stamped,
)
from matinee.domains.personalization.loaders.reading import Entry, Hold, csv, entries, fields, first_line, listing

if TYPE_CHECKING:
    import polars as pl

ML_1M_START = datetime(2000, 4, 25, tzinfo=UTC)  # the day of the first rating of the original file

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
# The codes of 1M, from its README.
AGES_1M = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+"}
OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer", "retired",
    "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
# What the files of the different sets call the same column.
_NAMES = {
    "userId": "member", "user_id": "member", "user": "member",
    "movieId": "title", "movie_id": "title", "item": "title",
    "rating": "stars", "timestamp": "time", "tag": "tag",
}  # fmt: skip
# Files of a set that are needed, those that are read where they are there, and what the set is called.
_SETS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("u.data", "u.item"), ("u.user",), "ml-100k"),
    (("ratings.dat", "movies.dat"), ("users.dat", "tags.dat"), "ml-1m or ml-10m"),
    (("ratings.csv", "movies.csv"), ("tags.csv",), "ml-latest, 20m, 25m or 32m"),
    (("ratings.parquet", "movies.dat"), ("users.dat",), "ml-1m without times"),
)
NO_TIMES = (
    f"it has no times: each member's first rating is put at {ML_1M_START:%Y-%m-%d}, the others follow in their "
    "own order, a minute apart; the order between members, and any season, are not real"
)
ORIGINS = "links, genome scores and the splits of the sets (u1.base, ra.train) are not read"


def import_movielens(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import a MovieLens folder or .zip: 100K, latest-small, 1M, 10M, 20M, 25M or 32M, by what files are in it.

    Args:
        studio: Where to.
        path: The folder.
        step: Is given the rows done.
        consent: "yes" records consent to personalization for each member, since the sets were released for research;
            "no" records none, and training leaves them out.

    Raises:
        MatineeError: If the folder is none of these; the message says what was looked for.
    """
    agreed = granted(consent)
    return run(studio, recognise(path), step, consent=agreed, everywhere=True)


def recognise(path: Path) -> Format:
    """Which of the formats a folder or .zip holds.

    Raises:
        MatineeError: If it is none of them: what was looked for, and what is there; or if it holds several sets.
    """
    folders: dict[str, dict[str, Entry]] = {}
    for entry in entries(path) if path.exists() else []:
        folders.setdefault(entry.folder, {})[entry.base] = entry
    hits = [
        (name, here, tuple(here[n] for n in (*needed, *also) if n in here))
        for _, here in sorted(folders.items())
        for needed, also, name in _SETS
        if all(n in here for n in needed)
    ]
    if len(hits) > 1:
        inside = ", ".join(sorted({h[2][0].folder for h in hits}))
        raise mt.MatineeError(
            f"path == {path.name!r} holds {len(hits)} MovieLens sets ({inside}), must hold one: name it"
        )
    if not hits:
        raise mt.MatineeError(
            f"path == {path.name!r}, must be a MovieLens folder: u.data and u.item (100K), ratings.dat and movies.dat "
            "(1M, 10M), ratings.csv and movies.csv (latest, 20M, 25M, 32M), or ratings.parquet and movies.dat; "
            f"it holds {listing(path)}"
        )
    name, here, files = hits[0]
    said = (NO_TIMES,) if name == "ml-1m without times" else ()
    readers = {
        "ml-100k": _ml_100k,
        "ml-1m or ml-10m": _ml_dat,
        "ml-latest, 20m, 25m or 32m": _ml_csv,
        "ml-1m without times": _ml_1m_parquet,
    }
    return Format(name, files, lambda hold: readers[name](here, hold), (*said, ORIGINS))


def titles_of(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    """Rows of the fact Title from `title`, `name` ("Toy Story (1995)") and `genres` ("Animation|Comedy")."""
    import polars as pl

    none = ["(no genres listed)", "unknown", ""]
    genres = pl.col("genres").str.split("|").list.eval(pl.element().filter(~pl.element().is_in(none)))
    year = pl.col("name").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64, strict=False)
    typed = frame.select("title", "name", genres=genres, year=year, kind=pl.lit("film"))
    return Title, stamped(typed)


def _rated(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    return Rated, lived(frame.select("member", "title", "stars", "time"), epoch("time")).drop("time")


def _tagged(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    return Tagged, lived(frame.select("title", "member", "tag", "time"), epoch("time")).drop("time")


def _people(frame: pl.DataFrame, at: datetime) -> tuple[type[mt.Fact], pl.DataFrame]:
    return Demographics, stamped(frame, at)


def _separator(entry: Entry, names: Sequence[str]) -> str:
    """A pipe where the file is the pipe-separated variant, else a tab."""
    return "|" if first_line(entry).count("|") >= len(names) - 1 else "\t"


def _ml_100k(here: dict[str, Entry], hold: Hold) -> Parts:
    import polars as pl

    names = ("title", "name", *(f"_{i}" for i in range(22)))
    for frame in fields(here["u.item"], "|", names, Title, hold, header="item"):
        flags = [pl.when(pl.col(f"_{i + 3}") == "1").then(pl.lit(g)) for i, g in enumerate(GENRES_100K)]
        genres = pl.concat_list(flags).list.drop_nulls().list.join("|")
        yield titles_of(frame.select("title", "name", genres=genres))
    if "u.user" in here:
        columns = ("member", "age", "gender", "occupation", "postcode")
        for frame in fields(here["u.user"], "|", columns, Demographics, hold, header="user"):
            yield _people(frame, datetime(1997, 9, 19, tzinfo=UTC))  # the day its log begins
    data = here["u.data"]
    wanted = ("member", "title", "stars", "time")
    for frame in fields(data, _separator(data, wanted), wanted, Rated, hold, header="user"):
        yield _rated(frame)


def _dat_people(here: dict[str, Entry], hold: Hold) -> Parts:
    import polars as pl

    if "users.dat" not in here:
        return
    columns = ("member", "gender", "age", "occupation", "postcode")
    occupations = {str(i): o for i, o in enumerate(OCCUPATIONS_1M)}
    for frame in fields(here["users.dat"], "::", columns, Demographics, hold):
        yield _people(
            frame.select(
                "member",
                "gender",
                "postcode",
                # A code that the README does not know goes on as it is: it is still a group.
                age_band=pl.col("age").replace(AGES_1M),
                occupation=pl.col("occupation").replace(occupations),
            ),
            ML_1M_START,
        )


def _ml_dat(here: dict[str, Entry], hold: Hold) -> Parts:
    for frame in fields(here["movies.dat"], "::", ("title", "name", "genres"), Title, hold):
        yield titles_of(frame)
    yield from _dat_people(here, hold)
    for frame in fields(here["ratings.dat"], "::", ("member", "title", "stars", "time"), Rated, hold):
        yield _rated(frame)
    if "tags.dat" in here:
        for frame in fields(here["tags.dat"], "::", ("member", "title", "tag", "time"), Tagged, hold):
            yield _tagged(frame)


def _ml_1m_parquet(here: dict[str, Entry], hold: Hold) -> Parts:
    import polars as pl

    for frame in fields(here["movies.dat"], "::", ("title", "name", "genres"), Title, hold):
        yield titles_of(frame)
    yield from _dat_people(here, hold)
    with here["ratings.parquet"].open() as stream:
        frame = pl.read_parquet(stream.read()).rename({"user": "member", "item": "title", "rating": "stars"})
    # Ratings whose place is unknown (-1) come a minute before the first of their member, all at one time.
    at = pl.lit(ML_1M_START, dtype=pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("pos").cast(pl.Int64))
    yield Rated, lived(frame.select("member", "title", pl.col("stars").cast(pl.Float64), "pos"), at).drop("pos")


def _ml_csv(here: dict[str, Entry], hold: Hold) -> Parts:
    titles = {"movieId": "title", "movie_id": "title", "title": "name", "genres": "genres"}
    for frame in csv(here["movies.csv"], titles, Title, hold, wanted=("title", "name", "genres")):
        yield titles_of(frame)
    wanted = ("member", "title", "stars", "time")
    for frame in csv(here["ratings.csv"], _NAMES, Rated, hold, wanted=wanted, quotes=False):
        yield _rated(frame)
    if "tags.csv" in here:
        for frame in csv(here["tags.csv"], _NAMES, Tagged, hold, wanted=("member", "title", "tag", "time")):
            yield _tagged(frame)
