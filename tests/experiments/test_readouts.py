"""Readouts: the arithmetic of the boundaries, false alarms over 96 looks, and verdicts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from matinee.exceptions import BadInputError, MatineeError
from matinee.experiments import Design, Guardrail, Sample, Verdict, cuped, power, ratio_check, readout, units_needed
from matinee.experiments.boundaries import _sequence

LOOKS = np.arange(1_000, 20_001, 200)
PLANNED = Design(20_000, beyond=0.0)
BOTH = Design(20_000)
OPEN = Design(20_000, beyond=0.05)


def yes(n: int, share: float) -> Sample:
    return Sample(n, share, share * (1 - share), events=int(n * min(share, 1 - share)))


# -- the arithmetic


def test_the_constants_of_the_boundary() -> None:
    assert PLANNED.critical == pytest.approx(2.2414, abs=1e-4)
    assert BOTH.critical == pytest.approx(2.3263, abs=1e-4)
    assert PLANNED.ratio(20_000) == pytest.approx(1.1436, abs=1e-4)
    assert BOTH.ratio(20_000) == pytest.approx(1.187, abs=1e-3)
    assert OPEN.ratio(20_000) == pytest.approx(1.549, abs=1e-3)


def test_the_sequence_by_hand() -> None:
    rho2, t, alpha, v = 8.21 / 20_000, 5_000, 0.05, 0.18
    expected = math.sqrt(v) * math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
    assert float(OPEN.half_width(t, v)) == pytest.approx(expected, rel=2e-3)


def test_no_mixture_is_narrower_at_the_planned_size() -> None:
    best = float(OPEN.half_width(20_000, 1.0))
    for planned in (2_000, 10_000, 19_000, 21_000, 40_000):
        assert float(Design(planned, beyond=0.05).half_width(20_000, 1.0)) > best


def test_a_sequence_that_takes_over_is_narrowest_at_twice_the_plan() -> None:
    looks = np.arange(5_000, 60_001, 100)
    for design, best in ((Design(10_000), 20_000), (Design(10_000, beyond=0.05), 10_000)):
        mixed = _sequence(looks.astype(float), np.ones(len(looks)), design._mixture, design.beyond) * np.sqrt(looks)
        assert looks[mixed.argmin()] == pytest.approx(best, abs=100)


@pytest.mark.parametrize("beyond", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("units", [100, 9_999, 10_000, 10_001, 50_000])
def test_at_the_very_edge_of_the_interval_p_is_alpha(units: int, beyond: float) -> None:
    design = Design(10_000, beyond=beyond)
    half = float(design.half_width(units, 2.0))
    p = design.p_value(half if math.isfinite(half) else 1e9, units, 2.0)
    assert p == pytest.approx(0.05 if math.isfinite(half) else 1.0)


def test_early_looks_are_wide_and_looks_beyond_are_open_or_closed() -> None:
    assert PLANNED.ratio(2_000) == pytest.approx(PLANNED.ratio(20_000) * math.sqrt(10))
    assert float(PLANNED.half_width(20_001, 1.0)) == math.inf
    assert math.isfinite(float(BOTH.half_width(1_000_000, 1.0)))
    assert float(BOTH.half_width(0, 1.0)) == math.inf


@given(z=st.floats(0.5, 6), t=st.integers(1_000, 60_000), design=st.sampled_from([PLANNED, BOTH, OPEN]))
def test_the_p_value_and_the_interval_agree(z: float, t: int, design: Design) -> None:
    difference = z / math.sqrt(t)
    half = float(design.half_width(t, 1.0))
    if abs(difference - half) < 1e-9 * half:
        return
    assert (design.p_value(difference, t, 1.0) < design.alpha) == (difference > half)


@given(difference=st.floats(0.005, 0.05), design=st.sampled_from([PLANNED, BOTH, OPEN]))
def test_units_to_see_is_where_the_interval_leaves_zero(difference: float, design: Design) -> None:
    needed = design.units_to_see(difference, 0.18)
    if needed is None:
        assert design.beyond == 0 and float(design.half_width(design.planned, 0.18)) > difference
        return
    assert float(design.half_width(needed, 0.18)) <= difference * (1 + 1e-6)


# -- false alarms


def alarms(design: Design, worlds: int, seed: int, lift: float = 0.0) -> np.ndarray:
    """Whether each of many worlds is called different at any of the 96 looks."""
    rng = np.random.default_rng(seed)
    steps = np.diff(np.concatenate([[0], LOOKS]))
    a = np.cumsum(rng.binomial(steps, 0.9, (worlds, 96)), axis=1) / LOOKS
    b = np.cumsum(rng.binomial(steps, 0.9 + lift, (worlds, 96)), axis=1) / LOOKS
    half = design.half_width(LOOKS, a * (1 - a) + b * (1 - b))
    called: np.ndarray = (np.abs(b - a) > half).any(axis=1)
    return called


@pytest.mark.parametrize("design", [PLANNED, BOTH, OPEN], ids=["planned", "both", "open"])
def test_false_alarms_over_96_looks_stay_below_five_percent(design: Design) -> None:
    assert alarms(design, 2_000, seed=1).mean() <= 0.05


def test_a_fixed_test_at_every_look_would_alarm() -> None:
    rng = np.random.default_rng(2)
    steps = np.diff(np.concatenate([[0], LOOKS]))
    a, b = (np.cumsum(rng.binomial(steps, 0.9, (1_000, 96)), axis=1) / LOOKS for _ in range(2))
    z = np.abs(b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / LOOKS)
    assert 0.24 < (z > 1.96).any(axis=1).mean() < 0.36


def test_looks_far_beyond_the_plan_stay_below_five_percent() -> None:
    rng = np.random.default_rng(3)
    looks = np.unique(np.geomspace(1_000, 1_000_000, 200).astype(int))
    steps = np.diff(np.concatenate([[0], looks]))
    z = np.cumsum(rng.normal(size=(2_000, len(looks))) * np.sqrt(steps), axis=1) / looks
    for design in (BOTH, OPEN):
        assert (np.abs(z) > design.half_width(looks, 1.0)).any(axis=1).mean() <= 0.05


def test_the_power_promised_is_kept() -> None:
    smallest = power(BOTH, 2 * 0.09).smallest
    assert alarms(BOTH, 1_000, seed=4, lift=smallest).mean() >= 0.78
    assert units_needed(smallest, 2 * 0.09) == pytest.approx(20_000, rel=0.001)


# -- verdicts


def test_ship_do_not_and_not_yet() -> None:
    assert readout(yes(15_000, 0.9), yes(15_000, 0.92), design=BOTH).verdict is Verdict.SHIP
    assert readout(yes(15_000, 0.9), yes(15_000, 0.88), design=BOTH).verdict is Verdict.DO_NOT
    assert readout(yes(15_000, 0.9), yes(15_000, 0.903), design=BOTH).verdict is Verdict.NOT_YET


def test_not_yet_says_how_much_longer() -> None:
    found = readout(yes(8_000, 0.9), yes(8_000, 0.91), design=BOTH)
    assert found.verdict is Verdict.NOT_YET and "more units an arm" in found.reason
    needed = BOTH.units_to_see(0.01, found_variance := 0.09 + 0.91 * 0.09)
    assert needed is not None and float(BOTH.half_width(needed, found_variance)) <= 0.01
    level = readout(yes(8_000, 0.9), yes(8_000, 0.9), design=BOTH)
    assert "12,000 more units an arm are planned, which can show differences of" in level.reason


def test_the_planned_size_ends_it_where_nothing_is_kept_beyond() -> None:
    at_end = readout(yes(20_000, 0.9), yes(20_000, 0.9), design=PLANNED)
    assert at_end.verdict is Verdict.DO_NOT and "at the planned size" in at_end.reason
    past = readout(yes(20_001, 0.9), yes(20_001, 0.95), design=PLANNED)
    assert past.verdict is Verdict.DO_NOT and past.main.low is None and past.main.refused is not None
    assert readout(yes(30_000, 0.9), yes(30_000, 0.95), design=BOTH).verdict is Verdict.SHIP


@pytest.mark.parametrize(
    ("control", "treatment", "says"),
    [
        (yes(400, 0.9), yes(900, 0.99), "9 of the rarer answer in an arm, must be >= 50"),
        (Sample(999, 1.0, 0.1), Sample(5_000, 2.0, 0.1), "999 units in an arm, must be >= 1,000"),
        (Sample(0, 0.0, 0.0), Sample(0, 0.0, 0.0), "0 units in an arm"),
    ],
)
def test_the_burn_in_gives_no_interval(control: Sample, treatment: Sample, says: str) -> None:
    found = readout(control, treatment, design=BOTH)
    assert found.verdict is Verdict.NOT_YET and found.main.low is None
    assert says in str(found)


def test_a_sample_ratio_mismatch_blocks_the_readout() -> None:
    bad = ratio_check({"a": 16_000, "b": 14_000}, {"a": 0.5, "b": 0.5})
    found = readout(yes(16_000, 0.9), yes(14_000, 0.95), design=BOTH, ratio=bad)
    assert found.verdict is Verdict.NOT_YET and "shares they were promised" in found.reason


def test_guardrails_are_non_inferiority_with_a_margin() -> None:
    gain = (yes(15_000, 0.9), yes(15_000, 0.92))
    same = Guardrail("quality", yes(15_000, 0.5), yes(15_000, 0.5), margin=0.05)
    tight = Guardrail("quality", yes(15_000, 0.5), yes(15_000, 0.5), margin=0.001)
    worse = Guardrail("quality", yes(15_000, 0.5), yes(15_000, 0.4), margin=0.05)
    unknown = Guardrail("quality", None, None, margin=0.05)
    assert readout(*gain, design=BOTH, guardrails=[same]).verdict is Verdict.SHIP
    assert readout(*gain, design=BOTH, guardrails=[tight]).verdict is Verdict.NOT_YET
    assert readout(*gain, design=BOTH, guardrails=[worse]).verdict is Verdict.DO_NOT
    assert readout(*gain, design=BOTH, guardrails=[unknown]).verdict is Verdict.NOT_YET
    cost = Guardrail(
        "latency", Sample(15_000, 100.0, 25.0), Sample(15_000, 90.0, 25.0), margin=1.0, lower_is_better=True
    )
    assert readout(*gain, design=BOTH, guardrails=[cost]).verdict is Verdict.SHIP
    slow = Guardrail(
        "latency", Sample(15_000, 100.0, 25.0), Sample(15_000, 110.0, 25.0), margin=1.0, lower_is_better=True
    )
    assert readout(*gain, design=BOTH, guardrails=[slow]).verdict is Verdict.DO_NOT


def test_a_gain_too_small_to_ship_for() -> None:
    assert readout(yes(15_000, 0.9), yes(15_000, 0.92), design=BOTH, at_least=0.05).verdict is Verdict.DO_NOT
    with pytest.raises(MatineeError, match="at_least == -1"):
        readout(yes(15_000, 0.9), yes(15_000, 0.92), design=BOTH, at_least=-1.0)


def test_unequal_arms_keep_their_error() -> None:
    found = readout(yes(19_000, 0.9), yes(1_000, 0.9), design=BOTH)
    assert found.main.low is not None and found.main.high is not None
    units = 2 * 19_000 * 1_000 / 20_000
    se = math.sqrt(0.09 / 19_000 + 0.09 / 1_000)
    half = BOTH.critical * math.sqrt(20_000 / units) * se
    assert found.main.high - found.main.low == pytest.approx(2 * half)


def test_the_readout_is_a_table() -> None:
    found = readout(
        yes(15_000, 0.9), yes(15_000, 0.92), design=BOTH, metric="kept", guardrails=[Guardrail("x", None, None, 0.1)]
    )
    assert str(found).splitlines()[0].split()[:2] == ["metric", "control"]
    assert found.to_polars().height == 2
    json.dumps(found.to_json(), allow_nan=False)


# -- samples


def test_samples_of_units_and_of_rows() -> None:
    assert Sample.of_units([0, 1, 1, 1]).events == 1
    assert Sample.of_units([0.0, 2.0, 4.0]) == Sample(3, 2.0, 4.0)
    one_each = Sample.of_rows(np.arange(4), [0.0, 1.0, 1.0, 1.0])
    assert (one_each.mean, one_each.variance) == pytest.approx((0.75, 0.25))


def test_the_delta_method_covers_ratios() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        taste, size = rng.beta(2, 8, 500), rng.integers(1, 20, 500)
        member = np.repeat(np.arange(500), size)
        y = (rng.random(len(member)) < taste[member]).astype(float)
        found = Sample.of_rows(member, y)
        held += abs(found.mean - 0.2) <= 1.96 * math.sqrt(found.variance / 500)
    assert 0.92 <= held / 300 <= 0.98


def test_a_ratio_that_is_the_same_for_all_has_no_variance() -> None:
    over = np.array([1.0, 2.0, 7.0, 3.0])
    found = Sample.of_rows([1, 1, 2, 3], 0.25 * over, over)
    assert found.mean == pytest.approx(0.25) and found.variance == pytest.approx(0.0, abs=1e-20)


def test_cuped_takes_out_the_past_and_keeps_the_effect() -> None:
    rng = np.random.default_rng(0)
    past = 5.0 + rng.normal(size=20_000)
    past[:2_000] = np.nan
    treated = rng.random(20_000) < 0.5
    now = np.nan_to_num(past, nan=5.3) + 0.1 * treated + 0.5 * rng.normal(size=20_000)
    adjusted = cuped(now, past)
    assert adjusted[treated].mean() - adjusted[~treated].mean() == pytest.approx(0.1, abs=0.03)
    assert adjusted.var() < 0.35 * now.var()
    assert adjusted.mean() == pytest.approx(now.mean())
    assert (adjusted[:2_000] == now[:2_000]).all()
    assert (cuped(now, np.full(20_000, np.nan)) == now).all()


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(MatineeError, match="planned == 0, must be > 0"):
        Design(0)
    with pytest.raises(MatineeError, match=r"beyond == 0.2, must be <= 0.05"):
        Design(10, beyond=0.2)
    with pytest.raises(BadInputError, match=r"values\[1\] is not finite"):
        Sample.of_units([1.0, float("nan")])
    with pytest.raises(BadInputError, match=r"over.sum"):
        Sample.of_rows([1], [1.0], [0.0])
    with pytest.raises(BadInputError, match=r"before.shape"):
        cuped([1.0], [1.0, 2.0])
    with pytest.raises(BadInputError, match="must be counts and finite"):
        Sample(-1, 0.0, 0.0)
    assert special.ndtri(0.5) == 0
