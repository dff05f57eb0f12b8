"""Slates: exact products, the value of a known list, and what each estimator assumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from matinee.evaluate import SlateLog, estimate, estimate_all, slate_terms
from matinee.evaluate.evidence import Evidence
from matinee.exceptions import BadInputError, UnknownNameError

from .worlds import uniform_slates


def test_uniform_slates_have_the_probability_of_a_permutation() -> None:
    log, _ = uniform_slates(50, items=6, slots=3)
    assert np.prod(log.propensity, axis=1) == pytest.approx(np.full(50, 1 / (6 * 5 * 4)))


@pytest.mark.parametrize("method", ["standard-ips", "interaction-ips"])
def test_the_value_of_a_fixed_list_is_found(method: str) -> None:
    log, truth = uniform_slates(60_000, items=5, slots=2)
    found = estimate(log, method)
    assert found.low is not None and found.high is not None
    assert found.low <= truth <= found.high
    assert found.value == pytest.approx(truth, rel=0.05)


def test_every_slate_counted_once_gives_the_exact_value() -> None:
    # All 20 lists of 2 of 5 once each: the sample is the population, so every unbiased estimator is exact.
    pairs = np.array([(a, b) for a in range(5) for b in range(5) if a != b])
    best = np.where(pairs[:, 0] == 4, 3, 4)
    pi = np.column_stack([pairs[:, 0] == 4, pairs[:, 1] == best]).astype(float)
    log = SlateLog(pairs.astype(float), np.broadcast_to([0.2, 0.25], (20, 2)), pi)
    assert slate_terms(log, "standard-ips").value == pytest.approx(7.0)
    assert slate_terms(log, "interaction-ips").value == pytest.approx(7.0)
    # Marginals of the policy: 4 in the first slot, 3 in the second, always.
    own = np.full((20, 2), 0.2)
    wanted = np.column_stack([pairs[:, 0] == 4, pairs[:, 1] == 3]).astype(float)
    marginal = replace(log, slot_propensity=own, policy_slot_propensity=wanted)
    assert slate_terms(marginal, "independent-ips").value == pytest.approx(7.0)
    # Conditional weights would take slot two from the log's first slot: 4 where it is left, a wrong answer.
    assert slate_terms(log, "independent-ips").value != pytest.approx(7.0)
    # Cascade DR with any model whose q_policy is the policy's average of q: correct.
    first, second = np.arange(5) * 0.7 + 2.0, np.arange(5) * 0.3
    q = np.column_stack([first[pairs[:, 0]], second[pairs[:, 1]]])
    q_policy = np.column_stack([np.full(20, first[4]), second[best]])
    assert slate_terms(replace(log, q=q, q_policy=q_policy), "cascade-dr").value == pytest.approx(7.0)


def test_one_slot_is_the_single_action_case() -> None:
    rng = np.random.default_rng(0)
    r, mu, pi = rng.random((50, 1)), rng.uniform(0.1, 1, (50, 1)), rng.random((50, 1))
    log = SlateLog(r, mu, pi)
    values = {slate_terms(log, m).value for m in ("standard-ips", "interaction-ips", "independent-ips")}
    assert len({round(v, 12) for v in values}) == 1
    assert values.pop() == pytest.approx(float((pi / mu * r).mean()))


def test_cascade_dr_without_a_model_is_interaction_ips() -> None:
    log, _ = uniform_slates(500, items=5, slots=3)
    zero = np.zeros_like(log.reward)
    blind = replace(log, q=zero, q_policy=zero)
    assert slate_terms(blind, "cascade-dr").value == pytest.approx(slate_terms(log, "interaction-ips").value)


def test_the_logging_policy_is_worth_the_mean_reward() -> None:
    log, _ = uniform_slates(500, items=5, slots=3)
    same = replace(log, policy_propensity=log.propensity)
    for method in ("standard-ips", "interaction-ips", "independent-ips"):
        assert slate_terms(same, method).value == pytest.approx(float(log.reward.sum(axis=1).mean()))


def test_short_slates_count_their_filled_slots_only() -> None:
    mask = np.array([[True, False], [True, True]])
    log = SlateLog([[1.0, 9.0], [1.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.1], [0.5, 0.5]], mask=mask)
    assert slate_terms(log, "interaction-ips").value == pytest.approx((1.0 + 2.0) / 2)
    assert slate_terms(log, "standard-ips").value == pytest.approx((1.0 + 2.0) / 2)


def test_long_slates_are_refused_where_products_explode() -> None:
    log, _ = uniform_slates(2_000, items=12, slots=6)
    standard = estimate(log, "standard-ips")
    assert standard.value is None and standard.refused is not None
    assert isinstance(standard, Evidence)


def test_all_slate_estimators_side_by_side() -> None:
    log, _ = uniform_slates(20_000, items=4, slots=2)
    table = estimate_all(log)
    # Weights of single slots need marginal chances: without them the slots above are the log's, not the policy's.
    assert [e.method for e in table.evidence] == ["interaction-ips", "standard-ips"]
    assert table.headline.method == "interaction-ips"
    quarter = np.full(log.reward.shape, 0.25)
    marginal = estimate_all(replace(log, slot_propensity=quarter, policy_slot_propensity=quarter))
    assert [e.method for e in marginal.evidence] == ["interaction-ips", "independent-ips", "standard-ips"]


def test_errors_say_what_would_be_right() -> None:
    log, _ = uniform_slates(10, items=4, slots=2)
    with pytest.raises(UnknownNameError, match="did you mean 'standard-ips'"):
        slate_terms(log, "standard-ip")
    with pytest.raises(BadInputError, match="a cascade reward model per slot"):
        slate_terms(log, "cascade-dr")
