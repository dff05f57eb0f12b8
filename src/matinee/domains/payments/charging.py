"""What every decision about a charge reads and must obey: the state of an invoice, and the guards around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.payments.facts import Attempt, Invoice, Stopped

Array = np.ndarray[Any, Any]
MARGIN = 0.10  # what the service keeps of an amount before processor fees
MOST_ATTEMPTS = 8  # in 30 days, the first included: below every network's own limit
# Answers of issuers that say never again for this card (Visa category 1, as of 2021-04-17). One fixed list: it is not
# the networks' rules with their dates and regions.
NEVER_AGAIN = frozenset({"04", "07", "12", "14", "15", "41", "43", "46", "57", "R0", "R1", "R3"})

charge = mt.Features(
    "invoice",
    name="charge",
    amount_minor=mt.state(Invoice.amount_minor),
    currency=mt.state(Invoice.currency),
    country=mt.state(Invoice.country),
    card=mt.state(Invoice.card),
    debit=mt.state(Invoice.debit),
    three_d=mt.state(Invoice.three_d),
    attempts=mt.count(Attempt),
    attempts_30d=mt.count(Attempt, "30d"),
    approved=mt.count(Attempt, where=Attempt.approved),
    code=mt.last(Attempt.code),
    previous=mt.last(Attempt.processor),
    gap_seconds=mt.recency(Attempt),
    stops=mt.count(Stopped),
)

traffic = mt.Features(
    "processor",
    name="traffic",
    attempts_1d=mt.count(Attempt, "1d"),
    approved_1d=mt.count(Attempt, "1d", where=Attempt.approved),
    attempts_28d=mt.count(Attempt, "28d"),
    approved_28d=mt.count(Attempt, "28d", where=Attempt.approved),
)


class InvoiceRule:
    """A guard that looks at the invoice alone: where it forbids, nothing may be charged, and only `allow` is left.

    Args:
        name: Under which it is logged.
        reason: What a person reads.
        forbids: `forbids(state) -> bool` on the features of the invoice.
        allow: Candidates that charge nothing.
    """

    def __init__(
        self, name: str, reason: str, forbids: Callable[[Mapping[str, Any]], bool], allow: Sequence[str] = ("stop",)
    ) -> None:
        self.name, self.reason, self._forbids, self._allow = name, reason, forbids, list(allow)

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The state of the invoice."""
        return (charge,)

    def mask(self, request: mt.Request, candidates: mt.Candidates) -> Array:
        """All or nothing, but for what charges nothing."""
        if self._forbids(request.features):
            return np.isin(candidates.ids, self._allow)
        return np.ones(len(candidates), np.bool_)

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


def _of(known: Mapping[str, Any], name: str) -> Any:
    """A feature of the invoice. One that is absent, not merely null, means that nobody looked: the guard must fail."""
    return known[name]


def paid() -> InvoiceRule:
    """Never after a success."""
    return InvoiceRule("paid", "it is paid already", lambda known: (_of(known, "approved") or 0) > 0)


def stopped() -> InvoiceRule:
    """Never after the member stopped it, or the service gave it up."""
    return InvoiceRule("stopped", "it was stopped", lambda known: (_of(known, "stops") or 0) > 0)


def refused_for_good(codes: frozenset[str] = NEVER_AGAIN) -> InvoiceRule:
    """Never after an answer that says so."""
    return InvoiceRule(
        "refused for good", "the issuer said never to try this card again", lambda known: _of(known, "code") in codes
    )


def most_attempts(n: int = MOST_ATTEMPTS) -> InvoiceRule:
    """At most `n` attempts in 30 days."""
    return InvoiceRule(
        "most attempts",
        f"it was tried {n} times in 30 days",
        lambda known: (_of(known, "attempts_30d") or 0) >= n,
    )


def situation(request: mt.Request) -> dict[str, Any]:
    """What is known of the charge: the features of the invoice, then what the caller sent, which is newer."""
    known = {**request.features, **request.context}
    known.setdefault("number", int(request.features.get("attempts") or 0) + 1)
    return known
