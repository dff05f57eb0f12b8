"""What a page is made from: a recommender, its scores as chances, the catalogue's rows, and what is near to what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.domains.personalization.features import recent, taste
from matinee.domains.personalization.page.construct import Row, Scene
from matinee.domains.personalization.page.features import WATCHED, last_page, unfinished, visits
from matinee.domains.personalization.page.mix import mix
from matinee.domains.personalization.page.relevance import Relevance, descending
from matinee.domains.personalization.page.settings import Layout
from matinee.domains.personalization.page.titles import Titles
from matinee.domains.personalization.recommenders import Histories, Recommender, load_recommender, top
from matinee.draw import Limit
from matinee.scorers import register
from matinee.times import to_us

if TYPE_CHECKING:
    from matinee.policies import Candidates, Request, Scores

Array = np.ndarray[Any, Any]
NEAR = 120  # titles near to each title that are remembered
BECAUSE = 8  # titles of a history that may have a row of their own
CROWDED = 2  # rows are chosen among so many times the page's
DAY_US = 86_400_000_000
NEW_DAYS, LEAVING_DAYS = 30, 14
TOP = 10


@register
@dataclass(repr=False)
class PageModel:
    """Scores every title for a member, and finds the rows that a page for the member may have.

    Attributes:
        name: Name and version in the studio.
        recommender: Scores histories.
        relevance: Its scores as chances.
        titles: The catalogue.
        near: The titles near to each title of the catalogue, nearest first, shape (titles, 120); -1 where there are fewer.
        popular: Of each title of the catalogue: how often it was played, for who is not profiled; shape (titles,).
    """

    kind: ClassVar[str] = "page"
    recommender: Recommender
    relevance: Relevance
    titles: Titles
    near: Array
    popular: Array
    name: str = ""

    @classmethod
    def fit(
        cls, recommender: Recommender, titles: Titles, histories: Histories, *, relevance: Relevance | None = None
    ) -> Self:
        """Around a fitted recommender.

        Args:
            recommender: Fitted.
            titles: The catalogue; the recommender may know other titles, which are never shown.
            histories: What is counted for those who are not profiled.
            relevance: Learnt on later events than the recommender has seen; the default where not given.
        """
        at = titles.positions(histories.titles)
        popular = np.zeros(len(titles))
        counts = np.bincount(histories.items, minlength=len(histories.titles)).astype(np.float64)
        np.add.at(popular, at[at >= 0], counts[at >= 0])
        return cls(recommender, relevance or Relevance(), titles, _near(recommender, titles), popular)

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's history, and what the member saw on the last visits."""
        return [taste, visits]

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        """Of each title of the catalogue: its position in the recommender; and which are unknown there."""
        known = self.recommender.titles
        if not len(known):
            return np.zeros(len(self.titles), np.int64), np.arange(len(self.titles))
        at = np.minimum(np.searchsorted(known, self.titles.ids), len(known) - 1)
        return at, np.flatnonzero(known[at] != self.titles.ids)

    @cached_property
    def _strange_mixes(self) -> Array:
        """Mixes of the titles that the recommender does not know."""
        return np.ascontiguousarray(self.titles.mixes[self._places[1]])

    @cached_property
    def _without_taste(self) -> Array:
        counts = np.log1p(self.popular)
        top_count = float(counts.max(initial=0.0))
        return np.asarray(0.01 + 0.3 * counts / top_count) if top_count > 0 else np.full(len(counts), 0.1)

    def wanted(self, history: Sequence[int]) -> Array:
        """The mix of a history, shape (genres,)."""
        at = self.titles.positions(np.asarray(history, np.int64)) if len(history) else np.array([], np.int64)
        return mix(self.titles.mixes, at[at >= 0])

    def chances(self, history: Sequence[int]) -> Array:
        """How likely each title of the catalogue is to be played, shape (titles,); > 0.

        Without a history it is what is popular. A title that the recommender does not know is worth as much as the
        middle one it knows, more where the member watches its genres.
        """
        if not len(history) or not len(self.recommender.titles):
            return self._without_taste
        scores = np.array(self.recommender.scores(history), np.float64)
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).sum())
            raise mt.MatineeError(f"{self.recommender!r} gave {bad} scores that are not finite, must all be numbers")
        seen = self.recommender._known(history)
        scores[seen] = -np.inf
        if not np.isfinite(scores).any() or not np.ptp(scores[np.isfinite(scores)]) > 0:
            return self._without_taste  # nothing in the history is known, or all of the catalogue was seen
        known = self.relevance.of(scores, len(history))
        own = self.wanted(history)
        places, strange = self._places
        found = known[places]
        if len(strange):
            affinity = self._strange_mixes @ own / max(float(own @ own), 1e-9)
            found[strange] = float(np.median(known)) * (0.5 + np.clip(affinity, 0.0, 1.5))
        return np.asarray(found)

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """The chance of each candidate; a title that is not in the catalogue gets the least."""
        chances = self.chances(recent(request.features))
        at = self.titles.positions(candidates.ids)
        least = float(chances.min(initial=1.0))
        return mt.Scores(np.where(at >= 0, chances[at], least) if len(chances) else np.full(len(at), least))

    def scene(self, request: Request, candidates: Candidates, layout: Layout, limits: Sequence[Limit] = ()) -> tuple[Scene, Array]:
        """Everything a page for this request is made from, and the positions of its titles among the candidates.

        Args:
            request: For whom and when.
            candidates: All allowed.
            layout: The size of the page.
            limits: Between-slots guards over the candidates.
        """
        features = request.features
        history = recent(features)
        chances = self.chances(history)
        at = self.titles.positions(candidates.ids)
        worth = chances[at]
        if (at < 0).any():
            worth[at < 0] = float(np.median(chances))
        shown = features.get("shown_often") or {}
        if shown and layout.fatigue > 0:
            often = self._local(candidates.ids, list(shown))
            count = np.array(list(shown.values()), np.float64)
            worth[often[often >= 0]] *= np.exp(-layout.fatigue * count[often >= 0])
        seen = self._local(candidates.ids, [*history, *(features.get(WATCHED) or [])])
        unseen = np.ones(len(at), np.bool_)
        unseen[seen[seen >= 0]] = False
        rows = self._rows(request, candidates, at, worth, unseen, history, layout)
        every = np.concatenate([np.zeros(0, np.int64), *(row.titles for row in rows)])
        looked = np.zeros(len(at), np.bool_)
        looked[every] = True
        pool = np.flatnonzero(looked)
        place = np.full(len(at), -1, np.int64)
        place[pool] = np.arange(len(pool))
        every, begin = place[every], 0
        for row in rows:
            row.titles = every[begin : begin + len(row.titles)]
            begin += len(row.titles)
        before = {k: place[i[i >= 0]] for k, v in last_page(features).items() for i in [self._local(candidates.ids, v)]}
        cut = [Limit(limit.codes[pool], limit.limit) for limit in limits]
        wanted = self.wanted(history)
        where = at[pool]
        where[where < 0] = len(self.titles)  # the one without a genre
        last = {k: v[v >= 0] for k, v in before.items()}
        return Scene(rows, worth[pool], self.titles.sparse_mixes, where, wanted, last, cut), pool

    @staticmethod
    def _local(ids: Array, wanted: Sequence[int]) -> Array:
        """Positions of titles among the candidates; -1 where one is not there."""
        if not len(ids) or not len(wanted) or ids.dtype.kind not in "iu":
            return np.full(len(wanted), -1, np.int64)
        ascending = bool((ids[1:] > ids[:-1]).all())
        order = None if ascending else np.argsort(ids, kind="stable")
        known = ids if order is None else ids[order]
        found = np.asarray(wanted, np.int64)
        at = np.minimum(np.searchsorted(known, found), len(known) - 1)
        there = known[at] == found
        return np.where(there, at if order is None else order[at], -1)

    def _rows(
        self, request: Request, candidates: Candidates, at: Array, worth: Array, unseen: Array, history: Sequence[int],
        layout: Layout,
    ) -> list[Row]:  # fmt: skip
        """The rows that the page is chosen from: the most valuable ones at first sight, and those that contracts name."""
        wide = (layout.depth + 1) * layout.columns
        order = descending(worth)
        order = order[unseen[order]]
        rows = [Row("picked", "", order[:wide])]
        going = self._local(candidates.ids, unfinished(request.features))
        if (going >= 0).any():
            rows.append(Row("continue", "", going[going >= 0][: layout.columns], ordered=True))
        rows += self._again(candidates, history, going, wide)
        rows += self._timely(request, candidates, order, wide)
        rows += self._because(history, at, worth, unseen, wide)
        return rows + self._standing(at, worth, order, wide, layout)

    def _standing(self, at: Array, worth: Array, order: Array, wide: int, layout: Layout) -> list[Row]:
        """The most valuable standing rows, were each the only one, and those of providers with a contract.

        A row's value depends on its own titles only, so that leaving out titles nobody looked at keeps the choice.
        """
        from matinee.domains.personalization.page.kernels import gather

        titles = self.titles
        count = len(titles.kinds)
        lists, lengths, value = np.empty((count, wide), np.int32), np.zeros(count, np.int32), np.zeros(count)
        weight, named = np.zeros(count), np.zeros(count, np.bool_)
        for kind, rows in titles.rows_of_kind.items():
            weight[rows] = layout.weight(kind)
        for provider in {c.provider for c in layout.contracts}:
            named[titles.rows_of_provider.get(provider, [])] = True
        most = CROWDED * layout.rows + int(named.sum())
        steps = layout.column_decay ** np.arange(layout.columns)
        gather(  # type: ignore[no-untyped-call]  # a kernel
            order, at, worth, *titles.by_title, titles.offsets, titles.members, named, weight, steps, layout.least, most,
            lists, lengths, value,
        )  # fmt: skip
        value[named & (value >= 0)] = np.inf
        best = np.argsort(-value, kind="stable")[:most]
        chosen = np.sort(best[value[best] > 0]).tolist()
        return [
            Row(kind, key, lists[r, : lengths[r]], genres=genres, provider=provider)
            for r, (kind, key, genres, provider) in ((r, titles.standing[r]) for r in chosen)
        ]

    def _timely(self, request: Request, candidates: Candidates, order: Array, wide: int) -> list[Row]:
        """Rows of the day: the top ten, what is new, what leaves soon; as far as the candidates' columns tell."""
        columns, now = candidates.columns, to_us(request.at)
        rows = []
        plays = columns.get("plays_7d")
        if plays is not None and len(order):
            best = order[top(np.nan_to_num(plays[order]), TOP)]
            rows.append(Row("top", "", best[plays[best] > 0], ordered=True))
        if "licence.starts" in columns and "licence.ends" in columns and len(order):
            begun, leaves = _windows(columns["licence.starts"], columns["licence.ends"], now)
            for kind, there in (("new", begun > now - NEW_DAYS * DAY_US), ("leaving", leaves < now + LEAVING_DAYS * DAY_US)):
                rows.append(Row(kind, "", order[there[order]][:wide]))
        return [row for row in rows if len(row.titles)]

    def _again(self, candidates: Candidates, history: Sequence[int], going: Array, wide: int) -> list[Row]:
        """What was watched already, the most often and longest ago first: all there is for who has seen everything."""
        times = Counter(history)
        seen = self._local(candidates.ids, sorted(times, key=lambda title: -times[title]))
        seen = seen[(seen >= 0) & ~np.isin(seen, going)]
        return [Row("again", "", seen[:wide])] if len(seen) else []

    def _because(self, history: Sequence[int], at: Array, worth: Array, unseen: Array, wide: int) -> list[Row]:
        """Rows of what is near to a title that was watched; the newest titles first, each once."""
        place = np.full(len(self.titles) + 1, -1, np.int64)
        known = at >= 0
        place[at[known]] = np.flatnonzero(known)
        rows: list[Row] = []
        newest = list(dict.fromkeys(reversed(list(history))))
        where = self.titles.positions(np.array(newest, np.int64))
        weight = np.log(np.arange(self.near.shape[1]) + 2.0)
        for title, of in zip(newest, where.tolist(), strict=True):
            if of < 0:
                continue
            local = place[self.near[of]]  # -1 stays -1: the last place is nobody's
            shown = np.flatnonzero((local >= 0) & unseen[local])
            if len(shown):
                # By the place among all that is near, allowed or not: what is left out moves nothing.
                local = local[shown]
                rows.append(Row("because", str(title), local[np.argsort(-worth[local] / weight[shown], kind="stable")][:wide]))
            if len(rows) == BECAUSE:
                break
        return rows

    def save(self, folder: Path) -> None:
        """Write the recommender, and the arrays around it."""
        from safetensors.numpy import save_file

        self.recommender.save(folder / "recommender")
        own = self.titles
        arrays = {
            "ids": own.ids, "mixes": own.mixes, "offsets": own.offsets, "members": own.members,
            "near": self.near, "popular": self.popular, **self.relevance.arrays(),
        }  # fmt: skip
        words = {"genres": own.genres, "kinds": own.kinds, "keys": own.keys}
        save_file(
            {k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / "page.safetensors",
            metadata={k: json.dumps(v) for k, v in words.items()},
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If a file is missing, cut short or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(folder / "page.safetensors", framework="numpy") as file:
                a = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
                words = {k: tuple(json.loads(v)) for k, v in (file.metadata() or {}).items()}
            titles = Titles(
                a["ids"], words["genres"], a["mixes"], words["kinds"], words["keys"], a["offsets"], a["members"]
            )
            relevance = Relevance(a["relevance"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise mt.MatineeError(
                f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again"
            ) from error
        return cls(load_recommender(folder / "recommender"), relevance, titles, a["near"], a["popular"])

    def __repr__(self) -> str:
        return f"PageModel({self.recommender!r}, {len(self.titles)} titles, {len(self.titles.kinds)} standing rows)"


def _windows(starts: Array, ends: Array, now: int) -> tuple[Array, Array]:
    """When the present licence of each candidate began, and when the last that follows on without a gap ends.

    Args:
        starts, ends: In microseconds, shape (candidates, windows) or (candidates,); one of the windows is open now.
        now: The moment.
    """
    if starts.ndim == 1:
        starts, ends = starts[:, None], ends[:, None]
    if starts.shape[1] == 1:
        return starts[:, 0], ends[:, 0]
    begun, until = np.full(len(starts), now), np.full(len(starts), np.iinfo(np.int64).min)
    for k in range(starts.shape[1]):
        current = (starts[:, k] <= now) & (now < ends[:, k])
        begun = np.where(current, np.minimum(begun, starts[:, k]), begun)
        until = np.where(current, np.maximum(until, ends[:, k]), until)
    for _ in range(starts.shape[1] - 1):
        for k in range(starts.shape[1]):
            until = np.where((starts[:, k] > now) & (starts[:, k] <= until), np.maximum(until, ends[:, k]), until)
    return begun, until


def _near(recommender: Recommender, titles: Titles) -> Array:
    """Positions in the catalogue of the titles nearest to each, shape (titles, NEAR)."""
    near = np.full((len(titles), NEAR), -1, np.int32)
    nothing = np.asarray(recommender.scores([]), np.float32)
    known = np.flatnonzero(np.isin(titles.ids, recommender.titles))
    to_catalogue = titles.positions(recommender.titles)
    for begin in range(0, len(known), 256):
        block = known[begin : begin + 256]
        alone = Histories.of_sequences([[int(t)] for t in titles.ids[block]])
        for where, scores in zip(block.tolist(), recommender.scores_of(alone), strict=True):
            own = np.array(scores, np.float32)
            if np.array_equal(own, nothing):
                continue  # it says nothing about any other
            own[recommender._known([int(titles.ids[where])])] = -np.inf
            own[to_catalogue < 0] = -np.inf
            best = to_catalogue[top(own, NEAR)]
            near[where, : len(best)] = best
    return near
