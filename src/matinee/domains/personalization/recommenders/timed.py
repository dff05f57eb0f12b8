"""The order of titles learned in time: trees over several recommenders' scores, on events after a cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, blocks, load_recommender
from matinee.domains.personalization.recommenders.ensemble import in_order
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.nearby import Nearby
from matinee.domains.personalization.recommenders.popular import Popular
from matinee.domains.personalization.recommenders.sequence import Successor
from matinee.domains.personalization.recommenders.together import Together
from matinee.scorers import register

Array = np.ndarray[Any, Any]
TEN = 10  # places of the list that rare titles are kept in view on
FEWEST = 100  # events after the inner cut whose title is a candidate, from which an order can be learned


def windows(half_life: float = 365.0) -> dict[str, Recommender]:
    """The parts that the order is learned over: what is near, soon after, right before or after, together, popular."""
    return {
        "around": Nearby(back=1.0, half_life=half_life),
        "next": Successor(),
        "after": Nearby(half_life=half_life),
        "chain": Nearby(),
        "step": Nearby(reach=1, read=3, strength=0.5),
        "wide": Nearby(reach=40, decay=0.96, back=1.0, popularity=0.5, read=40, strength=0.9),
        "rare": Nearby(back=1.0, half_life=half_life, popularity=1.0),
        "together": Together(),
        "lately": Popular(half_life=30.0),
        "popular": Popular(),
    }


@register
@dataclass(repr=False)
class Timed(Recommender):
    """Candidates by the first parts, ordered by gradient-boosted trees that learned on events after a cut in time.

    The parts are fitted on the events before the cut (the .9 quantile of days); then each event after it, at most so
    many a member, is one list to put in order: its prefix gives the scores, its title is the one to come first. Members
    weigh by the root of their number of events. For use the parts are fitted again on everything.

    Features of a candidate: of each part the log of its share of the scores, its distance to the best and its rank; days
    since the title's first and last play, its plays, all and lately; the length of the history.

    The last places of ten may be kept for the best unseen titles of the part "rare", which takes popularity out: the
    catalogue stays in view at the price of what those places earned.

    Attributes:
        parts: Recommenders by name; `windows()` where none are given. Candidates are the best by the sum of the logs of
            the first three.
        most: Candidates of a list.
        cut: Quantile of days at which learning begins.
        per_member: Events of a member that are learned from.
        trees, leaves, rate, fewest: Of the trees.
        rare_places: So many of the last places of ten are kept for rare titles.
        standing: Of each title days since the first and the last play, plays, decayed plays; shape (titles, 4).
    """

    kind: ClassVar[str] = "timed"
    logarithmic: ClassVar[bool] = True
    parts: dict[str, Recommender] = field(default_factory=windows)
    most: int = 200
    cut: float = 0.9
    per_member: int = 60
    trees: int = 150
    leaves: int = 15
    rate: float = 0.04
    fewest: int = 200
    rare_places: int = 1
    seed: int = 0
    standing: Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    _booster: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        must(self.most, "most", typ=int, ge=2)
        must(self.cut, "cut", gt=0, lt=1)
        must(self.rare_places, "rare_places", typ=int, ge=0, le=TEN)
        if len(self.parts) < 1:
            raise mt.MatineeError("parts == {}, must name the recommenders whose titles are put in order")
        if self.rare_places and "rare" not in self.parts:
            raise mt.MatineeError(f"rare_places == {self.rare_places}, must be 0 where no part is named 'rare'")

    def fit(self, histories: Histories) -> Self:
        """Fit the parts before the cut, learn the order after it, fit the parts on everything.

        Raises:
            MatineeError: If fewer than 100 events after the cut have their title among the candidates.
        """
        self.learned = histories
        edge = np.quantile(histories.day, self.cut) if len(histories.day) else 0.0
        before = histories.where(histories.day <= edge)
        before = before.against(np.unique(before.titles[before.items]))
        self._fit_parts(before)
        prefixes, wanted, owner = self._questions(histories, edge)
        table, first, who = [], [], []
        for block in blocks(len(prefixes)):
            rows = np.arange(len(prefixes))[block]
            candidates, features, _ = self._candidates(prefixes.rows(rows))
            right = self.titles[candidates] == wanted[rows][:, None]
            learned = right.any(axis=1)
            table.append(features[learned])
            first.append(right[learned])
            who.append(owner[rows][learned])
        if sum(len(f) for f in first) < FEWEST:
            raise mt.MatineeError(
                f"{sum(len(f) for f in first)} events after the cut have their title among the candidates, must be at "
                f"least {FEWEST} to learn an order from"
            )
        self._booster = self._trees(np.concatenate(table), np.concatenate(first), np.concatenate(who))
        self._fit_parts(histories)
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """One row of the batch."""
        return np.asarray(self.scores_of(Histories.of_sequences([np.asarray(history, np.int64)]))[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """The candidates by the trees; below them all others by the sum of logs."""
        some = histories if rows is None else histories.rows(rows)
        made = np.zeros((len(some), len(self.titles)), np.float32)
        for block in blocks(len(some)):
            asked = some.rows(np.arange(len(some))[block])
            candidates, features, first = self._candidates(asked)
            ordered = self._booster.predict(features.reshape(-1, features.shape[2])).reshape(candidates.shape)
            first -= first.max(axis=1, keepdims=True) - ordered.min(axis=1, keepdims=True) + 1
            np.put_along_axis(first, candidates, ordered.astype(np.float32), axis=1)
            if self.rare_places:
                inside = asked.against(self.titles)
                seen = np.repeat(np.arange(len(asked)), inside.lengths), inside.items
                rare = in_order(self.parts["rare"], asked, self.titles)
                rare[seen] = -np.inf
                for place in range(TEN + 1 - self.rare_places, TEN + 1):
                    self._keep_a_place(place, first, rare, seen)
            made[block] = first
        return made

    @staticmethod
    def _keep_a_place(place: int, scores: Array, rare: Array, seen: tuple[Array, Array]) -> None:
        """Lift of each row the best rare title that does not stand above that place already to the place.

        Args:
            place: From 1.
            scores: Shape (rows, titles); changed in place.
            rare: The same by rarity; what was lifted is struck out.
            seen: Rows and titles that the members have seen.
        """
        if scores.shape[1] <= place:
            return
        unseen = scores.copy()
        unseen[seen] = -np.inf
        best = np.argpartition(-unseen, place - 1, axis=1)[:, :place]
        value = np.take_along_axis(unseen, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        best, value = np.take_along_axis(best, order, axis=1), np.take_along_axis(value, order, axis=1)
        np.put_along_axis(rare, best[:, : place - 1], -np.inf, axis=1)
        lifted = rare.argmax(axis=1)
        rows = np.flatnonzero(rare[np.arange(len(rare)), lifted] > 0)
        # Between the place before and what stood there; the sums of equal trees tie often, so a hair above.
        above = value[rows, place - 2] if place > 1 else np.full(len(rows), np.inf, np.float32)
        stood = value[rows, place - 1]
        scores[rows, lifted[rows]] = np.where(
            np.isfinite(stood), np.minimum(np.nextafter(stood, np.float32(np.inf)), above), stood
        )

    def _fit_parts(self, histories: Histories) -> None:
        self.titles = histories.titles
        for part in self.parts.values():
            part.fit(histories)
        n = len(histories.titles)
        first, last = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(first, histories.items, histories.day)
        np.maximum.at(last, histories.items, histories.day)
        newest = float(histories.day.max(initial=0.0))
        plays = np.bincount(histories.items, minlength=n)
        lately = np.bincount(histories.items, weights=np.exp2((histories.day - newest) / 30.0), minlength=n)
        self.standing = np.column_stack([newest - first, newest - last, plays, lately]).astype(np.float32)

    def _questions(self, histories: Histories, edge: float) -> tuple[Histories, Array, Array]:
        """Prefixes of events after the edge, their titles, their members."""
        owner = np.repeat(np.arange(len(histories)), histories.lengths)
        starts = np.repeat(histories.offsets[:-1], histories.lengths)
        late = np.flatnonzero((histories.day > edge) & (np.arange(len(owner)) > starts))
        mixed = late[np.random.default_rng(self.seed).permutation(len(late))]
        grouped = mixed[np.argsort(owner[mixed], kind="stable")]
        place = np.arange(len(grouped)) - np.searchsorted(owner[grouped], owner[grouped])
        asked = np.sort(grouped[place < self.per_member])
        lengths = asked - starts[asked]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(starts[asked], lengths)
        prefixes = Histories(histories.titles, histories.items[at], offsets, np.arange(len(asked)), histories.day[at])
        return prefixes, histories.titles[histories.items[asked]], owner[asked]

    def _candidates(self, asked: Histories) -> tuple[Array, Array, Array]:
        """Candidates (rows, most), their features (rows, most, features), and the sum of logs (rows, titles)."""
        n = len(self.titles)
        k = min(self.most, n)
        tables = [in_order(part, asked, self.titles) for part in self.parts.values()]
        shares = []
        for part, table in zip(self.parts.values(), tables, strict=True):
            raw = np.exp(table) if part.logarithmic else np.maximum(table, 0.0)
            shares.append(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
        first: Array = np.add.reduce([np.log(s + 1 / n) for s in shares[:3]]).astype(np.float32)
        inside = asked.against(self.titles)
        unseen = first.copy()
        unseen[np.repeat(np.arange(len(asked)), inside.lengths), inside.items] = -np.inf
        candidates = np.argpartition(-unseen, k - 1, axis=1)[:, :k]
        columns: list[Array] = []
        for share in shares:
            own = np.take_along_axis(share, candidates, axis=1)
            rank = np.argsort(np.argsort(-own, axis=1, kind="stable"), axis=1)
            best = np.maximum(share.max(axis=1, keepdims=True), 1e-9)
            columns += [np.log(own + 1 / n), np.log(own / best + 1e-4), rank]
        columns += [self.standing[candidates, c] for c in range(self.standing.shape[1])]
        columns.append(np.repeat(inside.lengths[:, None], k, axis=1))
        return candidates, np.stack(columns, axis=2).astype(np.float32), first

    def _trees(self, table: Array, right: Array, owner: Array) -> Any:
        import lightgbm

        weight = np.bincount(owner)[owner] ** -0.5
        data = lightgbm.Dataset(
            table.reshape(-1, table.shape[2]), right.reshape(-1).astype(np.int32),
            group=np.full(len(right), right.shape[1]), weight=np.repeat(weight / weight.mean(), right.shape[1]),
        )  # fmt: skip
        settings = {
            "objective": "lambdarank", "num_leaves": self.leaves, "learning_rate": self.rate, "min_data_in_leaf": self.fewest,
            "feature_fraction": 0.4, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 20.0,
            "lambdarank_truncation_level": 20, "seed": self.seed, "deterministic": True, "force_row_wise": True,
            "verbose": -1,
        }  # fmt: skip
        return lightgbm.train(settings, data, self.trees)

    def save(self, folder: Path) -> None:
        """Write the standing, the trees, and each part into a folder of its own."""
        super().save(folder)
        for name, part in self.parts.items():
            part.save(folder / "parts" / name)
        (folder / "parts.json").write_text(json.dumps(list(self.parts)))
        self._booster.save_model(folder / "trees.txt")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If a file is missing, cut short or of another kind.
        """
        import lightgbm

        one = super().load(folder)
        try:
            names: list[str] = json.loads((folder / "parts.json").read_text())
            one._booster = lightgbm.Booster(model_file=folder / "trees.txt")
        except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
            raise mt.MatineeError(
                f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again"
            ) from error
        one.parts = {name: load_recommender(folder / "parts" / name) for name in names}
        return one

    def _saved(self) -> list[str]:
        return [name for name in super()._saved() if name != "parts"]
