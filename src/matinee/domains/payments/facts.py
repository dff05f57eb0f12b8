"""What payments knows: processors and their fees, invoices, attempts to charge them, and when to leave them alone.

Money is integer minor units and a currency, always: 89 euro is `amount_minor=8900, currency="EUR"`.
"""

from __future__ import annotations

from typing import Annotated

import matinee as mt


class Processor(mt.Entity, key="processor"):
    """A payment processor, and what it takes for an attempt that succeeds or fails."""

    processor: str
    fee_success_minor: Annotated[int, mt.Range(ge=0)]
    fee_failure_minor: Annotated[int, mt.Range(ge=0)]
    currency: str  # ISO 4217
    active: bool = True


class Invoice(mt.Entity, key="invoice"):
    """What a member owes for one cycle, or one purchase; the card on file may change while it is open."""

    invoice: str
    amount_minor: Annotated[int, mt.Range(gt=0)]
    currency: str  # ISO 4217
    member: int | None = None
    country: str | None = None
    card: str | None = None  # network: "Visa", "Master", ...
    debit: bool | None = None
    three_d: bool | None = None  # the payer was authenticated (3-D Secure)


class Attempt(mt.Fact, key="invoice", unique=("invoice", "number")):
    """One attempt to charge an invoice through a processor, and its answer.

    `gap_seconds` and `previous` describe the attempt before, and are null for the first.
    """

    invoice: str
    number: Annotated[int, mt.Range(ge=1)]
    processor: str
    amount_minor: Annotated[int, mt.Range(gt=0)]
    currency: str  # ISO 4217
    approved: bool
    code: str | None = None  # the issuer's answer, as the network writes it
    fee_minor: Annotated[int | None, mt.Range(ge=0)] = None
    gap_seconds: Annotated[float | None, mt.Range(ge=0)] = None
    previous: str | None = None  # processor of the attempt before


class Stopped(mt.Fact, key="invoice"):
    """No further attempt may be made on this invoice, at once and for good."""

    invoice: str
    reason: Annotated[str, mt.OneOf(("cancelled", "disputed", "hardship", "paid otherwise", "written off"))] = (
        "cancelled"
    )


FACTS: list[type[mt.Fact]] = [Processor, Invoice, Attempt, Stopped]
