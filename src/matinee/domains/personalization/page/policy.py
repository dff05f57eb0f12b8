"""The policy that draws whole pages: rows, and titles within them, each slot with its exact conditional chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import matinee as mt
from matinee.domains.personalization.page.construct import construct
from matinee.domains.personalization.page.settings import Layout
from matinee.policies import KINDS, Drawn

if TYPE_CHECKING:
    from matinee.domains.personalization.page.model import PageModel
    from matinee.draw import Limit
    from matinee.policies import Candidates, Request, Scores

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shelf:
    """A row of a page that was shown: its kind, its key, and its titles in order."""

    kind: str
    key: str
    titles: tuple[Any, ...]
    chance: float = 1.0

    @property
    def name(self) -> str:
        """Kind and key in one, as `Shown.shelf` records it."""
        return f"{self.kind}:{self.key}" if self.key else self.kind


def shelves(choice: mt.Choice) -> list[Shelf]:
    """The rows of a logged page, in order; one row without a kind where the choice was no page.

    Example:
        >>> from datetime import UTC, datetime
        >>> page = mt.Choice(id="a", decision="page", unit=1, at=datetime(2026, 1, 1, tzinfo=UTC), policy="page@1",
        ...                  action=[3, 5, 7], context={"layout": '[["picked","",2,1.0],["genre","War",1,0.5]]'})
        >>> [(row.name, row.titles) for row in shelves(page)]
        [('picked', (3, 5)), ('genre:War', (7,))]
    """
    text = choice.context.get("layout")
    if not text:
        return [Shelf("", "", tuple(choice.action))] if choice.action else []
    found, begin = [], 0
    for kind, key, length, chance in json.loads(text):
        found.append(Shelf(kind, key, tuple(choice.action[begin : begin + length]), chance))
        begin += length
    return found


class Pages(mt.Policy):
    """Pages of rows, built stage by stage from a `PageModel`.

    Args:
        scorer: The page model.
        layout: Its size and weights.
    """

    kind: ClassVar[str] = "pages"
    scorer: PageModel

    def __init__(self, scorer: PageModel, layout: Layout | None = None, **settings: Any) -> None:
        self.scorer = scorer
        self.layout = layout if layout is not None else Layout.from_json(settings)
        self.parameters = self.layout.to_json()

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        """Of a single slot by worth alone, as within a row: chance in proportion to worth ^ (1 / temperature)."""
        logits = np.log(np.maximum(scores.mean[allowed], 1e-12)) / self.layout.temperature
        power = np.exp(logits - logits.max())
        return np.asarray(
            (1 - self.layout.floor) * power / power.sum() + self.layout.floor / max(1, len(allowed))
        )

    def draw(
        self, request: Request, candidates: Candidates, slots: int, *, limits: Sequence[Limit] = (),
        uniforms: Array | None = None, forced: Array | None = None, full: bool = False, young: Array | None = None,
        share: float = 0.0, budget: int = 0,
    ) -> Drawn:  # fmt: skip
        """A page for the request; see `construct`.

        Of each draw a share may go to the young among the candidates (a mask over them), in rows that begin before
        `budget` of them are on the page; see `exploration.Exposure`.

        Walked along a logged page, it reads the page's rows from the request's context, where the log keeps them.

        Raises:
            MatineeError: If the decision has fewer slots than the page.
        """
        if forced is None and slots < min(self.layout.slots, len(candidates)):
            raise mt.MatineeError(f"slots == {slots}, must be at least {self.layout.slots}: the page's rows times columns")
        scene, pool = self.scorer.scene(request, candidates, self.layout, limits)
        if young is not None:
            scene.young, scene.share, scene.budget = young[pool], share, budget
        if forced is not None:
            return self._walk(request, scene, pool, len(candidates), forced, full)
        if uniforms is None:
            raise mt.MatineeError("uniforms is None, must hold a number for each slot of the page")
        page = construct(scene, self.layout, _enough(uniforms, self.layout.slots), full=full)
        if not len(page.picked):
            raise mt.MatineeError(
                f"nothing is left to show of {len(candidates)} allowed titles: seen already, or too few for a row of "
                f"{self.layout.least}"
            )
        layout = [
            (scene.rows[r].kind, scene.rows[r].key, n, round(c, 6))
            for r, n, c in zip(page.rows, page.lengths, page.row_chance, strict=True)
        ]
        matrix = _wide(page.matrix, pool, len(candidates)) if full else np.empty((0, 0))
        return Drawn(pool[page.picked], page.chance, matrix, pool[page.among], json.dumps(layout, separators=(",", ":")))

    def _walk(self, request: Request, scene: Any, pool: Array, n: int, forced: Array, full: bool) -> Drawn:
        place = np.full(n, -1, np.int64)
        place[pool] = np.arange(len(pool))
        rows, begin = [], 0
        text = request.context.get("layout")
        for kind, key, length, _ in json.loads(text) if text else [("", "", len(forced), 1.0)]:
            titles = forced[begin : begin + length]
            rows.append((f"{kind}:{key}" if key else kind, titles))
            begin += length
        # A title that this page could not have shown at all has no chance, and stands for nothing else.
        known = [(name, place[t]) for name, t in rows]
        if any((t < 0).any() for _, t in known):
            return self._partly(scene, pool, n, rows, place, full)
        page = construct(scene, self.layout, np.zeros(0), forced=known, full=full)
        return Drawn(forced, page.chance, _wide(page.matrix, pool, n) if full else np.empty((0, 0)))

    def _partly(
        self, scene: Any, pool: Array, n: int, rows: Sequence[tuple[str, Array]], place: Array, full: bool
    ) -> Drawn:
        """Walk as far as this page could have gone; the rest has no chance."""
        whole: list[tuple[str, Array]] = []
        for name, titles in rows:
            if (place[titles] < 0).any():
                break
            whole.append((name, place[titles]))
        page = construct(scene, self.layout, np.zeros(0), forced=whole, full=full)
        every = np.concatenate([t for _, t in rows])
        chance = np.concatenate([page.chance, np.zeros(len(every) - len(page.chance))])
        matrix = np.zeros((len(every), n)) if full else np.empty((0, 0))
        if full and len(page.chance):
            matrix[: len(page.chance)] = _wide(page.matrix, pool, n)
        return Drawn(every, chance, matrix)

    def spec(self) -> dict[str, Any]:
        """The layout in plain values, and the model's name."""
        return {"kind": self.kind, "scorer": self.scorer.name, **self.layout.to_json()}

    def __repr__(self) -> str:
        size = f"{self.layout.rows} x {self.layout.columns}"
        return f"Pages({self.scorer.name or 'PageModel'}, {size}, temperature={self.layout.temperature:g})"


def _enough(uniforms: Array, slots: int) -> Array:
    """A number for each slot of the layout; the page ends before those that there are none for."""
    return uniforms if len(uniforms) >= slots else np.concatenate([uniforms, np.zeros(slots - len(uniforms))])


def _wide(matrix: Array, pool: Array, n: int) -> Array:
    out = np.zeros((len(matrix), n))
    if len(matrix):
        out[:, pool] = matrix
    return out


KINDS[Pages.kind] = Pages
