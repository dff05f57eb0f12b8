"""What the shipped models share: canonical order, targets and weights, a light import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from matinee.exceptions import BadInputError
from matinee.models import Linear, Model, Survival
from matinee.models.protocol import canonical_order, vector, weight_vector


def test_canonical_order_depends_only_on_what_rows_hold() -> None:
    rng = np.random.default_rng(1)
    matrix, y = rng.normal(size=(500, 3)), rng.integers(0, 2, 500).astype(float)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    shuffle = rng.permutation(500)
    one, other = canonical_order(matrix, y), canonical_order(matrix[shuffle], y[shuffle])
    np.testing.assert_array_equal(matrix[one], matrix[shuffle][other])
    np.testing.assert_array_equal(y[one], y[shuffle][other])
    assert not np.array_equal(one, np.arange(500))


def test_canonical_order_does_not_tell_zeros_or_nans_apart() -> None:
    quiet_nan = np.array([0x7FF8000000000001], np.uint64).view(np.float64)[0]
    a = np.array([[0.0, np.nan], [1.0, 2.0]])
    b = np.array([[-0.0, quiet_nan], [1.0, 2.0]])
    assert canonical_order(a).tolist() == canonical_order(b).tolist()


def test_targets_and_weights_are_checked() -> None:
    with pytest.raises(BadInputError, match=r"y\[1\] == nan, must be finite \(1 of 3 are not\)"):
        vector(np.array([0.0, np.nan, 1.0]), "y", 3)
    with pytest.raises(BadInputError, match=r"y has shape \(2,\), must have shape \(3,\)"):
        vector(np.zeros(2), "y", 3)
    with pytest.raises(BadInputError, match="y holds <U2, must hold numbers"):
        vector(np.array(["no"]), "y", 1)
    with pytest.raises(BadInputError, match=r"weight\[2\] == -1.0, must be >= 0"):
        weight_vector(np.array([1.0, 0.0, -1.0]), 3)
    with pytest.raises(BadInputError, match="weight is zero in every row"):
        weight_vector(np.zeros(3), 3)


def test_shipped_models_follow_the_protocol() -> None:
    assert isinstance(Linear(), Model)
    assert isinstance(Survival(), Model)


def test_importing_the_package_of_models_is_light() -> None:
    code = "import matinee.models, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "polars", "lightgbm", "numba", "scipy", "safetensors"} & set(seen.split())
