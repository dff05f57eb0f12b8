"""Cross-fitting: no row is judged by a model that saw its cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.evaluate import Logged, cross_fit, terms
from matinee.evaluate.logistic import OneHotLogistic
from matinee.evaluate.reward_model import cluster_folds, folds_by_day
from matinee.exceptions import BadInputError, MatineeError


class Memory:
    """A model that remembers: it answers 1 for members it has seen, else 0."""

    def fit(self, X: pl.DataFrame, y: np.ndarray, *, weight: np.ndarray | None = None, seed: int = 0) -> Memory:
        self.seen = set(X["member"].to_list())
        return self

    def score(self, X: pl.DataFrame) -> np.ndarray:
        return np.array([float(m in self.seen) for m in X["member"].to_list()])


def arms(n: int = 3_000) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = pl.DataFrame({"device": rng.choice(["tv", "phone"], n)})
    action = rng.choice(["a", "b", "c"], n)
    chance = np.select([action == "a", action == "b"], [0.1, 0.3], 0.6) + 0.1 * (X["device"] == "tv").to_numpy()
    return X, action, (rng.random(n) < chance).astype(float), np.arange(n) // 3


def test_no_model_judges_a_cluster_it_saw() -> None:
    n = 600
    member = np.random.default_rng(0).integers(0, 100, n)
    X = pl.DataFrame({"member": member})
    fitted = cross_fit(X, np.zeros(n, dtype=int), np.zeros(n), member, Memory(), folds=3)
    assert (fitted.q == 0).all()
    leaking = cross_fit(X, np.zeros(n, dtype=int), np.zeros(n), None, Memory(), folds=3)
    assert (leaking.q == 1).mean() > 0.9  # what a split by row would have done


@given(n=st.integers(6, 60), folds=st.integers(2, 3), seed=st.integers(0, 99))
def test_folds_hold_whole_clusters_in_equal_numbers(n: int, folds: int, seed: int) -> None:
    cluster = np.arange(n) // 2
    fold = cluster_folds(n, cluster, folds, seed)
    assert all(len(set(fold[cluster == c])) == 1 for c in np.unique(cluster))
    sizes = [len(set(cluster[fold == k])) for k in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_row_order_has_no_influence_on_folds() -> None:
    cluster = np.random.default_rng(0).integers(0, 20, 100)
    order = np.random.default_rng(1).permutation(100)
    assert (cluster_folds(100, cluster[order], 3, 5) == cluster_folds(100, cluster, 3, 5)[order]).all()


def test_the_value_of_a_policy_is_the_sum_over_actions() -> None:
    X, action, reward, cluster = arms()
    fitted = cross_fit(X, action, reward, cluster, OneHotLogistic())
    assert fitted.actions == ("a", "b", "c")
    table = np.random.default_rng(0).dirichlet([1, 1, 1], X.height)
    by_hand = np.concatenate([q for _, _, q in fitted.chunks()])
    assert fitted.value(table) == pytest.approx((table * by_hand).sum(axis=1))
    assert fitted.value(lambda start, stop: table[start:stop]) == pytest.approx(fitted.value(table))
    logged = by_hand[np.arange(X.height), np.searchsorted(["a", "b", "c"], action)]
    assert fitted.q == pytest.approx(logged)
    for share, mean in (([1, 0, 0], 0.15), ([0, 1, 0], 0.35), ([0, 0, 1], 0.65)):
        assert fitted.value(share).mean() == pytest.approx(mean, abs=0.03)


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    X, action, reward, cluster = arms(300)
    fitted = cross_fit(X, action, reward, cluster, OneHotLogistic())
    whole = fitted.value([0.2, 0.3, 0.5])
    monkeypatch.setattr("matinee.evaluate.reward_model.CHUNK", 7)
    assert fitted.value([0.2, 0.3, 0.5]) == pytest.approx(whole)


def test_a_plain_function_serves_as_a_model() -> None:
    X, action, reward, cluster = arms()

    def mean_by_action(frame: pl.DataFrame, y: np.ndarray) -> Any:
        means = frame.with_columns(y=y).group_by("action").agg(pl.col("y").mean())
        return lambda new: new.join(means, on="action", how="left", maintain_order="left")["y"].to_numpy()

    fitted = cross_fit(X, action, reward, cluster, mean_by_action)
    assert fitted.value([0, 0, 1]).mean() == pytest.approx(reward[action == "c"].mean(), abs=0.02)
    pi = np.where(action == "c", 1.0, 0.0)
    log = Logged(reward, np.full(len(reward), 1 / 3), pi, fitted.q, fitted.value([0, 0, 1]), cluster)
    assert terms(log, "dr").value == pytest.approx(0.65, abs=0.03)


def test_features_of_actions_carry_over_to_actions_hardly_tried() -> None:
    rng = np.random.default_rng(0)
    price = np.array([0.0, 1.0, 2.0, 3.0])
    action = rng.choice(4, 4_000, p=[0.3, 0.3, 0.395, 0.005])
    reward = (rng.random(4_000) < 0.8 - 0.2 * price[action]).astype(float)
    X = pl.DataFrame({"one": np.zeros(4_000)})
    frame = pl.DataFrame({"price": price})
    with_price = cross_fit(
        X, action, reward, None, OneHotLogistic(strength=0.01), candidates=range(4), action_features=frame
    )
    assert (
        with_price.value([0, 0, 0, 1]).mean()
        < with_price.value([0, 0, 1, 0]).mean()
        < with_price.value([1, 0, 0, 0]).mean()
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"actions": np.array(["a"])}, "actions.shape"),
        ({"rewards": np.zeros(3)}, "X has 3000 rows, must be 3"),
        ({"candidates": ["a", "b"]}, "actions hold 'c', must be one of candidates"),
        ({"candidates": ["a", "b", "c", "c"]}, "the same action twice"),
        ({"model": 3}, "must have fit and score"),
        ({"folds": 1}, "folds == 1, must be >= 2"),
        ({"clusters": np.zeros(3_000)}, "must be <= 1, the number of clusters"),
        ({"action_features": pl.DataFrame({"x": [1.0]})}, "action_features has 1 rows, must be 3"),
        ({"action_features": pl.DataFrame({"device": [1.0, 2.0, 3.0]})}, "column == 'device'"),
        ({"X": pl.DataFrame({"action": np.zeros(3_000)})}, "a column 'action', must not"),
    ],
)
def test_errors_say_what_would_be_right(changed: dict[str, Any], says: str) -> None:
    X, action, reward, cluster = arms()
    given: dict[str, Any] = {
        "X": X,
        "actions": action,
        "rewards": reward,
        "clusters": cluster,
        "model": OneHotLogistic(),
    }
    with pytest.raises(MatineeError, match=says):
        cross_fit(**{**given, **changed})


def test_policies_that_are_no_distribution_are_named() -> None:
    X, action, reward, cluster = arms(60)
    fitted = cross_fit(X, action, reward, cluster, OneHotLogistic())
    with pytest.raises(BadInputError, match=r"policy\[0\].sum\(\) == 0.9"):
        fitted.value([0.2, 0.3, 0.4])
    with pytest.raises(BadInputError, match=r"policy.shape"):
        fitted.value(np.ones((60, 2)) / 2)


def test_the_models_given_are_not_changed() -> None:
    X, action, reward, cluster = arms(60)
    model = OneHotLogistic()
    cross_fit(X, action, reward, cluster, model)
    assert model.coefficients is None


def test_days_are_folds() -> None:
    assert folds_by_day([4, 5, 5, 6]).tolist() == [0, 1, 1, 0]
