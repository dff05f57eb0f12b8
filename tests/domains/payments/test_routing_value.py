"""What a way to route would have earned: against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from tests.domains.payments.planted import COIN, FEES, SMALL, log, truth

from matinee.domains.payments.processor_log import propensities
from matinee.domains.payments.routing_model import RoutingModel
from matinee.domains.payments.routing_value import Sheet, Trial, pool
from matinee.exceptions import BadInputError

SHARES = {first: {"cheap": COIN, "dear": 1 - COIN} for first in (True, False)}


def _truth(frame: pl.DataFrame) -> np.ndarray:
    return truth(frame["amount_minor"].to_numpy(), frame["three_d"].to_numpy(), frame["at"].dt.hour().to_numpy())


def _net(frame: pl.DataFrame, q: np.ndarray, action: np.ndarray, margin: float) -> float:
    sheet = Sheet.of(frame, FEES, SHARES)
    success, failure = sheet.net(margin)
    rows = np.arange(len(action))
    return float((q * success + (1 - q) * failure)[rows, action].mean())


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return log(6_000, seed=11)


def test_by_hand() -> None:
    one = log(1, seed=0).with_columns(amount_minor=10_000, approved=True, processor=pl.lit("cheap"))
    sheet = Sheet.of(one, FEES, SHARES)
    success, failure = sheet.net(0.10)
    assert success.tolist() == [[900.0, 500.0]]
    assert failure.tolist() == [[-50.0, -200.0]]
    assert sheet.expected_fee(np.array([[0.5, 0.5]])).tolist() == [[75.0, 350.0]]
    assert sheet.fee.tolist() == [100.0]
    assert sheet.richest(np.array([[0.2, 0.9]]), 0.10).tolist() == [1]  # 140 against 430
    assert sheet.richest(np.array([[0.5, 0.6]]), 0.05).tolist() == [0]  # 175 against -80


def test_doubly_robust_finds_the_true_value_whatever_the_model_says(frame: pl.DataFrame) -> None:
    sheet, q = Sheet.of(frame, FEES, SHARES), _truth(frame)
    action = sheet.richest(q, 0.10)
    want = _net(frame, q, action, 0.10)
    for judge in (q, np.full_like(q, 0.5)):  # the truth, and nonsense
        found = sheet.value(action, 0.10, judge).headline
        assert found.method == "dr"
        assert found.low is not None and found.high is not None
        assert found.low < want < found.high
        assert found.estimated
    precise = sheet.value(action, 0.10, q).headline
    vague = sheet.value(action, 0.10, np.full_like(q, 0.5)).headline
    assert precise.se < vague.se  # type: ignore[operator]  # neither was refused


def test_always_one_processor_is_the_mean_of_its_rows(frame: pl.DataFrame) -> None:
    shares = propensities(frame, list(FEES))
    sheet = Sheet.of(frame, FEES, shares)
    always = np.ones(len(frame), np.int64)
    rows = frame.filter(pl.col("processor") == "dear")
    assert sheet.success(always, np.full((len(frame), 2), 0.3))["snips"].value == pytest.approx(
        rows["approved"].mean(), abs=0.01
    )
    assert sheet.spent(always, np.full((len(frame), 2), 0.3))["snips"].value == pytest.approx(
        rows["fee_minor"].mean(), rel=0.01
    )


def test_the_price_of_a_fee_spends_the_budget(frame: pl.DataFrame) -> None:
    sheet = Sheet.of(frame, FEES, SHARES)
    q = (_truth(frame) + np.random.default_rng(0).normal(0, 0.05, (len(frame), 2))).clip(0.01, 0.99)
    for budget in (90.0, 150.0, 250.0):
        action = sheet.likeliest(q, sheet.price(q, budget))
        spent = sheet.expected_fee(q)[np.arange(len(q)), action].mean()
        assert spent <= budget
        assert spent > 0.9 * budget
    loose = sheet.likeliest(q, sheet.price(q, 1e9))
    assert np.array_equal(loose, q.argmax(axis=1))


def test_a_processor_that_was_never_tried_is_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(BadInputError, match="'dear' was never tried for a retry"):
        Sheet.of(frame, FEES, {True: {"cheap": 0.5, "dear": 0.5}, False: {"cheap": 1.0, "dear": 0.0}})


def test_pooled_sheets_are_their_rows(frame: pl.DataFrame) -> None:
    parts = [Sheet.of(frame[:2_000], FEES, SHARES), Sheet.of(frame[2_000:], FEES, SHARES)]
    whole = Sheet.of(frame, FEES, SHARES)
    assert np.array_equal(pool(parts).amount, whole.amount)
    assert np.array_equal(pool(parts).chance, whole.chance)


@pytest.fixture(scope="module")
def trial() -> Trial:
    whole = log(4_000, seed=12)
    train = whole[:2_800]
    return Trial(train, whole[2_800:], FEES, RoutingModel(extras=(), variants=SMALL).fit(train, list(FEES)))


def test_a_learned_policy_beats_every_single_processor_in_truth_and_in_estimate(trial: Trial) -> None:
    q, sheet = _truth(trial.test), trial.sheet
    ours = sheet.richest(trial.live, 0.10)
    singles = [np.full(len(q), i) for i in (0, 1)]
    assert _net(trial.test, q, ours, 0.10) > max(_net(trial.test, q, a, 0.10) for a in singles)
    found = sheet.value(ours, 0.10, trial.judge).headline
    assert found.low is not None and found.high is not None
    assert found.low < _net(trial.test, q, ours, 0.10) < found.high


def test_the_judge_has_not_seen_the_answers_it_judges(trial: Trial) -> None:
    day = trial.test["at"].dt.epoch("d")
    even = (day % 2 == 0).to_numpy()
    flipped = trial.test.with_columns(approved=pl.when(pl.Series(even)).then(~pl.col("approved")).otherwise("approved"))
    still = {"strength": 0.0}
    model = RoutingModel(extras=(), drift=still, variants=SMALL).fit(trial.train, list(FEES))
    a, b = (Trial(trial.train, t, FEES, model).judge for t in (trial.test, flipped))
    assert np.allclose(a[even], b[even])
    assert not np.allclose(a[~even], b[~even])


def test_the_budget_of_a_day_is_set_by_the_days_before_it(trial: Trial) -> None:
    first = trial.within_budget(trial.live, trial.fitted.crossfitted)
    day = trial.test["at"].dt.epoch("d").to_numpy()
    last = day == day.max()
    changed = np.where(last[:, None], 0.99, trial.live)
    second = trial.within_budget(changed, trial.fitted.crossfitted)
    assert np.array_equal(first[~last], second[~last])
    half = last & (np.arange(len(day)) < np.flatnonzero(last).mean())
    later = np.where((last & ~half)[:, None], 0.99, trial.live)
    third = trial.within_budget(later, trial.fitted.crossfitted)
    assert np.array_equal(first[half], third[half])  # nor by the rest of the day itself
    spent = trial.sheet.expected_fee(trial.live)[np.arange(len(first)), first].mean()
    assert spent == pytest.approx(trial.train_sheet.fee.mean(), rel=0.2)
