"""What every model promises, as checks that run on anybody's class."""

from __future__ import annotations

import copy
import inspect
import json
import pickletools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.exceptions import MatineeError, StorageError
from matinee.testing.running import expect, refusal, run

if TYPE_CHECKING:
    import polars as pl

    from matinee.models import Model

Array = np.ndarray[Any, Any]
ModelCheck = Callable[..., None]


@dataclass(frozen=True)
class Rows:
    """What a model is fitted on: a frame, targets, weights, and what else its `fit` takes (`group`, `event`)."""

    X: pl.DataFrame
    y: Array
    weight: Array
    options: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, model: Model, *, seed: int = 0, **changed: Any) -> Model:
        """The model fitted on these rows, some of them changed."""
        given: dict[str, Any] = {"X": self.X, "y": self.y, "weight": self.weight, **self.options, **changed}
        X, y = given.pop("X"), given.pop("y")
        return model.fit(X, y, seed=seed, **given)

    def take(self, index: Array) -> Rows:
        """The rows at these positions."""
        return Rows(self.X[index], self.y[index], self.weight[index], {k: v[index] for k, v in self.options.items()})


Example = Callable[["Model", np.random.Generator], Rows]


def example_rows(model: Model, rng: np.random.Generator, rows: int = 240) -> Rows:
    """Rows that most models can learn from: a title (int), hours (float), a device (text), both with nulls, a flag.

    The target is 0 or 1 and depends on all of them; for a model whose `fit` takes `event`, it is a duration; one
    whose `fit` takes `group` is given one if it says that it `ranks`. Models that need other columns bring an
    `example` of their own.
    """
    import polars as pl

    title = rng.integers(1, 9, rows)
    hours = rng.gamma(2.0, 2.0, rows)
    device = rng.choice(np.array(["phone", "tablet", "tv"]), rows)
    weekend = rng.random(rows) < 0.3
    X = pl.DataFrame({"title": title, "hours": hours, "device": device, "weekend": weekend}).with_columns(
        hours=pl.when(pl.Series(rng.random(rows) < 0.1)).then(None).otherwise("hours"),
        device=pl.when(pl.Series(rng.random(rows) < 0.1)).then(None).otherwise("device"),
    )
    drive = 0.5 * (hours - 4) + (device == "tv") + weekend + 0.3 * (title - 4)
    takes = inspect.signature(model.fit).parameters
    options: dict[str, Any] = {}
    if "event" in takes:
        y: Array = np.ceil(rng.exponential(2 + 6 / (1 + np.exp(drive)))) + 1
        options["event"] = rng.random(rows) < 0.7
    else:
        y = (drive + rng.logistic(size=rows) > 0).astype(np.float64)
    if "group" in takes and getattr(model, "ranks", False):
        options["group"] = rng.integers(0, rows // 10, rows)
    return Rows(X, y, rng.uniform(0.5, 2.0, rows), options)


def _fresh(model: Model) -> Model:
    """A copy, so that a check leaves the caller's model as it was."""
    return copy.deepcopy(model)


def _same(left: Array, right: Array) -> bool:
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


def inputs_are_not_mutated(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Fitting and scoring leave frame, targets and weights as they were."""
    rows = example(model, rng)
    before = copy.deepcopy(rows)
    rows.fit(_fresh(model)).score(rows.X)
    expect(rows.X.equals(before.X), "fit or score changed the frame it was given")
    expect(_same(rows.y, before.y), "fit changed the targets it was given")
    expect(_same(rows.weight, before.weight), "fit changed the weights it was given")
    for name, values in rows.options.items():
        expect(_same(values, before.options[name]), f"fit changed the {name} it was given")


def scores_are_finite_numbers_one_a_row(
    model: Model, rng: np.random.Generator, example: Example = example_rows
) -> None:
    """Scores are float64, one a row, finite, and not all the same."""
    rows = example(model, rng)
    scores = rows.fit(_fresh(model)).score(rows.X)
    expect(isinstance(scores, np.ndarray), f"score gave {type(scores).__name__}, must give a NumPy array")
    expect(scores.shape == (rows.X.height,), f"score gave shape {scores.shape} for {rows.X.height} rows")
    expect(scores.dtype == np.float64, f"score gave {scores.dtype}, must give float64")
    expect(bool(np.isfinite(scores).all()), "score gave values that are not finite")
    expect(len(np.unique(scores)) > 1, "every row has the same score although the targets depend on the columns")


def probabilities_lie_between_zero_and_one(
    model: Model, rng: np.random.Generator, example: Example = example_rows
) -> None:
    """A model whose `scale` is "probability" scores within [0, 1], also far from what it was fitted on."""
    import polars as pl

    if getattr(model, "scale", None) != "probability":
        return
    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    far = rows.X.with_columns(pl.selectors.float() * 1e6)
    for scores in (fitted.score(rows.X), fitted.score(far)):
        expect(bool(((scores >= 0) & (scores <= 1)).all()), "a probability lies outside [0, 1]")


def column_order_has_no_influence(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Columns in another order give the same model and the same scores, to the bit."""
    rows = example(model, rng)
    backwards = rows.X.select(rows.X.columns[::-1])
    fitted = rows.fit(_fresh(model))
    expect(_same(fitted.score(rows.X), fitted.score(backwards)), "scores depend on the order of the columns")
    again = rows.fit(_fresh(model), X=backwards)
    expect(_same(fitted.score(rows.X), again.score(rows.X)), "the model depends on the order of the columns it saw")


def row_order_has_no_influence(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Rows in another order give the same model, to the bit."""
    rows = example(model, rng)
    shuffled = rows.take(rng.permutation(rows.X.height))
    one, other = rows.fit(_fresh(model)), shuffled.fit(_fresh(model))
    expect(_same(one.score(rows.X), other.score(rows.X)), "the model depends on the order of the rows it saw")


def same_seed_gives_the_same_scores(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Fitting twice on the same rows with the same seed gives the same scores, to the bit."""
    rows = example(model, rng)
    one, other = rows.fit(_fresh(model), seed=7), rows.fit(_fresh(model), seed=7)
    expect(_same(one.score(rows.X), other.score(rows.X)), "two fits on the same rows and seed give different scores")


def fitting_again_forgets(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A model that is fitted again is as one that never saw the first rows."""
    first, second = example(model, rng), example(model, rng)
    again = second.fit(first.fit(_fresh(model)))
    alone = second.fit(_fresh(model))
    expect(_same(again.score(second.X), alone.score(second.X)), "a second fit remembers the first")


def weights_of_one_are_no_weights(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A weight of one for every row gives the same scores as no weights."""
    rows = example(model, rng)
    ones = rows.fit(_fresh(model), weight=np.ones(rows.X.height))
    none = rows.fit(_fresh(model), weight=None)
    expect(_same(ones.score(rows.X), none.score(rows.X)), "weights of one differ from no weights")


def one_row_scores_as_in_a_batch(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A row has the same score alone as among others, to the bit."""
    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    batch = fitted.score(rows.X)
    for i in rng.integers(0, rows.X.height, 5).tolist():
        alone = fitted.score(rows.X[i])
        expect(_same(alone, batch[i : i + 1]), f"row {i} scores {alone[0]!r} alone and {batch[i]!r} in a batch")


def arrays_score_as_frames(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """`score_array` of `encode` is `score`, whether a frame or a mapping of arrays was encoded."""
    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    scores = fitted.score(rows.X)
    expect(_same(fitted.score_array(fitted.encode(rows.X)), scores), "score_array(encode(frame)) differs from score")
    arrays = {name: np.array(rows.X[name].to_list(), object) for name in rows.X.columns}
    expect(_same(fitted.score_array(fitted.encode(arrays)), scores), "score_array(encode(arrays)) differs from score")
    plain = rows.X.row(0, named=True)
    expect(_same(fitted.score_array(fitted.encode(plain, 1)), scores[:1]), "plain values encode other than a frame")
    half = fitted.score_array(fitted.encode(rows.X).astype(np.float32))
    expect(half.dtype == np.float64, "score_array of a float32 matrix must give float64")


def absent_column_is_named(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A column the model reads and the frame lacks is named in the error; one it does not read is not missed."""
    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    scores, read = fitted.score(rows.X), 0
    for name in rows.X.columns:
        less = rows.X.drop(name)
        try:
            same = _same(fitted.score(less), scores)
        except MatineeError as error:
            read += 1
            expect(repr(name) in str(error), f"the error for an absent column does not name {name!r}: {error}")
            continue
        expect(same, f"scores change when {name!r} is absent, and nothing is said")
    expect(read > 0, "the model scores frames without any of the columns it was fitted on")


def new_column_does_not_disturb(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A column that training did not see is ignored, or named in an error."""
    import polars as pl

    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    more = rows.X.with_columns(pl.lit("x").alias("a_new_column"))
    try:
        scores = fitted.score(more)
    except MatineeError as error:
        expect("a_new_column" in str(error), f"the error for a new column does not name it: {error}")
        return
    expect(_same(scores, fitted.score(rows.X)), "a column that training did not see changes the scores")


def wrong_type_is_named(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A column of another type than in training is named in the error, not misread and not crashed on."""
    import polars as pl

    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    scores = fitted.score(rows.X)
    for name in rows.X.columns:
        other = pl.lit(1.5) if rows.X[name].dtype == pl.String() else pl.lit("text")
        changed = rows.X.with_columns(other.alias(name))
        try:
            found = fitted.score(changed)
        except MatineeError as error:
            expect(repr(name) in str(error), f"the error for a wrong type does not name {name!r}: {error}")
            continue
        expect(_same(found, scores), f"{name!r} was scored although it has another type than in training")


def unseen_levels_and_nulls_are_scored(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Levels that training did not see, and nulls everywhere, get a finite score."""
    import polars as pl

    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    text = [name for name, kind in rows.X.schema.items() if kind == pl.String()]
    unseen = rows.X.with_columns(pl.lit("never seen").alias(name) for name in text)
    empty = rows.X.with_columns(pl.lit(None, kind).alias(name) for name, kind in rows.X.schema.items())
    for frame, what in ((unseen, "levels never seen"), (empty, "nulls in every column")):
        expect(bool(np.isfinite(fitted.score(frame)).all()), f"a row with {what} has no finite score")


def bad_targets_and_weights_are_refused(
    model: Model, rng: np.random.Generator, example: Example = example_rows
) -> None:
    """NaN, infinite values, negative weights and wrong lengths are refused before anything is learnt."""
    rows = example(model, rng)
    for name in ("y", "weight"):
        for bad in (np.nan, np.inf):
            values = getattr(rows, name).copy()
            values[3] = bad
            error = refusal(partial(rows.fit, _fresh(model), **{name: values}), f"{name} with {bad}")
            expect(name in error, f"the error for {bad} in {name} does not name it: {error}")
        short = getattr(rows, name)[:-1]
        refusal(partial(rows.fit, _fresh(model), **{name: short}), f"{name} one shorter than X")
    refusal(lambda: rows.fit(_fresh(model), weight=-rows.weight), "negative weights")


def empty_frames_are_refused(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A frame without rows is refused, in training and in scoring."""
    rows = example(model, rng)
    refusal(lambda: rows.take(np.arange(0)).fit(_fresh(model)), "training on no rows")
    fitted = rows.fit(_fresh(model))
    refusal(lambda: fitted.score(rows.X.head(0)), "scoring no rows")


def unfitted_model_says_so(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A model that has learnt nothing refuses to score and to be saved."""
    rows = example(model, rng)
    unfitted = type(model)(**model.parameters)
    refusal(lambda: unfitted.score(rows.X), "scoring before fitting")
    with tempfile.TemporaryDirectory() as folder:
        refusal(lambda: unfitted.save(Path(folder) / "model"), "saving before fitting")


def saves_and_loads_to_the_bit(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A loaded model has the same parameters, and the same scores to the bit; saving it again gives the same files."""
    rows = example(model, rng)
    fitted = rows.fit(_fresh(model))
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        fitted.save(one)
        loaded = type(model).load(one)
        expect(_same(loaded.score(rows.X), fitted.score(rows.X)), "a loaded model scores other than the saved one")
        expect(loaded.parameters == fitted.parameters, "a loaded model has other parameters than the saved one")
        loaded.save(other)
        expect(_files(one) == _files(other), "a loaded model that is saved again gives other files")
        fitted.save(one)
        expect(_files(one) == _files(other), "saving over an earlier model leaves other files than saving afresh")


def saved_files_hold_no_pickle(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Nothing in the folder is a pickle, nor an archive that could hold one: loading runs no code of the file's."""
    fitted = example(model, rng).fit(_fresh(model))
    with tempfile.TemporaryDirectory() as folder:
        fitted.save(Path(folder) / "model")
        for name, content in _files(Path(folder) / "model").items():
            expect(
                not content.startswith((b"PK\x03\x04", b"\x93NUMPY")), f"{name} is an archive that can hold a pickle"
            )
            expect(not _is_pickle(content), f"{name} is a pickle")


def truncated_files_are_refused(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """A file of the model that is cut short, anywhere, gives StorageError; so does one that is missing."""
    fitted = example(model, rng).fit(_fresh(model))
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "model"
        fitted.save(folder)
        for name, content in _files(folder).items():
            path = folder / name
            cuts = {0, 1, len(content) // 2, len(content) - 1, *rng.integers(0, len(content), 3).tolist()}
            for cut in sorted(cuts):
                path.write_bytes(content[:cut])
                _must_not_load(model, folder, f"{name} is cut after {cut} of {len(content)} bytes")
            path.unlink()
            _must_not_load(model, folder, f"{name} is missing")
            path.write_bytes(content)


def _must_not_load(model: Model, folder: Path, what: str) -> None:
    try:
        type(model).load(folder)
    except StorageError:
        return
    except Exception as error:  # the check is what kind of error it is
        raise AssertionError(
            f"load raised {type(error).__name__} ({error}) when {what}, must raise StorageError"
        ) from error
    raise AssertionError(f"load gave a model although {what}")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _is_pickle(content: bytes) -> bool:
    if content[:1] != b"\x80":
        return False
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except (ValueError, IndexError):
        return False


def parameters_round_trip(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """Parameters are plain JSON values from which the same model is built."""
    plain = json.loads(json.dumps(dict(model.parameters)))
    again = type(model)(**plain)
    expect(dict(again.parameters) == plain, "a model built from its parameters has other ones")
    rows = example(model, rng)
    one, other = rows.fit(_fresh(model)), rows.fit(again)
    expect(_same(one.score(rows.X), other.score(rows.X)), "a model built from its parameters learns something else")


def repr_is_short(model: Model, rng: np.random.Generator, example: Example = example_rows) -> None:
    """The repr is one line of at most 200 characters that names the class, fitted or not."""
    fitted = example(model, rng).fit(_fresh(model))
    for one in (model, fitted):
        shown = repr(one)
        expect(type(model).__name__ in shown, f"repr {shown[:80]!r} does not name its class")
        expect(
            len(shown) <= 200 and "\n" not in shown,
            f"repr has {len(shown)} characters, must be one line of at most 200",
        )


def yield_model_checks() -> Iterator[ModelCheck]:
    """Every check of a model; each takes the model, a generator and optionally an `example` of rows."""
    yield inputs_are_not_mutated
    yield scores_are_finite_numbers_one_a_row
    yield probabilities_lie_between_zero_and_one
    yield column_order_has_no_influence
    yield row_order_has_no_influence
    yield same_seed_gives_the_same_scores
    yield fitting_again_forgets
    yield weights_of_one_are_no_weights
    yield one_row_scores_as_in_a_batch
    yield arrays_score_as_frames
    yield absent_column_is_named
    yield new_column_does_not_disturb
    yield wrong_type_is_named
    yield unseen_levels_and_nulls_are_scored
    yield bad_targets_and_weights_are_refused
    yield empty_frames_are_refused
    yield unfitted_model_says_so
    yield saves_and_loads_to_the_bit
    yield saved_files_hold_no_pickle
    yield truncated_files_are_refused
    yield parameters_round_trip
    yield repr_is_short


def check_model(model: Model, rng: np.random.Generator | None = None, *, example: Example = example_rows) -> None:
    """Run every check on a model of your own.

    Args:
        model: Not fitted, or fitted: it is left as it is.
        rng: Where the checks draw from.
        example: `example(model, rng)` gives rows the model can learn from, where `example_rows` does not suit it.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.models import Logistic
        >>> check_model(Logistic())
    """
    run(yield_model_checks(), model, rng, example=example)
