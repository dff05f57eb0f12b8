"""The Netflix Prize: a hundred million ratings by day.

| file | layout |
|---|---|
| combined_data_1.txt to _4.txt, or training_set/mv_0000001.txt ... | `MovieID:` on a line, then `CustomerID,Rating,Date` |
| movie_titles.csv or movie_titles.txt | `MovieID,Year,Title` in latin-1; a title may hold commas; a year may be NULL |
| probe.txt, qualifying.txt | not read: pairs of the first are among the ratings, the second has none |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matinee as mt
from matinee.domains.personalization.facts import Rated, Title
from matinee.domains.personalization.loaders.importing import (
    BATCH,
    Format,
    Imported,
    Parts,
    Progress,
    granted,
    lived,
    run,
    stamped,
)
from matinee.domains.personalization.loaders.reading import Entry, Hold, entries, lines, listing, named

SAID = (
    "it has days, no times: each rating is put at noon UTC",
    "films and series are not told apart: every title is a film",
)
NOT_READ = {
    "probe.txt": "probe.txt is not read: its pairs are among the ratings",
    "qualifying.txt": "qualifying.txt is not read: its ratings were never published with it",
}


def import_netflix(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import the Netflix Prize: `combined_data_*.txt` or `mv_*.txt`, and `movie_titles.csv`, in a folder or .zip.

    Args:
        studio: Where to.
        path: The folder or .zip.
        step: Is given the rows done.
        consent: As for MovieLens.

    Raises:
        MatineeError: If the files are not there.
    """
    agreed = granted(consent)
    here = entries(path) if path.exists() else []
    ratings = named(here, "combined_data_*.txt")
    twice = [e for e in named(here, "mv_*.txt") if e.base[3:-4].isdigit()]
    said = list(SAID)
    if ratings and twice:
        said.append("mv_*.txt are not read: combined_data_*.txt hold the same ratings")
    ratings = ratings or twice
    titles = named(here, "movie_titles.csv", "movie_titles.txt")[:1]
    if not ratings or not titles:
        raise mt.MatineeError(
            f"path == {path.name!r}, must hold combined_data_*.txt or training_set/mv_*.txt, and movie_titles.csv or "
            f"movie_titles.txt; it holds {listing(path)}"
        )
    said += [said_of for name, said_of in NOT_READ.items() if named(here, name)]
    format_ = Format("netflix", (*titles, *ratings), lambda hold: _parts(titles[0], ratings, hold), tuple(said))
    return run(studio, format_, step, consent=agreed, everywhere=True)


def _parts(titles: Entry, ratings: Sequence[Entry], hold: Hold) -> Parts:
    import polars as pl

    for batch in lines(titles):
        # Only the first two commas are separators.
        cells = batch["line"].str.splitn(",", 3).struct.unnest()
        frame = cells.rename({"field_0": "title", "field_1": "year", "field_2": "name"})
        yield Title, stamped(frame.with_columns(pl.col("year").replace("NULL", None), kind=pl.lit("film")))
    movie: str | None = None
    waiting: list[pl.DataFrame] = []
    rows = 0
    for entry in ratings:
        for batch in lines(entry):
            header = pl.col("line").str.ends_with(":")
            known = batch.with_columns(
                title=pl.when(header).then(pl.col("line").str.strip_suffix(":").str.strip_chars())
            ).with_columns(pl.col("title").forward_fill().fill_null(pl.lit(movie, dtype=pl.String)))
            movie = known["title"][-1] if len(known) else movie
            cells = known.filter(~header).with_columns(pl.col("line").str.split(",").alias("cell"))
            wrong = cells.filter(pl.col("cell").list.len() != 3)
            for number, n in wrong.select("number", pl.col("cell").list.len()).iter_rows():
                hold(Rated, entry.name, number, f"the line has {n} fields, must have 3: customer, rating, date")
            cells = cells.filter(pl.col("cell").list.len() == 3)
            waiting.append(
                cells.select(
                    "title",
                    member=pl.col("cell").list.get(0),
                    stars=pl.col("cell").list.get(1),
                    at=pl.col("cell").list.get(2) + "T12:00:00Z",
                )
            )
            rows += len(cells)
            if rows >= BATCH:
                yield Rated, lived(pl.concat(waiting), pl.col("at"))
                waiting, rows = [], 0
    if waiting:
        yield Rated, lived(pl.concat(waiting), pl.col("at"))
