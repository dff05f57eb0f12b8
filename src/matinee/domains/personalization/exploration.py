"""New titles and new members: a share of the draw for titles that few have seen, first picks, and what it all cost.

A title is young until it was shown often enough to be judged by what came of it. `Exposure` gives the young a share of
every slot, within a budget a page; the share is part of the distribution that is drawn from, so that every chance stays
exact and the log can be used for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.page.policy import Pages
from matinee.draw import FUNCTION, Component, Limit, distribution
from matinee.evaluate.intervals import skewed_interval
from matinee.policies import KINDS, Drawn, from_spec
from matinee.results import Table

if TYPE_CHECKING:
    from matinee.policies import Candidates, Policy, Request, Scorer, Scores

Array = np.ndarray[Any, Any]
ENOUGH = 200  # impressions after which a title is judged by what came of them
COLUMN = "shown_7d"  # impressions of a candidate, as published


class Exposure(mt.Policy):
    """Another policy, with a share of every slot for titles that were hardly shown yet.

    The share is spread over the young in proportion to what each is still owed. When `budget` of them were shown, or none
    is allowed, the other policy draws alone: it may show more of them, where it finds them good.

    Args:
        policy: Who draws otherwise; of a page (`Pages`), each row gives its share evenly.
        share: Of every slot, for the young.
        budget: The share ends when so many of the young are in the slate, or on the page above the row.
        enough: Impressions after which a title is young no more.
        column: Candidate column with the impressions; a candidate without a number was never shown.
    """

    kind: ClassVar[str] = "exposure"

    def __init__(
        self, policy: Policy, share: float = 0.05, budget: int = 2, enough: int = ENOUGH, column: str = COLUMN
    ) -> None:
        self.policy = policy
        self.share = must(float(share), "share", ge=0, lt=1)
        self.budget = must(int(budget), "budget", ge=0)
        self.enough = must(int(enough), "enough", ge=1)
        self.column = column
        self.parameters = {"share": self.share, "budget": self.budget, "enough": self.enough, "column": column}

    @property
    def scorer(self) -> Scorer | None:  # type: ignore[override]
        """The other policy's scorer."""
        return self.policy.scorer

    def scorers(self) -> list[Scorer]:
        """Those of the other policy."""
        return self.policy.scorers()

    def owed(self, candidates: Candidates) -> Array:
        """Impressions that each candidate is still owed, shape (candidates,); 0 for who is young no more."""
        if self.column not in candidates.columns:
            known = ", ".join(candidates.columns) or "none"
            raise mt.MatineeError(f"column == {self.column!r}, must be one of the candidates' columns ({known})")
        shown = np.nan_to_num(np.asarray(candidates.columns[self.column], np.float64), nan=0.0)
        return np.maximum(self.enough - shown, 0.0)

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        """The other policy's: who is young is known of candidates only, not of scores."""
        return self.policy.distribution(scores, allowed)

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        """The other policy's parts, and one over the young that ends when the budget is used up."""
        parts = self.policy.components(request, candidates)
        owed = self.owed(candidates)
        young = owed > 0
        if self.share == 0 or self.budget == 0 or not young.any():
            return parts
        count = int(young.sum())

        def of_young(allowed: Array) -> Array:
            left = young[allowed]
            # What was shown, or is kept out by a limit between slots, is no longer among the allowed.
            if not left.any() or count - int(left.sum()) >= self.budget:
                return np.asarray(sum(part.weight * distribution(part, allowed) for part in parts))
            weight = np.where(left, owed[allowed], 0.0)
            return np.asarray(weight / weight.sum())

        scaled = [Component(c.weight * (1 - self.share), c.kind, c.values, c.function) for c in parts]
        return [*scaled, Component(self.share, FUNCTION, np.zeros(len(candidates)), of_young)]

    def draw(
        self, request: Request, candidates: Candidates, slots: int, *, limits: Sequence[Limit] = (),
        uniforms: Array | None = None, forced: Array | None = None, full: bool = False,
    ) -> Drawn:  # fmt: skip
        """A slate by the parts above; a page gives the young their share within its rows."""
        more: dict[str, Any] = {"limits": limits, "uniforms": uniforms, "forced": forced, "full": full}
        if not isinstance(self.policy, Pages):
            return super().draw(request, candidates, slots, **more)
        young = self.owed(candidates) > 0
        return self.policy.draw(request, candidates, slots, young=young, share=self.share, budget=self.budget, **more)

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any], scorers: Callable[[str], Scorer]) -> Policy:
        """With the policy that its spec holds."""
        own = {k: v for k, v in spec.items() if k not in ("kind", "policy")}
        return cls(from_spec(spec["policy"], scorers), **own)

    def spec(self) -> dict[str, Any]:
        """The other policy's spec within."""
        return {"kind": self.kind, "policy": self.policy.spec(), **self.parameters}

    def __repr__(self) -> str:
        return f"Exposure({self.policy!r}, share={self.share:g}, budget={self.budget})"


@dataclass(frozen=True)
class Explored(Table):
    """What exploration cost and taught, from the log.

    Attributes:
        decision: Which.
        choices, slots: How many were read.
        share: Of the slots that went to young titles.
        cost: Reward a slot that the young brought less than the others at the same place; its 95% interval.
        taught: One row a young title: impressions, rewards, rate and its interval.
        refused: Why there is no cost; None when there is one.
    """

    decision: str
    choices: int
    slots: int
    share: float
    cost: float | None
    cost_interval: tuple[float, float] | None
    taught: tuple[dict[str, Any], ...]
    refused: str | None = None
    unit: str = ""

    def rows(self) -> list[dict[str, Any]]:
        return [dict(one) for one in self.taught]

    def notes(self) -> list[str]:
        lines = [f"{self.share:.1%} of {self.slots:,} slots in {self.choices:,} choices went to titles shown little before"]
        if self.cost is None or self.cost_interval is None:
            lines.append(f"no cost: {self.refused}")
        else:
            low, high = self.cost_interval
            lines.append(f"a slot of theirs brought {self.cost:.4f} [{low:.4f}, {high:.4f}] {self.unit} less".rstrip())
        return lines


def explored(
    studio: mt.Studio, decision: mt.Decision, *, since: datetime | None = None, young: Mapping[Any, int] | None = None,
    enough: int = ENOUGH, least: int = 30,
) -> Explored:  # fmt: skip
    """What exploration cost and taught, from logged choices whose reward is complete.

    The cost compares like with like: young and other titles in the same slot, weighed by how likely each was to be drawn
    there (self-normalised inverse propensities), choices of one member taken together. What was taught is how precisely
    the reward of each young title is known now.

    Args:
        studio: Whose log.
        decision: Which decision.
        since: From when on.
        young: Impressions of each title before that time; titles that are not named had none. Where not given, a title
            counts as young for the first `enough` impressions of this very log.
        enough: Impressions after which a title is young no more.
        least: Slots of either kind without which there is no cost.
    """
    import polars as pl

    from matinee.rewarded import mature_before, rewarded_slots

    log = studio.choices(decision.name, since=since)
    log = log.filter((pl.col("at") < mature_before(decision, studio.clock())) & pl.col("fallback").is_null()).sort("at", "id")
    if not len(log):
        why = "nothing was decided whose reward is complete"
        return Explored(decision.name, 0, 0, 0.0, None, None, (), why, decision.reward_unit)
    rows = rewarded_slots(studio, decision, log).sort("at", "choice", "slot")
    before = {str(k): v for k, v in (young or {}).items()}
    so_far = rows.select(pl.int_range(pl.len()).over("action")).to_series().to_numpy()
    so_far = so_far + np.array([before.get(t, 0) for t in rows["action"].to_list()])
    is_young = so_far < enough
    reward = rows["reward"].to_numpy().astype(np.float64)
    taught = _taught(rows["action"].to_list(), is_young, reward)
    cost, span, refused = _cost(rows, is_young, reward, least)
    return Explored(
        decision.name, len(log), len(rows), float(is_young.mean()), cost, span, taught, refused, decision.reward_unit
    )


def _taught(titles: Sequence[str], young: Array, reward: Array) -> tuple[dict[str, Any], ...]:
    """Each young title's mean reward with its interval (Wilson's for the rate of 0 and 1, normal otherwise)."""
    found: dict[str, list[float]] = {}
    for title, is_young, value in zip(titles, young.tolist(), reward.tolist(), strict=True):
        if is_young:
            found.setdefault(title, []).append(value)
    out = []
    for title, values in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        n, mean = len(values), float(np.mean(values))
        if set(values) <= {0.0, 1.0}:
            middle, z2 = mean + 1.96**2 / (2 * n), 1.96**2 / n
            half = 1.96 * (mean * (1 - mean) / n + z2 / (4 * n)) ** 0.5
            interval = ((middle - half) / (1 + z2), (middle + half) / (1 + z2))
        else:
            half = 1.96 * float(np.std(values)) / n**0.5 if n > 1 else float("inf")
            interval = (mean - half, mean + half)
        out.append({"title": title, "impressions": n, "reward": mean, "interval": interval})
    return tuple(out)


def _cost(rows: Any, young: Array, reward: Array, least: int) -> tuple[float | None, tuple[float, float] | None, str | None]:
    """Mean reward of others less that of the young, slot by slot, over the slots where both were shown."""
    slot, chance = rows["slot"].to_numpy(), rows["propensity"].to_numpy().astype(np.float64)
    both = np.intersect1d(slot[young], slot[~young])
    kept = np.isin(slot, both) & (chance > 0)
    if (young & kept).sum() < least or (~young & kept).sum() < least:
        return None, None, (
            f"{int((young & kept).sum())} slots went to young titles and {int((~young & kept).sum())} to others at the same "
            f"places, must be at least {least} each"
        )
    w = np.where(kept, 1 / np.maximum(chance, 1e-12), 0.0)
    w = np.minimum(w, np.quantile(w[kept], 0.99))  # one chance in a million must not be the whole answer
    terms, value = np.zeros(len(slot)), 0.0
    weight = {s: float(((slot == s) & kept).sum()) for s in both.tolist()}
    total = sum(weight.values())
    for s in both.tolist():
        at = (slot == s) & kept
        for sign, group in ((1.0, at & ~young), (-1.0, at & young)):
            mass = float(w[group].sum())
            mean = float((w[group] @ reward[group]) / mass)
            share = weight[s] / total
            value += sign * share * mean
            terms[group] += sign * share * w[group] * (reward[group] - mean) / mass
    codes = np.unique(rows["unit"].to_numpy(), return_inverse=True)[1]
    n = len(slot)
    interval = skewed_interval(value, n * terms, codes, int(codes.max()) + 1, 0.95)
    return value, (interval.low, interval.high), None


def first_picks(vectors: Array, popularity: Array, count: int, *, noise: float = 1.0, diversity: float = 1.0) -> Array:
    """Titles to ask a new member about: known to many, and together telling the most about taste.

    Each pick adds the most expected information about the member's taste vector, the increase of
    log det(I + sum_i p_i v_i v_i' / noise): the D-optimal design (Fedorov 1972), p_i the chance that the title is known.
    A title like one that was picked already adds little, so that the picks are diverse by themselves.

    Args:
        vectors: Of the titles, shape (titles, width).
        popularity: Plays of each title, shape (titles,), not negative.
        count: How many.
        noise: Variance of an answer, in units of the vectors' own.
        diversity: Exponent of the information against that of popularity; 0 asks about the best-known titles.

    Returns:
        Positions of the picks, in order.

    Example:
        >>> first_picks(np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 0.5]]), np.array([9.0, 8.0, 7.0]), 2).tolist()
        [0, 2]
    """
    must(count, "count", typ=int, ge=0)
    must(float(noise), "noise", gt=0)
    must(float(diversity), "diversity", ge=0)
    v = np.asarray(vectors, np.float64)
    plays = np.asarray(popularity, np.float64)
    if plays.shape != (len(v),) or not np.isfinite(plays).all() or (plays < 0).any():
        raise mt.MatineeError(f"popularity has shape {plays.shape}, must be {len(v)} numbers that are not negative")
    if not np.isfinite(v).all():
        raise mt.MatineeError("vectors hold values that are not finite, must all be numbers")
    scale = float(np.sqrt((v**2).sum(axis=1).mean())) if len(v) else 1.0
    v = v / max(scale, 1e-12)
    known = plays / max(float(plays.max(initial=0.0)), 1e-12) if plays.any() else np.ones(len(v))
    inverse = np.eye(v.shape[1]) if v.ndim == 2 else np.eye(1)
    picked: list[int] = []
    open_ = np.ones(len(v), np.bool_)
    for _ in range(min(count, len(v))):
        information = np.log1p(known * np.einsum("ij,jk,ik->i", v, inverse, v) / noise)
        score = np.where(open_, known * information**diversity, -1.0)
        best = int(score.argmax())
        picked.append(best)
        open_[best] = False
        # Sherman and Morrison: the inverse with one more title in it.
        along = inverse @ v[best] * np.sqrt(known[best] / noise)
        inverse = inverse - np.outer(along, along) / (1 + float(v[best] @ along * np.sqrt(known[best] / noise)))
    return np.array(picked, np.int64)


KINDS[Exposure.kind] = Exposure
