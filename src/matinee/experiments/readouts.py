"""The readout of an experiment: value, interval and verdict, honest however often it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from matinee.checks import must
from matinee.experiments.boundaries import Design
from matinee.experiments.samples import Sample
from matinee.experiments.srm import RatioCheck
from matinee.results import Table, number

BURN_IN_UNITS = 1_000
BURN_IN_EVENTS = 50


class Verdict(StrEnum):
    """What to do."""

    SHIP = "ship"
    DO_NOT = "do not"
    NOT_YET = "not yet"


@dataclass(frozen=True)
class Guardrail:
    """A metric that must not get worse by more than a margin.

    Attributes:
        name: Its name.
        control, treatment: The arms; None where it cannot be measured yet, which is not a pass.
        margin: Largest loss that is accepted, in the metric's own unit, >= 0.
        lower_is_better: A cost, latency or cancellation: more of it is a loss.
    """

    name: str
    control: Sample | None
    treatment: Sample | None
    margin: float
    lower_is_better: bool = False


@dataclass(frozen=True)
class Line:
    """One metric of a readout.

    Attributes:
        metric: Its name.
        control, treatment: Means of the arms; None where not measured.
        difference, low, high: Treatment minus control and its always-valid interval; None before the burn-in ends.
        p: Always-valid p-value.
        units: Units an arm that the interval is based on (harmonic mean of the two).
        passed: Of a guardrail: whether a loss beyond its margin is excluded; None of the main metric.
        failed: Of a guardrail: whether a loss beyond its margin is shown.
        refused: Why there is no interval.
    """

    metric: str
    control: float | None
    treatment: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    units: int
    passed: bool | None = None
    failed: bool = False
    refused: str | None = None


@dataclass(frozen=True)
class Readout(Table):
    """What an experiment says now.

    Attributes:
        verdict: ship, do not, or not yet.
        reason: Why, in a sentence; "not yet" says how much longer.
        main: The metric that decides.
        guardrails: The metrics that can forbid.
        design: The boundaries, fixed before the start.
        ratio: The sample ratio check; None where no counts were given.
    """

    verdict: Verdict
    reason: str
    main: Line
    guardrails: tuple[Line, ...]
    design: Design
    ratio: RatioCheck | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row a metric, the main one first."""
        return [
            {
                "metric": line.metric,
                "control": line.control,
                "treatment": line.treatment,
                "difference": line.difference,
                "interval": (line.low, line.high),
                "p": line.p,
                "units an arm": line.units,
                "guardrail": ""
                if line.passed is None
                else "passed"
                if line.passed
                else "failed"
                if line.failed
                else "open",
            }
            for line in (self.main, *self.guardrails)
        ]

    def notes(self) -> Sequence[str]:
        """The verdict and its reason, the sample ratio, and metrics without an interval."""
        lines = [f"{self.verdict}: {self.reason}"]
        lines += [f"no {line.metric}: {line.refused}" for line in (self.main, *self.guardrails) if line.refused]
        return (*lines, *(self.ratio.notes() if self.ratio is not None else ()))


def readout(
    control: Sample,
    treatment: Sample,
    *,
    design: Design,
    metric: str = "reward",
    at_least: float = 0.0,
    guardrails: Sequence[Guardrail] = (),
    ratio: RatioCheck | None = None,
) -> Readout:
    """Read an experiment at any time, as often as wanted.

    Ship when the interval of the difference is above `at_least`, every guardrail excludes a loss beyond its margin and
    the sample ratio holds. Do not, when the interval is below it, a guardrail shows a loss, or the planned size is
    reached with no looks left and no gain shown. Else not yet, with the units it would take.

    Args:
        control, treatment: The arms' samples of the metric that decides; more is better.
        design: Fixed before the start.
        metric: Its name.
        at_least: The gain worth shipping for, in the metric's own unit.
        guardrails: What must not get worse.
        ratio: From `ratio_check` on exposed units; a mismatch blocks every verdict but "not yet".

    Example:
        >>> said = readout(Sample(12_000, 0.900, 0.09), Sample(12_000, 0.921, 0.0728), design=Design(20_000))
        >>> print(said)
        metric  control  treatment  difference  interval                   p  units an arm  guardrail
        reward    0.900      0.921      0.0210  [0.00994, 0.0321]  0.0000251        12,000
        ship: the interval lies above 0
    """
    must(at_least, "at_least", ge=0)
    main = _line(metric, control, treatment, design)
    lines = tuple(_guarded(one, design) for one in guardrails)
    verdict, reason = _decide(main, lines, control, treatment, design, at_least, ratio)
    return Readout(verdict, reason, main, lines, design, ratio)


def _line(name: str, control: Sample, treatment: Sample, design: Design) -> Line:
    units = 2 * control.units * treatment.units / max(1, control.units + treatment.units)
    refused = _burning_in(control, treatment)
    difference = treatment.mean - control.mean
    # Of unequal arms the variance of the difference is kept, and the units are their harmonic mean.
    spread = control.variance / max(1, control.units) + treatment.variance / max(1, treatment.units)
    variance = spread * units
    half = float(design.half_width(units, variance))
    if refused is None and not math.isfinite(half):
        refused = f"the planned {number(design.planned)} units an arm are passed and nothing of alpha was kept beyond"
    if refused is not None:
        return Line(name, control.mean, treatment.mean, None, None, None, None, math.floor(units), refused=refused)
    p = design.p_value(difference, units, variance)
    return Line(
        name, control.mean, treatment.mean, difference, difference - half, difference + half, p, math.floor(units)
    )


def _burning_in(control: Sample, treatment: Sample) -> str | None:
    """Why the asymptotics do not hold yet: under 1,000 units an arm, or under 50 of a yes-or-no's rarer answer."""
    fewest = min((control, treatment), key=lambda s: s.units)
    if control.events is not None and treatment.events is not None:
        events = min(control.events, treatment.events)
        if events < BURN_IN_EVENTS:
            return f"{events} of the rarer answer in an arm, must be >= {BURN_IN_EVENTS}"
        return None
    if fewest.units < BURN_IN_UNITS:
        return f"{number(fewest.units)} units in an arm, must be >= {number(BURN_IN_UNITS)}"
    return None


def _guarded(one: Guardrail, design: Design) -> Line:
    must(one.margin, f"{one.name}.margin", ge=0)
    if one.control is None or one.treatment is None:
        missing = "not measured yet, which is not a pass"
        return Line(one.name, None, None, None, None, None, None, 0, passed=False, refused=missing)
    line = _line(one.name, one.control, one.treatment, design)
    if line.low is None or line.high is None:
        return _with(line, passed=False, failed=False)
    worst, best = (-line.high, -line.low) if one.lower_is_better else (line.low, line.high)
    return _with(line, passed=worst > -one.margin, failed=best < -one.margin)


def _with(line: Line, *, passed: bool, failed: bool) -> Line:
    return replace(line, passed=passed, failed=failed)


def _decide(
    main: Line,
    guardrails: Sequence[Line],
    control: Sample,
    treatment: Sample,
    design: Design,
    at_least: float,
    ratio: RatioCheck | None,
) -> tuple[Verdict, str]:
    if ratio is not None and not ratio.passed:
        return (
            Verdict.NOT_YET,
            "the arms do not have the shares they were promised; nothing may be read until it is known why",
        )
    broken = [line.metric for line in guardrails if line.failed]
    if broken:
        return Verdict.DO_NOT, f"{', '.join(broken)} got worse by more than the margin"
    if main.low is None or main.high is None or main.difference is None:
        if main.units > design.planned:
            return Verdict.DO_NOT, "the planned size is passed and no gain was shown while looks were left"
        return Verdict.NOT_YET, f"{main.refused}"
    if main.high < at_least:
        return Verdict.DO_NOT, f"the interval lies below {number(at_least)}"
    open_ = [line.metric for line in guardrails if not line.passed]
    if main.low > at_least:
        if open_:
            return Verdict.NOT_YET, f"the gain is shown, but a loss in {', '.join(open_)} is not excluded yet"
        return Verdict.SHIP, f"the interval lies above {number(at_least)}"
    if design.beyond == 0 and main.units >= design.planned:
        return Verdict.DO_NOT, f"at the planned size no gain above {number(at_least)} is shown"
    return Verdict.NOT_YET, _longer(main, control, treatment, design, at_least)


def _longer(main: Line, control: Sample, treatment: Sample, design: Design, at_least: float) -> str:
    variance = control.variance + treatment.variance
    gap = (main.difference or 0.0) - at_least
    needed = design.units_to_see(gap, variance)
    if needed is not None and needed > main.units:
        more = number(needed - main.units)
        if needed <= design.planned or design.beyond > 0:
            return f"if the difference stays as it is, about {more} more units an arm"
    left = max(0, design.planned - main.units)
    seen = float(design.half_width(design.planned, variance))
    return f"{number(left)} more units an arm are planned, which can show differences of {number(seen)} or more"
