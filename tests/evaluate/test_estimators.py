"""Known answers, identities between estimators, and the choice of constants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from matinee.evaluate import METHODS, Logged, terms
from matinee.evaluate.estimators import Terms, slope
from matinee.evaluate.intervals import standard_error
from matinee.exceptions import BadInputError, MatineeError, UnknownNameError

from .worlds import logs, two_arms

WEIGHTED = [m for m in METHODS if m != "dm"]


def by_hand(log: Logged, method: str, lam: float = 0.0) -> float:
    """The table of section 2 of the field notes, row by row in plain Python."""
    w = [p / m for p, m in zip(log.policy_propensity, log.propensity, strict=True)]
    r, n = list(log.reward), log.n
    q, v = list(np.asarray(log.q)), list(np.asarray(log.q_policy))
    shrunk = {
        "switch-dr": [x if x <= lam else 0.0 for x in w],
        "dr-os": [lam * x / (x * x + lam) for x in w] if lam else [],
    }
    match method:
        case "dm":
            return sum(v) / n
        case "ips":
            return sum(x * y for x, y in zip(w, r, strict=True)) / n
        case "clipped-ips":
            return sum(min(x, lam) * y for x, y in zip(w, r, strict=True)) / n
        case "snips":
            return sum(x * y for x, y in zip(w, r, strict=True)) / sum(w)
        case "dr":
            return sum(v[i] + w[i] * (r[i] - q[i]) for i in range(n)) / n
        case "sndr":
            return sum(v) / n + sum(w[i] * (r[i] - q[i]) for i in range(n)) / sum(w)
        case _:
            return sum(v[i] + shrunk[method][i] * (r[i] - q[i]) for i in range(n)) / n


@pytest.mark.parametrize("method", METHODS)
@given(log=logs())
@settings(max_examples=25, deadline=None)
def test_values_are_those_of_the_formulas(method: str, log: Logged) -> None:
    lam = 1.5 if method in {"clipped-ips", "switch-dr", "dr-os"} else None
    found = terms(log, method, lam=lam)
    assert found.value == pytest.approx(by_hand(log, method, lam or 0.0), rel=1e-9, abs=1e-9)
    assert found.influence.mean() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_two_arms_by_a_coin(method: str) -> None:
    log = two_arms(20_000)
    assert terms(log, method, lam=None).value == pytest.approx(0.3, abs=0.02)


@given(log=logs())
@settings(max_examples=50, deadline=None)
def test_the_logging_policy_is_worth_the_mean_reward(log: Logged) -> None:
    same = replace(log, policy_propensity=log.propensity, q=None, q_policy=None)
    assert terms(same, "ips").value == pytest.approx(float(log.reward.mean()))
    assert terms(same, "snips").value == pytest.approx(float(log.reward.mean()))


@given(log=logs())
@settings(max_examples=50, deadline=None)
def test_identities(log: Logged) -> None:
    zero = np.zeros(log.n)
    blind = replace(log, q=zero, q_policy=zero)
    assert terms(blind, "dr").value == pytest.approx(terms(log, "ips").value)
    assert terms(blind, "sndr").value == pytest.approx(terms(log, "snips").value)
    dr, dm = terms(log, "dr"), terms(log, "dm")
    assert terms(log, "switch-dr", lam=math.inf).value == pytest.approx(dr.value)
    assert terms(log, "switch-dr", lam=0.0).value == pytest.approx(dm.value)
    assert terms(log, "dr-os", lam=math.inf).value == pytest.approx(dr.value)
    assert terms(log, "dr-os", lam=1e12).value == pytest.approx(dr.value, rel=1e-6, abs=1e-6)
    assert terms(log, "dr-os", lam=0.0).value == pytest.approx(dm.value)
    assert terms(log, "clipped-ips", lam=math.inf).value == pytest.approx(terms(log, "ips").value)
    exact = replace(log, q=log.reward)
    assert terms(exact, "dr").value == pytest.approx(terms(exact, "dm").value)


@given(log=logs(), shift=st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_self_normalised_values_move_with_the_rewards(log: Logged, shift: float) -> None:
    moved = replace(log, reward=log.reward + shift)
    assert terms(moved, "snips").value == pytest.approx(terms(log, "snips").value + shift, abs=1e-8)
    low, high = float(log.reward.min()), float(log.reward.max())
    assert low - 1e-9 <= terms(log, "snips").value <= high + 1e-9


@pytest.mark.parametrize("method", WEIGHTED)
@given(log=logs(), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_row_order_has_no_influence(method: str, log: Logged, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(log.n)
    names = ("reward", "propensity", "policy_propensity", "q", "q_policy")
    mixed = Logged(
        **{name: getattr(log, name)[order] for name in names},
        cluster=None if log.cluster is None else np.asarray(log.cluster)[order],
    )
    assert terms(mixed, method).value == pytest.approx(terms(log, method).value, rel=1e-9, abs=1e-9)


def test_the_influence_of_a_row_is_what_leaving_it_out_changes() -> None:
    log = two_arms(400, seed=2)
    rng = np.random.default_rng(0)
    log = replace(log, policy_propensity=rng.uniform(0.1, 1.0, log.n))
    for method in ("ips", "snips", "dr", "sndr"):
        found = terms(log, method)
        keep = np.arange(log.n) != 7
        names = ("reward", "propensity", "policy_propensity", "q", "q_policy")
        less = Logged(**{name: getattr(log, name)[keep] for name in names})
        assert found.value - terms(less, method).value == pytest.approx(found.influence[7] / log.n, rel=0.05, abs=1e-6)


def test_slope_keeps_the_narrow_one_until_the_wide_ones_disagree() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1_000)
    noise -= noise.mean()
    wide, narrow = Terms(1.0, 10 * noise, lam=math.inf), Terms(1.1, noise, lam=10.0)
    assert slope([narrow, wide], None, 1_000) is narrow
    biased = Terms(5.0, noise, lam=1.0)
    assert slope([biased, wide], None, 1_000) is wide


def test_slope_compares_with_the_published_slack() -> None:
    # A narrower candidate passes while it is off by at most its own half-width and sqrt(6) - 1 = 1.449 of the wider one's.
    signs = np.tile([1.0, -1.0], 500)
    half = float(special.stdtrit(999, 0.9)) * standard_error(signs, None, 1_000)
    wide = Terms(0.0, signs)
    for share, passes in ((1.40, True), (1.50, False)):
        narrow = Terms(half * (0.1 + share), 0.1 * signs)
        assert slope([wide, narrow], None, 1_000) is (narrow if passes else wide)


def test_slope_is_used_where_no_constant_is_given() -> None:
    log = two_arms(2_000)
    found = terms(log, "dr-os")
    assert found.lam is not None
    assert found.value == terms(log, "dr-os", lam=found.lam).value


def test_no_row_with_weight_gives_no_number() -> None:
    log = Logged([1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.1, 0.1], [0.1, 0.1])
    assert math.isnan(terms(log, "snips").value)
    assert math.isnan(terms(log, "sndr").value)


def test_errors_say_what_would_be_right() -> None:
    log = Logged([1.0, 0.0], [0.5, 0.5], [0.5, 0.5])
    with pytest.raises(UnknownNameError, match="did you mean 'snips'"):
        terms(log, "snip")
    with pytest.raises(BadInputError, match="cross-fit a reward model first"):
        terms(log, "dr")
    with pytest.raises(MatineeError, match="lam == -1"):
        terms(log, "clipped-ips", lam=-1.0)
    with pytest.raises(BadInputError, match="'ips' has no constant"):
        terms(log, "ips", lam=3.0)


def test_a_poor_model_shows_in_the_share_of_the_correction() -> None:
    log = two_arms(4_000)
    good, poor = terms(log, "dr"), terms(replace(log, q=np.zeros(log.n), q_policy=np.zeros(log.n)), "dr")
    assert good.correction is not None and good.correction < 0.1
    assert poor.correction == 1.0
