"""The draw: fill slots one by one among what is allowed, with the exact probability of each step.

Slot k is drawn from p_k(i) = sum_c weight_c * p_c(i | allowed at k), where "allowed at k" leaves out what the guards
masked, what is taken, and what a between-slots limit has used up. Each component c is a softmax over the allowed, the
greedy choice among them, or any distribution given as a function. Weights of components are mixed per slot, so that
the logged conditional probability of every slot is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Distribution = Callable[["np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]

SOFTMAX, GREEDY, FUNCTION = 0, 1, 2


@dataclass(slots=True)
class Component:
    """One part of a policy's distribution over candidates.

    Attributes:
        weight: Its share of the mixture; shares sum to one.
        kind: SOFTMAX over `values` (already divided by the temperature), GREEDY on `values`, or FUNCTION.
        values: One number a candidate, shape (candidates,).
        function: For FUNCTION: indices allowed -> probabilities over them.
    """

    weight: float
    kind: int
    values: np.ndarray[Any, Any]
    function: Distribution | None = None


@dataclass(slots=True)
class Limit:
    """A between-slots guard: at most `limit` of the slots may come from one group; group -1 is not limited."""

    codes: np.ndarray[Any, Any]  # int64, shape (candidates,)
    limit: int


def fill_slots(
    components: Sequence[Component],
    allowed: np.ndarray[Any, Any],
    slots: int,
    *,
    limits: Sequence[Limit] = (),
    uniforms: np.ndarray[Any, Any] | None = None,
    forced: np.ndarray[Any, Any] | None = None,
    full: bool = False,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Fill up to `slots` slots and say with which conditional probability each was filled.

    Args:
        components: The policy's distribution; weights sum to one.
        allowed: Mask over candidates, shape (candidates,), True = allowed before the draw.
        slots: How many to fill; fewer are filled when nothing allowed is left.
        limits: Between-slots guards.
        uniforms: Numbers in [0, 1), one a slot, for the draw.
        forced: Indices to walk instead of drawing (to evaluate a policy along a logged slate).
        full: Also return the whole distribution of each slot.

    Returns:
        Indices (filled,), conditional probabilities (filled,), and with `full` the matrix (filled, candidates), else
        an empty one.
    """
    import numpy as np

    n = len(allowed)
    slots = min(slots, n)
    picked, chance = np.empty(slots, np.int64), np.empty(slots)
    matrix = np.zeros((slots, n)) if full else np.empty((0, 0))
    force = np.full(slots, -1, np.int64)
    if forced is not None:
        force[: len(forced)] = forced[:slots]
    draws = np.zeros(slots) if uniforms is None else uniforms
    open_ = np.array(allowed, np.bool_)
    if FUNCTION in [c.kind for c in components]:
        filled = _fill_general(components, open_, limits, force, draws, picked, chance, matrix)
    else:
        if len(components) == 1:  # as it is, without a copy
            values = np.ascontiguousarray(components[0].values, np.float64).reshape(1, n)
        else:
            values = np.array([c.values for c in components], np.float64)
        if len(limits) == 1:
            codes = np.ascontiguousarray(limits[0].codes, np.int64).reshape(1, n)
        else:
            codes = np.array([c.codes for c in limits], np.int64).reshape(len(limits), n)
        from matinee.draw_kernels import fill

        filled = fill(  # type: ignore[no-untyped-call]  # a kernel
            np.array([c.weight for c in components]),
            np.array([c.kind for c in components], np.int64),
            values,
            open_,
            codes,
            np.array([c.limit for c in limits], np.int64),
            force,
            draws,
            picked,
            chance,
            matrix,
        )
    return picked[:filled], chance[:filled], matrix[:filled]


def average_chances(
    components: Sequence[Component],
    allowed: np.ndarray[Any, Any],
    slots: int,
    *,
    limits: Sequence[Limit] = (),
    draws: int = 32,
    rng: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Chance of each candidate in each slot, whatever stands above it: conditional chances averaged over drawn slates.

    No more noise than the slots above bring: each drawn slate gives the whole distribution of every slot, and the
    numbers it is drawn by are spread evenly (a Latin hypercube, McKay, Beckman and Conover 1979).

    Args:
        components, allowed, slots, limits: As in `fill_slots`; no component may be a FUNCTION.
        draws: Slates to average over.
        rng: Source of chance.

    Returns:
        Shape (slots, candidates); a row sums to the chance that the slot is filled.

    Example:
        >>> import numpy as np
        >>> even = Component(1.0, SOFTMAX, np.zeros(4))
        >>> average_chances([even], np.ones(4, bool), 2, draws=8, rng=np.random.default_rng(0))[0].tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    import numpy as np

    from matinee.draw_kernels import average

    n = len(allowed)
    mean = np.zeros((min(slots, n), n))
    even = np.broadcast_to((np.arange(draws) + 0.5) / draws, (len(mean), draws))
    average(  # type: ignore[no-untyped-call]  # a kernel
        np.array([c.weight for c in components]),
        np.array([c.kind for c in components], np.int64),
        np.array([c.values for c in components], np.float64),
        np.array(allowed, np.bool_),
        np.array([c.codes for c in limits], np.int64).reshape(len(limits), n),
        np.array([c.limit for c in limits], np.int64),
        np.ascontiguousarray(rng.permuted(even, axis=1).T),
        mean,
    )
    return mean


def _fill_general(
    components: Sequence[Component],
    open_: np.ndarray[Any, Any],
    limits: Sequence[Limit],
    forced: np.ndarray[Any, Any],
    uniforms: np.ndarray[Any, Any],
    picked: np.ndarray[Any, Any],
    chance: np.ndarray[Any, Any],
    matrix: np.ndarray[Any, Any],
) -> int:
    """The same walk in NumPy, for policies whose distribution is a function (Thompson, a policy of one's own)."""
    import numpy as np

    used: list[dict[int, int]] = [{} for _ in limits]
    for k in range(len(picked)):
        where = np.flatnonzero(open_)
        if len(where) == 0:
            return k
        p = np.zeros(len(where))
        for c in components:
            p += c.weight * distribution(c, where)
        if forced[k] >= 0:
            at = int(np.searchsorted(where, forced[k]))
        else:
            positive = np.flatnonzero(p > 0)
            at = int(positive[min(np.searchsorted(np.cumsum(p[positive]), uniforms[k], side="right"), len(positive) - 1)])
        choice = int(where[at])
        picked[k], chance[k] = choice, p[at]
        if len(matrix):
            matrix[k, where] = p
        open_[choice] = False
        for seen, limit in zip(used, limits, strict=True):
            code = int(limit.codes[choice])
            if code >= 0:
                seen[code] = seen.get(code, 0) + 1
                if seen[code] >= limit.limit:
                    open_[limit.codes == code] = False
    return len(picked)


def distribution(component: Component, allowed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Probabilities of one component over the allowed indices, shape (allowed,); they sum to one."""
    import numpy as np

    if component.kind == FUNCTION:
        assert component.function is not None
        return component.function(allowed)
    values = component.values[allowed]
    if component.kind == GREEDY:
        p = np.zeros(len(allowed))
        p[int(np.argmax(values))] = 1.0
        return p
    w = np.exp(values - values.max())
    result: np.ndarray[Any, Any] = w / w.sum()
    return result
