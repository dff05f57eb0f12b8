"""The history as one frame a fact, with `at` and `known`, in the columns that the domains declare.

The world does not import the domains; a test holds these columns against their classes.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from matinee.times import to_us
from matinee.worlds.billing import Attempts, Billing, invoice_id
from matinee.worlds.catalogue import GENRES, Catalogue
from matinee.worlds.history import ViewingHistory
from matinee.worlds.people import COUNTRIES, DEVICES, LANGUAGES, NETWORKS, Members
from matinee.worlds.processors import FEES_FAILURE_MINOR, FEES_SUCCESS_MINOR, PROCESSORS
from matinee.worlds.settings import Settings

CURRENCY = "EUR"
_STAMP = pl.Datetime("us", "UTC")


def stamps(settings: Settings, days: np.ndarray) -> pl.Series:
    """Days from the start of the history as UTC instants."""
    us = to_us(settings.start) + np.round(np.asarray(days, np.float64) * 86_400_000_000).astype(np.int64)
    return pl.Series(us, dtype=pl.Int64).cast(_STAMP)


def words(words: tuple[str, ...] | list[str], index: np.ndarray) -> pl.Series:
    """One word an index; -1 is null."""
    return pl.Series([*words, None], dtype=pl.String).gather(np.where(index < 0, len(words), index))


def member_frame(settings: Settings, m: Members) -> pl.DataFrame:
    """Table `member`: one row each, known when it joined."""
    joined = stamps(settings, m.joined)
    return pl.DataFrame(
        {
            "member": m.ids,
            "country": words(COUNTRIES, m.country),
            "language": words(LANGUAGES, m.country),
            "maturity": m.maturity,
            "kids": m.kids,
            "at": joined,
            "known": joined,
        }
    )


def consent_frame(settings: Settings, m: Members) -> pl.DataFrame:
    """Table `consent`: what each member answered when joining, two purposes each."""
    joined = stamps(settings, m.joined)
    person = pl.Series(m.ids).cast(pl.String)
    parts = [
        pl.DataFrame({"person": person, "granted": granted, "at": joined, "known": joined}).with_columns(
            pl.lit(purpose).alias("purpose"), pl.lit(None, _STAMP).alias("until")
        )
        for purpose, granted in (("personalization", m.personalization), ("research", m.research))
    ]
    return pl.concat(parts).select("person", "purpose", "granted", "until", "at", "known")


def title_frame(settings: Settings, t: Catalogue) -> pl.DataFrame:
    """Table `title`: announced one to eight weeks before its launch."""
    announced = stamps(settings, t.launch - 7 - (t.ids * 37) % 50)
    genres = [[GENRES[a]] + ([GENRES[b]] if b >= 0 else []) for a, b in zip(t.genre.tolist(), t.second_genre.tolist())]
    return pl.DataFrame(
        {
            "title": t.ids,
            "name": t.names,
            "kind": words(("film", "series"), t.series.astype(np.int64)),
            "year": stamps(settings, t.launch).dt.year().cast(pl.Int64),
            "genres": pl.Series(genres, dtype=pl.List(pl.String)),
            "maturity": t.maturity,
            "provider": words(t.providers, t.provider),
            "runtime": np.round(t.runtime / 60 / np.where(t.series, 2, 1)).astype(np.int64),
            "at": announced,
            "known": announced,
        }
    )


def licence_frame(settings: Settings, t: Catalogue) -> pl.DataFrame:
    """Table `licence`: windows, known before they start; `at` is their start and may lie ahead."""
    title, starts, ends, known = t.windows.T
    starts_at = stamps(settings, starts)
    open_end = np.isinf(ends)
    frame = pl.DataFrame(
        {
            "title": t.ids[title.astype(int)],
            "starts": starts_at,
            "ends": stamps(settings, np.where(open_end, 0, ends)),
            "open_end": open_end,
            "at": starts_at,
            "known": stamps(settings, known),
        }
    )
    return frame.select(
        "title",
        pl.lit("*").alias("territory"),
        "starts",
        pl.when(~pl.col("open_end")).then(pl.col("ends")).alias("ends"),
        "at",
        "known",
    )


def shown_frame(settings: Settings, t: Catalogue, m: Members, h: ViewingHistory) -> pl.DataFrame:
    """Table `shown`: every slot of every page."""
    pages, slots = h.slates.shape
    at = stamps(settings, np.repeat(h.day, slots))
    return pl.DataFrame(
        {
            "member": np.repeat(m.ids[h.member], slots),
            "title": t.ids[h.slates.reshape(-1)],
            "slot": np.tile(np.arange(slots), pages),
            "shelf": pl.Series(["home"], dtype=pl.String).new_from_index(0, pages * slots),
            "device": words(DEVICES, np.repeat(h.device, slots)),
            "at": at,
            "known": at,
        }
    )


def played_frame(settings: Settings, t: Catalogue, m: Members, h: ViewingHistory) -> pl.DataFrame:
    """Table `played`: `at` is when it began; `known` is after it ended, hours later from offline devices."""
    p = h.plays
    frame = pl.DataFrame(
        {
            "member": m.ids[h.member[p.row]],
            "title": t.ids[p.title],
            "seconds": p.seconds,
            "device": words(DEVICES, h.device[p.row]),
            "share": p.share,
            "at": stamps(settings, p.day),
            "known": stamps(settings, p.known_day),
        }
    )
    return frame.sort("at", maintain_order=True)


def processor_frame(settings: Settings) -> pl.DataFrame:
    """Table `processor`: fees in cents."""
    at = stamps(settings, np.full(len(PROCESSORS), -400.0))
    return pl.DataFrame(
        {
            "processor": list(PROCESSORS),
            "fee_success_minor": FEES_SUCCESS_MINOR,
            "fee_failure_minor": FEES_FAILURE_MINOR,
            "currency": [CURRENCY] * len(PROCESSORS),
            "active": [True] * len(PROCESSORS),
            "at": at,
            "known": at,
        }
    )


def invoice_frame(settings: Settings, b: Billing, index: np.ndarray) -> pl.DataFrame:
    """Table `invoice`, for these invoices."""
    m, who = b.members, b.member[index]
    at = stamps(settings, b.due[index])
    return pl.DataFrame(
        {
            "invoice": pl.Series([invoice_id(i) for i in index.tolist()], dtype=pl.String),
            "amount_minor": b.amount_minor[index],
            "currency": pl.Series([CURRENCY], dtype=pl.String).new_from_index(0, len(index)),
            "member": m.ids[who],
            "country": words(COUNTRIES, m.country[who]),
            "card": words(NETWORKS, m.network[who]),
            "debit": m.debit[who],
            "three_d": m.three_d[who],
            "at": at,
            "known": at,
        }
    )


def attempt_frame(settings: Settings, b: Billing, a: Attempts, *, ordered: bool = True) -> pl.DataFrame:
    """Table `attempt`: known when the answer arrives, some of them hours later; by time if `ordered`."""
    frame = pl.DataFrame(
        {
            "invoice": pl.Series([invoice_id(i) for i in a.invoice.tolist()], dtype=pl.String),
            "number": a.number,
            "processor": words(PROCESSORS, a.processor),
            "amount_minor": b.amount_minor[a.invoice],
            "currency": pl.Series([CURRENCY], dtype=pl.String).new_from_index(0, len(a.invoice)),
            "approved": a.approved,
            "code": pl.Series(a.code.tolist(), dtype=pl.String),
            "fee_minor": a.fee_minor,
            "gap_seconds": pl.Series(np.round(a.gap_days * 86_400)).fill_nan(None),
            "previous": words(PROCESSORS, a.previous),
            "at": stamps(settings, a.day),
            "known": stamps(settings, a.known_day),
        }
    )
    return frame.sort("at", maintain_order=True) if ordered else frame


def stopped_frame(settings: Settings, index: np.ndarray, day: np.ndarray) -> pl.DataFrame:
    """Table `stopped`: members who cancelled after a decline."""
    at = stamps(settings, day)
    frame = pl.DataFrame(
        {
            "invoice": pl.Series([invoice_id(i) for i in index.tolist()], dtype=pl.String),
            "reason": pl.Series(["cancelled"], dtype=pl.String).new_from_index(0, len(index)),
            "at": at,
            "known": at,
        }
    )
    return frame.sort("at", maintain_order=True)


def spoil(frame: pl.DataFrame, rng: np.random.Generator, *, duplicates: float, bad: float) -> pl.DataFrame:
    """Repeats a share of the rows, and breaks a share of them as broken clients do.

    A bad row has, by turns, a null key, a negative number, or was known before it happened.
    """
    again = frame[np.flatnonzero(rng.random(len(frame)) < duplicates)]
    rows = np.flatnonzero(rng.random(len(frame)) < bad)
    number = next((c for c in ("seconds", "slot", "amount_minor", "number") if c in frame.columns), None)
    kinds = 3 if number else 2
    parts = [frame, again]
    for kind in range(kinds):
        broken = frame[rows[kind::kinds]]
        if kind == 0:
            broken = broken.with_columns(pl.lit(None, frame.dtypes[0]).alias(frame.columns[0]))
        elif kind == 1:
            broken = broken.with_columns((pl.col("at") - pl.duration(days=3)).alias("known"))
        elif number:
            broken = broken.with_columns((-1 - pl.col(number)).alias(number))
        parts.append(broken)
    return pl.concat(parts)
