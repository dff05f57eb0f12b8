"""The tree predictor against LightGBM's own, bit for bit."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import StorageError
from matinee.models.trees import BLOCK, FEW, parse


def booster(
    rng: np.random.Generator, *, leaves: int, objective: str, levels: int, missing: bool, trees: int = 8
) -> tuple[str, lightgbm.Booster]:
    X = rng.normal(size=(400, 4))
    X[:, 0] = rng.integers(0, levels, 400)
    X[:, 2] = np.round(X[:, 2])
    if missing:
        X[rng.random(X.shape) < 0.15] = np.nan
    y = np.nan_to_num(X[:, 1] * (X[:, 0] % 3) + X[:, 2] - X[:, 3] ** 2)
    y = {"binary": y > 0, "poisson": np.abs(y), "regression": y}[objective].astype(float)
    settings_ = {
        "objective": objective, "num_leaves": leaves, "min_data_in_leaf": 2, "verbosity": -1, "num_threads": 1,
        "min_data_per_group": 2, "cat_smooth": 1, "seed": 1,
    }  # fmt: skip
    trained = lightgbm.train(settings_, lightgbm.Dataset(X, y, categorical_feature=[0]), trees)
    return trained.model_to_string(), trained


def awkward(rng: np.random.Generator, rows: int) -> np.ndarray:
    X = rng.normal(size=(rows, 4)) * 2
    X[:, 0] = rng.choice([-1, 0, 1, 2, 31, 32, 63, 64, 1_000, 40_000], rows)
    X[:, 2] = np.round(X[:, 2])
    X[rng.random(X.shape) < 0.2] = np.nan
    X[rng.random(X.shape) < 0.02] = 0.0
    return X


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    leaves=st.sampled_from([2, 7, 16, 17, 32, 40, 64, 90]),
    objective=st.sampled_from(["binary", "regression", "poisson"]),
    levels=st.sampled_from([2, 12, 70]),
    missing=st.booleans(),
)
def test_scores_are_the_library_s_to_the_bit(
    seed: int, leaves: int, objective: str, levels: int, missing: bool
) -> None:
    rng = np.random.default_rng(seed)
    text, trained = booster(rng, leaves=leaves, objective=objective, levels=levels, missing=missing)
    forest = parse(text)
    for rows in (1, FEW, FEW + 1, BLOCK + 3):
        X = awkward(rng, rows)
        assert np.array_equal(forest.score(X), trained.predict(X, num_threads=1))


def test_scores_at_the_thresholds_themselves_and_one_step_beside() -> None:
    text, trained = booster(np.random.default_rng(1), leaves=15, objective="regression", levels=4, missing=True)
    forest = parse(text)
    cuts = forest.threshold[(forest.column == 1) & (forest.table_at < 0)]
    X = np.zeros((3 * len(cuts), 4))
    X[:, 1] = np.concatenate([cuts, np.nextafter(cuts, np.inf), np.nextafter(cuts, -np.inf)])
    assert len(X) > FEW
    expected = np.asarray(trained.predict(X))
    assert np.array_equal(forest.score(X), expected)
    assert [forest.score(X[i : i + 1])[0] for i in range(len(X))] == expected.tolist()


def test_trees_of_one_leaf_are_constants() -> None:
    X, y = np.arange(10.0).reshape(-1, 1), np.arange(10.0)
    trained = lightgbm.train({"objective": "regression", "verbosity": -1}, lightgbm.Dataset(X, y), 3)
    assert parse(trained.model_to_string()).score(np.zeros((40, 1))).tolist() == pytest.approx([4.5] * 40)


@pytest.mark.parametrize("option", [{"linear_tree": True}, {"zero_as_missing": True}])
def test_trees_that_are_not_understood_are_refused(option: dict[str, bool]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    data = lightgbm.Dataset(X, X[:, 0], params={"verbosity": -1, **option})
    trained = lightgbm.train({"objective": "regression", "verbosity": -1, **option}, data, 2)
    with pytest.raises(StorageError, match="must"):
        parse(trained.model_to_string())


def test_text_that_is_cut_or_damaged_is_refused() -> None:
    text, _ = booster(np.random.default_rng(1), leaves=5, objective="binary", levels=4, missing=False, trees=2)
    end = text.index("end of trees")
    for cut in (0, 10, end // 3, end // 2, end - 5):
        with pytest.raises(StorageError):
            parse(text[:cut])
    with pytest.raises(StorageError, match="damaged"):
        parse(text.replace("split_feature=", "split_fate="))
