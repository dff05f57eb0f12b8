"""Pieces that several page models share: an estimate with its interval, a chart with its table, what stands around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Lamp = Literal["lit", "dim", "out", "none"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, or a refusal with what is missing.

    Attributes:
        value: The estimate; None when it was refused.
        low, high: Ends of the interval, in the unit of the value.
        unit: "%" for per cent, else words; empty when the column says it.
        signed: True for differences: a plus sign is written.
        level: Coverage of the interval.
        refused: Why there is no number.
        reference: The value it is compared with; zero for a difference.
        baseline: True when it is the baseline itself, drawn in grey.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    signed: bool = False
    level: float = 0.95
    refused: str | None = None
    reference: float = 0.0
    baseline: bool = False

    @property
    def told_apart(self) -> bool:
        """True when the interval does not hold the reference."""
        return self.low is not None and self.high is not None and not self.low <= self.reference <= self.high


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, with its interval."""

    at: datetime
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification, the sentence that says what is seen in it, and the same data as a table."""

    name: str
    spec: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int = 240

    @property
    def title(self) -> str:
        """The sentence that says what is seen."""
        return str(self.spec["title"]["text"])

    @property
    def subtitle(self) -> str:
        """What is measured, the unit, the interval."""
        return str(self.spec["title"].get("subtitle", ""))


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the navigation; the path is relative to where the console is mounted."""

    path: str
    text: str
    key: str = ""  # the letter after "g" that goes there
    last_of_group: bool = False


@dataclass(frozen=True, slots=True)
class Shell:
    """What stands around every page."""

    studio: str
    now: datetime
    nav: tuple[NavItem, ...]
    tables_as_of: datetime | None = None
    lamps: tuple[Lamp, ...] = ()
    lamps_say: str = ""
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class SheetItem:
    """A fact of the call sheet: label over value."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step that fills an empty page."""

    verb: str
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Empty:
    """A page that has nothing to show yet: what will be here, and what to do next."""

    title: str
    lead: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """A question that is asked once, and what the answer does.

    Attributes:
        kind: "release" or "rollback", "retry" or "drop".
        ask: The question and its effect.
        yes, no: Texts of the two buttons.
        fields: Hidden fields that the answer carries.
    """

    kind: str
    ask: str
    yes: str
    no: str
    fields: Mapping[str, str]
    harm: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A candidate as it is shown: a poster for a title, its name for an option; `kind` is what it is most, its genre."""

    id: str
    name: str
    slot: int
    probability: float | None = None
    reasons: tuple[str, ...] = ()
    note: str = ""
    to_learn: bool = False
    kind: str = ""
