"""Evidence: values with intervals, refusals with reasons, tables that print, and paired comparisons."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.evaluate import (
    METHODS,
    Logged,
    SlateLog,
    Thresholds,
    closed_only,
    compare,
    effective_size,
    estimate,
    estimate_all,
)
from matinee.evaluate.evidence import overlap
from matinee.evaluate.thresholds import Overlap, refusals
from matinee.exceptions import BadInputError, MatineeError, UnknownNameError

from .worlds import logs, never, two_arms, uniform_slates

LOOSE = Thresholds(effective_n=1, events=0, clusters=2, mean_weight_errors=1e9)
WELL = Overlap(
    n=1_000,
    clusters=500,
    effective_n=400.0,
    mean_weight=1.0,
    mean_weight_se=0.03,
    unsupported=0.0,
    events=80.0,
    open_rows=0,
)


def test_two_arms_by_a_coin() -> None:
    log = two_arms(4_000)
    always = float(log.reward[log.weights > 0].mean())
    for method in ("snips", "dr", "ips"):
        found = estimate(log, method)
        assert found.value == pytest.approx(always, abs=0.02)
        assert found.low is not None and found.high is not None
        assert found.low < 0.3 < found.high
    assert estimate(log, "snips").value == pytest.approx(always)
    assert estimate(log, "snips").effective_n == pytest.approx(float((log.weights > 0).sum()))


def test_a_policy_that_never_plays_what_the_log_plays_is_refused() -> None:
    found = estimate(never())
    assert found.value is None and found.low is None and found.high is None and found.se is None
    assert [r.kind for r in found.refusals] == ["overlap", "effective n"]
    assert found.refused is not None and "100% of the policy's choices" in found.refused
    assert found.missing is not None and "exploration" in found.missing
    assert "no value: 100%" in str(found)


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        ({"effective_n": 12.0}, "effective n", "3,200 more rows"),
        ({"unsupported": 0.2}, "overlap", "20% of the policy's choices"),
        ({"mean_weight": 1.3}, "weights", "mean weight == 1.30 ± 0.0300, must be 1"),
        ({"mean_weight": 0.7}, "weights", "mean weight == 0.700"),
        ({"events": 4.0}, "events", "1,500 more rows"),
        ({"clusters": 7}, "clusters", "13 more units"),
        ({"open_rows": 30}, "open window", "30 of 1,000 choices is not closed"),
    ],
)
def test_each_limit_refuses_on_its_own(changed: dict[str, float], kind: str, says: str) -> None:
    assert refusals(WELL, Thresholds()) == ()
    found = refusals(replace(WELL, **changed), Thresholds())  # type: ignore[arg-type]
    assert [r.kind for r in found] == [kind]
    assert says in f"{found[0].reason} / {found[0].missing}"


def test_limits_are_limits() -> None:
    limits = Thresholds()
    assert not refusals(replace(WELL, effective_n=limits.effective_n), limits)
    assert not refusals(replace(WELL, unsupported=limits.unsupported_mass), limits)
    assert not refusals(replace(WELL, events=limits.events), limits)
    exact = replace(WELL, mean_weight=1.04, mean_weight_se=1e-4)
    assert not refusals(exact, limits)  # surely away from 1, but by less than matters
    assert not refusals(replace(WELL, mean_weight=1.1), limits)  # away, but within four of its errors
    with pytest.raises(MatineeError, match="effective_n == 0, must be >= 1"):
        Thresholds(effective_n=0)


def test_mass_known_to_be_out_of_reach_explains_a_low_mean_weight() -> None:
    told = replace(WELL, mean_weight=0.8, unsupported=0.2, known_unsupported=0.2)
    assert [r.kind for r in refusals(told, Thresholds())] == ["overlap"]


def test_wrong_propensities_show_in_the_mean_weight() -> None:
    log = two_arms(4_000)
    wrong = replace(log, propensity=np.full(log.n, 0.3))
    assert "weights" in [r.kind for r in estimate(wrong).refusals]


def test_open_windows_are_refused_and_can_be_left_out() -> None:
    log = two_arms(4_000)
    closed = np.arange(4_000) < 3_000
    found = estimate(replace(log, closed=closed))
    assert [r.kind for r in found.refusals] == ["open window"]
    rest = closed_only(replace(log, closed=closed))
    assert rest.n == 3_000 and estimate(rest).value is not None
    assert closed_only(log) is log


def test_one_heavy_click_among_light_ones_is_one_event() -> None:
    weight, reward = np.tile([0.6, 1.4], 1_000), np.zeros(2_000)
    reward[:30] = 1.0
    light = estimate(Logged(reward, np.full(2_000, 0.5), 0.5 * weight), "ips", thresholds=replace(LOOSE, events=10))
    weight[0] = 400.0
    heavy = estimate(Logged(reward, np.full(2_000, 0.002), 0.002 * weight), "ips", thresholds=replace(LOOSE, events=10))
    assert light.value is not None
    assert [r.kind for r in heavy.refusals] == ["events"]


def test_refusals_name_the_actions_that_lack_exploration() -> None:
    rng = np.random.default_rng(0)
    action = np.where(rng.random(5_000) < 0.002, "rare", "common")
    mu = np.where(action == "rare", 0.002, 0.998)
    pi = np.where(action == "rare", 0.9, 0.1)
    found = estimate(Logged(rng.random(5_000), mu, pi, action=action))
    assert found.missing is not None and "more exploration of rare" in found.missing


def test_propensities_below_the_floor_are_no_support() -> None:
    mu = np.where(np.arange(2_000) == 0, 1e-9, 0.5)
    found = estimate(Logged(np.tile([0.0, 1.0], 1_000), mu, np.full(2_000, 0.5)))
    assert found.refusals[0].kind == "overlap"


def test_estimated_propensities_are_said_to_be() -> None:
    found = estimate(replace(two_arms(), estimated=True))
    assert "propensities estimated, not logged" in str(found)


def test_the_table_headlines_dr_and_names_what_is_biased() -> None:
    table = estimate_all(two_arms())
    assert [e.method for e in table.evidence] == list(METHODS)
    assert table.headline.method == "dr"
    assert table["ips"].method == "ips"
    assert "dm, clipped-ips, switch-dr, dr-os: the interval leaves out the bias" in str(table)
    with pytest.raises(UnknownNameError, match="did you mean 'snips'"):
        table["snip"]
    blind = replace(two_arms(), q=None, q_policy=None)
    assert [e.method for e in estimate_all(blind).evidence] == ["snips", "ips", "clipped-ips"]


@pytest.mark.parametrize(
    "found", [estimate_all(two_arms()), estimate_all(never()), estimate(two_arms()), compare(two_arms())]
)
def test_results_print_turn_into_polars_and_json(found: object) -> None:
    from matinee.results import Table

    assert isinstance(found, Table)
    assert str(found).splitlines()[0].startswith("policy")
    frame = found.to_polars()
    assert frame.height == len(found.rows()) and {"interval_low", "interval_high"} <= set(frame.columns)
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(again["rows"]) == frame.height


def test_a_refused_value_is_absent_not_zero() -> None:
    row = estimate(never()).to_json()["rows"][0]
    assert row["value"] is None and row["interval"] == [None, None]


def test_row_order_and_cluster_labels_have_no_influence() -> None:
    log = two_arms(1_000)
    rng = np.random.default_rng(0)
    cluster, order = rng.integers(0, 300, 1_000), rng.permutation(1_000)
    base = estimate(replace(log, cluster=cluster))
    names = ("reward", "propensity", "policy_propensity", "q", "q_policy")
    words = np.array([f"member {999 - c}" for c in cluster])
    other = estimate(Logged(**{name: getattr(log, name)[order] for name in names}, cluster=words[order]))
    assert (other.value, other.low, other.high) == pytest.approx((base.value, base.low, base.high))
    assert (other.n, other.clusters) == (base.n, base.clusters)


@given(log=logs())
@settings(max_examples=40, deadline=None)
def test_every_number_has_its_interval(log: Logged) -> None:
    for one in estimate_all(log, thresholds=LOOSE).evidence:
        if one.value is None:
            assert one.refused
        else:
            assert one.low is not None and one.high is not None
            assert one.low <= one.value + 1e-9 and one.value <= one.high + 1e-9


@given(weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_effective_size_is_between_zero_and_the_rows(weights: list[float]) -> None:
    size = effective_size(np.array(weights))
    assert 0 <= size <= len(weights) * (1 + 1e-9)


def test_dr_is_narrower_than_ips_with_a_good_model() -> None:
    log = two_arms(4_000)
    dr, ips = estimate(log, "dr"), estimate(log, "ips")
    assert dr.se is not None and ips.se is not None
    assert dr.se < 0.95 * ips.se


# -- compare


def test_a_policy_compared_with_itself_is_no_better() -> None:
    log = two_arms()
    found = compare(log, log)
    assert found.difference == 0.0 and found.low == 0.0 and not found.better and not found.safe
    assert "not shown to be better" in str(found)


def test_a_better_policy_is_better_and_safe() -> None:
    found = compare(two_arms(20_000))
    assert found.difference == pytest.approx(0.05, abs=0.01)
    assert found.better and found.safe and found.bound is not None and found.safe_bound is not None
    assert found.low is not None and found.low < found.bound
    assert found.safe_bound < found.bound


def test_the_difference_changes_sign_with_the_sides() -> None:
    a = two_arms()
    b = replace(a, policy_propensity=1 - a.policy_propensity, q_policy=np.full(a.n, 0.2), policy="always left")
    there, back = compare(a, b), compare(b, a)
    assert there.difference == pytest.approx(-(back.difference or 0.0))
    assert there.low == pytest.approx(-(back.high or 0.0))
    assert (there.policy, there.against) == ("always right", "always left")


def test_pairing_is_narrower_than_two_intervals() -> None:
    a = two_arms()
    b = replace(
        a, policy_propensity=0.9 * a.policy_propensity + 0.1 * (1 - a.policy_propensity), q_policy=np.full(a.n, 0.29)
    )
    paired, ours, theirs = compare(a, b, method="ips"), estimate(a, "ips"), estimate(b, "ips")
    width = (paired.high or 0.0) - (paired.low or 0.0)
    apart = np.hypot((ours.high or 0.0) - (ours.low or 0.0), (theirs.high or 0.0) - (theirs.low or 0.0))
    assert width < 0.25 * apart


def test_the_safe_bound_is_kept_in_worlds_without_a_difference() -> None:
    wrong = sum(compare(two_arms(400, seed=s, left=0.3), method="ips").safe for s in range(200))
    assert wrong / 200 <= 0.05


def test_the_safe_bound_holds_for_losses_too() -> None:
    # Rewards of a payment: -2 for a failure. Clipping must understate the policy, not overstate it.
    log = two_arms(2_000)
    shifted = replace(log, reward=log.reward - 2.0, q=None, q_policy=None)
    assert compare(shifted, method="ips", clip=1.0).safe_bound is not None
    assert compare(shifted, method="ips", clip=1.0).safe_bound <= compare(shifted, method="ips").safe_bound + 0.2  # type: ignore[operator]
    worth = float(log.reward[log.weights > 0].mean() - log.reward.mean())
    assert compare(shifted, method="ips", clip=1.0).safe_bound < worth  # type: ignore[operator]


def test_comparisons_are_refused_like_estimates() -> None:
    found = compare(never())
    assert found.difference is None and found.refused is not None and not found.safe and not found.better
    assert "no value" in str(found)


def test_only_the_same_rows_can_be_compared() -> None:
    a = two_arms()
    with pytest.raises(BadInputError, match=r"b.reward.shape == \(100,\), must be \(4000,\)"):
        compare(a, two_arms(100))
    with pytest.raises(BadInputError, match=r"b.reward\[\d+\]"):
        compare(a, replace(a, reward=1 - a.reward))
    with pytest.raises(BadInputError, match=r"b.cluster differs"):
        compare(a, replace(a, cluster=np.arange(a.n) // 2))
    assert compare(replace(a, cluster=np.arange(a.n) // 2), replace(a, cluster=np.arange(a.n) // 2)).difference == 0


def test_slates_are_compared_like_single_actions() -> None:
    log, truth = uniform_slates(40_000, items=4, slots=2)
    found = compare(log)
    assert found.method == "interaction-ips"
    assert found.difference == pytest.approx(truth - 3.0, abs=0.15)  # two slots of 0..3 bring 3 on average
    assert found.low is not None and found.high is not None and found.low < truth - 3.0 < found.high
    assert found.safe and found.safe_bound is not None and found.safe_bound < found.low
    assert compare(log, log).difference == 0.0
    with pytest.raises(BadInputError, match="compare the same rows"):
        compare(log, two_arms(40_000))


def test_one_slot_is_compared_as_a_single_action() -> None:
    log = replace(two_arms(), q=None, q_policy=None)
    slate = SlateLog(log.reward[:, None], log.propensity[:, None], log.policy_propensity[:, None])
    single, listed = compare(log, method="ips"), compare(slate, method="interaction-ips")
    assert (single.difference, single.low, single.safe_bound) == pytest.approx(
        (listed.difference, listed.low, listed.safe_bound)
    )


@pytest.mark.parametrize("usual", [0.0, 1.0, -7.0])
def test_an_event_is_what_differs_from_the_usual_reward(usual: float) -> None:
    # Nearly everybody pays: the four who do not are the events, and too few to judge by.
    reward = np.full(400, usual)
    reward[:4] += 1.0
    found = estimate(Logged(reward, np.full(400, 0.5), np.full(400, 0.5)), "snips")
    assert [one.kind for one in found.refusals] == ["events"]
    assert found.refused is not None
    assert found.refused.startswith("4 effective events")


def test_a_refusal_names_the_actions_that_hold_half_of_the_squared_weights() -> None:
    weights = np.array([9.0] * 10 + [3.0] * 10 + [1.0] * 80)
    action = np.array(["rare"] * 10 + ["some"] * 10 + ["usual"] * 80)
    log = Logged(np.ones(100), 1.0 / weights, np.ones(100), action=action)
    assert overlap(log, log.weights, log.reward, Thresholds()).heaviest == ("rare",)
    even = Logged(np.ones(99), np.full(99, 0.5), np.ones(99), action=np.repeat(["a", "b", "c"], 33))
    assert len(overlap(even, even.weights, even.reward, Thresholds()).heaviest) == 2
