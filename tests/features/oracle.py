"""Facts, features and what each feature is by its definition, in plain Python: no cumulative sums, no as-of joins."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import numpy as np
import polars as pl

from matinee.facts import Entity, Fact, OneOf
from matinee.features import (
    Features,
    apply,
    count,
    counts,
    history,
    last,
    mean,
    rate,
    recency,
    state,
    sum,
)
from matinee.times import from_us

HOUR = 3_600_000_000
START = 1_780_000_000_000_000 // HOUR * HOUR
Row = dict[str, Any]
LATER = [0, 0, 0, 1, 4, 5, 6, 24, 30, -2, -20]  # hours from when something happens to when it is known
AHEAD = [0, 4, -2, -20, -20, -40]
World = Mapping[type[Fact], list[Row]]


class Played(Fact, key="member"):
    """Events, late or known before they happen."""

    member: int
    title: int
    seconds: float
    score: float | None
    stars: int | None
    device: str | None


class Charged(Fact, key="member"):
    """Events that can be taken back."""

    member: int
    amount: int
    fee: float
    route: str
    sign: Annotated[int, OneOf((1, -1))] = 1


class Title(Entity, key="title"):
    """What is joined."""

    title: int
    year: int
    studio: str


class Studio(Entity, key="studio"):
    """What is joined through a join."""

    studio: str
    country: str | None


class Member(Entity, key="member"):
    """The key's own entity."""

    member: int
    country: str


class Offer(Fact, key="member", scheduled=True):
    """A fact about the future."""

    member: int
    price: int


def hour(h: float) -> datetime:
    """The time h hours after the start."""
    return from_us(START + int(h * HOUR))


def us(h: float) -> int:
    """The same in microseconds since 1970."""
    return START + int(h * HOUR)


def frame(fact: type[Fact], rows: list[Row]) -> pl.DataFrame:
    """Rows whose `at` and `known` are hours, as a frame of the fact."""
    data = [{**r, "at": hour(r["at"]), "known": hour(r["known"])} for r in rows]
    return pl.DataFrame(data, schema={k: v for k, v in fact.schema.polars().items() if k not in ("choice", "outcome")})


def added(a: Any, b: Any) -> Any:
    """A plain function over two features."""
    return np.nan_to_num(a) + 2 * np.nan_to_num(b)


def longest(values: Any) -> Any:
    """A plain function over lists."""
    return np.array([max(one, default=None) for one in values], object)


watched = Played.seconds > 100
FEATURES = Features(
    "member",
    name="everything",
    seconds_5h=sum(Played.seconds, "5h"),
    seconds_all=sum(Played.seconds),
    stars_1d=sum(Played.stars, "1d"),
    scaled_1d=sum(Played.seconds * 2 + Played.stars, "1d"),
    plays_5h=count(Played, "5h"),
    plays_all=count(Played),
    watched_1d=count(Played, "1d", where=watched),
    scored_1d=count(Played.score, "1d"),
    mean_score_1d=mean(Played.score, "1d"),
    mean_stars=mean(Played.stars),
    rate_1d=rate(Played, "1d"),
    title=last(Played.title),
    score=last(Played.score),
    tv_title=last(Played.title, where=Played.device == "tv"),
    age=recency(Played),
    tv_age=recency(Played, where=Played.device == "tv"),
    titles=history(Played.title, 3),
    devices=history(Played.device, 2, where=watched),
    shown_5h=counts(Played.title, "5h"),
    by_device=counts(Played.device, where=watched),
    stars_by_value=counts(Played.stars, "1d"),
    paid_1d=sum(Charged.amount, "1d"),
    fees_1d=sum(Charged.fee, "1d"),
    charges_1d=count(Charged, "1d"),
    mean_paid_1d=mean(Charged.amount, "1d"),
    routes_1d=counts(Charged.route, "1d"),
    paid_a=sum(Charged.amount, where=Charged.route == "a"),
    paid_last=last(Charged.amount),
    year=state(Title.year, of=last(Played.title)),
    studio=state(Title.studio, of=last(Played.title)),
    where_made=state(Studio.country, of=state(Title.studio, of=last(Played.title))),
    country=state(Member.country),
    price=last(Offer.price),
    offer_age=recency(Offer),
    offers=history(Offer.price, 2),
    offers_1d=count(Offer, "1d"),
    per_play=sum(Played.seconds, "5h") / count(Played, "5h") + 1,
    less=3 - count(Played, "5h") * 2,
    both=apply(added, count(Played, "5h"), mean(Played.score, "1d")),
    top=apply(longest, history(Played.title, 3), returns=int),
)
FLOATS = {"seconds_5h", "seconds_all", "scaled_1d", "mean_score_1d", "fees_1d", "per_play", "both"}


def expected(world: World, member: Any, t: float) -> Row:
    """Every feature of FEATURES for a member at hour t."""

    def known(fact: type[Fact], key: Any, *, is_state: bool = False, column: str | None = None) -> list[Row]:
        own = column or fact.schema.key
        seen = [r for r in world.get(fact, []) if r[own] == key]
        return [r for r in seen if (r["known"] if is_state else max(r["at"], r["known"])) <= t]

    def inside(rows: list[Row], hours: float | None) -> list[Row]:
        return rows if hours is None else [r for r in rows if r["at"] >= t - hours]

    def ordered(rows: list[Row]) -> list[Row]:
        return sorted((r for r in rows if r.get("sign") != -1), key=lambda r: (r["at"], r["known"], r["seq"]))

    def newest(rows: list[Row], column: str) -> Any:
        return ordered(rows)[-1][column] if ordered(rows) else None

    def age(rows: list[Row]) -> float | None:
        return (t - newest(rows, "at")) * 3600 if ordered(rows) else None

    def total(rows: list[Row], value: Callable[[Row], Any]) -> Any:
        found = [value(r) for r in rows]
        return builtin_sum(r.get("sign", 1) * v for r, v in zip(rows, found, strict=True) if v is not None)

    def held(rows: list[Row], column: str | None = None) -> int:
        return builtin_sum(r.get("sign", 1) for r in rows if column is None or r[column] is not None)

    def average(rows: list[Row], column: str) -> float | None:
        n = held(rows, column)
        return total(rows, lambda r: r[column]) / n if n else None

    def tally(rows: list[Row], column: str) -> dict[Any, int]:
        found: Counter[Any] = Counter()
        for r in rows:
            if r[column] is not None:
                found[r[column]] += r.get("sign", 1)
        return {value: n for value, n in found.items() if n}

    plays, charges = known(Played, member), known(Charged, member)
    tv = [r for r in plays if r["device"] == "tv"]
    long = [r for r in plays if r["seconds"] > 100]
    offers = known(Offer, member, is_state=True)
    title = newest(plays, "title")
    of_title = known(Title, title, is_state=True)
    studio = newest(of_title, "studio")
    day, five = inside(plays, 24), inside(plays, 5)
    both = len(five) + 2 * (average(day, "score") or 0)
    return {
        "seconds_5h": total(five, lambda r: r["seconds"]),
        "seconds_all": total(plays, lambda r: r["seconds"]),
        "stars_1d": total(day, lambda r: r["stars"]),
        "scaled_1d": total(day, lambda r: None if r["stars"] is None else r["seconds"] * 2 + r["stars"]),
        "plays_5h": len(five),
        "plays_all": len(plays),
        "watched_1d": len(inside(long, 24)),
        "scored_1d": held(day, "score"),
        "mean_score_1d": average(day, "score"),
        "mean_stars": average(plays, "stars"),
        "rate_1d": float(len(day)),
        "title": title,
        "score": newest(plays, "score"),
        "tv_title": newest(tv, "title"),
        "age": age(plays),
        "tv_age": age(tv),
        "titles": [r["title"] for r in ordered(plays)[-3:]],
        "devices": [r["device"] for r in ordered(long)[-2:]],
        "shown_5h": tally(five, "title"),
        "by_device": tally(long, "device"),
        "stars_by_value": tally(day, "stars"),
        "paid_1d": total(inside(charges, 24), lambda r: r["amount"]),
        "fees_1d": total(inside(charges, 24), lambda r: r["fee"]),
        "charges_1d": held(inside(charges, 24)),
        "mean_paid_1d": average(inside(charges, 24), "amount"),
        "routes_1d": tally(inside(charges, 24), "route"),
        "paid_a": total([r for r in charges if r["route"] == "a"], lambda r: r["amount"]),
        "paid_last": newest(charges, "amount"),
        "year": newest(of_title, "year"),
        "studio": studio,
        "where_made": newest(known(Studio, studio, is_state=True), "country"),
        "country": newest(known(Member, member, is_state=True), "country"),
        "price": newest(offers, "price"),
        "offer_age": age(offers),
        "offers": [r["price"] for r in ordered(offers)[-2:]],
        "offers_1d": len(inside([r for r in offers if r["at"] <= t], 24)),
        "per_play": total(five, lambda r: r["seconds"]) / len(five) + 1 if five else None,
        "less": 3 - len(five) * 2,
        "both": float(both),
        "top": max((r["title"] for r in ordered(plays)[-3:]), default=None),
    }


builtin_sum = __builtins__["sum"] if isinstance(__builtins__, dict) else __builtins__.sum


def corrected(rows: list[Row], rng: random.Random) -> list[Row]:
    """Charges of which some are taken back by a pair at the same `at`, known later."""
    found = list(rows)
    for row in rows:
        if rng.random() < 0.4:
            known = max(row["known"], row["at"]) + rng.choice([1, 2, 20, 30])
            found.append({**row, "sign": -1, "known": known})
            if rng.random() < 0.7:
                found.append({**row, "amount": rng.randint(0, 9), "fee": rng.choice([0.1, 0.7]), "known": known})
    return found


def random_world(rng: random.Random, size: int) -> dict[type[Fact], list[Row]]:
    """Rows with ties, lateness, rows known before they happen, corrections; times are whole hours."""

    def some(n: int, make: Callable[[], Row], later: Sequence[int] = LATER) -> list[Row]:
        found = []
        for _ in range(rng.randint(0, n)):
            at = rng.randint(0, 60)
            found.append({**make(), "at": at, "known": max(0, at + rng.choice(later))})
        return found

    def played() -> Row:
        seconds, score = rng.choice([0.1, 33.3, 100.0, 1e5 + 0.3]), rng.choice([None, 0.5, 0.1, 7.7])
        row = {"member": rng.choice(members), "title": rng.randint(0, 3), "seconds": seconds, "score": score}
        return {**row, "stars": rng.choice([None, 1, 5]), "device": rng.choice(["tv", "web", None])}

    def charged() -> Row:
        row = {"member": rng.choice(members), "amount": rng.randint(0, 9), "fee": rng.choice([0.1, 0.2, 0.3])}
        return {**row, "route": rng.choice("ab"), "sign": 1}

    def title() -> Row:
        return {"title": rng.randint(0, 3), "year": rng.randint(1990, 1999), "studio": rng.choice("xy")}

    members = [1, 2, 3]
    world: dict[type[Fact], list[Row]] = {
        Played: some(size, played),
        Charged: corrected(some(size // 2, charged), rng),
        Title: some(9, title, AHEAD),
        Studio: some(3, lambda: {"studio": rng.choice("xy"), "country": rng.choice(["NO", None, "FR"])}, AHEAD),
        Member: some(5, lambda: {"member": rng.choice(members), "country": rng.choice(["NO", "FR"])}, AHEAD),
        Offer: some(12, lambda: {"member": rng.choice(members), "price": rng.randint(1, 9)}, AHEAD),
    }
    for rows in world.values():
        order = list(range(len(rows)))
        rng.shuffle(order)
        for row, seq in zip(rows, order, strict=True):
            row["seq"] = seq
        rows.sort(key=lambda r: r["seq"])
    return world
