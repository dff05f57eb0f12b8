"""Which arm a unit is in: a hash of salt and unit, so that it needs no memory and is the same everywhere.

The hash of a unit is a point in [0, 1) and each arm owns segments of it. Segments are laid out such that an arm whose
share grows keeps all it had and takes only from the base arm: a ramp adds units and moves none between treatments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from matinee.checks import must
from matinee.choices import Id
from matinee.exceptions import DeclarationError, UnknownNameError

SPACE = 1 << 64
SLACK = 1e-9


def point(salt: str, unit: Id) -> float:
    """The unit's place in [0, 1): the first 64 bits of BLAKE2b(salt | unit).

    Whole numbers and their text are the same unit, as tables store units as text.

    Example:
        >>> point("home@13", 42) == point("home@13", "42")
        True
        >>> 0 <= point("home@13", 42) < 1
        True
    """
    # The length of the salt goes first, so that ("a", "bc") and ("ab", "c") are different questions.
    text = f"{len(salt)}|{salt}|{unit}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / SPACE


@dataclass(frozen=True)
class Segment:
    """A stretch of [0, 1) that belongs to an arm."""

    low: float
    high: float
    arm: str


@dataclass(frozen=True)
class Split:
    """A policy that divides units into arms: sticky, stateless, and only ever adding units to a growing arm.

    Args:
        name: Name of the experiment.
        arms: Arm to share of the units; shares sum to 1. The first arm is the base: what it gives up the others take.
        salt: Changes who is where; the name where not given. Two experiments with different salts are independent.

    Raises:
        DeclarationError: No arm, or the shares do not sum to 1.

    Example:
        >>> split = Split("autoplay", {"control": 0.95, "quiet": 0.05})
        >>> split.assign(42) == split.assign("42")
        True
        >>> wider = split.ramp({"control": 0.8, "quiet": 0.2})
        >>> {wider.assign(u) for u in range(5_000) if split.assign(u) == "quiet"}
        {'quiet'}
    """

    name: str
    arms: Mapping[str, float]
    salt: str = ""
    segments: tuple[Segment, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.arms:
            raise DeclarationError("arms == {}, must name at least one arm")
        shares = {arm: float(must(share, f"arms[{arm!r}]", ge=0, le=1)) for arm, share in self.arms.items()}
        total = sum(shares.values())
        if abs(total - 1.0) > 1e-6:
            raise DeclarationError(f"arms sum to {total:.6g}, must sum to 1 ({shares})")
        object.__setattr__(self, "arms", shares)
        object.__setattr__(self, "salt", self.salt or self.name)
        object.__setattr__(self, "segments", tuple(_layout(shares)))

    @property
    def base(self) -> str:
        """The arm that gives units to the others as they grow."""
        return next(iter(self.arms))

    def assign(self, unit: Id) -> str:
        """The unit's arm."""
        return self._at(point(self.salt, unit))

    def assign_all(self, units: Iterable[Id], *, excluded: Iterable[bool] | None = None) -> list[str | None]:
        """The arm of every unit; None for units a guard excludes, who are in no arm, whichever it would have been.

        Args:
            units: Any number of ids.
            excluded: One flag a unit, decided before and without the split: a guard that looked at the arm would make
                the arms unlike.

        Example:
            >>> Split("x", {"on": 1.0}).assign_all([1, 2], excluded=[False, True])
            ['on', None]
        """
        if excluded is None:
            return [self.assign(unit) for unit in units]
        return [None if out else self.assign(unit) for unit, out in zip(units, excluded, strict=True)]

    def probability(self, arm: str) -> float:
        """Chance that a unit is in the arm: what the log records, as of any policy."""
        if arm not in self.arms:
            raise UnknownNameError("arm", arm, self.arms)
        return self.arms[arm]

    def ramp(self, arms: Mapping[str, float]) -> Split:
        """The same split with other shares; growing arms keep every unit they have.

        Arms other than the base may grow, or be added; the base gives. An arm that shrinks gives its last units back
        to the base.

        Raises:
            DeclarationError: An arm is dropped, the base changes, or a unit would move between arms other than the
                base: then start a new experiment with a new salt.
        """
        missing = [arm for arm in self.arms if arm not in arms]
        if missing:
            raise DeclarationError(f"arm == {missing[0]!r}, must stay in a ramp; give it a share of 0 to end it")
        wider = Split(self.name, arms, self.salt)
        if wider.base != self.base:
            raise DeclarationError(f"base == {wider.base!r}, must be {self.base!r} as before the ramp")
        edges = sorted({s.low for s in self.segments + wider.segments} | {1.0})
        for low, high in pairwise(edges):
            before, after = self._at(low), wider._at(low)
            if high - low > SLACK and before != after and self.base not in {before, after}:
                raise DeclarationError(
                    f"the ramp would move units from {before!r} to {after!r}, must only add units: "
                    "start a new experiment with a new salt"
                )
            if high - low > SLACK and before not in {self.base, after} and wider.arms[before] >= self.arms[before]:
                raise DeclarationError(
                    f"the ramp would take units from {before!r}, whose share does not shrink: "
                    "start a new experiment with a new salt"
                )
        return wider

    def _at(self, place: float) -> str:
        for segment in self.segments:
            if segment.low <= place < segment.high:
                return segment.arm
        return self.segments[-1].arm  # rounding left a sliver at the very end


def _layout(shares: dict[str, float]) -> list[Segment]:
    """Segments in order. Of k treatments each has a k-th of [0, 1) to grow into from its left end.

    A treatment that outgrows its k-th goes on from the right end of the others', which are the last to be reached by
    their owners. What no treatment holds belongs to the base.
    """
    base, *treatments = shares
    if not treatments:
        return [Segment(0.0, 1.0, base)]
    width = 1.0 / len(treatments)
    owned: list[Segment] = []
    tops = [(i + 1) * width for i in range(len(treatments))]  # right end of what is free in each treatment's part
    starts = [i * width + min(shares[arm], width) for i, arm in enumerate(treatments)]
    for i, arm in enumerate(treatments):
        owned.append(Segment(i * width, starts[i], arm))
    for i, arm in enumerate(treatments):
        rest = shares[arm] - width
        for j in [*range(i + 1, len(treatments)), *range(i)]:
            if rest <= SLACK:
                break
            taken = min(rest, tops[j] - starts[j])
            if taken > 0:
                owned.append(Segment(tops[j] - taken, tops[j], arm))
                tops[j] -= taken
                rest -= taken
    owned = sorted((s for s in owned if s.high > s.low), key=lambda s: s.low)
    whole: list[Segment] = []
    at = 0.0
    for segment in owned:
        if segment.low - at > SLACK:
            whole.append(Segment(at, segment.low, base))
        whole.append(segment)
        at = segment.high
    if 1.0 - at > SLACK:
        whole.append(Segment(at, 1.0, base))
    return whole
