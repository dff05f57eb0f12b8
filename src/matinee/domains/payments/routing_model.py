"""The chance that a processor approves a payment: boosted trees for each processor, and a filter for its drift."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

import matinee as mt
from matinee.domains.payments.drift import Drift
from matinee.domains.payments.routing_columns import EXTRAS, Columns, Payments, payments
from matinee.exceptions import BadInputError, StorageError

if TYPE_CHECKING:
    from matinee.models import Model

Array = np.ndarray[Any, Any]
View = Mapping[str, Array]  # columns of a model, one array each
Variant = tuple[str, dict[str, Any]]
Steps = Callable[..., None]
FOLDS = 5
FEWEST = 200  # attempts of a processor below which nothing is learned of it
_SHALLOW: dict[str, Any] = {"leaves": 7, "trees": 120, "rate": 0.03, "min_rows": 20, "l2": 0.0}
_DEEP: dict[str, Any] = {"leaves": 15, "trees": 90, "rate": 0.03, "min_rows": 40, "l2": 0.0}
_SEGMENTS: dict[str, Any] = {"leaves": 6, "trees": 1, "rate": 1.0, "min_rows": 100, "l2": 0.0}
# Averaged in log-odds. They differ in what they read and how deep they look, so that their errors differ.
VARIANTS: tuple[Variant, ...] = (("full", _SHALLOW), ("plain", _SHALLOW), ("full", _DEEP))


def _quiet(n: int = 1, text: str | None = None) -> None:
    return


class RoutingModel:
    """How likely each processor is to approve each payment.

    `static` is what was learned; `predict` adds what the filter has seen lately; `replay` walks through a log as a
    service would have lived it, predicting every row before learning from its answer.

    Args:
        extras: Columns beyond the basic ones. None: those are taken that improve the cross-validated log-loss by two
            standard errors.
        drift: Settings of the filter: memory, prior, strength. A strength of 0 turns it off.
        variants: What is averaged: which view of the columns ("plain" or "full"), and the learner's parameters.
    """

    kind: ClassVar[str] = "payments-routing"

    def __init__(
        self,
        extras: Sequence[str] | None = None,
        drift: dict[str, float] | None = None,
        variants: Sequence[Variant] = VARIANTS,
    ) -> None:
        self.processors: list[str] = []
        self.extras = extras
        self.settings, self.variants = dict(drift or {}), tuple(variants)
        self.columns = Columns([], [])
        self._models: list[list[Model]] = []
        self._segments: list[Model] = []
        self._leaves: list[Array] = []
        self.drift = Drift.fresh(0, 0)
        self.outside = self.crossfitted = np.zeros((0, 0))

    def fit(
        self, attempts: pl.DataFrame, processors: Sequence[str], *, seed: int = 0, progress: Steps = _quiet
    ) -> Self:
        """Learn from attempts (columns of a `ProcessorLog`), in order of time.

        Beside the models it keeps predictions of every training row by models that did not see its day, shape (rows,
        processors): `outside` without the filter, `crossfitted` with it. Whatever is tuned on the training rows
        afterwards is tuned on these, since a model flatters the rows it was fitted on.

        Args:
            attempts: Rows in order of time.
            processors: Those that may be chosen.
            seed: For the learners.
            progress: Called with the steps done.

        Raises:
            BadInputError: If a processor has too few attempts.
        """
        if attempts["at"].is_sorted() is False:
            raise BadInputError("attempts are not in order of time, must be sorted by at")
        self.processors = list(processors)
        for name in self.processors:
            rows = int((attempts["processor"] == name).sum())
            if rows < FEWEST:
                raise BadInputError(
                    f"processor {name!r} has {rows} attempts, must have at least {FEWEST} to learn from"
                )
        action, approved = self._answers(attempts)
        folds = (attempts["at"].dt.epoch("d").to_numpy() % FOLDS).astype(np.int64)
        extras = self.extras if self.extras is not None else self._worthwhile(attempts, action, approved, folds, seed)
        self.columns = Columns.learn(attempts, extras)
        views = self._views(payments(attempts))
        outside = np.empty((len(attempts), len(self.processors)))
        for fold in range(FOLDS):
            held = folds == fold
            if held.any():
                models = _fit_all(self.variants, views, action, approved, ~held, len(self.processors), seed)
                outside[held] = self._logits(models, views, held)
            progress(1, f"routing: fold {fold + 1} of {FOLDS}")
        everything = np.ones(len(attempts), np.bool_)
        self._models = _fit_all(self.variants, views, action, approved, everything, len(self.processors), seed)
        self._grow_segments(views["full"], action, approved, seed)
        self.drift = Drift.fresh(len(self.processors), max(len(v) for v in self._leaves), self.settings)
        moved = self.drift.replay(outside, self._segments_of(views["full"]), action, approved)
        self.outside, self.crossfitted = sigmoid(outside), sigmoid(outside + moved)
        progress(1, "routing: fitted")
        return self

    def fit_static(self, attempts: pl.DataFrame, processors: Sequence[str], *, seed: int = 0) -> Self:
        """Learn the static parts alone, with the extras given: a fifth of the time. There is nothing to replay then."""
        self.processors = list(processors)
        action, approved = self._answers(attempts)
        self.columns = Columns.learn(attempts, self.extras or ())
        views, everything = self._views(payments(attempts)), np.ones(len(attempts), np.bool_)
        self._models = _fit_all(self.variants, views, action, approved, everything, len(self.processors), seed)
        return self

    def static(self, attempts: pl.DataFrame) -> Array:
        """Chance of approval by processor without the filter, shape (rows, processors)."""
        return sigmoid(self._logits(self._models, self._views(payments(attempts))))

    def predict(self, attempts: pl.DataFrame | Payments) -> Array:
        """Chance of approval as of the last attempt that was learned from, shape (rows, processors).

        The filter stands still between trainings: a policy is what was saved and judged, the same in every server. Train
        nightly, so that it is never more than a day behind.
        """
        views = self._views(payments(attempts) if isinstance(attempts, pl.DataFrame) else attempts)
        return sigmoid(self._logits(self._models, views) + self.drift.shifts(self._segments_of(views["full"])))

    def replay(self, attempts: pl.DataFrame, static: Array | None = None, *, fresh: bool = False) -> Array:
        """Chance of approval of each row as it was before its own answer, learning from the rows before it.

        Walks a copy: the model stays as it was.

        Args:
            attempts: Rows in order of time, with `processor` and `approved`.
            static: Static chances to build on, shape (rows, processors), where they come from other models.
            fresh: Begin with an empty filter rather than as training left it.
        """
        views = self._views(payments(attempts))
        logits = self._logits(self._models, views) if static is None else logit(static)
        action, approved = self._answers(attempts)
        drift = self.drift.emptied() if fresh else self.drift.copy()
        return sigmoid(logits + drift.replay(logits, self._segments_of(views["full"]), action, approved))

    def save(self, folder: Path) -> None:
        """Write trees, columns and the state of the filter: JSON, LightGBM text, safetensors."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for p in range(len(self.processors)):
            for v, model in enumerate(self._models[p]):
                model.save(folder / f"processor-{p}" / f"variant-{v}")
            self._segments[p].save(folder / f"processor-{p}" / "segments")
        arrays = {"surplus": self.drift.surplus, "spread": self.drift.spread}
        arrays |= {f"leaves-{p}": leaves for p, leaves in enumerate(self._leaves)}
        save_file(arrays, folder / "drift.safetensors")
        about = {
            "kind": self.kind, "processors": self.processors, "columns": self.columns.to_json(), "drift": self.settings,
            "variants": self.variants,
        }  # fmt: skip
        (folder / "routing.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StorageError: If a part of it is missing.
        """
        from safetensors.numpy import load_file

        from matinee import models

        for name in ("routing.json", "drift.safetensors"):
            if not (folder / name).is_file():
                raise StorageError(f"{name} is missing from the routing model; train it again")
        about = json.loads((folder / "routing.json").read_text())
        arrays = load_file(folder / "drift.safetensors")
        variants = [(view, how) for view, how in about["variants"]]
        made = cls(about["columns"]["extras"], about["drift"], variants)
        made.processors, made.columns = about["processors"], Columns.from_json(about["columns"])
        for p in range(len(made.processors)):
            parent = folder / f"processor-{p}"
            made._models.append([models.load(parent / f"variant-{v}") for v in range(len(variants))])
            made._segments.append(models.load(parent / "segments"))
            made._leaves.append(arrays[f"leaves-{p}"])
        made.drift = Drift(arrays["surplus"], arrays["spread"], **about["drift"])
        return made

    def _answers(self, attempts: pl.DataFrame) -> tuple[Array, Array]:
        index = {name: i for i, name in enumerate(self.processors)}
        unknown = set(attempts["processor"].unique().to_list()) - set(index)
        if unknown:
            raise BadInputError(f"processor == {min(map(str, unknown))!r}, must be one of {', '.join(self.processors)}")
        action = attempts["processor"].replace_strict(index, return_dtype=pl.Int64).to_numpy()
        return action, attempts["approved"].cast(pl.Float64).to_numpy()

    def _views(self, rows: Payments) -> dict[str, View]:
        return {"plain": self.columns.plain(rows), "full": self.columns.full(rows)}

    def _logits(self, models: list[list[Model]], views: Mapping[str, View], rows: Array | None = None) -> Array:
        """Mean log-odds over the variants, shape (rows, processors); of the rows of a mask where one is given."""
        index = None if rows is None else np.flatnonzero(rows)
        height = len(views["plain"]["hour"]) if index is None else len(index)
        out = np.zeros((height, len(models)))
        # Models that read the same view read the same matrix: they were fitted on the same columns.
        readers = {view: model for (view, _), model in zip(self.variants, models[0], strict=True)}
        matrices = {view: _matrix(model, views[view], index) for view, model in readers.items()}
        for p, fitted in enumerate(models):
            for (view, _), model in zip(self.variants, fitted, strict=True):
                out[:, p] += logit(_score_matrix(model, matrices[view])) / len(fitted)
        return out

    def _grow_segments(self, full: View, action: Array, approved: Array, seed: int) -> None:
        self._segments, self._leaves = [], []
        for p in range(len(self.processors)):
            rows = np.flatnonzero(action == p)
            tree = mt.LightGBM(**_SEGMENTS).fit(_frame(full, rows), approved[rows], seed=seed)
            self._segments.append(tree)
            # A leaf is known by its value: one tree gives one value a leaf.
            self._leaves.append(np.unique(_score(tree, full, rows)))

    def _segments_of(self, full: View) -> Array:
        found = np.empty((len(full["hour"]), len(self.processors)), np.int64)
        matrix = _matrix(self._segments[0], full)
        for p, (tree, leaves) in enumerate(zip(self._segments, self._leaves, strict=True)):
            found[:, p] = np.minimum(np.searchsorted(leaves, _score_matrix(tree, matrix)), len(leaves) - 1)
        return found

    def _worthwhile(self, attempts: pl.DataFrame, action: Array, approved: Array, folds: Array, seed: int) -> list[str]:
        """The extras that improve the cross-validated log-loss by at least two standard errors."""
        available = [e for e in EXTRAS if e == "weekday" or e in attempts.columns]
        basic = self._losses(attempts, [], action, approved, folds, seed)
        kept = []
        for extra in available:
            gain = basic - self._losses(attempts, [extra], action, approved, folds, seed)
            if gain.sum() > 2 * np.sqrt(len(gain)) * gain.std():
                kept.append(extra)
        return kept

    def _losses(
        self, attempts: pl.DataFrame, extras: list[str], action: Array, approved: Array, folds: Array, seed: int
    ) -> Array:
        plain, learner = Columns.learn(attempts, extras).plain(payments(attempts)), self.variants[0][1]
        loss = np.zeros(len(attempts))
        for p in range(len(self.processors)):
            for fold in range(FOLDS):
                train, held = (
                    np.flatnonzero((action == p) & (folds != fold)),
                    np.flatnonzero((action == p) & (folds == fold)),
                )
                if len(held):
                    model = mt.LightGBM(**learner).fit(_frame(plain, train), approved[train], seed=seed)
                    q = _score(model, plain, held)
                    loss[held] = -np.log(np.where(approved[held] == 1, q, 1 - q))
        return loss


def _frame(view: View, rows: Array) -> pl.DataFrame:
    return pl.DataFrame({name: column[rows] for name, column in view.items()})


def _score(model: Model, view: View, rows: Array | None = None) -> Array:
    """Scores without building a frame: the path that serving takes."""
    return _score_matrix(model, _matrix(model, view, rows))


def _matrix(model: Model, view: View, rows: Array | None = None) -> Array:
    assert isinstance(model, mt.LightGBM)
    columns = view if rows is None else {name: column[rows] for name, column in view.items()}
    return model.encode(columns, len(columns["hour"]))


def _score_matrix(model: Model, matrix: Array) -> Array:
    assert isinstance(model, mt.LightGBM)
    return model.score_array(matrix)


def _fit_all(
    variants: Sequence[Variant],
    views: Mapping[str, View],
    action: Array,
    approved: Array,
    rows: Array,
    processors: int,
    seed: int,
) -> list[list[Model]]:
    """One list of variants a processor, fitted on the rows of the mask."""
    found: list[list[Model]] = []
    for p in range(processors):
        index = np.flatnonzero(rows & (action == p))
        frames = {name: _frame(view, index) for name, view in views.items()}
        found.append([mt.LightGBM(**how).fit(frames[view], approved[index], seed=seed) for view, how in variants])
    return found


def logit(p: Array) -> Array:
    """Log-odds of probabilities, kept finite."""
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    odds: Array = np.log(clipped / (1 - clipped))
    return odds


def sigmoid(x: Array) -> Array:
    """Probabilities of log-odds."""
    p: Array = 1.0 / (1.0 + np.exp(-x))
    return p
