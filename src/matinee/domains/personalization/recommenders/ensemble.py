"""Several recommenders as one: their logs added, each counting what was learnt on held-back titles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders.base import Recommender, blocks, load_recommender
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.logit import learn_weights
from matinee.scorers import register

Array = np.ndarray[Any, Any]


@register
@dataclass(repr=False)
class Blend(Recommender):
    """A log-linear blend: score = sum over parts of w_p log p_p(title | history).

    Scores that are logs are taken as they are; others are clipped at zero, divided by their sum and read as probabilities
    with a floor of one title in all: log(p + 1 / n). Logs of what behaves like probabilities blend well over a wide range
    of weights, z-scores do not. The weights are a multinomial logit on each member's newest title, which the parts have
    not seen; then the parts are fitted again on everything.

    Attributes:
        parts: Recommenders by name.
        weights: w of each part in their order, shape (parts,).
        refit: Fit the parts again once the weights are known; without it they lack each member's newest event.

    Example:
        >>> from matinee.domains.personalization.recommenders import Following, Popular
        >>> histories = Histories.of_sequences([[m % 7, (m + 1) % 7, (m + 2) % 7] for m in range(60)])
        >>> Blend(parts={"following": Following(), "popular": Popular()}).fit(histories).recommend([3], 1)[0].tolist()
        [4]
    """

    kind: ClassVar[str] = "blend"
    logarithmic: ClassVar[bool] = True
    parts: dict[str, Recommender] = field(default_factory=dict)
    weights: Array = field(default_factory=lambda: np.zeros(0))
    refit: bool = True

    def fit(self, histories: Histories) -> Self:
        """Fit the parts without the newest events, learn what each counts, fit them on everything.

        Raises:
            MatineeError: If there are no parts, or no member has two events.
        """
        before = histories.without_last(1)
        for part in self.parts.values():
            part.fit(before)
        self.weigh(histories)
        if self.refit:
            for part in self.parts.values():
                part.fit(histories)
        return self

    def weigh(self, histories: Histories) -> Self:
        """Learn what each part counts, where the parts are fitted on histories without the newest events already.

        Raises:
            MatineeError: If there are no parts, or no member has two events.
        """
        if not self.parts:
            raise mt.MatineeError("parts == {}, must name the recommenders to blend")
        self.titles, self.learned = histories.titles, histories
        self.weights = learn_weights(self.evidence, histories, sources=len(self.parts))
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """One row of the batch."""
        return np.asarray(self.scores_of(Histories.of_sequences([np.asarray(history, np.int64)]))[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """The weighted sum of the parts' logs."""
        some = histories if rows is None else histories.rows(rows)
        made = np.zeros((len(some), len(self.titles)), np.float32)
        for block in blocks(len(some)):
            for weight, table in zip(self.weights, self.evidence(some.rows(np.arange(len(some))[block])), strict=True):
                made[block] += np.float32(weight) * table
        return made

    def evidence(self, histories: Histories) -> list[Array]:
        """Logs of each part, in their order: arrays of shape (members, titles), float32."""
        return [as_logs(part, in_order(part, histories, self.titles)) for part in self.parts.values()]

    def save(self, folder: Path) -> None:
        """Write the weights, and each part into a folder of its own."""
        super().save(folder)
        for name, part in self.parts.items():
            part.save(folder / "parts" / name)
        (folder / "parts.json").write_text(json.dumps(list(self.parts)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If a file is missing, cut short or of another kind.
        """
        one = super().load(folder)
        try:
            names: list[str] = json.loads((folder / "parts.json").read_text())
        except (OSError, ValueError) as error:
            raise mt.MatineeError(
                f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again"
            ) from error
        one.parts = {name: load_recommender(folder / "parts" / name) for name in names}
        return one

    def _saved(self) -> list[str]:
        return [name for name in super()._saved() if name != "parts"]


def in_order(part: Recommender, histories: Histories, titles: Array) -> Array:
    """A part's scores in the order of another catalogue; a title it does not know gets the row's least."""
    scores = part.scores_of(histories)
    if np.array_equal(part.titles, titles):
        return scores
    at = np.searchsorted(titles, part.titles)
    known = (at < len(titles)) & (titles[np.minimum(at, len(titles) - 1)] == part.titles)
    least = scores.min(axis=1, initial=0.0)
    made = np.repeat(least[:, None], len(titles), axis=1)
    made[:, at[known]] = scores[:, known]
    return np.asarray(made, np.float32)


def as_logs(part: Recommender, scores: Array) -> Array:
    """Scores as logs of what behaves like probabilities; in place where they were not."""
    if part.logarithmic:
        return scores
    np.maximum(scores, 0.0, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    np.divide(scores, total, out=scores, where=total > 0)
    scores += 1.0 / max(scores.shape[1], 1)
    return np.asarray(np.log(scores, out=scores))
