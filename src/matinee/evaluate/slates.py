"""Off-policy estimators of slates: what each assumes of how a slot's reward depends on the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from matinee.evaluate.estimators import Terms
from matinee.evaluate.logged import Floats, SlateLog
from matinee.exceptions import BadInputError, UnknownNameError


def _mean(rows: Floats, correction: float | None = None) -> Terms:
    value = float(rows.mean())
    return Terms(value, rows - value, None, correction)


def standard_ips(log: SlateLog) -> Terms:
    """No assumption: the whole slate's reward times the product of all weights. Explodes with the slots."""
    return _mean(log.prefix_weights[:, -1] * log.reward.sum(axis=1))


def independent_ips(log: SlateLog) -> Terms:
    """A slot's reward depends on its own action only: each slot's reward times its own weight (Li et al., 2018).

    With `slot_propensity` the weight is marginal, as the assumption asks. Without, it is conditional on the slots
    before, which is the same only where slots are drawn independently.
    """
    return _mean((log.slot_weights * log.reward).sum(axis=1))


def interaction_ips(log: SlateLog) -> Terms:
    """Cascade: a slot's reward depends on it and the slots above: product of weights up to the slot.

    Reward interaction IPS; McInerney, Brost, Chandar, Mehrotra and Carterette (2020).
    """
    return _mean((log.prefix_weights * log.reward).sum(axis=1))


def cascade_dr(log: SlateLog) -> Terms:
    """Cascade with a reward model per slot: q_pi,1 + sum over slots of W_k (r_k + q_pi,k+1 - q_k).

    W_k is the product of weights up to slot k; q_k and q_pi,k count the reward from the slot to the end, so the model
    is corrected at each slot by what that slot brought and left. Unbiased under the cascade assumption whatever the
    model. Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto (2022).
    """
    if log.q is None or log.q_policy is None:
        raise BadInputError("q == None, must be given for 'cascade-dr': a cascade reward model per slot")
    rest = np.concatenate([log.q_policy[:, 1:], np.zeros((log.n, 1))], axis=1)
    filled = np.asarray(log.mask)
    correction = (log.prefix_weights * (log.reward + rest - log.q) * filled).sum(axis=1)
    model = log.q_policy[:, 0]
    sizes = abs(float(model.mean())), abs(float(correction.mean()))
    return _mean(model + correction, sizes[1] / sum(sizes) if sum(sizes) else 0.0)


SLATE: dict[str, Callable[[SlateLog], Terms]] = {
    "cascade-dr": cascade_dr,
    "interaction-ips": interaction_ips,
    "independent-ips": independent_ips,
    "standard-ips": standard_ips,
}
SLATE_METHODS: tuple[str, ...] = tuple(SLATE)
"""The headline first."""


def slate_terms(log: SlateLog, method: str) -> Terms:
    """The estimate of a slate's value by one method.

    Raises:
        UnknownNameError: No such method.
        BadInputError: `cascade-dr` without a reward model.

    Example:
        >>> log = SlateLog([[1.0, 0.0]], propensity=[[0.5, 1.0]], policy_propensity=[[1.0, 1.0]])
        >>> slate_terms(log, "interaction-ips").value
        2.0
    """
    if method not in SLATE:
        raise UnknownNameError("method", method, SLATE_METHODS)
    return SLATE[method](log)


def slate_weights(log: SlateLog, method: str) -> Floats:
    """The weights whose spread limits the method, shape (n,): those of the slot with the least effective n."""
    if method == "standard-ips":
        return log.prefix_weights[:, -1]
    table = log.slot_weights if method == "independent-ips" else log.prefix_weights
    squares = (table * table).sum(axis=0)
    sizes = np.where(squares > 0, table.sum(axis=0) ** 2 / np.where(squares > 0, squares, 1.0), 0.0)
    return table[:, int(np.argmin(sizes))]
