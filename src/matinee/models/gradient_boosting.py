"""Gradient boosting by LightGBM: probabilities, amounts, rankings. Same rows and seed, same model to the bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from matinee.checks import must
from matinee.exceptions import BadInputError, MatineeError
from matinee.models.protocol import MatrixLearner, canonical_order, must_be_binary, vector, weight_vector
from matinee.models.signature import CATEGORY, Array, Matrix, Signature, Vector
from matinee.models.storage import Saved
from matinee.models.trees import Forest, parse

if TYPE_CHECKING:
    import polars as pl

OBJECTIVES = ("binary", "regression", "absolute", "quantile", "poisson", "lambdarank")
_NAMES = {"absolute": "regression_l1"}
# What the platform decides: where the data come from, that results repeat, and what the predictor can read.
_OWN = {
    "objective", "data", "seed", "deterministic", "force_row_wise", "force_col_wise", "num_threads", "verbosity",
    "linear_tree", "zero_as_missing", "use_missing", "boosting", "device_type", "num_iterations",
}  # fmt: skip
_MOST_GRADES = 30


@dataclass(kw_only=True, repr=False, eq=False)
class LightGBM(MatrixLearner):
    """Boosted trees over numbers, booleans and categories.

    Example:
        >>> import polars as pl
        >>> X = pl.DataFrame({"hours": [float(i % 10) for i in range(400)], "device": ["tv", "phone"] * 200})
        >>> model = LightGBM(trees=20).fit(X, (X["hours"] > 4).to_numpy())
        >>> model.score(pl.DataFrame({"hours": [1.0, 8.0], "device": ["tv", "car"]})).round(2).tolist()
        [0.19, 0.81]
    """

    kind: ClassVar[str] = "gradient-boosting"

    objective: str = "binary"
    """"binary" scores a probability; "regression" a mean, "absolute" a median, "quantile" the quantile given as
    `options={"alpha": 0.9}`, "poisson" the mean of a count; "lambdarank" orders the rows of a group."""
    trees: int = 200
    """Number of boosting rounds."""
    rate: float = 0.05
    """Learning rate: how much of each tree is added."""
    leaves: int = 15
    """Most leaves of a tree. Up to 64, scoring takes the fast path."""
    min_rows: int = 20
    """Fewest training rows in a leaf."""
    l2: float = 1.0
    """Penalty on the squared leaf values."""
    row_share: float = 1.0
    """Share of the rows each tree sees, drawn anew for each tree by the seed."""
    column_share: float = 1.0
    """Share of the columns each tree sees."""
    categories: tuple[str, ...] = ()
    """Integer columns whose values are names; text columns are categories anyway."""
    monotone: Mapping[str, int] = field(default_factory=dict)
    """Column -> 1 where the score may only rise with it, -1 where it may only fall."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other parameters of LightGBM by their own names."""
    threads: int | None = None
    """Threads for learning; OMP_NUM_THREADS or the cores at hand where not given. The model is the same for any."""

    def __post_init__(self) -> None:
        must(self.objective, "objective", one_of=OBJECTIVES)
        must(self.trees, "trees", typ=int, ge=1)
        must(self.rate, "rate", typ=(int, float), gt=0, le=1)
        must(self.leaves, "leaves", typ=int, ge=2)
        must(self.min_rows, "min_rows", typ=int, ge=1)
        must(self.l2, "l2", typ=(int, float), ge=0)
        must(self.row_share, "row_share", typ=(int, float), gt=0, le=1)
        must(self.column_share, "column_share", typ=(int, float), gt=0, le=1)
        if self.threads is not None:
            must(self.threads, "threads", typ=int, ge=1)
        for name, sign in self.monotone.items():
            must(sign, f"monotone[{name!r}]", one_of=(-1, 0, 1))
        for name in self.options:
            if name in _OWN:
                raise MatineeError(f"options[{name!r}], must not be set: it is a parameter of its own or fixed")
        self.categories = tuple(self.categories)
        self._booster = ""
        self._forest: Forest | None = None
        self._explainer: Any = None  # the library's own reader of the trees, made when it is first asked for

    @property
    def scale(self) -> str:
        """What a score is: "probability", "amount" or, for rankings, "order"."""
        return {"binary": "probability", "lambdarank": "order"}.get(self.objective, "amount")

    @property
    def ranks(self) -> bool:
        """Whether it orders the rows of a group, which `fit` must then be given."""
        return self.objective == "lambdarank"

    def fit(
        self,
        X: pl.DataFrame,
        y: Array,
        *,
        weight: Array | None = None,
        seed: int = 0,
        group: Array | pl.Series | None = None,
    ) -> Self:
        """Learn from rows and targets (see `Learner.fit`).

        Args:
            X: Numbers, booleans and text, shape (rows, columns).
            y: 0 and 1 for "binary", non-negative for "poisson", whole grades from 0 to 30 for "lambdarank".
            weight: Non-negative weights, shape (rows,).
            seed: For the draw of rows and columns.
            group: For "lambdarank" alone: which list each row belongs to, shape (rows,), in any order.

        Raises:
            BadInputError: If shapes, types or values are not as above.
        """
        if (group is not None) != self.ranks:
            raise BadInputError(
                f"group is {'given' if group is not None else 'missing'} with objective == {self.objective!r}, "
                "must be given for 'lambdarank' and only there"
            )
        if group is None:
            return super().fit(X, y, weight=weight, seed=seed)
        signature = Signature.learn(X, self.categories)
        target = vector(y, "y", X.height)
        self._check(target)
        weights = weight_vector(weight, X.height)
        labels = np.asarray(group)
        if labels.shape != (X.height,):
            raise BadInputError(f"group has shape {labels.shape}, must have shape ({X.height},): one a row")
        lists = np.unique(labels, return_inverse=True)[1]
        matrix = signature.encode(X)
        order = canonical_order(matrix, target, weights)
        order = order[np.argsort(lists[order], kind="stable")]
        self._signature = signature
        self._learn(matrix[order], target[order], weights[order], seed, np.bincount(lists))
        return self

    def _check(self, y: Vector) -> None:
        if self.objective == "binary":
            must_be_binary(y)
        elif self.objective == "poisson" and (y < 0).any():
            raise BadInputError(f"y[{int((y < 0).argmax())}] == {y[y < 0][0]:g}, must be >= 0 for 'poisson'")
        elif self.objective == "lambdarank":
            bad = (y < 0) | (y > _MOST_GRADES) | (y != np.floor(y))
            if bad.any():
                raise BadInputError(
                    f"y[{int(bad.argmax())}] == {y[bad][0]:g}, must be a whole grade from 0 to {_MOST_GRADES}"
                )

    def _learn(self, matrix: Matrix, y: Vector, weight: Vector, seed: int, groups: Array | None = None) -> None:
        import lightgbm

        data = lightgbm.Dataset(
            matrix,
            label=y,
            weight=weight,
            group=groups,
            # The library forbids some characters in names and knows columns by position anyway.
            feature_name=[f"c{i}" for i in range(matrix.shape[1])],
            categorical_feature=[i for i, c in enumerate(self.signature.columns) if c.kind == CATEGORY],
            params={"verbosity": -1, "max_bin": int(self.options.get("max_bin", 255))},
        )
        try:
            booster = lightgbm.train(self._library_parameters(seed), data, num_boost_round=self.trees)
        except lightgbm.basic.LightGBMError as error:
            raise BadInputError(f"LightGBM refused: {error}") from error
        # The text ends with the settings of the run, the number of threads among them, which is no part of the model.
        self._booster = booster.model_to_string().partition("\nparameters:")[0] + "\n"
        self._forest, self._explainer = parse(self._booster), None

    def _library_parameters(self, seed: int) -> dict[str, Any]:
        for name in self.monotone:
            _ = self.signature[name]
        return {
            **self.options,
            "objective": _NAMES.get(self.objective, self.objective),
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_rows,
            "lambda_l2": self.l2,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1 if self.row_share < 1 else 0,
            "feature_fraction": self.column_share,
            "monotone_constraints": [self.monotone.get(n, 0) for n in self.signature.names] if self.monotone else None,
            "seed": must(seed, "seed", typ=(int, np.integer), ge=0, lt=2**31),
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads or _threads(),
            "verbosity": -1,
        }

    def score_array(self, matrix: Array) -> Vector:
        if self._forest is None:
            _ = self.signature  # says that it must be fitted first
        assert self._forest is not None
        return self._forest.score(matrix)

    def contributions(self, X: pl.DataFrame) -> pl.DataFrame:
        """What each column adds to each row's score before the link (log-odds for "binary"): SHAP values.

        One column a column of the model, and "base"; a row sums to the score before the link (Lundberg et al., 2018).
        """
        import polars as pl

        return pl.DataFrame(
            self.contributions_array(self.encode(X)), schema=[*self.signature.names, "base"], orient="row"
        )

    def contributions_array(self, matrix: Array) -> Matrix:
        """The same of an encoded matrix, shape (rows, columns + 1): the base stands last."""
        import lightgbm

        if self._explainer is None:
            _ = self.signature  # says that it must be fitted first
            self._explainer = lightgbm.Booster(model_str=self._booster)
        values: Matrix = np.asarray(self._explainer.predict(matrix, pred_contrib=True, num_threads=1), np.float64)
        return values

    def _state(self) -> dict[str, Any]:
        return {"texts": {"trees": self._booster}}

    def _restore(self, saved: Saved) -> None:
        self._booster = saved.texts["trees"]
        self._forest = parse(self._booster)


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
