"""Consent: what a person has allowed. Default deny: without a fact in force, the answer is no, with the rule that says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from matinee.facts import Fact
from matinee.times import to_us


class Consent(Fact, key="person", personal=("person",)):
    """A person allowed, or withdrew, the use of something of theirs for a purpose.

    `person` is any id as text: a member, a performer. The newest row of a purpose is in force, until `until`.
    """

    person: str
    purpose: str
    granted: bool
    until: datetime | None


def in_force(history: Mapping[str, Any], purpose: str, at: datetime) -> tuple[bool, str]:
    """Whether consent for the purpose is in force, and the rule that decided.

    Args:
        history: Features of the person: lists `purposes`, `granted`, `until`, oldest first.
        purpose: What it is for: "voice", "personalization", "training".
        at: The moment of use.

    Example:
        >>> from datetime import UTC, datetime
        >>> in_force({"purposes": [], "granted": [], "until": []}, "voice", datetime(2026, 1, 1, tzinfo=UTC))
        (False, "no consent for 'voice' was ever given")
    """
    purposes = history.get("purposes") or []
    granted, until = history.get("granted") or [], history.get("until") or []
    for i in range(len(purposes) - 1, -1, -1):
        if purposes[i] != purpose:
            continue
        if not granted[i]:
            return False, f"consent for {purpose!r} was withdrawn"
        end = until[i] if i < len(until) else None
        if end is not None and (to_us(end) if isinstance(end, datetime) else int(end)) <= to_us(at):
            return False, f"consent for {purpose!r} has ended"
        return True, f"consent for {purpose!r} is in force"
    return False, f"no consent for {purpose!r} was ever given"
