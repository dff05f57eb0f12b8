"""MIND, Microsoft News: what was shown on a page of news, what was clicked, and the clicks before it.

| file | layout, with tabs and no header |
|---|---|
| behaviors.tsv | impression, user (U123), time (11/15/2019 10:22:32 AM), clicks before (N1 N2), shown (N3-1 N4-0) |
| news.tsv | id (N123), category, subcategory, title, abstract, address, entities of title and abstract |

Members and articles are numbered by the digits of their ids, which the set gives out once: U123 is member 123.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import matinee as mt
from matinee.domains.personalization.facts import Member, Opened, Shown, Title
from matinee.domains.personalization.loaders.ids import Known
from matinee.domains.personalization.loaders.importing import (
    Format,
    Imported,
    Parts,
    Progress,
    granted,
    lived,
    run,
    stamped,
)
from matinee.domains.personalization.loaders.reading import Entry, Hold, entries, fields, listing, named

if TYPE_CHECKING:
    import polars as pl

HISTORY_END = datetime(2019, 11, 9, tzinfo=UTC)  # clicks before were made in the four weeks up to here
SAID = (
    "its times name no zone: they are taken for UTC",
    f"clicks before an impression have an order and no times: they are put before {HISTORY_END:%Y-%m-%d}, a minute apart",
    "abstracts, entities and vectors of entities are not read",
)


def import_mind(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes") -> Imported:
    """Import MIND, small or large: `behaviors.tsv` and `news.tsv`, of one split or of several in folders.

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
    behaviors, news = named(here, "behaviors.tsv"), named(here, "news.tsv")
    if not behaviors or not news:
        raise mt.MatineeError(f"path == {path.name!r}, must hold behaviors.tsv and news.tsv; it holds {listing(path)}")
    format_ = Format("mind", (*news, *behaviors), lambda hold: _parts(behaviors, news, hold), SAID)
    return run(studio, format_, step, consent=agreed, everywhere=True)


def _parts(behaviors: Sequence[Entry], news: Sequence[Entry], hold: Hold) -> Parts:
    import polars as pl

    articles = Known()
    columns = ("id", "category", "subcategory", "name", "abstract", "address", "title_entities", "abstract_entities")
    for entry in news:
        for frame in fields(entry, "\t", columns, Title, hold):
            numbered = frame.with_columns(title=_number("id", "N")).with_row_index("row")
            first = numbered.unique("title", keep="first", maintain_order=True).drop_nulls("title")
            again = first.filter(~pl.Series(articles.fresh(first["title"].to_numpy()), dtype=pl.Boolean))
            # The splits share most of their articles; one without a number is passed on, to be held back by its fact.
            new = numbered.filter(pl.col("title").is_null() | pl.col("row").is_in(first["row"].implode()))
            new = new.filter(~pl.col("row").is_in(again["row"].implode()))
            yield (
                Title,
                stamped(
                    new.select(
                        "title",
                        "name",
                        kind=pl.lit("article"),
                        genres=pl.concat_list("category", "subcategory").list.unique(maintain_order=True),
                        language=pl.lit("en"),
                        external="id",
                    )
                ),
            )
    members = Known()
    for entry in behaviors:
        for frame in fields(entry, "\t", ("impression", "user", "time", "history", "shown"), Shown, hold):
            yield from _impressions(frame, members)


def _number(column: str, letter: str) -> pl.Expr:
    """The number in ids like N123."""
    import polars as pl

    return pl.col(column).str.extract(rf"^{letter}(\d{{1,18}})$").cast(pl.Int64, strict=False)


def _impressions(frame: pl.DataFrame, members: Known) -> Parts:
    import polars as pl

    at = (
        pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p", time_unit="us", strict=False).dt.replace_time_zone("UTC")
    )
    # The number of a user and of an article that is none stays empty, and its row is held back with that reason.
    rows = frame.with_columns(member=_number("user", "U"), at=at)
    first = rows.unique("member", keep="first", maintain_order=True).drop_nulls("member")
    new = first.filter(pl.Series(members.fresh(first["member"].to_numpy()), dtype=pl.Boolean))
    if len(new):
        yield Member, stamped(new.select("member", external="user"))
        past = new.select("member", item=pl.col("history").str.split(" ")).with_columns(
            back=pl.int_ranges(pl.col("item").list.len(), 0, -1)
        )
        past = past.explode("item", "back").filter(pl.col("item").is_not_null() & (pl.col("item") != ""))
        when = pl.lit(HISTORY_END, dtype=pl.Datetime("us", "UTC")) - pl.col("back") * pl.lit(timedelta(minutes=1))
        yield (
            Opened,
            lived(past.select("member", "back", title=_number("item", "N"), times=pl.lit(1)), when).drop("back"),
        )
    items = rows.select("member", "at", item=pl.col("shown").str.split(" ")).with_columns(
        slot=pl.int_ranges(pl.col("item").list.len())
    )
    items = items.explode("item", "slot").with_columns(
        title=pl.col("item").str.extract(r"^N(\d{1,18})(?:-[01])?$").cast(pl.Int64, strict=False)
    )
    yield Shown, lived(items.select("member", "title", "slot", "at"), pl.col("at"))
    clicked = items.filter(pl.col("item").str.ends_with("-1"))
    if len(clicked):
        yield Opened, lived(clicked.select("member", "title", "at", times=pl.lit(1)), pl.col("at"))
