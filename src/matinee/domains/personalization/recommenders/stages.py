"""Two stages: several recommenders find candidates, trees over their scores and the lags of pairs put them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, blocks
from matinee.domains.personalization.recommenders.candidates import Context
from matinee.domains.personalization.recommenders.ensemble import Blend, as_logs, in_order
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.pairs import cores
from matinee.scorers import register

Array = np.ndarray[Any, Any]
HELD_OUT = 0.15  # share of the members by which the number of trees is chosen
MOST_MEMBERS = 20_000  # to learn the order from
PATIENCE = 50  # trees without a gain until no more are added
SMOOTH = 15  # trees over which the gain of the members held out is averaged: a few hundred members are noise of .01
LEAST = 40  # trees; the best of a noisy curve may be its third point, where most candidates are still equal
FEWEST = 20  # members whose newest title is among their candidates
TREES = "trees.txt"


def best_of(curve: Array) -> int:
    """The number of trees at which the gain, averaged over its neighbours, is largest; at least 40, or all there are.

    Args:
        curve: Gain of the members held out after each tree, shape (trees,).

    Example:
        >>> best_of(np.concatenate([[0.9], np.linspace(0.1, 0.5, 80), np.linspace(0.5, 0.3, 40)]))
        81
    """
    if len(curve) <= LEAST:
        return len(curve)
    half = SMOOTH // 2
    padded = np.pad(curve, half, mode="edge")
    smooth = np.convolve(padded, np.ones(SMOOTH) / SMOOTH, mode="valid")
    return LEAST + int(smooth[LEAST - 1 :].argmax())


@register
@dataclass(repr=False)
class Staged(Recommender):
    """Candidates of a blend, put in order by gradient-boosted trees (LambdaMART) over the parts' scores and over how often
    the last titles and the candidate followed each other, lag by lag, forward and reverse.

    The parts are fitted without each member's newest event; the trees learn to put that event first among the best
    candidates, on members for whom it is there; how many trees is read off a smoothed curve of members held out. Titles
    that are no candidates come below them, in the order of the blend.

    Attributes:
        first: The blend that finds the candidates, and whose parts' scores are features.
        most: Candidates of a member.
        refit: Fit the parts again on everything once the trees are trained.
        rate, leaves, trees, fewest: Of the trees; `trees` is the most of them, `fewest` rows make a leaf.
        seed: Of the members held out and of the trees.
    """

    kind: ClassVar[str] = "staged"
    logarithmic: ClassVar[bool] = True
    first: Blend = field(default_factory=Blend)
    most: int = 150
    refit: bool = False
    rate: float = 0.04
    leaves: int = 15
    trees: int = 300
    fewest: int = 200
    seed: int = 0
    _context: Context | None = field(default=None, init=False, repr=False, compare=False)
    _booster: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        must(self.most, "most", typ=int, ge=2)
        must(self.rate, "rate", gt=0, le=1)

    def fit(self, histories: Histories) -> Self:
        """Fit the parts without the newest events, train the trees on those.

        Raises:
            MatineeError: If there are no parts, or too few members have their newest title among the candidates.
        """
        before = histories.without_last(1)
        for part in self.first.parts.values():
            part.fit(before)
        self.order(histories)
        if self.refit:
            for part in self.first.parts.values():
                part.fit(histories)
            self._context = Context.of(histories)
        return self

    def order(self, histories: Histories) -> Self:
        """Learn the blend and the trees, where the parts are fitted on histories without the newest events already.

        Raises:
            MatineeError: If there are no parts, or too few members have their newest title among the candidates.
        """
        import lightgbm

        self.titles, self.learned = histories.titles, histories
        self.first.weigh(histories)
        before = histories.without_last(1)
        self._context = Context.of(before)
        rng = np.random.default_rng(self.seed)
        rows = np.flatnonzero(histories.lengths >= 2)
        rows = np.sort(rng.permutation(rows)[:MOST_MEMBERS])
        made, right = [], []
        for block in blocks(len(rows)):
            table, candidates, _ = self._table(before.rows(rows[block]))
            hit = candidates == histories.items[histories.offsets[rows[block] + 1] - 1][:, None]
            found = hit.any(axis=1)
            made.append(table[found])
            right.append(hit[found])
        table, label = np.concatenate(made), np.concatenate(right)
        if len(table) < FEWEST:
            raise mt.MatineeError(
                f"{len(table)} members have their newest title among {self.most} candidates, must be at least {FEWEST} to "
                f"learn an order from"
            )
        out = rng.permutation(len(table)) < max(1, int(HELD_OUT * len(table)))
        names = [name.replace(" ", "_") for name in Context.names(list(self.first.parts))]

        def data(some: Array, like: Any = None) -> Any:
            rows = table[some].reshape(-1, table.shape[2])
            group = np.full(int(some.sum()), table.shape[1])
            return lightgbm.Dataset(
                rows, label[some].ravel().astype(np.int32), group=group, reference=like, feature_name=names
            )

        train = data(~out)
        settings = {
            "objective": "lambdarank", "metric": "ndcg", "eval_at": [table.shape[1]], "lambdarank_truncation_level": 20,
            "learning_rate": self.rate, "num_leaves": self.leaves, "lambda_l2": 20.0, "feature_fraction": 0.45,
            "bagging_fraction": 0.7, "bagging_freq": 1, "min_data_in_leaf": min(self.fewest, label[~out].size // 50),
            "num_threads": cores(), "seed": self.seed, "deterministic": True, "force_row_wise": True, "verbose": -1,
        }  # fmt: skip
        curve: dict[str, Any] = {}
        booster = lightgbm.train(
            settings, train, self.trees, valid_sets=[data(out, train)],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False), lightgbm.record_evaluation(curve)],
        )  # fmt: skip
        booster.best_iteration = best_of(np.array(next(iter(curve["valid_0"].values()))))
        self._booster = booster
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """One row of the batch."""
        return np.asarray(self.scores_of(Histories.of_sequences([np.asarray(history, np.int64)]))[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """Candidates by the trees, all others below them by the blend."""
        some = (histories if rows is None else histories.rows(rows)).against(self.titles)
        made = np.empty((len(some), len(self.titles)), np.float32)
        for block in blocks(len(some)):
            table, candidates, rest = self._table(some.rows(np.arange(len(some))[block]))
            flat = table.reshape(-1, table.shape[2])
            ordered = self._booster.predict(flat, num_threads=cores()).reshape(candidates.shape).astype(np.float32)
            # Below the last candidate, and in the order of the blend.
            below = ordered.min(axis=1, keepdims=True) - 1.0
            rest = below + (rest - rest.max(axis=1, keepdims=True))
            np.put_along_axis(rest, candidates, ordered, axis=1)
            made[block] = rest
        return made

    def importance(self) -> dict[str, float]:
        """How much each feature gained in the trees, as a share of all, the most first."""
        gain = self._booster.feature_importance("gain")
        order = np.argsort(-gain)
        names = self._booster.feature_name()
        return {names[i].replace("_", " "): float(gain[i] / max(gain.sum(), 1e-12)) for i in order}

    def _table(self, histories: Histories) -> tuple[Array, Array, Array]:
        """Features of each member's candidates, their positions, and the blend's score of every title."""
        assert self._context is not None
        raw = [in_order(part, histories, self.titles) for part in self.first.parts.values()]
        logs = [as_logs(part, scores.copy()) for part, scores in zip(self.first.parts.values(), raw, strict=True)]
        blend = np.zeros((len(histories), len(self.titles)), np.float32)
        for weight, table in zip(self.first.weights, logs, strict=True):
            blend += np.float32(weight) * table
        unseen = blend.copy()
        unseen[np.repeat(np.arange(len(histories)), histories.lengths), histories.items] = -np.inf
        most = min(self.most, len(self.titles))
        candidates = np.argpartition(-unseen, most - 1, axis=1)[:, :most]
        return self._context.features(histories, candidates, raw, logs), candidates, blend

    def save(self, folder: Path) -> None:
        """Write the blend, the trees, and what was counted."""
        from safetensors.numpy import save_file

        super().save(folder)
        self.first.save(folder / "first")
        (folder / TREES).write_text(self._booster.model_to_string() if self._booster is not None else "")
        if self._context is not None:
            save_file(self._context.arrays(), folder / "context.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If a file is missing, cut short or of another kind.
        """
        import lightgbm
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        one = super().load(folder)
        one.first = Blend.load(folder / "first")
        try:
            one._booster = lightgbm.Booster(model_str=(folder / TREES).read_text())
            one._context = Context.from_arrays(load_file(folder / "context.safetensors"))
        except (OSError, SafetensorError, KeyError, lightgbm.basic.LightGBMError) as error:
            raise mt.MatineeError(
                f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again"
            ) from error
        return one

    def _saved(self) -> list[str]:
        return [name for name in super()._saved() if name != "first"]
