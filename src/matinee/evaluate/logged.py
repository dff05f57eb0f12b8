"""What an evaluation reads: rows of a log, checked once, with the weights every estimator shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matinee.exceptions import BadInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDING = 1e-9  # probabilities summed in floating point may pass one by this much


def numbers(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None, ndim: int = 1) -> Floats:
    """The values as float64, or an error that says which row is wrong.

    Args:
        values: Anything NumPy reads as numbers.
        name: What the user calls it.
        shape: The shape it must have, where another array has set it.
        ndim: The number of dimensions where no shape is given.

    Raises:
        BadInputError: Wrong shape, not numbers, NaN or infinite.

    Example:
        >>> numbers([0, 1], "reward")
        array([0., 1.])
        >>> numbers([0, float("nan")], "reward")
        Traceback (most recent call last):
        matinee.exceptions.BadInputError: reward[1] == nan, must be a finite number
    """
    array = _array(values, name)
    if shape is not None and array.shape != shape:
        raise BadInputError(f"{name}.shape == {array.shape}, must be {shape}, one value for each logged reward")
    if array.ndim != ndim and shape is None:
        raise BadInputError(f"{name}.ndim == {array.ndim}, must be {ndim}")
    _first_bad(~np.isfinite(array), array, name, "must be a finite number")
    return array


def _array(values: ArrayLike, name: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name} == {type(values).__name__}, must be an array of numbers") from error


def probabilities(values: ArrayLike, name: str, shape: tuple[int, ...], *, zero: bool) -> Floats:
    """The values as probabilities: in (0, 1], or in [0, 1] where `zero` is allowed.

    Example:
        >>> probabilities([0.0], "propensity", (1,), zero=False)
        Traceback (most recent call last):
        matinee.exceptions.BadInputError: propensity[0] == 0.0, must be > 0: the action was logged, so it was possible
    """
    array = numbers(values, name, shape)
    if zero:
        _first_bad(array < 0, array, name, "must be >= 0")
    else:
        _first_bad(array <= 0, array, name, "must be > 0: the action was logged, so it was possible")
    _first_bad(array > 1 + ROUNDING, array, name, "must be <= 1")
    return np.minimum(array, 1.0)


def _first_bad(bad: NDArray[np.bool_], array: Floats, name: str, rule: str) -> None:
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        index = ", ".join(str(int(i)) for i in where)
        raise BadInputError(f"{name}[{index}] == {array[where]}, {rule}")


def cluster_codes(cluster: ArrayLike | None, n: int) -> tuple[Ints | None, int]:
    """Cluster labels as 0..C-1 and their count; `None` where every row stands alone.

    Raises:
        BadInputError: Not one label a row, or a label is missing.
    """
    if cluster is None:
        return None, n
    labels = np.asarray(cluster)
    if labels.shape != (n,):
        raise BadInputError(f"cluster.shape == {labels.shape}, must be {(n,)}, one label for each logged reward")
    if labels.dtype.kind == "f":
        _first_bad(np.isnan(labels), labels, "cluster", "must be a label")
    if labels.dtype.kind == "O":
        missing = np.array([label is None for label in labels])
        if missing.any():
            raise BadInputError(f"cluster[{int(np.argmax(missing))}] == None, must be a label")
        labels = labels.astype(str)
    names, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1).astype(np.int64, copy=False), len(names)


def _shared(log: Logged | SlateLog) -> None:
    """Checks what both kinds of log carry beside rewards and probabilities."""
    n = log.n
    codes, clusters = cluster_codes(log.cluster, n)
    object.__setattr__(log, "codes", codes)
    object.__setattr__(log, "clusters", clusters)
    if log.unsupported is not None:
        mass = np.broadcast_to(np.asarray(log.unsupported, dtype=np.float64), (n,))
        object.__setattr__(log, "unsupported", probabilities(mass, "unsupported", (n,), zero=True))
    if log.closed is not None:
        closed = np.asarray(log.closed)
        if closed.shape != (n,) or closed.dtype != np.bool_:
            raise BadInputError(f"closed == {closed.dtype} {closed.shape}, must be bool {(n,)}: is the window closed?")
        object.__setattr__(log, "closed", closed)


def _both(q: Any, q_policy: Any) -> None:
    if (q is None) != (q_policy is None):
        absent = "q" if q is None else "q_policy"
        raise BadInputError(f"{absent} == None, must be given together with {'q_policy' if q is None else 'q'}")


@dataclass(frozen=True, eq=False)
class Logged:
    """Choices of one action each, with what a policy under evaluation would have done.

    Args:
        reward: What each choice brought, shape (n,).
        propensity: Probability of the logged action when it was drawn, shape (n,), in (0, 1].
        policy_propensity: Probability that the policy under evaluation takes that action, shape (n,), in [0, 1].
        q: Reward a model expects of the logged action, shape (n,); cross-fitted, see `cross_fit`.
        q_policy: Reward the model expects of the policy, sum over actions of pi(a|x) q(x, a), shape (n,).
        cluster: Rows that depend on each other share a label (member, purchase, invoice), shape (n,).
        logging_propensity: With several logging policies, the probability of the logged action under their mixture
            (balanced weights; Agarwal et al., 2017); it replaces `propensity` in the weights. See `balanced`.
        unsupported: Policy mass on actions the log could never hold, shape (n,) or one number. See `unsupported_mass`.
        closed: Whether the outcome window of each choice is closed, shape (n,).
        action: Label of the logged action, shape (n,); lets a refusal say where exploration is missing.
        policy: Name of the policy under evaluation.
        estimated: Propensities were estimated after the fact: a weaker claim, and the evidence says so.

    Raises:
        BadInputError: Shapes differ, a value is NaN, a probability is outside its range.

    Example:
        >>> log = Logged([1.0, 0.0], propensity=[0.5, 0.5], policy_propensity=[1.0, 0.0])
        >>> log.weights
        array([2., 0.])
    """

    reward: Floats
    propensity: Floats
    policy_propensity: Floats
    q: Floats | None = None
    q_policy: Floats | None = None
    cluster: ArrayLike | None = None
    logging_propensity: Floats | None = None
    unsupported: Floats | float | None = None
    closed: NDArray[np.bool_] | None = None
    action: ArrayLike | None = None
    policy: str = "policy"
    estimated: bool = False

    codes: Ints | None = field(init=False, repr=False, default=None)
    clusters: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "reward", numbers(self.reward, "reward"))
        shape = (self.n,)
        if not self.n:
            raise BadInputError("reward == [], must hold at least one row")
        put(self, "propensity", probabilities(self.propensity, "propensity", shape, zero=False))
        put(self, "policy_propensity", probabilities(self.policy_propensity, "policy_propensity", shape, zero=True))
        if self.logging_propensity is not None:
            mixed = probabilities(self.logging_propensity, "logging_propensity", shape, zero=False)
            put(self, "logging_propensity", mixed)
        _both(self.q, self.q_policy)
        if self.q is not None:
            put(self, "q", numbers(self.q, "q", shape))
            put(self, "q_policy", numbers(self.q_policy, "q_policy", shape))  # type: ignore[arg-type]  # checked by _both
        if self.action is not None and np.asarray(self.action).shape != shape:
            raise BadInputError(f"action.shape == {np.asarray(self.action).shape}, must be {shape}")
        _shared(self)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.reward.shape[0])

    @cached_property
    def weights(self) -> Floats:
        """Importance weights, shape (n,): policy propensity over the propensity of logging."""
        logged = self.propensity if self.logging_propensity is None else self.logging_propensity
        return self.policy_propensity / logged


@dataclass(frozen=True, eq=False)
class SlateLog:
    """Choices of several slots each: rewards and conditional probabilities per slot.

    Args:
        reward: Reward of each slot, shape (n, k). The value estimated is the mean of the sum over slots.
        propensity: Probability of the slot's action given the slots before it, when drawn, shape (n, k).
        policy_propensity: The same under the policy, given the *logged* slots before it, shape (n, k).
        q: Cascade model: reward expected from this slot to the end, given the logged slots up to this one, (n, k).
        q_policy: The same before this slot is filled, averaged over the policy's draw for it, (n, k).
        slot_propensity: Marginal probability of the action in its slot when drawn, (n, k); for independent IPS.
        policy_slot_propensity: The same under the policy, (n, k).
        mask: Which slots were filled, shape (n, k); the rest count nothing. None: all.
        cluster, unsupported, closed, policy, estimated: As in `Logged`.

    Example:
        >>> slate = SlateLog([[1.0, 0.0]], propensity=[[0.5, 1.0]], policy_propensity=[[1.0, 1.0]])
        >>> slate.weights
        array([[2., 1.]])
    """

    reward: Floats
    propensity: Floats
    policy_propensity: Floats
    q: Floats | None = None
    q_policy: Floats | None = None
    slot_propensity: Floats | None = None
    policy_slot_propensity: Floats | None = None
    mask: NDArray[np.bool_] | None = None
    cluster: ArrayLike | None = None
    unsupported: Floats | float | None = None
    closed: NDArray[np.bool_] | None = None
    policy: str = "policy"
    estimated: bool = False

    codes: Ints | None = field(init=False, repr=False, default=None)
    clusters: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        put = object.__setattr__
        raw = _array(self.reward, "reward")
        if raw.ndim != 2 or not raw.size:
            raise BadInputError(f"reward.shape == {raw.shape}, must be (rows, slots), neither of them 0")
        mask = np.ones(raw.shape, dtype=np.bool_) if self.mask is None else np.asarray(self.mask)
        if mask.shape != raw.shape or mask.dtype != np.bool_:
            raise BadInputError(f"mask == {mask.dtype} {mask.shape}, must be bool {raw.shape}")
        put(self, "mask", mask)

        # What stands in an unfilled slot is no data: neutral values keep the products and sums below simple.
        def filled(name: str, neutral: float) -> Floats:
            array = _array(getattr(self, name), name)
            return np.where(mask, array, neutral) if array.shape == mask.shape else array

        put(self, "reward", numbers(filled("reward", 0.0), "reward", ndim=2))
        optional = ("slot_propensity", "policy_slot_propensity")
        for name in ("propensity", "policy_propensity", *optional):
            if name not in optional or getattr(self, name) is not None:
                zero = name.startswith("policy")
                put(self, name, probabilities(filled(name, 1.0), name, raw.shape, zero=zero))
        if (self.slot_propensity is None) != (self.policy_slot_propensity is None):
            raise BadInputError("slot_propensity == None, must be given together with policy_slot_propensity")
        _both(self.q, self.q_policy)
        if self.q is not None:
            put(self, "q", numbers(filled("q", 0.0), "q", raw.shape))
            put(self, "q_policy", numbers(filled("q_policy", 0.0), "q_policy", raw.shape))
        _shared(self)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.reward.shape[0])

    @cached_property
    def weights(self) -> Floats:
        """Conditional weight of each slot, shape (n, k); 1 where the slot is empty."""
        return self.policy_propensity / self.propensity

    @cached_property
    def prefix_weights(self) -> Floats:
        """Product of the weights up to and including each slot, shape (n, k)."""
        return np.cumprod(self.weights, axis=1).astype(np.float64, copy=False)

    @cached_property
    def slot_weights(self) -> Floats:
        """The slot's own weight, shape (n, k): marginal where marginals are given, else conditional."""
        if self.slot_propensity is None or self.policy_slot_propensity is None:
            return self.weights
        return self.policy_slot_propensity / self.slot_propensity


def balanced(propensities: ArrayLike, shares: ArrayLike) -> Floats:
    """Probability of the logged action under the mixture of several logging policies.

    With it as `logging_propensity` a row logged by a timid policy is no longer weighted as if only that policy had
    logged (balanced estimator; Agarwal, Basu, Schnabel and Joachims, 2017).

    Args:
        propensities: Probability of the logged action under each logging policy, shape (policies, n).
        shares: Share of the rows each policy logged, shape (policies,), sums to 1.

    Example:
        >>> balanced([[0.5, 0.1], [0.1, 0.5]], [0.75, 0.25])
        array([0.4, 0.2])
    """
    table = numbers(propensities, "propensities", ndim=2)
    weights = probabilities(shares, "shares", (table.shape[0],), zero=True)
    if abs(float(weights.sum()) - 1.0) > 1e-6:
        raise BadInputError(f"shares.sum() == {float(weights.sum()):.6g}, must be 1")
    return probabilities(weights @ table, "propensities", (table.shape[1],), zero=False)


def unsupported_mass(policy: ArrayLike, logging: ArrayLike, *, floor: float = 0.0) -> Floats:
    """Share of the policy's probability on actions the log could not hold, or hardly, one number a row.

    Args:
        policy: Probabilities of the policy under evaluation, shape (n, actions).
        logging: Probabilities of the logging policy, shape (n, actions).
        floor: Actions logged with a probability at or below this count as unsupported.

    Example:
        >>> unsupported_mass([[0.25, 0.75]], [[1.0, 0.0]])
        array([0.75])
    """
    wanted = numbers(policy, "policy", ndim=2)
    logged = numbers(logging, "logging", wanted.shape)
    mass: Floats = np.where(logged <= floor, wanted, 0.0).sum(axis=1)
    return mass
