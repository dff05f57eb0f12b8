"""KION, the log of a streaming service: sessions by day with the share watched, its catalogue, and bands of its people.

| file | columns |
|---|---|
| interactions.csv | user_id, item_id, last_watch_dt, total_dur (seconds), watched_pct |
| items.csv or items_en.csv | item_id, content_type, title, release_year, genres, age_rating, countries, ... |
| users.csv or users_en.csv | user_id, age (age_25_34), income (income_20_40), sex (M, F, or in Cyrillic), kids_flg |
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Played, Title
from matinee.domains.personalization.loaders.importing import Format, Imported, Parts, Progress, granted, run, stamped
from matinee.domains.personalization.loaders.reading import Entry, Hold, csv, entries, listing, named

START = datetime(2021, 3, 13, tzinfo=UTC)  # the day its log begins
DAYS = "it has days, no times: each session is put at noon UTC"


def import_kion(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes") -> Imported:
    """Import KION: `interactions.csv`, `items.csv` (or `items_en.csv`) and `users.csv` where it is there.

    Args:
        studio: Where to.
        path: The folder or .zip.
        step: Is given the rows done.
        consent: As for MovieLens.
    """
    agreed = granted(consent)
    here = entries(path) if path.exists() else []
    log, items = named(here, "interactions.csv"), named(here, "items.csv") or named(here, "items_en.csv")
    if not items or not log:
        raise mt.MatineeError(
            f"path == {path.name!r}, must hold interactions.csv and items.csv or items_en.csv; it holds {listing(path)}"
        )
    people = (named(here, "users.csv") or named(here, "users_en.csv"))[:1]
    files = (log[0], items[0], *people)
    return run(
        studio, Format("kion", files, lambda hold: _parts(files, hold), (DAYS,)), step, consent=agreed, everywhere=True
    )


def _parts(files: tuple[Entry, ...], hold: Hold) -> Parts:
    import polars as pl

    log, items, *people = files

    def whole(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)

    columns = {c: c for c in ("item_id", "content_type", "title", "release_year", "genres", "age_rating")}
    for frame in csv(
        items, columns, Title, hold, wanted=("item_id", "content_type", "title", "release_year", "genres")
    ):
        kind = pl.when(pl.col("content_type") == "series").then(pl.lit("series")).otherwise(pl.lit("film"))
        maturity = whole("age_rating") if "age_rating" in frame.columns else pl.lit(None, dtype=pl.Int64)
        genres = pl.col("genres").str.split(", ").list.eval(pl.element().filter(pl.element() != ""))
        yield (
            Title,
            stamped(
                frame.select(
                    title="item_id",
                    name="title",
                    kind=kind,
                    year=whole("release_year"),
                    genres=genres,
                    maturity=maturity,
                )
            ),
        )
    for entry in people:
        columns = {"user_id": "member", "age": "age_band", "income": "income", "sex": "gender", "kids_flg": "children"}
        for frame in csv(entry, columns, Demographics, hold, wanted=tuple(columns.values())):
            yield (
                Demographics,
                stamped(
                    frame.with_columns(
                        pl.col("age_band").str.strip_prefix("age_").str.replace("_inf", "+").str.replace("_", "-"),
                        pl.col("income").str.strip_prefix("income_").str.replace("_inf", "+").str.replace("_", "-"),
                        pl.col("gender").replace({"М": "M", "Ж": "F"}),
                        # pandas writes 0/1 as 0.0/1.0 where a cell is empty.
                        pl.col("children").str.strip_suffix(".0"),
                    ),
                    START,
                ),
            )
    columns = {
        "user_id": "member",
        "item_id": "title",
        "total_dur": "seconds",
        "watched_pct": "share",
        "last_watch_dt": "at",
    }
    for frame in csv(log, columns, Played, hold, wanted=tuple(columns.values()), quotes=False):
        plays = frame.with_columns(
            # Watching again adds to the percentage: more than all of it is all of it.
            share=(pl.col("share").cast(pl.Float64, strict=False) / 100).clip(0, 1),
            at=pl.col("at") + "T12:00:00Z",
        )
        yield Played, plays.with_columns(known=pl.col("at"))
