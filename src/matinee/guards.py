"""Guards: what must not be chosen. They mask before the draw and between slots, never afterwards.

A guard is a pure function of the request and its candidates: True means allowed. What it kept out is logged with the
choice under its name, and its `reason` is what a person reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from matinee.checks import must
from matinee.draw import Limit
from matinee.exceptions import DeclarationError, GuardError, MatineeError
from matinee.expressions import ColumnLike
from matinee.facts import Fact
from matinee.policies import Candidates, Request
from matinee.rights import Consent, in_force
from matinee.times import duration, duration_us, to_us

if TYPE_CHECKING:
    import numpy as np

    from matinee.features import Features

    Array = np.ndarray[Any, Any]


@runtime_checkable
class Guard(Protocol):
    """What anybody's guard must offer."""

    name: str
    reason: str

    def mask(self, request: Request, candidates: Candidates) -> Array:
        """True for each candidate that is allowed, shape (candidates,), before the draw."""
        ...


class BaseGuard:
    """Shared parts of the shipped guards; a guard of one's own may subclass it or only follow the protocol."""

    name = "guard"
    reason = ""

    @property
    def needs(self) -> Sequence[Features]:
        """Features it reads: of the unit from `request.features`, of others through `request.lookup`."""
        return ()

    @property
    def windows(self) -> type[Fact] | None:
        """A scheduled fact whose windows must be published beside the candidates."""
        return None

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        return np.ones(len(candidates), np.bool_)

    def limit(self, request: Request, candidates: Candidates) -> Limit | None:
        """A between-slots limit, or None."""
        return None

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


def _column(guard: str, candidates: Candidates, name: str) -> Array:
    if name not in candidates.columns:
        known = ", ".join(candidates.columns) or "none"
        raise GuardError(f"guard {guard!r} reads column {name!r}, must be one of the candidates' columns ({known})")
    return candidates.columns[name]


class licensed(BaseGuard):  # noqa: N801  # reads as a word in a list of guards
    """Only inside a licence window, and where one is asked for, in the caller's territory.

    Args:
        fact: A scheduled fact keyed by the candidate, with columns for the start, the end and optionally a territory.
        starts, ends, territory: Names of these columns; a window is [starts, ends).
        where: Context key that holds the caller's territory; a window for "*" holds everywhere.
    """

    name, reason = "licence window", "no right to show it at that moment"

    def __init__(
        self, fact: type[Fact], *, starts: str = "starts", ends: str = "ends", territory: str | None = None,
        where: str = "country",
    ) -> None:  # fmt: skip
        for column in (starts, ends, *((territory,) if territory else ())):
            fact.schema.field(column)
        self.fact, self.starts, self.ends, self.territory, self.where = fact, starts, ends, territory, where

    @property
    def windows(self) -> type[Fact]:
        return self.fact

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        now = to_us(request.at)
        prefix = self.fact.schema.name
        starts = _column(self.name, candidates, f"{prefix}.{self.starts}")
        ends = _column(self.name, candidates, f"{prefix}.{self.ends}")
        inside: Any = np.logical_and(starts <= now, now < ends)
        if self.territory:
            at = _column(self.name, candidates, f"{prefix}.{self.territory}")
            inside = np.logical_and(inside, (at == "*") | (at == str(request.context.get(self.where, ""))))
        if inside.ndim == 1:
            return np.asarray(inside)
        # Windows are few: joining their columns is a fourth of the time of `any` along the short axis.
        return np.asarray(reduce(np.logical_or, inside.T) if 0 < inside.shape[1] <= 8 else inside.any(axis=1))


class maturity(BaseGuard):  # noqa: N801
    """Nothing above the viewer's maturity limit. A candidate without a rating counts as the highest.

    Args:
        column: Candidate column with the rating.
        limit: Name of the unit's feature and of the context key with the limit. Where both are there the stricter one
            holds, so that a caller cannot lift what a profile says; without either, nothing is limited unless
            `default` says so.
        default: The limit of a viewer whose limit is unknown; None lets everything through.
    """

    name, reason = "maturity", "above the profile's limit"

    def __init__(self, column: str = "maturity", limit: str = "maturity_limit", default: float | None = None) -> None:
        self.column, self.limit_name, self.default = column, limit, default

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        given = (request.context.get(self.limit_name), request.features.get(self.limit_name))
        limits = [one for one in given if one is not None] or [self.default]
        if limits[0] is None:
            return np.ones(len(candidates), np.bool_)
        limit = limits[0] if len(limits) == 1 else np.min(limits)  # where one is NaN, NaN: nothing passes it
        # A rating that is unknown (NaN) passes no comparison: it is kept from a limited profile.
        return np.asarray(_column(self.name, candidates, self.column) <= limit)


class at_most(BaseGuard):  # noqa: N801
    """At most `n` of the slots from one group: `at_most(3, per="provider")`."""

    def __init__(self, n: int, per: str) -> None:
        self.n, self.per = must(n, "n", typ=int, ge=1), per
        self.name, self.reason = f"at most {n} a {per}", f"{n} from the same {per} are already chosen"

    def limit(self, request: Request, candidates: Candidates) -> Limit:
        import numpy as np

        column = _column(self.name, candidates, self.per)
        if column.dtype.kind == "i":
            return Limit(column, self.n)
        codes = candidates.columns.get(f"{self.per}#codes")
        if codes is None:
            codes = np.unique(column, return_inverse=True)[1].astype(np.int64)
            if column.dtype.kind == "f":
                codes[np.isnan(column)] = -1  # what is unknown is not one group
        return Limit(codes, self.n)


class cap(BaseGuard):  # noqa: N801
    """A frequency cap over facts: a candidate that occurs `n` times within the window is left out.

    Args:
        n: How many are allowed within the window.
        of: Column of a fact keyed by the unit that names the candidate: `Shown.title`.
        within: Length of the window: "7d".
    """

    def __init__(self, n: int, of: ColumnLike, within: str | timedelta) -> None:
        self.n, self.of = must(n, "n", typ=int, ge=1), of
        self.within = duration(within)
        fact = of.fact.schema.name
        seconds = duration_us(within) // 1_000_000
        span = f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
        self.feature = f"cap_{fact}_{of.name}_{span}"
        self.name = f"cap {n} {fact}"
        self.reason = f"{fact} {n} times within {within} already"

    @property
    def needs(self) -> Sequence[Features]:
        from matinee.features import Features, counts

        key = self.of.fact.schema.key
        return [Features(key, name=self.feature, **{self.feature: counts(self.of, self.within)})]

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        seen = request.features.get(self.feature) or {}
        full = [value for value, count in seen.items() if count >= self.n]
        if not full:
            return np.ones(len(candidates), np.bool_)
        # Text as long as it is: cut to the width of the ids, another title's id could become one of theirs.
        return ~np.isin(candidates.ids, np.asarray(full, np.int64 if candidates.ids.dtype.kind == "i" else np.str_))


class quiet(BaseGuard):  # noqa: N801
    """Nothing that would take effect in quiet hours, on the local clock of the unit.

    Args:
        start, end: "22:00", "08:00"; the span may cross midnight; `start` is in it, `end` is not.
        wait: Candidate column with how long it would wait before taking effect, as a duration; 0 where absent.
        zone: Context key with the time zone's name; UTC where absent.
        allow: Candidates that take no effect at any hour, such as "stop".
    """

    name = "quiet hours"

    def __init__(
        self, start: str, end: str, *, wait: str = "wait", zone: str = "zone", allow: Sequence[Any] = ("stop",)
    ) -> None:
        self.start, self.end = _minutes(start, "start"), _minutes(end, "end")
        if self.start == self.end:
            raise DeclarationError(f"quiet({start!r}, {end!r}) covers no time, must have two different times")
        self.wait, self.zone, self.allow = wait, zone, list(allow)
        self.reason = f"would take effect between {start} and {end} local time"

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        zone = _zone(str(request.context.get(self.zone) or "UTC"))
        waits = candidates.columns.get(f"{self.wait}#us")
        base = to_us(request.at)
        if waits is None:
            waits = np.zeros(len(candidates), np.int64)
        allowed = np.ones(len(candidates), np.bool_)
        for i, wait_us in enumerate(waits.tolist()):
            allowed[i] = not self._is_quiet(_local_minutes(base + wait_us, zone))
        return np.asarray(allowed | np.isin(candidates.ids, self.allow))

    def _is_quiet(self, minute: float) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def _minutes(text: str, name: str) -> int:
    parts = text.split(":")
    if len(parts) == 2 and all(p.isdigit() for p in parts) and int(parts[0]) < 24 and int(parts[1]) < 60:
        return int(parts[0]) * 60 + int(parts[1])
    raise DeclarationError(f'{name} == {text!r}, must be a time of day such as "22:00"')


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise MatineeError(f"zone == {name!r}, must be a time zone such as 'Europe/Berlin'") from None


def _local_minutes(us: int, zone: ZoneInfo) -> float:
    local = datetime.fromtimestamp(us / 1e6, zone)
    return local.hour * 60 + local.minute + local.second / 60


class requires(BaseGuard):  # noqa: N801
    """Masked unless consent is in force: default deny.

    Args:
        *actions: The candidates that need the consent; all of them when none is named.
        consent: The purpose it must have been given for.
        of: Whose consent: a context key that holds one person or a list of them (all must agree); the unit itself
            where not given.
    """

    def __init__(self, *actions: Id_, consent: str, of: str | None = None) -> None:
        self.actions, self.consent, self.of = list(actions), consent, of
        self.name, self.reason = f"consent: {consent}", f"no consent for {consent} is in force"

    @property
    def needs(self) -> Sequence[Features]:
        return [consents()]

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        persons = request.context.get(self.of) if self.of else request.unit
        people = list(persons) if isinstance(persons, list | tuple) else [] if persons is None else [persons]
        # Nobody named is nobody who agreed.
        agreed = bool(people) and all(self._agreed(request, str(person)) for person in people)
        if agreed:
            return np.ones(len(candidates), np.bool_)
        if not self.actions:
            return np.zeros(len(candidates), np.bool_)
        return ~np.isin(candidates.ids, self.actions)

    def _agreed(self, request: Request, person: str) -> bool:
        if request.lookup is None:
            return False
        return in_force(request.lookup("consents", person), self.consent, request.at)[0]


Id_ = int | str


@cache  # every request asks for them, twice
def consents() -> Features:
    """The features of a person that consent guards read: every purpose, granted or not, oldest first."""
    from matinee.features import Features, history

    return Features(
        "person",
        name="consents",
        purposes=history(Consent.purpose, 64),
        granted=history(Consent.granted, 64),
        until=history(Consent.until, 64),
    )


class never(BaseGuard):  # noqa: N801
    """A rule of one's own: `never("no horror at breakfast", lambda request, candidates: ...)`.

    The function returns True for each candidate that must not be chosen.
    """

    def __init__(self, reason: str, function: Callable[[Request, Candidates], Any]) -> None:
        self.name = self.reason = reason
        self.function = function

    def mask(self, request: Request, candidates: Candidates) -> Array:
        import numpy as np

        forbidden = np.asarray(self.function(request, candidates))
        if forbidden.shape == ():
            forbidden = np.full(len(candidates), bool(forbidden))
        if forbidden.shape != (len(candidates),) or forbidden.dtype != np.bool_:
            raise GuardError(
                f"guard {self.name!r} gave {forbidden.dtype} of shape {forbidden.shape}, "
                f"must give bool of shape ({len(candidates)},)"
            )
        return ~forbidden


@dataclass(slots=True)
class Guarded:
    """What the guards left: the mask, what each kept out, and the limits between slots."""

    allowed: Array
    blocked: Mapping[str, list[Any]]
    limits: list[Limit]
    limit_names: list[str]


def apply(guards: Sequence[Guard], request: Request, candidates: Candidates) -> Guarded:
    """Mask the candidates by every guard, in order; each candidate is counted under the first guard that bit.

    Raises:
        GuardError: If a guard raised or returned something that is no mask; the caller falls back.
    """
    import numpy as np

    n = len(candidates)
    allowed = np.ones(n, np.bool_)
    blocked: dict[str, list[Any]] = {}
    limits: list[Limit] = []
    names: list[str] = []
    for guard in guards:
        try:
            limits_only = type(guard).mask is BaseGuard.mask  # such as `at_most`: it keeps nothing out before the draw
            mask = allowed if limits_only else guard.mask(request, candidates)
            limit = guard.limit(request, candidates) if hasattr(guard, "limit") else None
        except GuardError:
            raise
        except Exception as error:  # whatever a guard raises, the answer is the fallback, never unguarded
            raise GuardError(f"guard {guard.name!r} raised {type(error).__name__}: {error}") from error
        if not isinstance(mask, np.ndarray) or mask.shape != (n,) or mask.dtype != np.bool_:
            raise GuardError(f"guard {guard.name!r} gave no mask, must give a bool array of shape ({n},)")
        if limit is not None:
            limits.append(limit)
            names.append(guard.name)
        if mask is allowed:
            continue
        # True > False: allowed so far, and not by this guard.
        bitten = np.greater(allowed, mask).nonzero()[0]
        if len(bitten):
            blocked[guard.name] = candidates.ids.take(bitten).tolist()
            allowed = np.logical_and(allowed, mask)
    return Guarded(allowed, blocked, limits, names)
