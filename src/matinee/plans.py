"""Plans: decisions that a solver takes. Guards become constraints; a finished plan is checked again before it is logged.

A plan shares facts, guards, ledger and lineage with the other modes, and neither the draw nor off-policy evaluation:
nothing is random, so there is no propensity, and nothing to weigh. What it promises instead is its value, a bound that
no other plan can pass, and the word "proven" only where the two meet.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from matinee.checks import must
from matinee.choices import Id, Plan
from matinee.draw import Component, Limit
from matinee.exceptions import DeclarationError
from matinee.policies import KINDS, Candidates, Policy, Request, Scorer, Scores

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MEETS = 1e-9  # a value and its bound that are as near as that, relative to the spread of the scores, are the same


@dataclass(frozen=True, slots=True)
class Solved:
    """What a solver found: the candidates in order, and what is claimed about them."""

    action: Sequence[Id]
    claim: Plan


class Solver(Policy):
    """Base of every policy of `plan` mode. Subclass it, implement `solve`, and put it into `matinee.policies.KINDS`."""

    @abstractmethod
    def solve(self, request: Request, candidates: Candidates, limits: Sequence[Limit], slots: int) -> Solved:
        """The best plan it can find.

        Args:
            request: For whom and when.
            candidates: Those that the guards allow.
            limits: At most `limit` from one group of `codes`, shape (candidates,); group -1 is not limited.
            slots: How many may be chosen.
        """

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        """There is none: a solver does not draw."""
        raise DeclarationError(f"{self!r} is a solver, must decide in plan mode: it has no chances to draw from")

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        raise DeclarationError(f"{self!r} is a solver, must decide in plan mode: it has no chances to draw from")


class BestSlate(Solver):
    """As many candidates as the slots and limits allow, with the largest sum of scores.

    With at most one limit between slots, taking the best that still fits is optimal (a truncated partition matroid,
    Edmonds 1971). Several limits that cross make it an integer programme, which HiGHS solves or bounds.

    Args:
        scorer: What a candidate is worth.
        seconds: Time limit of the integer programme; the plan then carries the bound it had.

    Example:
        >>> import numpy as np
        >>> from matinee.testing import ColumnScorer, example_request
        >>> shelf = Candidates(np.array([7, 8, 9]), {"score": np.array([3.0, 2.0, 1.0])})
        >>> same = Limit(np.array([0, 0, 1]), 1)
        >>> found = BestSlate(ColumnScorer(std=None)).solve(example_request(), shelf, [same], 2)
        >>> found.action, found.claim
        ([7, 9], Plan(value=4.0, bound=4.0, proven=True))
    """

    kind: ClassVar[str] = "best-slate"

    def __init__(self, scorer: Scorer, seconds: float = 5.0) -> None:
        self.scorer = scorer
        self.seconds = must(float(seconds), "seconds", gt=0)
        self.parameters = {"seconds": self.seconds}

    def solve(self, request: Request, candidates: Candidates, limits: Sequence[Limit], slots: int) -> Solved:
        """See `Solver.solve`; equal scores are taken in the order of the candidates."""
        mean = self._scores(request, candidates).mean
        order = (-mean).argsort(kind="stable")
        if len(limits) <= 1:
            taken = _in_order(order, limits, slots)
            bound = float(mean[taken].sum())
        else:
            taken, bound = _programme(mean, order, limits, slots, self.seconds)
        value = float(mean[taken].sum())
        spread = max(float(mean.max() - mean.min()), abs(value), 1.0)
        proven = bound - value <= MEETS * spread
        claim = Plan(value=value, bound=value if proven else bound, proven=proven)
        return Solved(candidates.ids[taken].tolist(), claim)


KINDS[BestSlate.kind] = BestSlate


def _in_order(order: Array, limits: Sequence[Limit], slots: int) -> Array:
    """The first of the order that fit, one after another."""
    import numpy as np

    taken: list[int] = []
    used: list[dict[int, int]] = [{} for _ in limits]
    for i in order.tolist():
        if len(taken) == slots:
            break
        groups = [int(limit.codes[i]) for limit in limits]
        if all(g < 0 or u.get(g, 0) < limit.limit for g, u, limit in zip(groups, used, limits, strict=True)):
            taken.append(i)
            for g, u in zip(groups, used, strict=True):
                u[g] = u.get(g, 0) + 1
    return np.array(taken, np.int64)


def _programme(mean: Array, order: Array, limits: Sequence[Limit], slots: int, seconds: float) -> tuple[Array, float]:
    """The best slate under limits that cross, and the bound on its value: first as many as fit, then the best of them."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    n = len(mean)
    low, spread = float(mean.min()), max(float(mean.max() - mean.min()), 1e-300)
    worth = (mean - low) / spread
    more = slots + 1.0  # one candidate more outweighs any exchange of worth
    rows, columns, upper = [np.zeros(n, np.int64)], [np.arange(n)], [float(slots)]
    for limit in limits:
        where = np.flatnonzero(limit.codes >= 0)
        groups, codes = np.unique(limit.codes[where], return_inverse=True)
        rows.append(codes + len(upper))
        columns.append(where)
        upper += [float(limit.limit)] * len(groups)
    at = (np.concatenate(rows), np.concatenate(columns))
    matrix = csr_array((np.ones(len(at[0])), at), shape=(len(upper), n))
    found = milp(
        -(worth + more), constraints=LinearConstraint(matrix, ub=np.array(upper)), integrality=np.ones(n),
        bounds=Bounds(0, 1), options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )  # fmt: skip
    greedy = _in_order(order, limits, slots)
    taken = greedy
    if found.x is not None:
        chosen = order[found.x[order] > 0.5]
        if (worth[chosen] + more).sum() > (worth[greedy] + more).sum():
            taken = chosen
    limit_of_all = -float(found.mip_dual_bound) if found.mip_dual_bound is not None else slots * (1 + more)
    # A bound on worth and number together is one on the worth of plans of this size, and on their scores.
    return taken, (limit_of_all - more * len(taken)) * spread + low * len(taken)
