"""The simulated service: one object with its people, catalogue, history, answers and true values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matinee.checks import must
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.times import duration, from_us, instant, to_us
from matinee.worlds import frames
from matinee.worlds.billing import Billing, invoice_id
from matinee.worlds.catalogue import make_catalogue, make_genres
from matinee.worlds.history import run_history, visits_on
from matinee.worlds.people import DEVICES, make_members
from matinee.worlds.processors import PROCESSORS, Processors
from matinee.worlds.settings import Settings
from matinee.worlds.viewing import Viewing

if TYPE_CHECKING:
    import polars as pl

    from matinee.worlds.contexts import Contexts
    from matinee.worlds.truth import Policy, TrueValue

_DAY_US = 86_400_000_000
TABLES = (
    "member", "consent", "title", "licence", "shown", "played", "processor", "invoice", "attempt", "stopped"
)  # fmt: skip


@cache
def _days(wait: str) -> float:
    return duration(wait) / timedelta(days=1)


class Play(NamedTuple):
    """One title that a member began: a row of the fact `played`, and the slot it stood in."""

    title: int
    slot: int
    seconds: float
    share: float
    at: datetime
    known: datetime


class Charged(NamedTuple):
    """The answer to one attempt: a row of the fact `attempt`, without what the caller knows."""

    approved: bool
    code: str
    fee_minor: int
    number: int
    latency_ms: float
    at: datetime
    known: datetime


class StreamingService:
    """A small streaming service with known truth: members, titles, licences, plays, invoices, charges.

    Everything follows from the seed. The history is what happened before anybody learned (a popularity page, fixed
    routing weights, fixed retry days); after it the world answers whatever pages and charges it is given, and says
    what a policy is truly worth. What is assumed is in `Settings`; nothing is fitted to a policy.

    Args:
        seed: Source of all chance.
        settings: What is assumed; keyword arguments replace single fields of it.

    Example:
        >>> world = StreamingService(seed=7, members=200, titles=60, days=5)
        >>> sorted(world.frames())[:4]
        ['attempt', 'consent', 'invoice', 'licence']
        >>> plays = world.respond_home(member=3, slate=[1, 2, 3], at=world.now, rng=np.random.default_rng(0))
        >>> all(play.known >= play.at for play in plays)
        True
    """

    def __init__(self, seed: int = 0, settings: Settings | None = None, **changes: Any) -> None:
        from dataclasses import replace

        self.seed = must(seed, "seed", typ=int, ge=0)
        self.settings = s = replace(settings or Settings(), **changes)
        # One stream a part: another draw in one of them leaves the others as they were.
        streams = [np.random.default_rng([seed, part]) for part in range(6)]
        genres = make_genres(s, streams[0])
        self.titles = make_catalogue(s, genres, streams[1])
        self.members = make_members(s, genres, streams[2])
        self.viewing = Viewing(s, self.members, self.titles)
        self.processors = Processors(s, streams[3])
        self.billing = Billing(s, self.members, self.processors)
        self.history = run_history(s, self.viewing, streams[4])
        self._attempts, *self._cancelled = self.billing.run_history(streams[5])
        self._billed = self.billing.count
        self._start_us = to_us(s.start)

    # Clocks and ids

    @property
    def start(self) -> datetime:
        """First instant of the history."""
        return self.settings.start

    @property
    def now(self) -> datetime:
        """End of the history: the first instant of the live days."""
        return self.start + timedelta(days=self.settings.days)

    @property
    def end(self) -> datetime:
        """End of the calendar: later the world cannot answer."""
        return self.start + timedelta(days=self.settings.calendar_days)

    @property
    def routes(self) -> list[str]:
        """Names of the processors."""
        return list(PROCESSORS)

    def day_of(self, at: datetime) -> float:
        """Days from the start of the history."""
        gone = instant(at) - self.settings.start  # instant() refuses naive times
        return self._inside(gone.days + (gone.seconds + gone.microseconds * 1e-6) / 86_400)

    def instant_of(self, day: float) -> datetime:
        """The instant of a number of days from the start of the history, to the microsecond."""
        return self.settings.start + timedelta(microseconds=round(day * _DAY_US))

    def _inside(self, day: float) -> float:
        if not 0 <= day < self.settings.calendar_days - 0.01:
            at = from_us(self._start_us + round(day * _DAY_US))
            raise MatineeError(f"at == {at.isoformat()}, must lie in the world's calendar, {self.start} to {self.end}")
        return day

    def days_of(self, at: Sequence[datetime] | np.ndarray) -> np.ndarray:
        """Days from the start of the history, of datetimes or of a `datetime64` array (UTC)."""
        stamps = at if isinstance(at, np.ndarray) else np.array([to_us(instant(t)) for t in at], "datetime64[us]")
        days = (stamps.astype("datetime64[us]").astype(np.int64) - self._start_us) / _DAY_US
        for edge in (days.min(initial=0.0), days.max(initial=0.0)):
            self._inside(float(edge))
        return np.asarray(days)

    def _member(self, member: int) -> int:
        if not 1 <= member <= self.members.count:
            raise MatineeError(f"member == {member!r}, must be 1 to {self.members.count}")
        return int(member) - 1

    def _invoice(self, invoice: str) -> int:
        index = int(invoice[4:]) - 1 if invoice[:4] == "inv-" and invoice[4:].isdigit() else -1
        if not 0 <= index < self.billing.count:
            raise MatineeError(f"invoice == {invoice!r}, must be one of this world's, 'inv-000001' to the newest")
        return index

    def _processor(self, name: str) -> int:
        if name not in PROCESSORS:
            raise UnknownNameError("processor", name, PROCESSORS)
        return PROCESSORS.index(name)

    # Facts

    def frames(
        self,
        *,
        duplicates: float = 0.0,
        bad: float = 0.0,
        known_by: datetime | None = None,
        known_after: datetime | None = None,
    ) -> dict[str, pl.DataFrame]:
        """The history, one frame a fact, named by table, with `at` and `known`.

        Args:
            known_by: Only rows known by then; without it also those that arrive after the history's end: late reports
                of its last hours, and titles and licences announced for later.
            known_after: Only rows known after that: what a day of the live time brings.
            duplicates: Share of rows of the event tables that come twice.
            bad: Share of rows of the event tables that come again, broken: a null key, a negative number, or known
                before it happened.
        """
        import polars as pl

        must(duplicates, "duplicates", ge=0, le=1)
        must(bad, "bad", ge=0, le=1)
        made = dict(self._frames)
        if duplicates or bad:
            for number, name in enumerate(("shown", "played", "invoice", "attempt")):
                rng = np.random.default_rng([self.seed, 100 + number])
                made[name] = frames.spoil(made[name], rng, duplicates=duplicates, bad=bad)
        if known_by is not None:
            until = instant(known_by, "known_by")
            made = {name: frame.filter(pl.col("known") <= until) for name, frame in made.items()}
        if known_after is not None:
            since = instant(known_after, "known_after")
            made = {name: frame.filter(pl.col("known") > since) for name, frame in made.items()}
        return made

    @cached_property
    def _frames(self) -> dict[str, pl.DataFrame]:
        s, m, t, h, b = self.settings, self.members, self.titles, self.history, self.billing
        return {
            "member": frames.member_frame(s, m),
            "consent": frames.consent_frame(s, m),
            "title": frames.title_frame(s, t),
            "licence": frames.licence_frame(s, t),
            "shown": frames.shown_frame(s, t, m, h),
            "played": frames.played_frame(s, t, m, h),
            "processor": frames.processor_frame(s),
            "invoice": frames.invoice_frame(s, b, np.arange(self._billed)),
            "attempt": frames.attempt_frame(s, b, self._attempts),
            "stopped": frames.stopped_frame(s, *self._cancelled),
        }

    # Live traffic

    def visits(self, day: datetime, rng: np.random.Generator) -> pl.DataFrame:
        """Who comes to the home page on one day: `member`, `at`, `device`, by time."""
        import polars as pl

        came = visits_on(self.viewing, int(self.day_of(instant(day, "day"))), rng)
        device = np.array(DEVICES)[came.device].tolist()
        columns = {"member": self.members.ids[came.member], "at": frames.stamps(self.settings, came.day)}
        return pl.DataFrame(columns).with_columns(pl.Series("device", device, pl.String))

    def renewals(self, start: datetime, end: datetime, rng: np.random.Generator) -> pl.DataFrame:
        """Invoices that fall due in [start, end), as rows of the fact `invoice`; they can be charged from then on."""
        first, last = self.day_of(start), self.day_of(end)
        return self._open(*self.billing.due_between(first, last), rng)

    def extra_invoices(self, n: int, start: datetime, end: datetime, rng: np.random.Generator) -> pl.DataFrame:
        """`n` invoices of random members at random times: load beyond what the members' renewals bring."""
        member = rng.integers(0, self.members.count, n)
        return self._open(member, np.sort(rng.uniform(self.day_of(start), self.day_of(end), n)), rng)

    def _open(self, member: np.ndarray, due: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
        return frames.invoice_frame(self.settings, self.billing, self.billing.add(member, due, rng))

    def open_invoices(self) -> list[str]:
        """Invoices that were declined and may still be retried: not paid, not cancelled, not given up."""
        b, s = self.billing, self.settings
        waiting = (b.attempts > 0) & ~b.paid & ~b.stopped & (b.first_decline + s.give_up_days > s.days)
        return [invoice_id(i) for i in np.flatnonzero(waiting).tolist()]

    def index_of(self, invoice: str) -> int:
        """The place of an invoice in the world's own books."""
        return self._invoice(invoice)

    # Answers

    def respond_home(
        self, member: int, slate: Sequence[int], at: datetime, rng: np.random.Generator, *, device: str = "tv",
        remember: bool = True,
    ) -> list[Play]:  # fmt: skip
        """What the member plays from a page of title ids, first slot first.

        Args:
            member, slate, at, device: Who sees what, when and where.
            rng: Source of chance.
            remember: Keep impressions and plays, so that later pages meet fatigue and what was watched.

        Raises:
            MatineeError: For an unknown member, title or device, or a time outside the calendar.
        """
        who, day, titles = self._member(member), self.day_of(at), self.titles.count
        slots = [title - 1 for title in slate]
        if slots and not 0 <= min(slots) <= max(slots) < titles:
            raise MatineeError(f"slate == {list(slate)!r}, must hold titles 1 to {titles}")
        plays = self.viewing.respond_one(who, slots, day, self._device(device), rng, remember=remember)
        return [
            Play(title + 1, slot, seconds, share, self.instant_of(began), self.instant_of(known))
            for slot, title, seconds, share, began, known in plays
        ]

    def respond_homes(
        self, members: np.ndarray, slates: np.ndarray, at: Sequence[datetime] | np.ndarray, rng: np.random.Generator,
        *, devices: Sequence[str] | None = None, remember: bool = True,
    ) -> pl.DataFrame:  # fmt: skip
        """Many pages at once, all from the members' memory before the first of them.

        Args:
            members: Ids, shape (pages,).
            slates: Title ids, shape (pages, slots).
            at: Shape (pages,).
            rng, devices, remember: As in `respond_home`.

        Returns:
            One row a play: `row` (index of the page), `slot`, then the columns of the fact `played`.
        """
        import polars as pl

        members, slates = np.asarray(members), np.asarray(slates)
        names = ["tv"] * len(members) if devices is None else list(devices)
        device = np.array([self._device(name) for name in names], dtype=np.int64)
        p = self.viewing.respond(members - 1, slates - 1, self.days_of(at), device, rng, remember=remember)
        return pl.DataFrame(
            {
                "row": p.row,
                "slot": p.slot,
                "member": members[p.row],
                "title": p.title + 1,
                "seconds": p.seconds,
                "device": pl.Series([names[i] for i in p.row.tolist()], dtype=pl.String),
                "share": p.share,
                "at": frames.stamps(self.settings, p.day),
                "known": frames.stamps(self.settings, p.known_day),
            }
        )

    def respond_charge(self, invoice: str, processor: str, at: datetime, rng: np.random.Generator) -> Charged:
        """Charges an invoice through a processor; the first time or again.

        Raises:
            MatineeError: For an unknown invoice or processor, a paid invoice, or a time outside the calendar.
        """
        return self._charge(self._invoice(invoice), self._processor(processor), self.day_of(at), at, rng)

    def _charge(self, index: int, processor: int, day: float, at: datetime, rng: np.random.Generator) -> Charged:
        approved, code, fee, latency_ms, delay_days = self.billing.charge_one(index, processor, day, rng)
        number = self.billing.attempts.item(index)
        return Charged(approved, code, fee, number, latency_ms, at, at + timedelta(days=delay_days))

    def respond_retry(self, invoice: str, action: str | tuple[str, str], rng: np.random.Generator) -> Charged | None:
        """Waits, then charges again.

        Args:
            invoice: One that was declined.
            action: `("1d", "alder")`, or the same as one option's id, `"1d alder"`; `"stop"` ends it.
            rng: Source of chance.

        Returns:
            The answer, or None for "stop" and for an attempt that would come after the member is given up.
        """
        if action == "stop":
            return None
        wait, _, route = action.partition(" ") if isinstance(action, str) else (action[0], "", action[1])
        index = self._invoice(invoice)
        day = self.billing.last_attempt.item(index) + _days(wait)
        if day - self.billing.first_decline.item(index) > self.settings.give_up_days:
            return None
        return self._charge(index, self._processor(route), self._inside(day), self.instant_of(day), rng)

    def respond_charges(
        self, invoices: Sequence[str], processors: Sequence[str], at: Sequence[datetime] | np.ndarray,
        rng: np.random.Generator,
    ) -> pl.DataFrame:  # fmt: skip
        """Charges many different invoices at once; rows of the fact `attempt`, in the order given."""
        index = np.array([self._invoice(one) for one in invoices], dtype=np.int64)
        if len(np.unique(index)) != len(index):
            raise MatineeError("invoices, must be different ones: charge an invoice again in a later call")
        route = np.array([self._processor(one) for one in processors], dtype=np.int64)
        attempts = self.billing.charge(index, route, self.days_of(at), rng)
        return frames.attempt_frame(self.settings, self.billing, attempts, ordered=False)

    def _device(self, name: str) -> int:
        if name not in DEVICES:
            raise UnknownNameError("device", name, DEVICES)
        return DEVICES.index(name)

    # Truth

    def declined_now(self, invoices: Sequence[str]) -> Contexts:
        """The retry situations of these declined invoices as they stand, for `truth.charge_worth`."""
        from matinee.worlds.contexts import declined_now

        return declined_now(self, invoices)

    def contexts(self, decision: str, n: int = 4_000, *, seed: int = 0) -> Contexts:
        """A fixed set of situations in which a decision is taken, with what is hidden in them."""
        from matinee.worlds.contexts import make_contexts

        return make_contexts(self, decision, n, seed)

    def true_value(
        self, decision: str, policy: Policy, *, n: int = 4_000, reward: str | None = None, seed: int = 0
    ) -> TrueValue:
        """What a policy is truly worth in the world's present state, a choice.

        Args:
            decision: "home" (a page), "route" (the processor of a first charge), "retry" (the next attempt of a
                declined invoice) or "recovery" (all attempts of a declined invoice until it is paid or given up).
            policy: Probabilities as an array, or a function `choose(context, candidates, rng)`; see `truth.true_value`.
            n: Number of contexts, the same ones for every policy.
            reward: "qualified", "plays" or "hours" of a page; "net" or "approved" of a charge; "net", "recovered",
                "attempts" or "days" of a recovery. The first of each where not given.
            seed: Of the contexts and of the policies' draws.

        Raises:
            MatineeError: For an unknown decision or reward, or a policy of the wrong shape.
        """
        from matinee.worlds.truth import true_value

        return true_value(self, decision, policy, n=n, reward=reward, seed=seed)

    def best_value(self, decision: str, *, n: int = 4_000, reward: str | None = None, seed: int = 0) -> TrueValue:
        """What could be had if the truth were known: exact for a charge, the best order of single slots for a page."""
        from matinee.worlds.truth import best_value

        return best_value(self, decision, n=n, reward=reward, seed=seed)

    def describe(self) -> Mapping[str, float]:
        """Moments of the history, to hold against published ones."""
        h, a = self.history, self._attempts
        first = a.number == 1
        declined = np.bincount(a.invoice[first & ~a.approved], minlength=self._billed) > 0
        paid = np.bincount(a.invoice[a.approved], minlength=self._billed) > 0
        page = ~h.organic
        return {
            "pages": float(len(h.day)),
            "plays a page": float(page.sum() / len(h.day)),
            "pages with a play": float(len(np.unique(h.plays.row[page])) / len(h.day)),
            "hours a member and week": float(
                h.plays.seconds.sum() / 3600 / self.members.count / self.settings.days * 7
            ),
            "plays known over an hour late": float(
                np.mean(h.plays.known_day - h.plays.day - h.plays.seconds / 86_400 > 1 / 24)
            ),
            "first charges declined": float(1 - a.approved[first].mean()),
            "declined invoices recovered": float(paid[declined].mean()),
            "attempts during an outage": float(self.processors.down[(a.day * 96).astype(np.int64), a.processor].mean()),
        }
