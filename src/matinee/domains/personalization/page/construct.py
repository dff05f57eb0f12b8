"""A page, row by row: the most valuable row among those left, then its titles drawn one by one.

Every title is drawn by `matinee.draw.fill_slots` among the titles of its row that are not on the page yet, so that the
conditional chance of each slot is exact. Where rows are drawn as well, the first slot of a row carries the chance of
the row: the product over slots is the chance of the whole page, rows included.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from matinee.domains.personalization.page.settings import Contract, Layout
from matinee.draw import GREEDY, SOFTMAX, Component, Limit, fill_slots

Array = np.ndarray[Any, Any]
FAR = -1e3  # a logit so low that nothing is drawn at it while anything else is left
GLANCE = 12  # places of a row that are seen before anybody scrolls: what it is chosen by
LEAST_BOOST = 0.05  # what a title keeps of its worth at least when the page has far too much of its genres
DEAREST = 5.0  # times its share: what a genre that is missing on the page counts for at most


@dataclass
class Row:
    """A row that a page may have.

    Attributes:
        kind, key: What it is: "because", "318".
        titles: Positions among the candidates, best first, shape (titles,).
        ordered: Shown in exactly that order, as a top ten is; nothing is drawn.
        genres: Names that it stands for: a second row of one of them is worth less.
        provider: Whose row it is, for contracts; "" for nobody's.
    """

    kind: str
    key: str
    titles: Array
    ordered: bool = False
    genres: tuple[str, ...] = ()
    provider: str = ""

    @property
    def name(self) -> str:
        """Kind and key in one: how a row is known from one visit to the next."""
        return f"{self.kind}:{self.key}" if self.key else self.kind


@dataclass
class Scene:
    """What a page is made from, for one member at one moment.

    Attributes:
        rows: Rows it may have, in any order; the first of kind "continue" goes to the top.
        worth: Of each candidate: the chance that it is played, less what weariness takes; shape (candidates,), > 0.
        genres: Genre shares of titles, sparse; see `sparse`.
        where: Of each candidate: which of these titles it is, shape (candidates,).
        wanted: The member's mix, shape (genres,); zeros where nothing is known.
        last: Row name -> candidates that stood in it on the last visit.
        limits: Between-slots guards, over the whole page.
        young, share, budget: Candidates that are owed exposure, the share of each draw that they get, and how many of
            them are on the page when no further row gives it; see `exploration`.
    """

    rows: Sequence[Row]
    worth: Array
    genres: tuple[Array, Array, Array]
    where: Array
    wanted: Array
    last: Mapping[str, Array] = field(default_factory=dict)
    limits: Sequence[Limit] = ()
    young: Array | None = None
    share: float = 0.0
    budget: int = 1_000_000


@dataclass
class Page:
    """A page as drawn.

    Attributes:
        rows: Index into the scene's rows, one a row of the page.
        lengths: Titles in each.
        row_chance: Chance of each row given everything above it.
        picked, chance: Of each slot, row by row: the candidate, and its conditional chance.
        matrix: Distribution of each slot over the candidates, shape (slots, candidates), where asked for.
        among: Candidates that were looked at, ascending: the others had no influence.
    """

    rows: list[int]
    lengths: list[int]
    row_chance: list[float]
    picked: Array
    chance: Array
    matrix: Array
    among: Array


def construct(
    scene: Scene,
    layout: Layout,
    uniforms: Array,
    *,
    forced: Sequence[tuple[str, Sequence[int] | Array]] | None = None,
    full: bool = False,
) -> Page:
    """Build a page.

    Args:
        scene: What from.
        layout: How.
        uniforms: Numbers in [0, 1), one a slot.
        forced: Walk along this page instead of drawing: name of each row, and its titles. The chances are this layout's.
        full: Also give the whole distribution of each slot.
    """
    if forced is None:
        return stepwise(scene, layout, uniforms, full=True) if full else _drawn(scene, layout, uniforms)
    work = _Work(scene, layout, full)
    names = {row.name: k for k, row in enumerate(scene.rows)}
    for name, titles in forced:
        chances = work.row_chances()
        row = names.get(name, -1)
        if chances is None or row < 0 or len(titles) == 0 or not chances[row] > 0:
            work.impossible(titles)
        else:
            work.add(row, chances, None, np.asarray(titles, np.int64))
    return work.page()


def stepwise(scene: Scene, layout: Layout, uniforms: Array, *, full: bool = False) -> Page:
    """The page row by row: what `construct` draws in one compiled call, bit by bit, and whole distributions as well."""
    work = _Work(scene, layout, full)
    uniforms = np.array(uniforms)
    while len(work.rows) < layout.rows and (chances := work.row_chances()) is not None:
        at = len(work.picked)
        row, uniforms[at] = _pick(chances, float(uniforms[at]))
        work.add(row, chances, uniforms[at : at + layout.columns], None)
    return work.page()


def sparse(mixes: Array) -> tuple[Array, Array, Array]:
    """Genre shares as begin, genre, share: those of title t are at `begin[t]:begin[t + 1]`.

    Example:
        >>> [a.tolist() for a in sparse(np.array([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0]]))]
        [[0, 2, 2, 3], [0, 1, 1], [0.5, 0.5, 1.0]]
    """
    title, genre = np.nonzero(mixes)
    return np.searchsorted(title, np.arange(len(mixes) + 1)), genre, np.ascontiguousarray(mixes[title, genre])


def _drawn(scene: Scene, layout: Layout, uniforms: Array) -> Page:
    """What `stepwise` draws, in one compiled call: a tenth of the time."""
    from matinee.domains.personalization.page.kernels import build

    rows, n = scene.rows, len(scene.worth)
    count = len(rows)
    begins = np.zeros(count + 1, np.int64)
    np.cumsum([len(r.titles) for r in rows], out=begins[1:])
    titles = np.concatenate([np.array([], np.int64), *(r.titles for r in rows)])
    weights = {kind: layout.weight(kind) for kind in {r.kind for r in rows}}
    weight = np.array([weights[r.kind] for r in rows])
    stood = np.zeros(len(titles), np.bool_)
    if scene.last:
        for k, row in enumerate(rows):
            there = scene.last.get(row.name)
            if there is not None:
                weight[k] *= 1 + layout.stability
                stood[begins[k] : begins[k + 1]] = np.isin(row.titles, there)
    kinds: dict[str, int] = {}
    codes = np.array([kinds.setdefault(r.kind, len(kinds)) for r in rows], np.int64)
    parties: dict[str, int] = {}
    owner = np.array([parties.setdefault(r.provider, len(parties)) for r in rows], np.int64)
    terms = np.array([
        (parties.setdefault(c.provider, len(parties)), c.at_least, -1 if c.at_most is None else c.at_most, c.within)
        for c in layout.contracts
    ], np.int64).reshape(-1, 4)  # fmt: skip
    names: dict[str, int] = {}
    stands = [[names.setdefault(g, len(names)) for g in dict.fromkeys(r.genres)] for r in rows]
    stands_begin = np.zeros(count + 1, np.int64)
    np.cumsum([len(s) for s in stands], out=stands_begin[1:])
    stands_for = np.array([g for s in stands for g in s], np.int64)
    least = np.full(count, min(layout.least, layout.columns), np.int64)
    if "continue" in kinds:
        least[codes == kinds["continue"]] = 1
    first = int(np.argmax(codes == kinds["continue"])) if "continue" in kinds else -1
    steps = layout.column_decay ** np.arange(layout.columns)
    all_steps = float(steps.sum())
    looked = np.array([layout.row_decay**k / all_steps for k in range(layout.rows)])
    groups = [int(limit.codes.max(initial=0)) + 1 for limit in scene.limits]
    left = np.zeros((len(groups), max(groups, default=0)), np.int64)
    limited = np.zeros((len(groups), n), np.int64)
    for g, limit in enumerate(scene.limits):
        left[g], limited[g] = limit.limit, limit.codes
    young = np.zeros(0, np.bool_) if scene.young is None else np.asarray(scene.young, np.bool_)
    shown, lengths, row_chance = np.zeros(layout.rows, np.int64), np.zeros(layout.rows, np.int64), np.zeros(layout.rows)
    picked, chance, read = np.zeros(layout.slots, np.int64), np.zeros(layout.slots), np.zeros(n, np.bool_)
    made = build(
        titles, begins, stood, weight, np.array([r.ordered for r in rows], np.bool_), least, first, codes, owner,
        stands_begin, stands_for, np.zeros(len(names), np.int64),
        np.ascontiguousarray(scene.worth, np.float64), scene.where, *scene.genres, np.array(scene.wanted, np.float64),
        scene.wanted, young, limited, left,
        terms, steps, looked, float(layout.diversity), float(layout.row_temperature), float(layout.calibration),
        max(min(GLANCE, layout.columns), int(least.max(initial=1))), layout.depth, float(layout.temperature),
        float(layout.floor), float(np.log1p(layout.stability)), float(scene.share), scene.budget,
        np.array(uniforms, np.float64), shown, lengths, row_chance, picked, chance, read,
    )  # fmt: skip
    slots = int(lengths[:made].sum())
    read[picked[:slots]] = True
    return Page(
        shown[:made].tolist(), lengths[:made].tolist(), row_chance[:made].tolist(), picked[:slots], chance[:slots],
        np.zeros((0, 0)), np.flatnonzero(read),
    )  # fmt: skip


def _pick(chances: Array, uniform: float) -> tuple[int, float]:
    """A row, and the part of the number that was not used up, again uniform."""
    surest = int(chances.argmax())
    if chances[surest] == 1:
        return surest, uniform
    positive = np.flatnonzero(chances > 0)
    run = np.cumsum(chances[positive])
    at = min(int(np.searchsorted(run, uniform, side="right")), len(positive) - 1)
    begin, p = float(run[at - 1]) if at else 0.0, float(chances[positive[at]])
    return int(positive[at]), min(max((uniform - begin) / p, 0.0), 1 - 1e-16)


class _Work:
    """A page in the making."""

    def __init__(self, scene: Scene, layout: Layout, full: bool) -> None:
        self.scene, self.layout, self.full = scene, layout, full
        n = len(scene.worth)
        count = len(scene.rows)
        width = max([1, *(len(r.titles) for r in scene.rows)])
        self.lists, self.lengths = np.zeros((count, width), np.int64), np.zeros(count, np.int64)
        self.starts = np.zeros(count, np.int64)  # what stands before is on the page
        for k, row in enumerate(scene.rows):
            self.lists[k, : len(row.titles)], self.lengths[k] = row.titles, len(row.titles)
        self.weight = np.array([layout.weight(r.kind) for r in scene.rows])
        self.weight *= [1 + layout.stability * (r.name in scene.last) for r in scene.rows]
        self.ordered = np.array([r.ordered for r in scene.rows], np.bool_)
        least = min(layout.least, layout.columns)
        self.least = np.array([1 if r.kind == "continue" else least for r in scene.rows], np.int64)
        self.first = next((k for k, r in enumerate(scene.rows) if r.kind == "continue"), -1)
        names = {g: i for i, g in enumerate(dict.fromkeys(g for r in scene.rows for g in r.genres))}
        self.stands_for = np.zeros((count, len(names)))
        for k, row in enumerate(scene.rows):
            for genre in row.genres:
                self.stands_for[k, names[genre]] = 1.0
        self.genre_rows = np.zeros(len(names))
        self.genre_of = (scene.where, *scene.genres)
        self.free = np.ones(count, np.bool_)
        self.closed, self.read = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.steps = layout.column_decay ** np.arange(layout.columns)
        self.all_steps = float(self.steps.sum())
        self.seen = max(min(GLANCE, layout.columns), int(self.least.max(initial=1)))
        kinds = {kind: code for code, kind in enumerate(dict.fromkeys(r.kind for r in scene.rows))}
        self.codes = np.array([kinds[r.kind] for r in scene.rows], np.int64)
        # The page begins as if one row in the member's own mix had been seen: the first prices are all 1.
        self.seen_mix, self.seen_weight = scene.wanted.copy(), 1.0
        self.known = float(scene.wanted.sum()) > 0
        self.even = np.ones(len(scene.wanted))
        self.left = [np.full(int(limit.codes.max(initial=0)) + 1, limit.limit) for limit in scene.limits]
        self.rows: list[int] = []
        self.counts: list[int] = []
        self.row_chance: list[float] = []
        self.picked: list[int] = []
        self.chance: list[float] = []
        self.matrix: list[Array] = []

    # -- which row

    def row_chances(self) -> Array | None:
        """The chance of each row to be the next; None where no row is left that could be shown."""
        from matinee.domains.personalization.page import kernels

        self.price = self._prices()
        above = int(self.codes[self.rows[-1]]) if self.rows else -1
        values = np.full(len(self.lists), -1.0)
        kernels.look(
            self.lists, self.starts, self.lengths, self.free, self.closed, self.scene.worth, *self.genre_of, self.price,
            self.layout.calibration, self.steps, self.seen, self.least, self.weight, self.stands_for, self.genre_rows,
            self.codes, above, self.layout.diversity, values, self.read,
        )  # fmt: skip
        if self.first >= 0 and values[self.first] >= 0:
            return _one(len(values), self.first)
        if self.layout.contracts:
            values[~self._under_contract(values >= 0)] = -1.0
        best = int(values.argmax()) if len(values) else -1
        if best < 0 or values[best] < 0:
            return None
        if self.layout.row_temperature == 0 or values[best] == 0:
            return _one(len(values), best)
        chances = np.empty(len(values))
        kernels.row_powers(values, values[best], float(self.layout.row_temperature), chances)
        return chances

    def _prices(self) -> Array:
        """What a share of each genre is worth: above 1 where the page has too little of it so far, shape (genres,)."""
        if not self.known or self.layout.calibration == 0:
            return self.even
        wanted = self.scene.wanted
        return np.asarray(np.minimum(wanted * self.seen_weight / np.maximum(self.seen_mix, 1e-12), DEAREST))

    def _under_contract(self, open_: Array) -> Array:
        """The rows that keep the contracts keepable: without those of who has enough, only owed ones when time is up."""
        contracts = self.layout.contracts
        if not contracts:
            return open_
        owner = np.array([r.provider for r in self.scene.rows])
        shown = [self.scene.rows[k].provider for k in self.rows]
        owed: list[tuple[int, Contract]] = []
        for one in contracts:
            has = shown.count(one.provider)
            if one.at_most is not None and has >= one.at_most:
                open_ = open_ & (owner != one.provider)
            if has < one.at_least and (open_ & (owner == one.provider)).any():
                owed.append((one.at_least - has, one))
        # Deadlines, the nearest first: when the rows owed by then fill all the places before it, nothing else may come.
        debts, running = sorted(owed, key=lambda d: d[1].within or self.layout.rows), 0
        for k, (count, one) in enumerate(debts):
            running += count
            if running >= (one.within or self.layout.rows) - len(self.rows):
                return np.asarray(open_ & np.isin(owner, [c.provider for _, c in debts[: k + 1]]))
        return open_

    # -- its titles

    def add(self, row: int, chances: Array, uniforms: Array | None, forced: Array | None) -> None:
        """Draw the titles of a row, or walk along given ones, and put it on the page."""
        slots = self.layout.columns
        begin = len(self.picked)
        pool, parts, limits = self._draw_from(row)
        first = self._first_slot(chances) if self.full else None
        if forced is not None:
            at = {int(t): k for k, t in enumerate(pool)}
            walk = [at.get(int(t), -1) for t in forced[:slots]]
            if -1 in walk or len(set(walk)) < len(walk) or len(forced) > slots:
                self.impossible(forced)
                return
            # One slot more than there is: this layout would have gone on where it finds a title for it.
            picked, chance, matrix = fill_slots(
                parts, np.ones(len(pool), np.bool_), min(len(walk) + 1, slots), limits=limits,
                uniforms=np.zeros(slots + 1), forced=np.array(walk, np.int64), full=self.full,
            )  # fmt: skip
            if len(picked) != len(walk):
                self.impossible(forced)
                return
        else:
            picked, chance, matrix = fill_slots(
                parts, np.ones(len(pool), np.bool_), min(slots, len(pool)), limits=limits, uniforms=uniforms, full=self.full
            )
        titles = pool[picked]
        self.picked += titles.tolist()
        self.chance += chance.tolist()
        self.chance[begin] *= float(chances[row])
        if self.full:
            wide = np.zeros((len(titles), len(self.closed)))
            wide[:, pool] = matrix
            wide[0] = first
            self.matrix.append(wide)
        self._put(row, titles, float(chances[row]))

    def _draw_from(self, row: int) -> tuple[Array, list[Component], list[Limit]]:
        """The titles that a row chooses from, how likely each is, and what limits there are among them."""
        titles = self.lists[row, self.starts[row] : self.lengths[row]]
        pool = titles[~self.closed[titles]]
        ordered = bool(self.ordered[row])
        pool = pool if ordered else pool[: self.layout.depth * self.layout.columns]
        self.read[pool] = True
        if ordered:
            return pool, [Component(1.0, GREEDY, -np.arange(len(pool), dtype=np.float64))], self._limits(pool)
        from matinee.domains.personalization.page.kernels import logits as logits_of

        logits = logits_of(pool, self.scene.worth, *self.genre_of, self.price, self.layout.calibration)
        there = self.scene.last.get(self.scene.rows[row].name)
        if there is not None and self.layout.stability > 0:
            logits += np.log1p(self.layout.stability) * np.isin(pool, there)
        logits /= self.layout.temperature
        return pool, draw_parts(logits, self.layout.floor, self._young(pool), self.scene.share), self._limits(pool)

    def _young(self, pool: Array) -> Array | None:
        young = self.scene.young
        if young is None or int(young[self.picked].sum()) >= self.scene.budget:
            return None
        return young[pool]

    def _limits(self, pool: Array) -> list[Limit]:
        """What is left of the page's limits, for a draw of at most one row."""
        out = []
        for limit, left in zip(self.scene.limits, self.left, strict=True):
            if left.min() >= self.layout.columns:
                continue  # no row can use that up
            codes = limit.codes[pool]
            rest = np.where(codes >= 0, left[codes], self.layout.columns)
            for most in np.unique(rest[rest < self.layout.columns]).tolist():
                some = np.where(rest == most, codes, -1)
                dense = np.unique(some, return_inverse=True)[1].astype(np.int64)
                out.append(Limit(np.where(some < 0, -1, dense), int(most)))
        return out

    def _first_slot(self, chances: Array) -> Array:
        """The distribution of the next slot over all candidates, whichever row comes."""
        out = np.zeros(len(self.closed))
        for row in np.flatnonzero(chances > 0).tolist():
            pool, parts, limits = self._draw_from(row)
            _, _, one = fill_slots(
                parts, np.ones(len(pool), np.bool_), 1, limits=limits, uniforms=np.zeros(1), full=True
            )
            out[pool] += chances[row] * one[0]
        return out

    def _put(self, row: int, titles: Array, chance: float) -> None:
        self.free[row] = False
        self.closed[titles] = True
        self.rows.append(row)
        self.counts.append(len(titles))
        self.row_chance.append(chance)
        self.genre_rows += self.stands_for[row]
        if self.known:
            from matinee.domains.personalization.page.kernels import seen as add_seen

            looked = self.layout.row_decay ** (len(self.rows) - 1) / self.all_steps
            self.seen_weight = add_seen(titles, looked, self.steps, *self.genre_of, self.seen_mix)
        for limit, left in zip(self.scene.limits, self.left, strict=True):
            codes = limit.codes[titles]
            left -= np.bincount(codes[codes >= 0], minlength=len(left))
            if left.min() <= 0:
                self.closed |= np.isin(limit.codes, np.flatnonzero(left <= 0))

    def impossible(self, titles: Sequence[int] | Array) -> None:
        """A row that this layout would not have shown there: its slots have no chance at all."""
        found = np.asarray(titles, np.int64)
        self.picked += found.tolist()
        self.chance += [0.0] * len(found)
        if self.full:
            self.matrix.append(np.zeros((len(found), len(self.closed))))
        self.closed[found] = True

    def page(self) -> Page:
        """What came of it."""
        matrix = np.concatenate(self.matrix) if self.matrix else np.zeros((0, len(self.closed) if self.full else 0))
        picked = np.array(self.picked, np.int64)
        self.read[picked] = True
        return Page(
            self.rows, self.counts, self.row_chance, picked, np.array(self.chance), matrix, np.flatnonzero(self.read)
        )


def draw_parts(logits: Array, floor: float, young: Array | None, share: float) -> list[Component]:
    """A softmax, a floor spread evenly, and a share for the young among them, as parts of one draw.

    When no young title is left, their share goes to the softmax: the others' logits stand far below theirs.
    """
    owed = share if young is not None and bool(young.any()) else 0.0
    parts = [Component((1 - floor) * (1 - owed), SOFTMAX, logits)]
    if owed > 0:
        assert young is not None
        parts.append(Component((1 - floor) * owed, SOFTMAX, np.where(young, 0.0, FAR + logits - logits.max())))
    if floor > 0:
        parts.append(Component(floor, SOFTMAX, np.zeros(len(logits))))
    return parts


def _one(n: int, at: int) -> Array:
    out = np.zeros(n)
    out[at] = 1.0
    return out
