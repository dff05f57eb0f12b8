"""Off-policy estimators of one action: a value, and each row's influence on it, from which the interval follows.

w = pi(a|x) / mu(a|x) is the weight of a row, r its reward, q the reward a model expects of the logged action and
q_pi of the policy. Every function returns `Terms`; `terms(log, method)` dispatches by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from matinee.checks import must
from matinee.evaluate.intervals import standard_error
from matinee.evaluate.logged import Floats, Ints, Logged
from matinee.exceptions import BadInputError, UnknownNameError

LAMBDAS = (10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, math.inf)
"""Candidates of SLOPE, as in the published benchmark."""


@dataclass(frozen=True, eq=False)
class Terms:
    """An estimate and what each row contributes to its error.

    Attributes:
        value: The estimate.
        influence: Centred contribution of each row, shape (n,); its mean is 0 and its clustered spread the error.
        lam: The clipping, switching or shrinkage constant used, where the method has one.
        correction: Share of a doubly robust value that comes from the weighted residuals, |correction| over
            |model part| + |correction|; near 1 the model adds nothing and the estimate is IPS in disguise.
    """

    value: float
    influence: Floats
    lam: float | None = None
    correction: float | None = None


def _mean(rows: Floats, lam: float | None = None, correction: float | None = None) -> Terms:
    value = float(rows.mean())
    return Terms(value, rows - value, lam, correction)


def _model(log: Logged, method: str) -> tuple[Floats, Floats]:
    if log.q is None or log.q_policy is None:
        raise BadInputError(f"q == None, must be given for {method!r}: cross-fit a reward model first")
    return log.q, log.q_policy


def _share(model: float, correction: float) -> float:
    whole = abs(model) + abs(correction)
    return abs(correction) / whole if whole else 0.0


def ips(log: Logged) -> Terms:
    """Inverse propensity score: mean of w r. Unbiased; its variance grows with the largest weights.

    Horvitz and Thompson (1952); Strehl, Langford, Li and Kakade (2010).
    """
    return _mean(log.weights * log.reward)


def clipped_ips(log: Logged, lam: float) -> Terms:
    """IPS with weights clipped at lam: mean of min(w, lam) r. Biased towards 0, less variance."""
    return _mean(np.minimum(log.weights, lam) * log.reward, lam)


def snips(log: Logged) -> Terms:
    """Self-normalised IPS: sum of w r / sum of w. Consistent, within the range of the rewards.

    Swaminathan and Joachims (2015). The influence of a row is w (r - value) / mean w.
    """
    w = log.weights
    total = float(w.sum())
    if total <= 0:
        return Terms(math.nan, np.zeros(log.n))
    value = float(w @ log.reward) / total
    return Terms(value, w * (log.reward - value) * (log.n / total))


def dm(log: Logged) -> Terms:
    """Direct method: mean of q_pi. No variance from weights, all the bias of the model."""
    _, q_policy = _model(log, "dm")
    return _mean(q_policy)


def dr(log: Logged) -> Terms:
    """Doubly robust: mean of q_pi + w (r - q). Unbiased with exact propensities, whatever the model.

    Dudik, Erhan, Langford and Li (2014).
    """
    q, q_policy = _model(log, "dr")
    residual = log.weights * (log.reward - q)
    return _mean(q_policy + residual, None, _share(float(q_policy.mean()), float(residual.mean())))


def sndr(log: Logged) -> Terms:
    """Self-normalised DR: mean of q_pi + sum of w (r - q) / sum of w. Consistent."""
    q, q_policy = _model(log, "sndr")
    w = log.weights
    total = float(w.sum())
    if total <= 0:
        return Terms(math.nan, np.zeros(log.n))
    residual = log.reward - q
    model, correction = float(q_policy.mean()), float(w @ residual) / total
    influence = (q_policy - model) + w * (residual - correction) * (log.n / total)
    return Terms(model + correction, influence, None, _share(model, correction))


def switch_dr(log: Logged, lam: float) -> Terms:
    """Switch-DR: DR where w <= lam, the model alone where w > lam. Wang, Agarwal and Dudik (2017)."""
    q, q_policy = _model(log, "switch-dr")
    residual = np.where(log.weights <= lam, log.weights, 0.0) * (log.reward - q)
    return _mean(q_policy + residual, lam, _share(float(q_policy.mean()), float(residual.mean())))


def dr_os(log: Logged, lam: float) -> Terms:
    """DR with optimistic shrinkage: w becomes lam w / (w^2 + lam). Su, Dimakopoulou, Krishnamurthy and Dudik (2020).

    lam = 0 is DM, lam = infinity is DR.
    """
    q, q_policy = _model(log, "dr-os")
    w = log.weights
    shrunk = w if math.isinf(lam) else lam * w / (w * w + lam) if lam > 0 else np.zeros_like(w)
    residual = shrunk * (log.reward - q)
    return _mean(q_policy + residual, lam, _share(float(q_policy.mean()), float(residual.mean())))


def slope(candidates: Sequence[Terms], codes: Ints | None, clusters: int, *, delta: float = 0.1) -> Terms:
    """The candidate with the least variance whose bias the others do not betray.

    Half-widths c are one-sided Student t at 1 - delta. Candidates are walked from the widest to the narrowest while
    each |value_i - value_j| <= c_i + (sqrt(6) - 1) c_j for all wider j; the last that passes is taken. (SLOPE: Su,
    Srinath and Krishnamurthy, 2020; without monotony of the bias: Tucker and Lee, 2021.)
    """
    quantile = float(special.stdtrit(max(1, clusters - 1), 1 - delta))
    widths = np.array([quantile * standard_error(c.influence, codes, clusters) for c in candidates])
    values = np.array([c.value for c in candidates])
    order = np.argsort(widths)[::-1]
    chosen = int(order[0])
    for i in range(1, len(order)):
        now, wider = int(order[i]), order[:i]
        if not np.all(np.abs(values[wider] - values[now]) <= widths[now] + (math.sqrt(6) - 1) * widths[wider]):
            break
        chosen = now
    return candidates[chosen]


Plain = Callable[[Logged], Terms]
Tuned = Callable[[Logged, float], Terms]

PLAIN: dict[str, Plain] = {"dm": dm, "ips": ips, "snips": snips, "dr": dr, "sndr": sndr}
TUNED: dict[str, Tuned] = {"clipped-ips": clipped_ips, "switch-dr": switch_dr, "dr-os": dr_os}
METHODS: tuple[str, ...] = ("dr", "snips", "dm", "ips", "clipped-ips", "sndr", "switch-dr", "dr-os")
"""The order of a table: the headline first, then what it must be read beside."""
UNBIASED = frozenset({"ips", "snips", "dr", "sndr"})
"""Exactly (ips, dr) or consistently (snips, sndr), given the logged propensities: their intervals claim coverage."""


def terms(log: Logged, method: str, *, lam: float | None = None) -> Terms:
    """The estimate by one method; a constant that is not given is chosen by SLOPE.

    Args:
        log: The rows.
        method: One of `METHODS`.
        lam: Constant of clipped-ips, switch-dr or dr-os, >= 0.

    Raises:
        UnknownNameError: No such method.
        BadInputError: The method needs a reward model and the log has none.

    Example:
        >>> log = Logged([1.0, 0.0], propensity=[0.5, 0.5], policy_propensity=[1.0, 0.0])
        >>> terms(log, "ips").value
        1.0
    """
    if method in PLAIN:
        if lam is not None:
            raise BadInputError(f"lam == {lam!r}, must be None: {method!r} has no constant")
        return PLAIN[method](log)
    if method not in TUNED:
        raise UnknownNameError("method", method, METHODS)
    estimator = TUNED[method]
    if lam is not None:
        return estimator(log, must(lam, "lam", ge=0))
    top = float(log.weights.max())
    # Beyond the largest weight clipping and switching change nothing: one such candidate stands for all.
    ladder = [x for x in LAMBDAS if x < top or math.isinf(x)] if method != "dr-os" else list(LAMBDAS)
    return slope([estimator(log, x) for x in ladder], log.codes, log.clusters)
