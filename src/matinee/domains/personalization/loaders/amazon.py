"""Amazon reviews, as published in 2014, 2018 and 2023: who rated what, when; text is not read.

| layout | file | fields |
|---|---|---|
| 2014, 2018 reviews | `Books_5.json.gz` | reviewerID, asin, overall, unixReviewTime (seconds) |
| 2018 ratings only | `Books.csv`, no header | item, user, rating, timestamp |
| 2014 ratings only | `ratings_Books.csv`, no header | user, item, rating, timestamp |
| 2023 reviews | `Books.jsonl.gz` | user_id, parent_asin, rating, timestamp (milliseconds) |
| 2023 ratings only | `Books.csv.gz`, with a header | user_id, parent_asin, rating, timestamp (milliseconds) |
| 2018, 2023 products | `meta_Books.json.gz`, `meta_Books.jsonl.gz` | asin or parent_asin, title, brand or store, categories |

The two ratings-only layouts without a header differ in the order of item and user: which it is, is told by the looks of
the ids (an ASIN is ten characters: B and nine more, or an ISBN), never by the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import matinee as mt
from matinee.domains.personalization.facts import Member, Rated, Title
from matinee.domains.personalization.loaders.ids import Words
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
from matinee.domains.personalization.loaders.plays import named_by_words
from matinee.domains.personalization.loaders.reading import (
    Entry,
    Hold,
    csv,
    entries,
    fields,
    first_line,
    json_lines,
    listing,
    named,
)

if TYPE_CHECKING:
    import polars as pl

ASIN = r"^(B[0-9A-Z]{9}|[0-9]{9}[0-9X])$"
SAID = (
    "words, votes and pictures of reviews are not read",
    "a product is a title of the kind `product`; one without a name in a meta file is called by its id",
)


class _Review(msgspec.Struct):
    """The fields of a review that are read, in the layouts of 2014 and 2018 or of 2023."""

    reviewerID: str | None = None  # noqa: N815  # the file's own word
    asin: str | None = None
    overall: float | None = None
    unixReviewTime: int | None = None  # noqa: N815  # the file's own word
    user_id: str | None = None
    parent_asin: str | None = None
    rating: float | None = None
    timestamp: int | None = None


class _Product(msgspec.Struct):
    asin: str | None = None
    parent_asin: str | None = None
    title: str | None = None
    brand: str | None = None
    store: str | None = None
    category: Any = None
    categories: Any = None


def import_amazon(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import Amazon reviews: one category's file of reviews or ratings, and its meta file where it is there.

    Args:
        studio: Where to.
        path: The file, or a folder or .zip of one layout.
        step: Is given the rows done.
        consent: As for MovieLens.

    Raises:
        MatineeError: If no file is in one of the layouts, or files of two layouts are there.
    """
    agreed = granted(consent)
    here = entries(path) if path.exists() else []
    meta = named(here, "meta_*.json", "meta_*.jsonl")
    found = [(layout(e), e) for e in named(here, "*.json", "*.jsonl", "*.csv") if e not in meta]
    reviews = [e for kind, e in found if kind]
    kinds = sorted({kind for kind, _ in found if kind})
    if not kinds:
        raise mt.MatineeError(
            f"path == {path.name!r}, must be or hold reviews or ratings in one of the layouts of 2014, 2018 or 2023 "
            f"(reviewerID and asin, or user_id and parent_asin, or lines of four cells); it holds {listing(path)}"
        )
    if len(kinds) > 1:
        raise mt.MatineeError(
            f"path == {path.name!r} holds {' and '.join(kinds)}, must hold one of them: the same ratings would count twice"
        )
    for entry in meta:
        if first_line(entry).startswith("{'"):
            raise mt.MatineeError(
                f"{entry.name} is in the layout of 2014, which is Python and no JSON; must be of 2018 or 2023, or left out"
            )
    format_ = Format(f"amazon {kinds[0]}", (*meta, *reviews), lambda hold: _parts(kinds[0], reviews, meta, hold), SAID)
    return run(studio, format_, step, consent=agreed, everywhere=True)


def layout(entry: Entry) -> str:
    """Which layout a file is in, from its first line; empty where it is none."""
    import re

    line = first_line(entry)
    if line.startswith("{"):
        return "reviews" if '"reviewerID"' in line or '"user_id"' in line else ""
    cells = line.split(",")
    if {"user_id", "parent_asin", "rating", "timestamp"} <= set(cells):
        return "ratings of 2023"
    if len(cells) != 4:
        return ""
    if re.match(ASIN, cells[0]) and not re.match(ASIN, cells[1]):
        return "ratings of 2018"
    return "ratings of 2014" if re.match(ASIN, cells[1]) else ""


def _parts(kind: str, reviews: Sequence[Entry], meta: Sequence[Entry], hold: Hold) -> Parts:
    import polars as pl

    products, people = Words(), Words()
    for entry in meta:
        for some in json_lines(entry, _Product, Title, hold):
            yield Title, _titles(some, products)
    for entry in reviews:
        for frame in _ratings(kind, entry, hold):
            member, new_members = people.number(frame["user"])
            title, new_titles = products.number(frame["item"])
            if len(new_members):
                yield Member, named_by_words(Member, new_members)
            if len(new_titles):
                yield Title, named_by_words(Title, new_titles, kind=pl.lit("product"))
            yield Rated, lived(frame.select(member.alias("member"), title.alias("title"), "stars", "at"), pl.col("at"))


def _titles(some: Sequence[_Product], products: Words) -> pl.DataFrame:
    import polars as pl

    kinds: dict[str, Any] = {"word": pl.String, "name": pl.String, "provider": pl.String, "genres": pl.List(pl.String)}
    rows = [
        # What has no name is still a product: its id is its name.
        (p.parent_asin or p.asin, p.title or p.parent_asin or p.asin, p.brand or p.store, _categories(p))
        for p in some
    ]
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    _, fresh = products.number(frame["word"])
    first = frame.unique("word", keep="first", maintain_order=True)
    typed = fresh.join(first, on="word", maintain_order="left").rename({"number": "title", "word": "external"})
    return stamped(typed.with_columns(kind=pl.lit("product")))


def _categories(product: _Product) -> list[str] | None:
    given = product.category or product.categories
    if not isinstance(given, list):
        return None
    return list(dict.fromkeys(str(c) for c in given)) or None


def _ratings(kind: str, entry: Entry, hold: Hold) -> Iterator[pl.DataFrame]:
    """Frames of `user`, `item`, `stars`, `at`."""
    import polars as pl

    if kind == "reviews":
        for some in json_lines(entry, _Review, Rated, hold):
            users = [r.user_id or r.reviewerID for r in some]
            items = [r.parent_asin or r.asin for r in some]
            stars = [r.rating if r.rating is not None else r.overall for r in some]
            times = [
                r.timestamp * 1_000 if r.timestamp is not None
                else None if r.unixReviewTime is None else r.unixReviewTime * 1_000_000
                for r in some
            ]  # fmt: skip
            yield pl.DataFrame(
                [
                    pl.Series("user", users, dtype=pl.String),
                    pl.Series("item", items, dtype=pl.String),
                    pl.Series("stars", stars, dtype=pl.Float64),
                    pl.Series("at", times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
                ]
            )
        return
    if kind == "ratings of 2023":
        names = {"user_id": "user", "parent_asin": "item", "rating": "stars", "timestamp": "at"}
        for frame in csv(entry, names, Rated, hold, wanted=tuple(names.values()), quotes=False):
            yield frame.with_columns(epoch("at", "ms").alias("at"))
        return
    order = ("item", "user") if kind == "ratings of 2018" else ("user", "item")
    for frame in fields(entry, ",", (*order, "stars", "at"), Rated, hold):
        yield frame.with_columns(epoch("at").alias("at"))
