"""Each check of a model fails on a model that breaks just that promise, and says so in a sentence."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import pytest

from matinee.models import Linear
from matinee.testing import check_model, yield_model_checks
from matinee.testing import models as checks

_COUNTER = itertools.count()


class MutatesTargets(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        super().fit(X, y, **given)
        y[0] += 1
        return self


class ScoresInSinglePrecision(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X).astype(np.float32)


class ClaimsProbability(Linear):
    scale: ClassVar[str] = "probability"


class ReadsColumnsByPlace(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X) + len(X.columns[0])


class StartsFromTheFirstRow(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        super().fit(X, y, **given)
        self._tables = (self._tables[0] + float(np.asarray(given.get("weight"))[0] or 0), *self._tables[1:])
        return self


class DrawsFromNowhere(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        super().fit(X, y, **given)
        self._tables = (self._tables[0] + next(_COUNTER), *self._tables[1:])
        return self


class Remembers(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        before = self._tables[0] if self._tables else 0.0
        super().fit(X, y, **given)
        self._tables = (self._tables[0] + before, *self._tables[1:])
        return self


class TakesOnesForTwos(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        if given.get("weight") is not None:
            given["weight"] = given["weight"] * 2.0
        return super().fit(X, y, **given)


class CentresTheBatch(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        scores = super().score(X)
        return scores - scores.mean()


class EncodesOtherwise(Linear):
    def score_array(self, matrix: Any) -> Any:
        return super().score_array(matrix) + (matrix.dtype == np.float64)

    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X) - 1.0 + 1e-9


class FillsInWhatIsAbsent(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        absent = [pl.lit(None).alias(n) for n in self.signature.names if n not in X.columns]
        return super().score(X.with_columns(absent))


class CountsColumns(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X) + X.width


class CrashesOnOtherTypes(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X.with_columns(pl.col("hours").cast(pl.Float64, strict=False)))


class KnowsNoNull(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return np.where((X["title"].is_null() & X["device"].is_null()).to_numpy(), np.nan, super().score(X))


class TakesAnyTarget(Linear):
    def fit(self, X: pl.DataFrame, y: Any, **given: Any) -> Self:
        return super().fit(X, np.nan_to_num(y), **given)


class ScoresNothing(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return super().score(X) if X.height else np.zeros(0)


class ScoresUnfitted(Linear):
    def score(self, X: pl.DataFrame) -> Any:
        return np.zeros(X.height) if self._signature is None else super().score(X)


class ForgetsOnLoading(Linear):
    @classmethod
    def load(cls, folder: Path) -> Self:
        model = super().load(folder)
        model._tables = (0.0, *model._tables[1:])
        return model


class Pickles(Linear):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "extra.bin").write_bytes(pickle.dumps({"l2": self.l2}))


class ReadsHalfFiles(Linear):
    @classmethod
    def load(cls, folder: Path) -> Self:
        assert json.loads((folder / "model.json").read_text())
        return super().load(folder)


class HidesAParameter(Linear):
    @property
    def parameters(self) -> dict[str, Any]:
        return {"min_rows": self.min_rows}


class TalksAtLength(Linear):
    def __repr__(self) -> str:
        return "TalksAtLength(" + "na " * 100 + ")"


BROKEN = {
    checks.inputs_are_not_mutated: (MutatesTargets(), "fit changed the targets"),
    checks.scores_are_finite_numbers_one_a_row: (ScoresInSinglePrecision(), "score gave float32, must give float64"),
    checks.probabilities_lie_between_zero_and_one: (ClaimsProbability(), r"outside \[0, 1\]"),
    checks.column_order_has_no_influence: (ReadsColumnsByPlace(), "depend on the order of the columns"),
    checks.row_order_has_no_influence: (StartsFromTheFirstRow(), "depends on the order of the rows"),
    checks.same_seed_gives_the_same_scores: (DrawsFromNowhere(), "same rows and seed give different scores"),
    checks.fitting_again_forgets: (Remembers(), "a second fit remembers the first"),
    checks.weights_of_one_are_no_weights: (TakesOnesForTwos(), "weights of one differ from no weights"),
    checks.one_row_scores_as_in_a_batch: (CentresTheBatch(), "alone and .* in a batch"),
    checks.arrays_score_as_frames: (EncodesOtherwise(), r"score_array\(encode\(frame\)\) differs from score"),
    checks.absent_column_is_named: (FillsInWhatIsAbsent(), "is absent, and nothing is said|without any of the columns"),
    checks.new_column_does_not_disturb: (CountsColumns(), "a column that training did not see changes the scores"),
    checks.wrong_type_is_named: (CrashesOnOtherTypes(), "'hours' was scored although it has another type"),
    checks.unseen_levels_and_nulls_are_scored: (KnowsNoNull(), "nulls in every column has no finite score"),
    checks.bad_targets_and_weights_are_refused: (TakesAnyTarget(), "y with nan was accepted, must be refused"),
    checks.empty_frames_are_refused: (ScoresNothing(), "scoring no rows was accepted"),
    checks.unfitted_model_says_so: (ScoresUnfitted(), "scoring before fitting was accepted"),
    checks.saves_and_loads_to_the_bit: (ForgetsOnLoading(), "a loaded model scores other than the saved one"),
    checks.saved_files_hold_no_pickle: (Pickles(), "extra.bin is a pickle"),
    checks.truncated_files_are_refused: (ReadsHalfFiles(), "load raised JSONDecodeError .* must raise StorageError"),
    checks.parameters_round_trip: (HidesAParameter(l2=5.0), "a model built from its parameters"),
    checks.repr_is_short: (TalksAtLength(), "must be one line of at most 200"),
}


@pytest.mark.parametrize("check", list(yield_model_checks()), ids=lambda check: check.__name__)
def test_check_catches_a_model_that_breaks_the_promise(check: checks.ModelCheck) -> None:
    model, sentence = BROKEN[check]
    with pytest.raises(AssertionError, match=sentence):
        check(model, np.random.default_rng(7))


def test_check_model_names_the_model_and_the_promise() -> None:
    with pytest.raises(
        AssertionError, match=r"ReadsColumnsByPlace\(\) breaks a promise, 'column order has no influence': scores"
    ):
        check_model(ReadsColumnsByPlace())


def test_check_model_leaves_the_model_as_it_was() -> None:
    model = Linear()
    check_model(model)
    assert model._signature is None
