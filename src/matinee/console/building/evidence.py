"""Recorded evidence as rows of a page: what was asked, how, what came out, what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from matinee.console.formats import NBSP, count, decimals, fixed, interval_text, value_text
from matinee.console.pages import Estimate, EvidenceRow

METHODS = {
    "dr": "doubly robust",
    "snips": "self-normalised weights",
    "ips": "inverse propensity weights",
    "clipped-ips": "clipped weights",
    "switch-dr": "switching doubly robust",
    "dr-os": "doubly robust, shrunk",
    "dm": "reward model alone",
    "cascade-dr": "cascade doubly robust",
    "interaction-ips": "weights by slot and before",
    "independent-ips": "weights by slot",
    "standard-ips": "weights by slate",
}


def rows(found: Sequence[Mapping[str, Any]]) -> tuple[EvidenceRow, ...]:
    """Every answer and every refusal, newest first."""
    return tuple(_row(e) for e in found)


def _row(e: Mapping[str, Any]) -> EvidenceRow:
    against = "what was logged" if e["against"] == "logged" else f"**{e['against']}**"
    estimate = difference(e)
    return EvidenceRow(
        datetime.fromtimestamp(e["at"], UTC),
        f"**{e['policy']}** against {against}",
        method(e),
        estimate,
        says(e, estimate),
    )


def method(e: Mapping[str, Any]) -> str:
    """`Off-policy, doubly robust, 8,940 effective of 12,000 choices`."""
    name = METHODS.get(e["method"], e["method"])
    if not e.get("choices"):
        return "Off-policy"
    return f"Off-policy, {name}, {count(e['effective_n'])} effective of {count(e['choices'])} choices"


def difference(e: Mapping[str, Any]) -> Estimate:
    """Value minus what it was compared with, on the same choices, in units of the reward; or the refusal."""
    if e.get("refused") or e.get("difference") is None or not e.get("difference_interval"):
        return Estimate(None, signed=True, refused=e.get("refused") or "no difference was recorded")
    low, high = e["difference_interval"]
    return Estimate(e["difference"], low, high, signed=True)


def of_itself(e: Mapping[str, Any]) -> bool:
    """True when the choices were the policy's own: every weight is one, and the difference is zero but for noise."""
    return e["against"] == "logged" and bool(e.get("choices")) and float(e["effective_n"]) > 0.99 * float(e["choices"])


def says(e: Mapping[str, Any], estimate: Estimate) -> str:
    """What it says, in a few words; for a refusal also what is missing."""
    if estimate.value is None:
        missing = e.get("missing")
        return f"{estimate.refused}" + (f"; {missing}" if missing else "")
    if not estimate.told_apart:
        return "Does not tell them apart"
    return "Tells them apart: better" if estimate.value > 0 else "Tells them apart: worse"


def relative(e: Mapping[str, Any]) -> Estimate:
    """The difference in per cent of what was logged, its interval widened by that of what was logged.

    The two are correlated, and how is not recorded, so each end is the farther of what the ends of both allow.
    """
    plain = difference(e)
    span, value = e.get("logged_interval"), e.get("logged")
    if plain.value is None or plain.low is None or plain.high is None:
        return Estimate(None, unit="%", signed=True, refused=plain.refused)
    if not span or value is None or span[0] <= 0:
        return Estimate(None, unit="%", signed=True, refused="what was logged is not clearly above zero")
    lows, highs = [100 * plain.low / s for s in span], [100 * plain.high / s for s in span]
    return Estimate(100 * plain.value / value, min(lows), max(highs), unit="%", signed=True)


def words(estimate: Estimate, unit: str = "") -> str:
    """`**+1.2 %** [+0.4, +2.0]`, or what is missing."""
    if estimate.value is None:
        return f"no answer: {estimate.refused}"
    tail = f" {unit}" if unit and estimate.unit != "%" else ""
    return f"**{value_text(estimate)}**{tail} {interval_text(estimate)}".rstrip()


def compare(estimate: Estimate, one: str, other: str) -> str:
    """A sentence that says what is seen when two policies are compared."""
    if estimate.value is None:
        return f"{one} cannot be compared with {other} yet: {estimate.refused}"
    if not estimate.told_apart:
        return f"{one} and {other} cannot be told apart yet"
    size = fixed(abs(estimate.value), decimals(estimate.low, estimate.high)) + f"{NBSP}%"
    return f"{one} brings {size} {'more' if estimate.value > 0 else 'less'} than {other}"
