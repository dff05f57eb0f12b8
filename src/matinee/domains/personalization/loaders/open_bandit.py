"""The Open Bandit data: titles drawn for places on a fashion page, each with the probability it was drawn with.

| file | columns read |
|---|---|
| all.csv, men.csv or women.csv | (index), timestamp, item_id, position (1 to 3), click, propensity_score, user_feature_0 to _3 |
| item_context.csv | item_id, item_feature_1 to _3 |

Each row is a logged choice of the decision `placement`, its propensity as it was logged: `matinee evaluate placement` works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import matinee as mt
from matinee.domains.personalization.facts import Clicked, Title
from matinee.domains.personalization.loaders.importing import Format, Imported, Parts, Progress, run, stamped
from matinee.domains.personalization.loaders.reading import Entry, Hold, csv, entries, listing, named
from matinee.domains.personalization.placement import placement

if TYPE_CHECKING:
    import polars as pl

USER = tuple(f"user_feature_{i}" for i in range(4))
SAID = (
    "its visitors have no names: each row is a visit of its own, with its four features in the choice's context",
    "the affinities of users and items and item_feature_0 are not read",
    "a click is put a second after its choice",
)


def import_open_bandit(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None) -> Imported:
    """Import one campaign of Open Bandit, logged by one policy: `all.csv`, `men.csv` or `women.csv`, and `item_context.csv`.

    Args:
        studio: Where to.
        path: The folder or .zip.
        step: Is given the rows done.

    Raises:
        MatineeError: If the files are not there, or those of several campaigns or policies are.
    """
    here = entries(path) if path.exists() else []
    logs, items = named(here, "all.csv", "men.csv", "women.csv"), named(here, "item_context.csv")
    if not logs or not items:
        raise mt.MatineeError(
            f"path == {path.name!r}, must hold all.csv, men.csv or women.csv, and item_context.csv; it holds {listing(path)}"
        )
    if len(logs) > 1 or len(items) > 1:
        raise mt.MatineeError(
            f"path == {path.name!r} holds {len(logs)} logs ({', '.join(e.name for e in logs)}), must hold one: the items of "
            "two campaigns share their numbers; name the folder of one"
        )
    log = Log(logs[0], items[0], " ".join((*path.parts[-2:], logs[0].base)))
    format_ = Format("open bandit", (items[0], logs[0]), log.parts, SAID, log.choices)
    return run(studio, format_, step, consent=False, everywhere=True)


class Log:
    """A log and its items: as facts, and as choices."""

    def __init__(self, log: Entry, items: Entry, place: str) -> None:
        self.log, self.items = log, items
        self.policy = next((w for w in ("random", "bts") if w in place.lower()), "unnamed")
        self._short = ""

    def parts(self, hold: Hold) -> Parts:
        """The items, and the clicks, each tied to its choice."""
        import polars as pl

        for frame in self._items(hold):
            genres = pl.concat_list(f"item_feature_{i}" for i in (1, 2, 3))
            yield (
                Title,
                stamped(
                    frame.select("title", name=pl.format("item {}", "title"), kind=pl.lit("product"), genres=genres)
                ),
            )
        for frame in self._rows(hold):
            clicks = frame.filter(pl.col("click") == 1)
            at = pl.col("at") + timedelta(seconds=1)
            rows = clicks.select("title", "slot", visit="choice", choice="choice", at=at, known=at)
            yield Clicked, rows

    def choices(self, hold: Hold) -> Iterator[mt.Choice]:
        """Every row as the choice of one title, with its logged propensity."""
        candidates: list[int | str] = []
        for items in self._items(hold):
            candidates += [int(t) for t in items["title"].to_list()]
        columns = ("choice", "at", "title", "slot", "propensity", *USER)
        for frame in self._rows(hold):
            for one, at, title, slot, propensity, *user in frame.select(columns).iter_rows():
                yield mt.Choice(
                    id=one,
                    decision=placement.name,
                    unit=one,
                    at=at,
                    policy=f"logged by {self.policy}",
                    context={"slot": slot, **dict(zip(USER, user, strict=True))},
                    candidates=candidates,
                    action=[title],
                    propensities=[propensity],
                )

    def _items(self, hold: Hold) -> Iterator[pl.DataFrame]:
        import polars as pl

        columns = {"item_id": "title", **{f"item_feature_{i}": f"item_feature_{i}" for i in (1, 2, 3)}}
        for frame in csv(self.items, columns, Title, hold, wanted=tuple(columns.values())):
            yield frame.with_columns(pl.col("title").cast(pl.Int64, strict=False)).drop_nulls("title")

    def _rows(self, hold: Hold) -> Iterator[pl.DataFrame]:
        """The rows of the log that are whole: a choice without its probability is none. The others are held."""
        import polars as pl

        self._short = self._short or hashlib.blake2b(self.log.digest().encode(), digest_size=4).hexdigest()
        names = {c: c for c in ("timestamp", "item_id", "position", "click", "propensity_score", *USER)}
        items = {int(t) for frame in self._items(lambda *_l: None) for t in frame["title"].to_list()}
        known = pl.Series(sorted(items), dtype=pl.Int64).implode()
        number = 1
        for frame in csv(self.log, names, Clicked, hold, wanted=tuple(names.values())):
            rows = frame.select(
                *USER,
                number=pl.int_range(number, number + len(frame)),
                at=pl.col("timestamp")
                .str.replace(" ", "T")
                .str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC", time_unit="us", strict=False),
                title=pl.col("item_id").cast(pl.Int64, strict=False),
                slot=pl.col("position").cast(pl.Int64, strict=False) - 1,
                click=pl.col("click").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
                propensity=pl.col("propensity_score").cast(pl.Float64, strict=False),
            ).with_columns(choice=pl.format(f"open-bandit-{self._short}-{{}}", pl.col("number")))
            number += len(frame)
            reasons = {
                "timestamp, must be a time": pl.col("at").is_null(),
                "item_id, must be an item of item_context.csv": ~pl.col("title").is_in(known).fill_null(value=False),
                "position, must be >= 1": ~(pl.col("slot") >= 0).fill_null(value=False),
                "click, must be 0 or 1": ~pl.col("click").is_in([0, 1]).fill_null(value=False),
                "propensity_score, must be > 0 and <= 1": ~(
                    (pl.col("propensity") > 0) & (pl.col("propensity") <= 1)
                ).fill_null(value=False),
            }
            bad = pl.lit(value=False)
            for reason, wrong in reasons.items():
                for (line,) in rows.filter(wrong).select(pl.col("number") + 1).iter_rows():
                    hold(Clicked, self.log.name, line, reason)
                bad = bad | wrong
            yield rows.filter(~bad)
