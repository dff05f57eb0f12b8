"""Features keep their promises over random facts; each check fails on features that break just that promise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest

from matinee.facts import Entity, Fact, OneOf, Range
from matinee.features import Features, apply, count, counts, history, last, mean, nightly, rate, recency, state, sum
from matinee.testing import check_features, random_facts, yield_features_checks
from matinee.testing import features as checks
from matinee.validate import check_rows


class Played(Fact, key="member"):
    member: int
    title: int
    seconds: Annotated[float, Range(ge=0, lt=5000)]
    device: Annotated[str | None, OneOf(("tv", "phone"))]
    sign: Annotated[int, OneOf((1, -1))]


class Rated(Fact, key="member"):
    member: int
    stars: Annotated[int | None, Range(gt=0, le=5)]
    note: str | None
    day: date | None
    tags: list[str] | None


class Title(Entity, key="title"):
    title: int
    year: int


class Licence(Fact, key="title", scheduled=True):
    title: int
    starts: datetime


class Charged(Fact, key="card"):
    card: str
    amount: int


def plays_of_all(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("member").agg(pl.len().cast(pl.Float64).alias("value"))


SETS = [
    Features(
        "member",
        plays=count(Played, "7d"),
        phones=count(Played.device, "36h"),
        seconds=sum(Played.seconds, "7d"),
        share=sum(Played.seconds, "2d") / sum(Played.seconds),
        stars=mean(Rated.stars, "30d"),
        pace=rate(Played, "7d"),
        since=recency(Played, where=Played.device == "tv"),
        title=last(Played.title, where=Played.seconds > 100),
        day=last(Rated.day),
        tags=last(Rated.tags),
        notes=history(Rated.note, 2),
        seen=counts(Played.title, "7d"),
        year=state(Title.year, of=last(Played.title)),
        doubled=apply(lambda n: 2 * n, count(Played, "1d")),
        nightly_plays=nightly(plays_of_all, [Played]),
    ),
    Features(
        "title", plays=count(Played, "7d"), year=state(Title.year), window=last(Licence.starts), ahead=recency(Licence)
    ),
    Features("card", paid=sum(Charged.amount, "30d"), largest=last(Charged.amount)),
]


@pytest.mark.parametrize("features", SETS, ids=lambda f: f.name)
@pytest.mark.parametrize("check", list(yield_features_checks()), ids=lambda check: check.__name__)
def test_features_keep_their_promises(features: Features, check: checks.FeaturesCheck) -> None:
    check(features, np.random.default_rng(7))


def test_random_facts_are_rows_the_store_would_take() -> None:
    drawn = random_facts(SETS[0], np.random.default_rng(1), 300)
    for fact, frame in drawn.items():
        on_time = frame.filter(pl.col("known") >= pl.col("at")).drop("seq")
        now = checks.START + timedelta(days=365)
        assert check_rows(fact.schema, on_time, now=now).bad.is_empty()
    plays = drawn[Played]
    assert plays.select(pl.struct("member", "at").is_duplicated().any()).item()
    assert plays.select((pl.col("known") > pl.col("at")).mean()).item() > 0.2
    assert plays["device"].null_count() > 0


class _Online:
    """The honest state, for a wrapper to spoil."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _DropsLateRows(_Online):
    def update(self, fact: str, row: Any) -> None:
        if row["known"] <= row["at"]:
            self.inner.update(fact, row)


class LosesLateRowsOnline(Features):
    def online(self) -> Any:
        return _DropsLateRows(super().online())


class _LosesBytes(_Online):
    def load(self, key: Any, data: bytes) -> None:
        return


class LosesItsState(Features):
    def online(self) -> Any:
        return _LosesBytes(super().online())


class PublishesLate(Features):
    def online_states(self, source: Any, as_of: datetime) -> Iterator[tuple[Any, bytes]]:
        return super().online_states(source, as_of - timedelta(days=3))


class SeesTheFuture(Features):
    def batch(self, source: Any, labels: pl.DataFrame, **given: Any) -> pl.DataFrame:
        found = super().batch(source, labels, **given)
        return found.with_columns(plays=pl.lit(source.scan(Played).collect().height))


class TakesTheFirstRow(Features):
    def batch(self, source: Any, labels: pl.DataFrame, **given: Any) -> pl.DataFrame:
        found = super().batch(source, labels, **given)
        first = source.scan(Played, bucket=0).collect()["title"]
        return found.with_columns(plays=pl.lit(0 if first.is_empty() else first[0]))


class SortsTheLabels(Features):
    def batch(self, source: Any, labels: pl.DataFrame, **given: Any) -> pl.DataFrame:
        return super().batch(source, labels.sort("member", "at"), **given)


class CountsNothingAsOne(Features):
    def batch(self, source: Any, labels: pl.DataFrame, **given: Any) -> pl.DataFrame:
        return super().batch(source, labels, **given).with_columns(pl.col("plays").clip(1))


class HasNoName(Features):
    def __repr__(self) -> str:
        return "Features(\n)"


BROKEN: dict[Any, tuple[Any, str]] = {
    checks.online_equals_batch_after_a_replay: (LosesLateRowsOnline, "plays of member .* online and .* in batch"),
    checks.online_state_survives_its_bytes: (LosesItsState, "after a store and load"),
    checks.published_states_equal_batch: (PublishesLate, "plays of member .* published and .* in batch"),
    checks.nothing_is_seen_before_it_is_known: (SeesTheFuture, "rows known only after .* change plays"),
    checks.order_of_rows_has_no_influence: (TakesTheFirstRow, "the order of rows changes plays"),
    checks.labels_are_kept_and_not_mutated: (SortsTheLabels, "batch changed rows or order of the labels"),
    checks.no_facts_and_unknown_keys_are_no_trouble: (
        CountsNothingAsOne,
        "plays of member .* is 0 online and 1 in batch",
    ),
    checks.the_description_is_plain_and_stable: (HasNoName, "repr must be one line"),
}


@pytest.mark.parametrize("check", list(yield_features_checks()), ids=lambda check: check.__name__)
def test_check_catches_features_that_break_the_promise(check: checks.FeaturesCheck) -> None:
    broken, sentence = BROKEN[check]
    with pytest.raises(AssertionError, match=sentence):
        check(broken("member", plays=count(Played, "7d")), np.random.default_rng(7))


def test_check_features_names_the_set_and_the_promise() -> None:
    check_features(SETS[2], worlds=1)
    with pytest.raises(AssertionError, match="Features 'taste' breaks a promise, 'online equals batch after a replay'"):
        check_features(LosesLateRowsOnline("member", name="taste", plays=count(Played, "7d")))
