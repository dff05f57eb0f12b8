"""The draw: fill slots one by one among what is allowed, with the exact probability of each step.

Slot k is drawn from p_k(i) = sum_c weight_c * p_c(i | allowed at k), where "allowed at k" leaves out what the guards
masked, what is taken, and what a between-slots limit has used up. Each component c is a softmax over the allowed, the
greedy choice among them, or any distribution given as a function. Weights of components are mixed per slot, so that
the logged conditional probability of every slot is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., int], Callable[..., None]]:
    """The draw, and the average over draws."""
    import numba
    import numpy as np

    @numba.njit(cache=True, fastmath=False)
    def powers_of(kinds, values):  # type: ignore[no-untyped-def]
        """exp(value - largest) of every softmax component."""
        powers = np.zeros(values.shape)
        for c in range(values.shape[0]):
            if kinds[c] == 0:
                top = values[c].max()
                for i in range(values.shape[1]):
                    powers[c, i] = np.exp(values[c, i] - top)
        return powers

    @numba.njit(cache=True, fastmath=False)
    def spread(weights, kinds, values, powers, open_, first, p):  # type: ignore[no-untyped-def]
        """Write the distribution over what is open, of which `first` is the first, into `p`."""
        n = open_.shape[0]
        for i in range(n):
            p[i] = 0.0
        for c in range(weights.shape[0]):
            total = 0.0
            if kinds[c] == 0:
                for i in range(n):
                    if open_[i]:
                        total += powers[c, i]
            if total > 1e-200:
                share = weights[c] / total
                for i in range(n):
                    if open_[i]:
                        p[i] += share * powers[c, i]
                continue
            row = values[c]
            best = first
            for i in range(first + 1, n):
                if open_[i] and row[i] > row[best]:
                    best = i
            if kinds[c] == 1:
                p[best] += weights[c]
            else:
                # Everything left lies so far below what is taken that its power vanished: start from its own top.
                for i in range(n):
                    if open_[i]:
                        total += np.exp(row[i] - row[best])
                for i in range(n):
                    if open_[i]:
                        p[i] += weights[c] * np.exp(row[i] - row[best]) / total

    @numba.njit(cache=True, fastmath=False)
    def drawn(p, open_, u):  # type: ignore[no-untyped-def]
        """Draw inside the allowed set only: rounding must never fall through to a masked candidate."""
        run = 0.0
        choice = -1
        for i in range(open_.shape[0]):
            if open_[i] and p[i] > 0.0:
                run += p[i]
                choice = i
                if u < run:
                    break
        return choice

    @numba.njit(cache=True, fastmath=False)
    def first_open(open_):  # type: ignore[no-untyped-def]
        for i in range(open_.shape[0]):
            if open_[i]:
                return i
        return -1

    @numba.njit(cache=True, fastmath=False)
    def take(choice, open_, codes, limits, used):  # type: ignore[no-untyped-def]
        """Close what was chosen, and every group that it fills."""
        open_[choice] = False
        for g in range(codes.shape[0]):
            code = codes[g, choice]
            if code >= 0:
                used[g, code] += 1
                if used[g, code] >= limits[g]:
                    for i in range(open_.shape[0]):
                        if codes[g, i] == code:
                            open_[i] = False

    @numba.njit(cache=True, fastmath=False)
    def fill(weights, kinds, values, open_, codes, limits, forced, uniforms, picked, chance, matrix):  # type: ignore[no-untyped-def]
        n = open_.shape[0]
        slots = picked.shape[0]
        p = np.zeros(n)
        used = np.zeros((codes.shape[0], n + 1), np.int64)
        powers = powers_of(kinds, values)
        alone = weights.shape[0] == 1 and kinds[0] == 0 and matrix.shape[0] == 0
        for k in range(slots):
            first = first_open(open_)
            if first < 0:
                return k
            if alone:
                # One softmax, and nobody asks for the whole distribution: the same sums without writing it down.
                total = 0.0
                for i in range(n):
                    if open_[i]:
                        total += powers[0, i]
                if total > 1e-200:
                    share = weights[0] / total
                    choice = forced[k]
                    if choice < 0:
                        u = uniforms[k]
                        run = 0.0
                        for i in range(n):
                            if open_[i] and powers[0, i] > 0.0:
                                step = share * powers[0, i]
                                if step > 0.0:
                                    run += step
                                    choice = i
                                    if u < run:
                                        break
                    picked[k] = choice
                    chance[k] = share * powers[0, choice] if open_[choice] else 0.0
                    take(choice, open_, codes, limits, used)
                    continue
            spread(weights, kinds, values, powers, open_, first, p)
            choice = forced[k]
            if choice < 0:
                choice = drawn(p, open_, uniforms[k])
            picked[k] = choice
            chance[k] = p[choice]
            if matrix.shape[0] > 0:
                for i in range(n):
                    matrix[k, i] = p[i]
            take(choice, open_, codes, limits, used)
        return slots

    @numba.njit(cache=True, fastmath=False)
    def average(weights, kinds, values, allowed, codes, limits, uniforms, mean):  # type: ignore[no-untyped-def]
        slots, n = mean.shape
        draws = uniforms.shape[0]
        p = np.zeros(n)
        open_ = np.empty(n, np.bool_)
        used = np.zeros((codes.shape[0], n + 1), np.int64)
        powers = powers_of(kinds, values)
        for draw in range(draws):
            open_[:] = allowed
            used[:] = 0
            for k in range(slots):
                first = first_open(open_)
                if first < 0:
                    break
                spread(weights, kinds, values, powers, open_, first, p)
                for i in range(n):
                    mean[k, i] += p[i] / draws
                take(drawn(p, open_, uniforms[draw, k]), open_, codes, limits, used)

    return fill, average


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
        filled = _kernels()[0](
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

    n = len(allowed)
    mean = np.zeros((min(slots, n), n))
    even = np.tile((np.arange(draws) + 0.5) / draws, (len(mean), 1))
    _kernels()[1](
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
