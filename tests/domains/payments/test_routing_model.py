"""The approval model: finds a planted rule, leaks nothing, survives its files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.domains.payments.planted import FEES, SMALL, log, truth

from matinee.domains.payments.routing_columns import Columns, payment, payments
from matinee.domains.payments.routing_model import RoutingModel
from matinee.exceptions import BadInputError, StorageError, UnknownColumnError

PROCESSORS = list(FEES)


@pytest.fixture(scope="module")
def attempts() -> pl.DataFrame:
    return log(3_000, seed=1)


@pytest.fixture(scope="module")
def model(attempts: pl.DataFrame) -> RoutingModel:
    return RoutingModel(extras=(), variants=SMALL).fit(attempts, PROCESSORS)


def _truth(frame: pl.DataFrame) -> np.ndarray:
    return truth(frame["amount_minor"].to_numpy(), frame["three_d"].to_numpy(), frame["at"].dt.hour().to_numpy())


def test_it_finds_the_planted_rules(model: RoutingModel) -> None:
    fresh = log(2_000, seed=2)
    static = model.static(fresh)
    assert np.abs(static - _truth(fresh)).mean() < 0.06
    assert (static.argmax(axis=1) == _truth(fresh).argmax(axis=1)).mean() > 0.93


def test_what_it_says_of_training_rows_is_as_good_as_of_new_ones(model: RoutingModel, attempts: pl.DataFrame) -> None:
    wrong = np.abs(model.outside - _truth(attempts)).mean()
    flattered = np.abs(model.static(attempts) - _truth(attempts)).mean()
    assert flattered < wrong < 0.1
    assert model.crossfitted.shape == model.outside.shape == (3_000, 2)


def test_a_day_is_predicted_without_its_own_answers(attempts: pl.DataFrame, model: RoutingModel) -> None:
    day = attempts["at"].dt.epoch("d") == attempts["at"].dt.epoch("d")[0]
    other = attempts.with_columns(approved=pl.when(day).then(~pl.col("approved")).otherwise("approved"))
    again = RoutingModel(extras=(), variants=SMALL).fit(other, PROCESSORS)
    rows = day.to_numpy()
    assert np.array_equal(again.outside[rows], model.outside[rows])
    assert not np.array_equal(again.outside[~rows], model.outside[~rows])


def test_replay_looks_at_no_answer_before_its_time(model: RoutingModel) -> None:
    later = log(400, seed=3)
    first = model.replay(later)
    changed = later.with_row_index().with_columns(
        approved=pl.when(pl.col("index") >= 250).then(False).otherwise("approved")
    )
    second = model.replay(changed.drop("index"))
    assert np.array_equal(first[:251], second[:251])
    assert not np.array_equal(first[251:], second[251:])
    assert np.array_equal(model.replay(later), first)  # it walked a copy


def test_serving_goes_on_from_the_last_attempt_that_was_learned_from(model: RoutingModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    later = log(300, seed=4)
    serving = RoutingModel.load(tmp_path / "m")
    told = serving.replay(later)
    assert serving.predict(later[:1])[0] == pytest.approx(told[0], abs=1e-12)
    assert np.abs(serving.predict(later) - serving.static(later)).max() > 0.01, "the filter says something"
    assert not np.allclose(serving.predict(later), told), "and stands still"


def test_drift_can_be_turned_off(attempts: pl.DataFrame) -> None:
    still = RoutingModel(extras=(), drift={"strength": 0.0}, variants=SMALL).fit(attempts.head(1_500), PROCESSORS)
    assert np.array_equal(still.crossfitted, still.outside)


def test_files_give_the_same_to_the_bit(model: RoutingModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    loaded = RoutingModel.load(tmp_path / "m")
    fresh = log(300, seed=5)
    assert np.array_equal(loaded.predict(fresh), model.predict(fresh))
    assert np.array_equal(loaded.static(fresh), model.static(fresh))
    assert not list((tmp_path / "m").rglob("*.pkl"))
    (tmp_path / "m" / "drift.safetensors").unlink()
    with pytest.raises(StorageError, match=r"drift\.safetensors is missing"):
        RoutingModel.load(tmp_path / "m")


def test_one_payment_is_as_its_row(model: RoutingModel) -> None:
    frame = log(50, seed=6)
    row = frame.row(7, named=True)
    one = model.predict(payment(row, row["at"]))
    assert one[0] == pytest.approx(model.predict(frame)[7], abs=1e-12)


def test_what_is_not_known_of_a_payment_is_no_trouble(model: RoutingModel) -> None:
    when = datetime(2026, 1, 20, 13, tzinfo=UTC)
    found = model.predict(payment({"amount_minor": 900, "card": "a card never seen"}, when))
    assert ((found > 0) & (found < 1)).all()


def test_extras_that_say_nothing_are_left_out_and_one_that_does_is_kept() -> None:
    frame = log(1_500, seed=7)
    better = frame.with_columns(country=pl.when(pl.col("approved")).then(pl.lit("AT")).otherwise(pl.lit("DE")))
    model = RoutingModel(variants=SMALL)
    model.processors = PROCESSORS
    folds = (frame["at"].dt.epoch("d").to_numpy() % 5).astype(np.int64)
    action, approved = model._answers(frame)
    assert model._worthwhile(frame, action, approved, folds, 0) == []
    assert "country" in model._worthwhile(better, action, approved, folds, 0)


def test_crossings_are_products_of_what_occurs_together() -> None:
    frame = log(1_000, seed=8)
    columns = Columns.learn(frame)
    full = columns.full(payments(frame))
    both = full["three_d"] * full["first"]
    assert np.array_equal(full["three_d×first"], both)
    assert all("card=Visa" not in n or "card=Master" not in n for n in columns.crossed)
    assert Columns.from_json(columns.to_json()) == columns


def test_errors_say_what_would_be_right(attempts: pl.DataFrame, model: RoutingModel) -> None:
    with pytest.raises(BadInputError, match="processor 'gold' has 0 attempts, must have at least 200"):
        RoutingModel(extras=(), variants=SMALL).fit(attempts, [*PROCESSORS, "gold"])
    with pytest.raises(BadInputError, match="not in order of time"):
        RoutingModel(extras=(), variants=SMALL).fit(attempts.reverse(), PROCESSORS)
    with pytest.raises(UnknownColumnError, match="column == 'card', must be a column of the payments"):
        model.static(attempts.drop("card"))
    with pytest.raises(BadInputError, match="processor == 'gold', must be one of cheap, dear"):
        model.replay(attempts.head(3).with_columns(processor=pl.lit("gold")))
