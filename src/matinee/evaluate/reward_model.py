"""Reward models for doubly robust evaluation: cross-fitted by cluster, averaged over a policy in chunks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matinee.checks import must
from matinee.evaluate.logged import Floats, Ints, cluster_codes, numbers, probabilities
from matinee.exceptions import BadInputError

if TYPE_CHECKING:
    import polars as pl

ACTION = "action"
CHUNK = 65_536  # rows scored at once: bounds the memory of a frame of repeated rows


@runtime_checkable
class RewardModel(Protocol):
    """What cross-fitting needs of a model; every `matinee.models` class has it."""

    def fit(self, X: pl.DataFrame, y: Floats, *, weight: Floats | None = None, seed: int = 0) -> Any:
        """Learn the reward of each row."""
        ...

    def score(self, X: pl.DataFrame) -> Floats:
        """Expected reward of each row, shape (rows,)."""
        ...


Scorer = Callable[["pl.DataFrame"], ArrayLike]
Fitter = Callable[["pl.DataFrame", Floats], Scorer]


def cluster_folds(n: int, cluster: ArrayLike | None, folds: int, seed: int) -> Ints:
    """Fold of each row, 0..folds-1, such that rows of a cluster share a fold; folds of equal numbers of clusters.

    Splitting by row would leak a member's other rows into the model that judges this one.

    Example:
        >>> fold = cluster_folds(4, ["ann", "ann", "bob", "cy"], folds=2, seed=0)
        >>> bool(fold[0] == fold[1])
        True
    """
    must(folds, "folds", typ=int, ge=2)
    codes, clusters = cluster_codes(cluster, n)
    if clusters < folds:
        raise BadInputError(f"folds == {folds}, must be <= {clusters}, the number of clusters")
    order = np.random.default_rng(seed).permutation(clusters)
    of_cluster = np.empty(clusters, dtype=np.int64)
    of_cluster[order] = np.arange(clusters) % folds
    return of_cluster if codes is None else of_cluster[codes]


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Reward models that never saw the clusters they judge.

    Attributes:
        q: Expected reward of the logged action, shape (n,).
        fold: Fold of each row, shape (n,).
        actions: The candidate actions, in the order of the columns of a policy's probabilities.
    """

    q: Floats
    fold: Ints
    actions: tuple[Any, ...]
    _X: pl.DataFrame
    _features: pl.DataFrame
    _scorers: tuple[Scorer, ...]

    def value(self, policy: ArrayLike | Callable[[int, int], ArrayLike]) -> Floats:
        """Expected reward of a policy in each row: sum over actions of pi(a|x) q(x, a), shape (n,).

        Args:
            policy: Probabilities, shape (n, actions) or (actions,) for one that ignores the context; or a function of
                (first row, end row) that returns them for those rows, so that they need never exist all at once.
        """
        n, out = self._X.height, np.empty(self._X.height)
        table = None if callable(policy) else np.asarray(policy, dtype=np.float64)
        shared = table is not None and table.ndim == 1
        for start, stop, q in self.chunks():
            if callable(policy):
                part = np.asarray(policy(start, stop), dtype=np.float64)
            elif table is None or shared:
                part = np.broadcast_to(np.asarray(table), (stop - start, len(self.actions)))
            else:
                part = table[start:stop] if table.shape[0] == n else table
            part = probabilities(part, "policy", (stop - start, len(self.actions)), zero=True)
            sums = part.sum(axis=1)
            if np.abs(sums - 1).max(initial=0.0) > 1e-6:
                row = int(np.argmax(np.abs(sums - 1)))
                raise BadInputError(f"policy[{start + row}].sum() == {sums[row]:.6g}, must be 1 over the actions")
            out[start:stop] = np.einsum("na,na->n", part, q)
        return out

    def chunks(self) -> Iterator[tuple[int, int, Floats]]:
        """Rows from, rows to, and expected reward of every action there, shape (rows, actions)."""
        n, width = self._X.height, len(self.actions)
        step = max(1, CHUNK // max(1, width // 8))
        for start in range(0, n, step):
            stop = min(n, start + step)
            q = np.empty((stop - start, width))
            fold = self.fold[start:stop]
            for k, scorer in enumerate(self._scorers):
                rows = np.flatnonzero(fold == k)
                if not len(rows):
                    continue
                context = self._X[start:stop][rows]
                for a in range(width):
                    q[rows, a] = _scored(scorer, _joined(context, self._features[[a] * len(rows)]))
            yield start, stop, q


def cross_fit(
    X: pl.DataFrame,
    actions: ArrayLike,
    rewards: ArrayLike,
    clusters: ArrayLike | None,
    model: RewardModel | Fitter,
    *,
    candidates: Sequence[Any] | None = None,
    action_features: pl.DataFrame | None = None,
    weight: ArrayLike | None = None,
    folds: int = 3,
    seed: int = 0,
) -> CrossFitted:
    """Fit a reward model on all folds but one, in turn, and let it judge the one it did not see.

    Args:
        X: Context of each row, n rows; no column named "action" (what a policy chooses is added here).
        actions: The logged action of each row, shape (n,).
        rewards: Shape (n,).
        clusters: Rows that depend on each other share a label, shape (n,): they share a fold. None: each row alone.
        model: A model with `fit` and `score` (copied for each fold), or a function of (frame, rewards) that returns a
            function of a frame.
        candidates: All actions a policy may choose; those logged, sorted, where not given.
        action_features: Features of each candidate, one row each in the order of `candidates`; they stand beside the
            action's own label, so that a model can learn across actions.
        weight: Weight of each row in fitting, shape (n,).
        folds: Number of folds.
        seed: Of the folds and of each fit.

    Raises:
        BadInputError: Shapes differ, an action is no candidate, fewer clusters than folds.

    Example:
        >>> import polars as pl
        >>> from matinee.evaluate.logistic import OneHotLogistic
        >>> rng = np.random.default_rng(0)
        >>> arm = rng.choice(["left", "right"], 3_000)
        >>> reward = (rng.random(3_000) < np.where(arm == "right", 0.3, 0.2)).astype(float)
        >>> X = pl.DataFrame({"device": rng.choice(["tv", "phone"], 3_000)})
        >>> fitted = cross_fit(X, arm, reward, None, OneHotLogistic())
        >>> bool(abs(fitted.value([0.0, 1.0]).mean() - 0.3) < 0.03)     # always right
        True
    """
    import polars as pl

    y = numbers(rewards, "rewards")
    n = len(y)
    if X.height != n:
        raise BadInputError(f"X has {X.height} rows, must be {n}, one for each reward")
    if ACTION in X.columns:
        raise BadInputError("X has a column 'action', must not: the action is given apart, for a policy may change it")
    taken = np.asarray(actions)
    if taken.shape != (n,):
        raise BadInputError(f"actions.shape == {taken.shape}, must be {(n,)}")
    known = list(np.unique(taken).tolist() if candidates is None else candidates)
    place = {action: i for i, action in enumerate(known)}
    if len(place) != len(known):
        raise BadInputError("candidates hold the same action twice, must be distinct")
    try:
        codes = np.array([place[action] for action in taken.tolist()], dtype=np.int64)
    except KeyError as error:
        raise BadInputError(f"actions hold {error.args[0]!r}, must be one of candidates") from error
    label = pl.DataFrame({ACTION: pl.Series([str(a) for a in known], dtype=pl.Enum([str(a) for a in known]))})
    features = label
    if action_features is not None:
        if action_features.height != len(known):
            raise BadInputError(f"action_features has {action_features.height} rows, must be {len(known)}")
        features = _joined(label, action_features)
    fold = cluster_folds(n, clusters, folds, seed)
    w = None if weight is None else numbers(weight, "weight", (n,))
    design = _joined(X, features[codes])
    q, scorers = np.empty(n), []
    for k in range(folds):
        out = fold == k
        train, test = np.flatnonzero(~out), np.flatnonzero(out)
        scorer = _fitted(model, design[train], y[train], None if w is None else w[train], seed)
        scorers.append(scorer)
        q[test] = _scored(scorer, design[test])
    return CrossFitted(q, fold, tuple(known), X, features, tuple(scorers))


def _fitted(model: RewardModel | Fitter, X: pl.DataFrame, y: Floats, weight: Floats | None, seed: int) -> Scorer:
    if isinstance(model, RewardModel):
        fresh = copy.deepcopy(model)
        fresh.fit(X, y, weight=weight, seed=seed)
        return fresh.score
    if not callable(model):
        raise BadInputError(f"model == {model!r}, must have fit and score, or be a function of (frame, rewards)")
    if weight is not None:
        raise BadInputError("weight given, must be None: a plain function takes no weights")
    return model(X, y)


def _scored(scorer: Scorer, X: pl.DataFrame) -> Floats:
    return numbers(scorer(X), "model.score(X)", (X.height,))


def _joined(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    twice = set(left.columns) & set(right.columns)
    if twice:
        raise BadInputError(f"column == {min(twice)!r}, must be in the context or in action_features, not in both")
    return left.hstack(right)


def folds_by_day(days: NDArray[np.int64] | Sequence[int], folds: int = 2) -> Ints:
    """Fold of each row by the parity (or remainder) of its day: what keeps rows of a day together.

    Example:
        >>> folds_by_day([1, 1, 2, 3]).tolist()
        [1, 1, 0, 1]
    """
    must(folds, "folds", typ=int, ge=2)
    return np.asarray(days, dtype=np.int64) % folds
