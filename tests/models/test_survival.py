"""Survival: the promises of every model, agreement with Kaplan-Meier, censoring, age."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from matinee.exceptions import BadInputError, MatineeError
from matinee.models import Survival
from matinee.testing.models import ModelCheck, example_rows
from models.suite import every_promise

MODELS = [
    Survival(horizon=3),
    Survival(horizon=2, hazard="boosting", predicts="survival", options={"trees": 6}),
    Survival(horizon=3, age="title", width=2.0),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
@every_promise
def test_keeps_the_promises_of_a_model(model: Survival, check: ModelCheck) -> None:
    check(model, np.random.default_rng(7))


def kaplan_meier(duration: np.ndarray, event: np.ndarray, periods: int) -> list[float]:
    alive, curve = 1.0, []
    for k in range(1, periods + 1):
        at_risk = (duration >= k).sum()
        alive *= 1 - ((duration == k) & event).sum() / at_risk
        curve.append(alive)
    return curve


def lives(rng: np.random.Generator, n: int, hazard: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Whole periods until the end at a constant hazard, censored at random."""
    ends, seen = rng.geometric(hazard, n), rng.integers(1, 8, n)
    return np.minimum(ends, seen).astype(float), ends <= seen


def test_without_covariates_the_curve_is_kaplan_meier() -> None:
    duration, event = lives(np.random.default_rng(1), 3_000, 0.2)
    X = pl.DataFrame({"always": np.ones(3_000)})
    model = Survival(options={"l2": 1e-6, "min_rows": 1}).fit(X, duration, event=event)
    assert model.curves(X[:1], periods=6)[0] == pytest.approx(kaplan_meier(duration, event, 6), abs=1e-4)


@pytest.mark.parametrize("hazard", ["logistic", "boosting"])
def test_censored_rows_count_for_as_long_as_they_were_seen(hazard: str) -> None:
    rng = np.random.default_rng(2)
    plan = rng.choice(["basic", "premium"], 6_000)
    duration, event = lives(rng, 6_000, np.where(plan == "basic", 0.3, 0.1))
    model = Survival(horizon=3, hazard=hazard).fit(pl.DataFrame({"plan": plan}), duration, event=event)
    found = model.score(pl.DataFrame({"plan": ["basic", "premium"]}))
    assert found == pytest.approx([1 - 0.7**3, 1 - 0.9**3], abs=0.03)  # "ended or not" would say .75 and .33


def test_hazard_follows_the_age_rather_than_the_row_s_moment() -> None:
    rng = np.random.default_rng(3)
    tenure = rng.integers(0, 10, 20_000)
    alive, duration = np.ones(20_000, bool), np.zeros(20_000)
    for k in range(4):
        duration += alive
        alive &= rng.random(20_000) >= np.where(tenure + k < 3, 0.4, 0.05)
    X = pl.DataFrame({"tenure": tenure * 30.0})
    model = Survival(horizon=2, width=30, age="tenure").fit(X, duration * 30, event=~alive)
    found = model.score(pl.DataFrame({"tenure": [0.0, 60.0, 240.0]}))
    assert found == pytest.approx([1 - 0.6**2, 1 - 0.6 * 0.95, 1 - 0.95**2], abs=0.03)


def test_partial_periods_of_censored_rows_do_not_count() -> None:
    X = pl.DataFrame({"always": np.ones(40)})
    model = Survival(horizon=1, width=30, options={"l2": 1e-9, "min_rows": 1})
    # Twenty ended on day 10; twenty were last seen on day 45: one full month without an event.
    model.fit(X, np.array([10.0] * 20 + [45.0] * 20), event=np.array([True] * 20 + [False] * 20))
    assert model.score(X[:1])[0] == pytest.approx(0.5, abs=1e-6)


def test_events_after_the_longest_follow_up_are_censored_there() -> None:
    X = pl.DataFrame({"always": np.ones(60)})
    model = Survival(horizon=2, longest=2, options={"l2": 1e-9, "min_rows": 1})
    # Of sixty, fifteen end in period 1 and none in period 2; the rest end much later.
    model.fit(X, np.array([1.0] * 15 + [9.0] * 45))
    assert model.score(X[:1])[0] == pytest.approx(0.25, abs=1e-4)


def test_survival_is_the_rest_of_the_event() -> None:
    rows = example_rows(Survival(), np.random.default_rng(5))
    event, lives = (rows.fit(Survival(predicts=p)).score(rows.X) for p in ("event", "survival"))
    assert event + lives == pytest.approx(np.ones(rows.X.height), abs=1e-12)


def test_curves_fall_and_agree_with_the_score() -> None:
    rows = example_rows(Survival(), np.random.default_rng(4))
    model = rows.fit(Survival(horizon=5, longest=4))
    curves = model.curves(rows.X)  # type: ignore[attr-defined]  # a Survival
    assert curves.shape == (rows.X.height, 5)
    assert (np.diff(curves, axis=1) <= 0).all()
    assert model.score(rows.X) == pytest.approx(1 - curves[:, -1], abs=1e-12)


def test_errors_name_what_the_user_wrote() -> None:
    X, y = pl.DataFrame({"x": [1.0, 2.0, 3.0], "device": ["a", "b", "c"]}), np.array([1.0, 2.0, 3.0])
    with pytest.raises(BadInputError, match=r"y\[1\] == -2, must be >= 0: a duration"):
        Survival().fit(X, np.array([1.0, -2.0, 3.0]))
    with pytest.raises(BadInputError, match="no observed period ends with an event"):
        Survival().fit(X, y, event=np.zeros(3))
    with pytest.raises(BadInputError, match="no row was observed for a period of 30"):
        Survival(width=30).fit(X, y, event=np.zeros(3))
    with pytest.raises(BadInputError, match="age == 'device' is String, must be a number"):
        Survival(age="device").fit(X, y)
    with pytest.raises(BadInputError, match="x is nan in 1 rows, must be known"):
        Survival(age="x").fit(X.with_columns(x=pl.Series([1.0, None, 2.0])), y)
    with pytest.raises(MatineeError, match="did you mean 'logistic'"):
        Survival(hazard="logistc")
