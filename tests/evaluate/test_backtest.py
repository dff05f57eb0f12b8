"""Back-tests in time: nothing known after the origin is learned from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from matinee.evaluate.backtest import backtest, rolling_origins, score_metric
from matinee.evaluate.logistic import OneHotLogistic
from matinee.evaluate.metrics import auc, brier
from matinee.exceptions import BadInputError

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Spy:
    """Remembers what it was fitted and asked on."""

    learned: list[list[int]]
    asked: list[list[int]]

    def __init__(self, learned: list[list[int]], asked: list[list[int]]) -> None:
        self.learned, self.asked = learned, asked

    def __deepcopy__(self, memo: dict[int, Any]) -> Spy:
        return self

    def fit(self, X: pl.DataFrame, y: np.ndarray, *, weight: np.ndarray | None = None, seed: int = 0) -> Spy:
        self.learned.append(X["day"].to_list())
        return self

    def score(self, X: pl.DataFrame) -> np.ndarray:
        self.asked.append(X["day"].to_list())
        return np.full(X.height, 0.5)


def spied(**options: Any) -> tuple[list[list[int]], list[list[int]]]:
    days = np.arange(40)
    at = [START + int(d) * DAY for d in days]
    spy = Spy([], [])
    given: dict[str, Any] = {
        "at": at,
        "origins": [START + 20 * DAY],
        "horizon": 5 * DAY,
        "metrics": {"brier": brier},
        "fewest": 1,
    }
    backtest(spy, pl.DataFrame({"day": days}), np.tile([0.0, 1.0], 20), **(given | options))
    return spy.learned, spy.asked


def test_labels_known_at_once() -> None:
    learned, asked = spied()
    assert learned == [list(range(21))]
    assert asked == [list(range(21, 25))]


def test_late_labels_are_not_learned_from() -> None:
    known = [START + int(d + 7) * DAY for d in range(40)]
    learned, asked = spied(known=known)
    assert learned == [list(range(14))]
    assert asked == [list(range(20, 25))]


def test_a_window_forgets() -> None:
    learned, _ = spied(window=3 * DAY)
    assert learned == [[17, 18, 19, 20]]


def test_origins_roll_in_order() -> None:
    learned, _ = spied(origins=[START + 30 * DAY, START + 10 * DAY])
    assert [len(rows) for rows in learned] == [11, 31]


def test_metrics_come_with_intervals_and_all_origins_together() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3_000)
    y = (rng.random(3_000) < 1 / (1 + np.exp(-1.5 * x))).astype(float)
    at = [START + i * timedelta(hours=2) for i in range(3_000)]
    origins = rolling_origins(START + 60 * DAY, START + 240 * DAY, 60 * DAY)
    found = backtest(
        OneHotLogistic(),
        pl.DataFrame({"x": x}),
        y,
        at=at,
        origins=origins,
        horizon=60 * DAY,
        metrics={"auc": auc, "brier": brier},
    )
    assert len(found.origins) == 3 and found.predictions.height == sum(o.judged for o in found.origins)
    score = found.overall[0]
    assert score.value == pytest.approx(auc(found.predictions["truth"], found.predictions["score"]))
    assert score.low is not None and score.high is not None and score.value is not None
    assert score.low < score.value < score.high and score.high - score.low < 0.06
    assert str(found).splitlines()[0].split()[0] == "origin"
    assert found.to_polars().height == 8


def test_the_interval_of_an_auc_covers() -> None:
    # Scores N(1, 1) of events against N(0, 1): AUC = Phi(1 / sqrt 2) = .7602.
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = (rng.random(250) < 0.3).astype(float)
        found = score_metric("auc", auc, y, y + rng.normal(size=250), resamples=60)
        assert found.low is not None and found.high is not None
        held += found.low <= 0.7602 <= found.high
    assert 0.88 <= held / 100 <= 0.99


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat((rng.random(200) < 0.5).astype(float), 10)
    s = np.repeat(rng.random(200), 10)
    alone, together = (
        score_metric("b", brier, y, s),
        score_metric("b", brier, y, s, cluster=np.repeat(np.arange(200), 10)),
    )
    assert (together.high or 0) - (together.low or 0) > 2 * ((alone.high or 0) - (alone.low or 0))


def test_too_little_is_refused() -> None:
    assert score_metric("auc", auc, np.zeros(50), np.arange(50)).refused == "only one kind of outcome, must hold both"
    few = score_metric("b", brier, np.zeros(50), np.zeros(50), cluster=np.arange(50) // 10)
    assert few.value is None and few.refused == "5 independent clusters, must be >= 20"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"known": [START] * 40}, r"known\[1\] is before at"),
        ({"fewest": 30}, "has 21 rows to learn from, must be >= 30"),
        ({"origins": [START + 90 * DAY]}, "has no rows within"),
        ({"origins": []}, "must each hold at least one"),
        ({"at": [1] * 40}, "at == Int64, must be datetimes"),
        ({"at": [START] * 3}, "at has 3 values, must be 40"),
    ],
)
def test_errors_say_what_would_be_right(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        spied(**options)


def test_origins_need_a_span() -> None:
    with pytest.raises(BadInputError, match="every"):
        rolling_origins(START, START + DAY, timedelta(0))
    with pytest.raises(BadInputError, match="must be < end"):
        rolling_origins(START, START, DAY)
