"""Two rankers on one page: a team draft, the credit of a click, and the readout of which ranker members prefer.

The member's own clicks compare the rankers, so what differs between members cancels: a preference shows with a fraction
of the members an A/B test needs. It measures preference on the page; retention, price and fatigue still need the test.

A draft goes in rounds: a coin says who picks first, then each adds its best title that is not yet shown (Radlinski,
Kurup and Joachims, 2008). In the classic readout a click counts for the ranker that picked the title. Here a click counts
for what the round was about. Where the two best titles left are different, both are shown and the coin only said in which
order: they are the contest, and a click counts by how much the rankers differ about the pair,

    g = (h(a) - h(b)) / 2,    h(t) = f(rank of t in the first list) - f(rank of t in the second),    f(r) = max(0, 1 - r / 2k)

in favour of the ranker that put the clicked one higher. Where the best title is the same, a click on it counts nothing,
and the contest is between the two seconds, of which the coin showed one. Either way the coin gives both sides of a
contest the same places, so that the expected credit is zero where members like all titles alike, whatever the places are
worth: exactly, for every pair of lists and without a model of attention. Swapping the lists flips every sign.

A click speaks of its pair. Where the rankers differ more about the other title of the pair, a click may count for the
ranker that put the clicked one a little lower: that ranker put the other one lower still.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from matinee.checks import must
from matinee.choices import Id
from matinee.exceptions import BadInputError
from matinee.experiments.boundaries import Design
from matinee.experiments.samples import Sample
from matinee.results import Table, number

Floats = NDArray[np.float64]
REACH = 2  # ranks count down to so many times the slots: a title far down one list and up the other says much


@dataclass(frozen=True)
class Draft:
    """A page drafted from two rankings.

    Attributes:
        page: The titles, first slot first.
        sides: Who picked each: 1 the first ranker, -1 the second.
        credit: What a click on each counts, for the first ranker where positive; between -1 and 1.
        propensities: Probability of each slot given those before it: what a Choice logs, so that the page also serves
            off-policy evaluation.
    """

    page: tuple[Id, ...]
    sides: tuple[int, ...]
    credit: tuple[float, ...]
    propensities: tuple[float, ...]


@dataclass(frozen=True)
class _Pick:
    title: Id
    side: int
    credit: float
    chance: float  # given the slots before it


class _Table:
    """Two rankings, and how far down each is taken."""

    def __init__(self, first: Sequence[Id], second: Sequence[Id], slots: int) -> None:
        must(slots, "slots", typ=int, ge=1)
        self.lists = (first, second)
        self.ranks = tuple({title: rank for rank, title in enumerate(one)} for one in self.lists)
        for name, one, rank in zip(("first", "second"), self.lists, self.ranks, strict=True):
            if len(rank) < len(one):
                twice = next(t for i, t in enumerate(one) if rank[t] != i)
                raise BadInputError(f"{name} holds {twice!r} twice, must rank each title once")
            if len(one) < slots:
                raise BadInputError(f"{name} ranks {len(one)} titles, must rank at least as many as slots ({slots})")
        self.slots = slots
        self.shown: set[Id] = set()
        self._next = [0, 0]

    def best(self, which: int, *, but: Id | None = None) -> Id:
        """The best title of a ranker that is not shown yet, and is not `but`."""
        ranking, at = self.lists[which], self._next[which]
        while ranking[at] in self.shown:
            at += 1
        self._next[which] = at
        while ranking[at] in self.shown or ranking[at] == but:
            at += 1
        return ranking[at]

    def stake(self, a: Id, b: Id) -> float:
        """How much the rankers differ about a pair that the first would show as `a`, the second as `b`."""
        return 0.5 * (self._lead(a) - self._lead(b))

    def _lead(self, title: Id) -> float:
        reach = REACH * self.slots
        high, low = (max(0.0, 1 - rank.get(title, reach) / reach) for rank in self.ranks)
        return high - low

    def round(self, first_goes: bool, left: int) -> Iterator[_Pick]:
        """The one or two picks of a round in which this side goes first."""
        a, b = self.best(0), self.best(1)
        side = 1 if first_goes else -1
        if a != b:
            stake = self.stake(a, b)
            order = ((a, 1), (b, -1)) if first_goes else ((b, -1), (a, 1))
            for turn, (title, owner) in enumerate(order[:left]):
                yield _Pick(title, owner, owner * stake, 0.5 if turn == 0 else 1.0)
        else:
            yield _Pick(a, side, 0.0, 1.0)
            if left > 1:
                second_of = (self.best(0, but=a), self.best(1, but=a))
                same = second_of[0] == second_of[1]
                title = second_of[1] if first_goes else second_of[0]
                credit = 0.0 if same else -side * self.stake(*second_of)
                yield _Pick(title, -side, credit, 1.0 if same else 0.5)


def draft(first: Sequence[Id], second: Sequence[Id], slots: int, rng: np.random.Generator) -> Draft:
    """A page by team draft from two rankings of titles that guards allow.

    Guards act before: both rankings must hold allowed titles only.

    Args:
        first, second: Titles, best first; each at least as long as the page.
        slots: How many are shown.
        rng: Where the coins come from.

    Raises:
        BadInputError: If a ranking is too short or names a title twice.

    Example:
        >>> found = draft([1, 2, 3], [1, 3, 4], 2, np.random.default_rng(1))
        >>> found.page[0], found.credit[0], found.propensities
        (1, 0.0, (1.0, 0.5))
    """
    table = _Table(first, second, slots)
    picks: list[_Pick] = []
    while len(picks) < slots:
        some = list(table.round(bool(rng.random() < 0.5), slots - len(picks)))
        table.shown.update(p.title for p in some)
        picks += some
    return _draft(picks)


def replay(first: Sequence[Id], second: Sequence[Id], page: Sequence[Id]) -> Draft:
    """The draft that a logged page was, from the two rankings it was drafted from.

    Where both coins show the same, `sides` says the first ranker picked first: the page does not tell, and its credit
    and probabilities do not depend on it.

    Raises:
        BadInputError: If no coins give that page.

    Example:
        >>> replay([1, 2, 3], [1, 3, 4], [1, 3]).credit
        (0.0, -0.5)
    """
    table = _Table(first, second, len(page))
    picks: list[_Pick] = []
    while len(picks) < len(page):
        done = len(picks)
        for first_goes in (True, False):
            some = list(table.round(first_goes, len(page) - done))
            if all(p.title == t for p, t in zip(some, page[done:], strict=False)):
                break
        else:
            raise BadInputError(
                f"page[{done}] == {page[done]!r}, must be a draft of the two rankings: no coin shows it"
            )
        table.shown.update(p.title for p in some)
        picks += some
    return _draft(picks)


def _draft(picks: Sequence[_Pick]) -> Draft:
    return Draft(
        tuple(p.title for p in picks),
        tuple(p.side for p in picks),
        tuple(p.credit for p in picks),
        tuple(p.chance for p in picks),
    )


@dataclass(frozen=True)
class Interleaved(Table):
    """Which of two rankers members prefer.

    Attributes:
        members: Members with a visit.
        first, second, ties: Members whose credit favours the first ranker, the second, neither.
        preference: Mean credit a member, positive for the first ranker.
        low, high: Its interval.
        p: Of the preference being zero, at this look.
        sign_p: Of as many members favouring either, ties left out: exact, and blind to how strongly.
        always: Whether interval and p hold at every look.
    """

    members: int
    first: int
    second: int
    ties: int
    preference: float
    low: float
    high: float
    p: float
    sign_p: float
    always: bool

    @property
    def better(self) -> str | None:
        """The ranker that members prefer, "first" or "second"; None where the interval holds zero."""
        return "first" if self.low > 0 else "second" if self.high < 0 else None

    def rows(self) -> list[dict[str, Any]]:
        """One row."""
        return [
            {
                "members": self.members, "favour first": self.first, "favour second": self.second, "ties": self.ties,
                "preference": self.preference, "interval": (self.low, self.high), "p": self.p, "sign test p": self.sign_p,
            }
        ]  # fmt: skip

    def notes(self) -> Sequence[str]:
        """The verdict, and what the interval is worth."""
        verdict = f"members prefer the {self.better} ranker" if self.better else "not told apart"
        looks = "at any look" if self.always else "at one look, fixed before the start"
        return (f"{verdict} (preference {number(self.preference)} a member); the interval holds {looks}",)


def interleaved(
    member: ArrayLike, credit: ArrayLike, *, alpha: float = 0.05, design: Design | None = None
) -> Interleaved:
    """Reads an interleaving experiment: the mean credit by member, its interval, and the sign test.

    Args:
        member: Whose visit, shape (visits,).
        credit: The credit of the visit's clicks summed, shape (visits,); zero for a visit without one.
        alpha: Chance of naming a better ranker where there is none, for a single look.
        design: Boundaries that hold at any look instead; its `planned` counts members.

    Raises:
        BadInputError: If there are fewer than two members, or the shapes differ.

    Example:
        >>> found = interleaved(["ann", "ann", "bob", "cy"], [0.5, 0.25, 0.0, -0.25])
        >>> found.members, found.first, found.second, found.ties, round(found.preference, 3)
        (3, 1, 1, 1, 0.167)
    """
    must(alpha, "alpha", gt=0, lt=1)
    names, code = np.unique(np.asarray(member), return_inverse=True)
    given = np.asarray(credit, dtype=np.float64)
    if given.shape != code.reshape(-1).shape:
        raise BadInputError(f"credit.shape == {given.shape}, must be {code.reshape(-1).shape} as member")
    if len(names) < 2:
        raise BadInputError(f"members == {len(names)}, must be at least 2")
    score = np.bincount(code.reshape(-1), given, len(names))
    sample = Sample.of_units(score)  # refuses what is no number
    first, second = int((score > 0).sum()), int((score < 0).sum())
    if design is None:
        error = math.sqrt(sample.variance / sample.units)
        half = -float(special.ndtri(alpha / 2)) * error
        p = 1.0 if error == 0 else 2 * float(special.ndtr(-abs(sample.mean) / error))
    else:
        half = float(design.half_width(sample.units, sample.variance)) if sample.variance > 0 else math.inf
        p = design.p_value(sample.mean, sample.units, sample.variance)
    return Interleaved(
        len(names), first, second, len(names) - first - second, sample.mean, sample.mean - half, sample.mean + half, p,
        sign_test(first, second), design is not None,
    )  # fmt: skip


def sign_test(first: int, second: int) -> float:
    """Two-sided p of the exact sign test: so many members favour one side, so many the other, ties left out.

    Example:
        >>> round(sign_test(8, 2), 4)
        0.1094
    """
    must(first, "first", typ=int, ge=0)
    must(second, "second", typ=int, ge=0)
    n = first + second
    return 1.0 if n == 0 else min(1.0, 2 * float(special.bdtr(min(first, second), n, 0.5)))


def sign_power(members: int, share: float, *, ties: float = 0.0, alpha: float = 0.05) -> float:
    """Chance that the exact sign test tells the rankers apart.

    Args:
        members: Members in the experiment.
        share: Of the members who favour a side, the part that favours the better one.
        ties: Part of the members who favour neither.
        alpha: Level of the test.

    Example:
        >>> round(sign_power(400, 0.6), 3), round(sign_power(400, 0.5), 3)
        (0.976, 0.04)
    """
    must(members, "members", typ=int, ge=1)
    must(share, "share", ge=0, le=1)
    must(ties, "ties", ge=0, lt=1)
    must(alpha, "alpha", gt=0, lt=1)
    counts = np.arange(members + 1)
    chance = _binomial(members, 1 - ties)
    power = 0.0
    for n in counts[chance > 1e-12 * chance.max()]:
        # The largest number against the better side, or for it, at which the test still says no.
        edge = np.flatnonzero(2 * special.bdtr(np.arange(n // 2 + 1), n, 0.5) <= alpha)
        if len(edge):
            k = int(edge[-1])
            power += float(chance[n]) * float(special.bdtr(k, n, share) + special.bdtrc(n - k - 1, n, share))
    return power


def _binomial(n: int, p: float) -> Floats:
    k = np.arange(n + 1)
    log = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = log + special.xlogy(k, p) + special.xlog1py(n - k, -p)
    chance: Floats = np.exp(log)
    return chance
