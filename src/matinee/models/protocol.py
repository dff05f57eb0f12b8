"""What a model must offer, and what the shipped models share: checks of what is fitted, signature, order, files."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from matinee.exceptions import BadInputError, MatineeError, UnknownNameError
from matinee.models.signature import Array, Matrix, Signature, Vector
from matinee.models.storage import Saved, read_model, write_model

if TYPE_CHECKING:
    import polars as pl


@runtime_checkable
class Model(Protocol):
    """What anybody's model must offer to be trained, registered and asked for scores.

    `matinee.testing.check_model` says whether a class keeps the promises behind these signatures.
    """

    kind: ClassVar[str]
    """Stable name in saved files, such as "gradient-boosting"."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Arguments of the class as plain JSON values; `type(model)(**model.parameters)` is its like, not fitted."""
        ...

    def fit(self, X: pl.DataFrame, y: Array, *, weight: Array | None = None, seed: int = 0) -> Self:
        """Learn from rows, targets (rows,) and weights (rows,); forgets what was learnt before. Returns itself."""
        ...

    def score(self, X: pl.DataFrame) -> Vector:
        """One float64 a row; a probability for classifiers."""
        ...

    def encode(self, X: pl.DataFrame | Mapping[str, Any], rows: int | None = None) -> Matrix:
        """The matrix of a frame, or of a mapping from names to arrays and plain values: the path without frames."""
        ...

    def score_array(self, matrix: Array) -> Vector:
        """One float64 a row of an encoded matrix; `score(X)` is `score_array(encode(X))`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into a folder, atomically and without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the scores are the same to the bit."""
        ...


class Learner(ABC):
    """Base of the shipped models: signature, scores of frames, files. A subclass is a dataclass of its parameters."""

    kind: ClassVar[str]
    categories: tuple[str, ...]
    _signature: Signature | None = None

    @abstractmethod
    def score_array(self, matrix: Array) -> Vector:
        """One float64 a row of an encoded matrix, shape (rows, columns) in the order of the signature."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What was learnt, as the arguments `fitted`, `texts` and `arrays` of `write_model`."""

    @abstractmethod
    def _restore(self, saved: Saved) -> None:
        """Take up what `_state` gave."""

    @property
    def signature(self) -> Signature:
        """The columns the model reads.

        Raises:
            MatineeError: If it has not been fitted.
        """
        if self._signature is None:
            raise MatineeError(f"{self!r} has learnt nothing yet, must be fitted first: model.fit(X, y)")
        return self._signature

    def encode(self, X: pl.DataFrame | Mapping[str, Any], rows: int | None = None) -> Matrix:
        """The matrix of a frame, or of a mapping from names to arrays and plain values (see `Signature.encode`)."""
        return self.signature.encode(X, rows)

    def score(self, X: pl.DataFrame) -> Vector:
        """One score a row, shape (rows,). Columns the model does not read are ignored.

        Raises:
            UnknownColumnError: If a column is absent.
            BadInputError: If the frame has no rows, or a column has another type than in training.
        """
        if X.height == 0:
            raise BadInputError("X has 0 rows, must have at least one to be scored")
        return self.score_array(self.encode(X))

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments of the class as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]  # a dataclass
        return {
            k: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else v for k, v in values.items()
        }

    def save(self, folder: Path) -> None:
        """Write the model into a folder, in place of what is there: model.json and data files, one atomic step.

        Raises:
            StorageError: If it cannot be written.
            MatineeError: If it has not been fitted.
        """
        write_model(folder, kind=self.kind, parameters=self.parameters, signature=self.signature, **self._state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved model; its scores are the same to the bit.

        Raises:
            StorageError: If there is none, it is damaged, or of another kind.
        """
        saved = read_model(folder, cls.kind)
        model = cls(**saved.parameters)
        model._signature = saved.signature
        model._restore(saved)
        # Compile now rather than inside the first decision, the path of a few rows and the one of many.
        for rows in (1, 16):
            model.score_array(np.zeros((rows, len(saved.signature.columns))))
        return model

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]  # a dataclass
            if (value := getattr(self, f.name)) != _default(f)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


class MatrixLearner(Learner):
    """Base of models that learn from nothing but a matrix, targets and weights."""

    @abstractmethod
    def _learn(self, matrix: Matrix, y: Vector, weight: Vector, seed: int) -> None:
        """Learn from an encoded matrix whose rows stand in canonical order."""

    def _check(self, y: Vector) -> None:
        """Raise if the targets are not what this model learns from."""
        return

    def fit(self, X: pl.DataFrame, y: Array, *, weight: Array | None = None, seed: int = 0) -> Self:
        """Learn from rows and targets; whatever was learnt before is forgotten.

        The order of rows and of columns has no influence: rows are brought into an order of their own first.

        Args:
            X: Numbers, booleans and text; nulls are allowed, infinite numbers are not.
            y: Targets, shape (rows,), finite.
            weight: Non-negative weights, shape (rows,); all alike where not given.
            seed: For what is drawn at random while learning.

        Raises:
            BadInputError: If the frame is empty, or shapes, types or values are not as above.
        """
        signature = Signature.learn(X, self.categories)
        target = vector(y, "y", X.height)
        self._check(target)
        weights = weight_vector(weight, X.height)
        matrix = signature.encode(X)
        order = canonical_order(matrix, target, weights)
        self._signature = signature
        self._learn(matrix[order], target[order], weights[order], seed)
        return self


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def vector(values: Any, name: str, rows: int) -> Vector:
    """Finite float64 numbers, one a row.

    Raises:
        BadInputError: If there is another number of them, or one is no finite number.
    """
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise BadInputError(f"{name} holds {given.dtype}, must hold numbers")
    if given.shape != (rows,):
        raise BadInputError(f"{name} has shape {given.shape}, must have shape ({rows},): one a row")
    result = given.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(result))
    if len(bad):
        raise BadInputError(f"{name}[{bad[0]}] == {result[bad[0]]}, must be finite ({len(bad)} of {rows} are not)")
    return result


def weight_vector(weight: Any, rows: int) -> Vector:
    """Non-negative weights, one a row, not all zero; ones where not given."""
    if weight is None:
        return np.ones(rows)
    result = vector(weight, "weight", rows)
    if (result < 0).any():
        i = int((result < 0).argmax())
        raise BadInputError(f"weight[{i}] == {result[i]}, must be >= 0")
    if not result.any():
        raise BadInputError("weight is zero in every row, must be positive in at least one")
    return result


def must_be_binary(y: Vector) -> None:
    """Raise unless the targets are 0 and 1, and both occur."""
    values = np.unique(y)
    if not np.isin(values, (0.0, 1.0)).all():
        odd = values[~np.isin(values, (0.0, 1.0))][0]
        raise BadInputError(f"y holds {odd:g}, must hold only 0 and 1 for a probability")
    if len(values) == 1:
        raise BadInputError(f"y is {values[0]:g} in every row, must hold both 0 and 1: there is nothing to tell apart")


def canonical_order(*parts: Array) -> np.ndarray[Any, np.dtype[np.intp]]:
    """An order of the rows that depends only on what they hold, shape (rows,).

    Sums of floating-point numbers depend on the order of their terms, so models are fitted on rows in this order: the
    same rows give the same model to the bit, in whatever order they were read. Rows are sorted by a 64-bit hash of
    their numbers (splitmix64); two different rows of a million share one with probability 3e-8.
    """
    mixed = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        for column in part.T if part.ndim == 2 else (part,):
            bits = (column + 0.0).astype(np.float64)  # -0.0 becomes 0.0
            bits[np.isnan(bits)] = np.nan  # one NaN of the many
            mixed = _splitmix(mixed ^ bits.view(np.uint64))
    return np.argsort(mixed, kind="stable")


def _splitmix(x: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


M = TypeVar("M", bound=type[Model])

_KINDS: dict[str, str | type[Model]] = {
    "gradient-boosting": "matinee.models.gradient_boosting:LightGBM",
    "linear": "matinee.models.linear:Linear",
    "logistic": "matinee.models.linear:Logistic",
    "survival": "matinee.models.survival:Survival",
    "popularity": "matinee.models.popularity:Popularity",
}


def register(cls: M) -> M:
    """Make a model of one's own known to `load` by its kind; usable as a class decorator.

    A file never says which module to import: only classes registered in this process are loaded.
    """
    _KINDS[cls.kind] = cls
    return cls


def class_of(kind: str) -> type[Model]:
    """The class registered for a kind.

    Raises:
        UnknownNameError: If there is none.
    """
    if kind not in _KINDS:
        raise UnknownNameError("model kind", kind, _KINDS)
    found = _KINDS[kind]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        loaded: Callable[..., Any] = getattr(import_module(module), name)
        return loaded  # type: ignore[return-value]  # the table above names classes
    return found


def build(kind: str, parameters: Mapping[str, Any]) -> Model:
    """A model of that kind with these parameters, not fitted: `build(m.kind, m.parameters)` is like `m`."""
    return class_of(kind)(**parameters)


def load(folder: Path) -> Model:
    """Read any saved model by the kind written in its model.json.

    Raises:
        StorageError: If there is no model, or it is damaged.
        UnknownNameError: If its kind is not registered.
    """
    return class_of(read_model(folder).kind).load(folder)
