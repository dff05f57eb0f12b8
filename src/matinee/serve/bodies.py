"""What goes over the wire, as types: they decode, they validate, and the OpenAPI page is generated from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from matinee.choices import Advice, Choice, Outcome
from matinee.serve.errors import ErrorDetail

IntId = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class DecideBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For whom a decision is asked, and what is known of the moment."""

    unit: IntId | Name
    context: dict[str, Any] = {}


class OutcomeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A fact that answers a choice. The same `id` counts once, however often it is sent."""

    choice: Name
    fact: Name
    row: dict[str, Any]
    id: Name | None = None
    at: Moment | None = None


class ChoiceReply(msgspec.Struct, frozen=True, kw_only=True):
    """A choice: what to do, how likely it was, who decided, and how many candidates each guard kept out."""

    id: str
    decision: str
    unit: int | str
    at: datetime
    policy: str
    arm: str
    mode: str
    action: list[int | str]
    propensities: list[float]
    fallback: str | None
    blocked: dict[str, int]
    advice: list[Advice] = []

    @classmethod
    def of(cls, choice: Choice) -> ChoiceReply:
        """The reply for a logged choice."""
        return cls(
            id=choice.id,
            decision=choice.decision,
            unit=choice.unit,
            at=choice.at,
            policy=choice.policy,
            arm=choice.arm,
            mode=choice.mode,
            action=choice.action,
            propensities=choice.propensities,
            fallback=choice.fallback,
            blocked={name: len(ids) for name, ids in choice.blocked.items()},
            advice=choice.advice,
        )


class OutcomeReply(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that was recorded."""

    id: str
    choice: str
    fact: str
    at: datetime
    known: datetime

    @classmethod
    def of(cls, outcome: Outcome) -> OutcomeReply:
        """The reply for a recorded outcome."""
        return cls(id=outcome.id, choice=outcome.choice, fact=outcome.fact, at=outcome.at, known=outcome.known)


class OutcomeItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several outcomes: recorded, or the error that kept it from it."""

    outcome: OutcomeReply | None = None
    error: ErrorDetail | None = None


class OutcomesReply(msgspec.Struct, frozen=True):
    """Several outcomes, in the order sent. The status is 207 when one of them was not recorded."""

    outcomes: list[OutcomeItem]


class FeaturesReply(msgspec.Struct, frozen=True, kw_only=True):
    """Online features of one key, as of now."""

    features: str
    key: int | str
    values: dict[str, Any]


class HealthReply(msgspec.Struct, frozen=True, kw_only=True):
    """How serving is doing in this process."""

    status: str
    ready: bool
    version: str
    uptime_seconds: float
    studio: dict[str, Any]
