"""Invoices and the attempts to charge them: the members' reasons (`retry`) and the processors' part (`processors`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from matinee.exceptions import MatineeError
from matinee.times import EPOCH
from matinee.worlds import retry
from matinee.worlds.people import PRICES_MINOR, Members
from matinee.worlds.processors import (
    FEES_FAILURE_MINOR,
    FEES_SUCCESS_MINOR,
    PROCESSORS,
    Processors,
    latency_ms,
    latency_ms_of,
)
from matinee.worlds.retry import DO_NOT_HONOUR, EXPIRED, FUNDS, HARD, HOLD, PAYS, TECHNICAL, Declined
from matinee.worlds.settings import Settings

# How the service routed and retried before anybody learned: fixed weights, fixed days.
LEGACY_WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
LEGACY_RETRY_DAYS = (1.0, 3.0, 5.0, 7.0)
DRAWS = 6  # uniforms an attempt: approved, two for the code, latency, late webhook, cause
PERIOD_DAYS = np.array([7.0, 30.0, 30.0, 30.0])  # by plan
_TECHNICAL_SHARE = 0.02  # of declines that a processor causes while it is up; its outages bring the others


class Answer(NamedTuple):
    """What a processor says to one attempt."""

    approved: bool
    code: str
    fee_minor: int
    latency_ms: float
    delay_days: float  # until the answer is known


@dataclass
class Attempts:
    """Attempts as aligned arrays; days from the start of the history."""

    invoice: np.ndarray  # index
    number: np.ndarray  # 1 is the first charge
    processor: np.ndarray
    approved: np.ndarray
    code: np.ndarray
    fee_minor: np.ndarray
    day: np.ndarray
    known_day: np.ndarray
    gap_days: np.ndarray  # nan for the first
    previous: np.ndarray  # processor of the attempt before; -1 for the first


class Billing:
    """All invoices, what they wait for, and how charges are answered. Invoices are indices here."""

    def __init__(self, settings: Settings, members: Members, processors: Processors) -> None:
        self.settings, self.members, self.processors = settings, members, processors
        self.prices = np.array(PRICES_MINOR)
        self.epoch_day = (settings.start - EPOCH).total_seconds() / 86_400
        share = self.prices[members.plan] / members.budget_minor
        self._pressure = np.sqrt(share / share.mean())
        self.member = np.zeros(0, np.int64)
        self.due = np.zeros(0)
        self.amount_minor = np.zeros(0, np.int64)
        self.hidden = self._draw_hidden(np.zeros(0, np.int64), np.zeros(0), np.random.default_rng(0))
        self.first_decline = np.zeros(0)  # nan: not declined yet
        self.last_attempt = np.zeros(0)
        self.last_processor = np.zeros(0, np.int64)
        self.attempts = np.zeros(0, np.int64)
        self.paid = np.zeros(0, bool)
        self.stopped = np.zeros(0, bool)

    @property
    def count(self) -> int:
        """Number of invoices there are."""
        return len(self.member)

    def due_between(self, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Members and days of the renewals that fall due in [start, end), by time."""
        m = self.members
        period = PERIOD_DAYS[m.plan]
        member: list[np.ndarray] = []
        day: list[np.ndarray] = []
        first = np.floor(m.bill_day) + m.bill_hour
        for k in range(int(np.ceil(end / 7)) + 1):
            due = first + k * period
            inside = np.flatnonzero((due >= start) & (due < end))
            member.append(inside)
            day.append(due[inside])
        members, days = np.concatenate(member), np.concatenate(day)
        order = np.argsort(days, kind="stable")
        return members[order], days[order]

    def reason_probabilities(self, member: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Probability of each reason to fail at the first charge, shape (invoices, 7); the first column: it pays."""
        s, m = self.settings, self.members
        since = retry.days_since_payday(self.epoch_day + day, m.payday[member], m.weekday[member])
        # Rises with days since payday around a mean of about 10 days, and with the price's share of the budget.
        funds = (s.funds_rate * np.exp(0.05 * (since - 10)) * self._pressure[member]).clip(0, 0.5)
        out = np.zeros((len(member), len(retry.REASONS)))
        out[:, FUNDS], out[:, HOLD], out[:, EXPIRED], out[:, HARD] = funds, s.hold_rate, s.expired_rate, s.hard_rate
        out[:, PAYS] = 1 - out.sum(axis=1)
        return out

    def _draw_hidden(self, member: np.ndarray, day: np.ndarray, rng: np.random.Generator) -> Declined:
        edges = np.cumsum(self.reason_probabilities(member, day), axis=1)
        reason = (edges < rng.random((len(member), 1))).sum(axis=1).clip(0, HARD)
        return retry.draw_declined(reason, self.members.payday[member], self.members.weekday[member], rng)

    def add(self, member: np.ndarray, due: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Opens one invoice a row; returns their indices."""
        n = len(member)
        first = self.count
        self.hidden = Declined.join([self.hidden, self._draw_hidden(member, due, rng)])
        self.member = np.concatenate([self.member, member])
        self.due = np.concatenate([self.due, due])
        self.amount_minor = np.concatenate([self.amount_minor, self.prices[self.members.plan[member]]])
        self.first_decline = np.concatenate([self.first_decline, np.full(n, np.nan)])
        self.last_attempt = np.concatenate([self.last_attempt, due])
        self.last_processor = np.concatenate([self.last_processor, np.full(n, -1)])
        self.attempts = np.concatenate([self.attempts, np.zeros(n, np.int64)])
        self.paid = np.concatenate([self.paid, np.zeros(n, bool)])
        self.stopped = np.concatenate([self.stopped, np.zeros(n, bool)])
        return np.arange(first, first + n)

    def acceptance(self, invoice: np.ndarray, day: np.ndarray) -> np.ndarray:
        """The processors' part for invoices at given times, shape (invoices, processors)."""
        who = self.member[invoice]
        m = self.members
        return self.processors.acceptance(m.country[who], self.amount_minor[invoice], m.network[who], m.debit[who], day)

    def retry_success(self, invoice: np.ndarray, day: np.ndarray, processor: np.ndarray) -> np.ndarray:
        """Probability that a retry is approved: section 9's, scaled by the processor's acceptance."""
        first = self.first_decline[invoice]
        own = retry.success(self.hidden.take(invoice), self.epoch_day + first, day - first, self.attempts[invoice] - 1)
        part = self.acceptance(invoice, day)[np.arange(len(invoice)), processor]
        return np.asarray(np.minimum(own * part / self.settings.acceptance, 0.99))

    def charge(self, invoice: np.ndarray, processor: np.ndarray, day: np.ndarray, rng: np.random.Generator) -> Attempts:
        """Charges many different invoices at once.

        Raises:
            MatineeError: If one of them is already paid: the world does not let a member be charged twice.
        """
        if self.paid[invoice].any():
            paid = invoice_id(invoice[self.paid[invoice]][0])
            raise MatineeError(f"invoice == {paid!r} is paid, must not be charged")
        draws = rng.random((len(invoice), DRAWS))
        first = self.attempts[invoice] == 0
        part = self.acceptance(invoice, day)[np.arange(len(invoice)), processor]
        p = np.where(self.hidden.reason[invoice] == PAYS, part, 0.0)
        again = np.flatnonzero(~first)
        p[again] = self.retry_success(invoice[again], day[again], processor[again])
        approved = draws[:, 0] < p
        down = self.processors.down[(day * 96).astype(np.int64), processor]
        self._blame_processor(invoice[~approved], down[~approved], draws[~approved, 5])
        code = np.where(approved, "00", retry.shown_codes(self.hidden.reason[invoice], draws[:, 1], draws[:, 2]))
        latency = latency_ms(processor, draws[:, 3], down)
        out = Attempts(
            invoice=invoice,
            number=self.attempts[invoice] + 1,
            processor=processor,
            approved=approved,
            code=code,
            fee_minor=np.where(approved, FEES_SUCCESS_MINOR[processor], FEES_FAILURE_MINOR[processor]),
            day=day,
            known_day=day + latency / 86_400_000 + self._late_days(draws[:, 4]),
            gap_days=np.where(first, np.nan, day - self.last_attempt[invoice]),
            previous=np.where(first, -1, self.last_processor[invoice]),
        )
        self.first_decline[invoice] = np.where(first & ~approved, day, self.first_decline[invoice])
        self.attempts[invoice] += 1
        self.last_attempt[invoice], self.last_processor[invoice] = day, processor
        self.paid[invoice] = approved
        return out

    def charge_one(self, i: int, processor: int, day: float, rng: np.random.Generator) -> Answer:
        """The same for one invoice, the same numbers without arrays."""
        if self.paid.item(i):
            raise MatineeError(f"invoice == {invoice_id(i)!r} is paid, must not be charged")
        one, two, three, four, five, six = rng.random(DRAWS).tolist()
        who, m = self.member.item(i), self.members
        part = self.processors.acceptance_of(
            m.country.item(who), self.amount_minor.item(i), m.network.item(who), m.debit.item(who), day, processor
        )
        made, reason = self.attempts.item(i), self.hidden.reason.item(i)
        if made == 0:
            p = part if reason == PAYS else 0.0
        else:
            first = self.first_decline.item(i)
            p = retry.success_of(self.hidden, i, self.epoch_day + first, day - first, made - 1)
            p = min(p * part / self.settings.acceptance, 0.99)
        approved, down = one < p, self.processors.is_down(day, processor)
        if not approved:
            if reason == PAYS:
                reason = TECHNICAL if down or six < _TECHNICAL_SHARE else DO_NOT_HONOUR
                self.hidden.reason[i] = reason
            if made == 0:
                self.first_decline[i] = day
        self.attempts[i], self.paid[i] = made + 1, approved
        self.last_attempt[i], self.last_processor[i] = day, processor
        latency = latency_ms_of(processor, four, down)
        late = five / self.settings.late_webhook_share * 0.5 if five < self.settings.late_webhook_share else 0.0
        fee = (FEES_SUCCESS_MINOR if approved else FEES_FAILURE_MINOR).item(processor)
        code = "00" if approved else retry.shown_code(reason, two, three)
        return Answer(approved, code, fee, latency, latency / 86_400_000 + late)

    def _blame_processor(self, invoice: np.ndarray, down: np.ndarray, uniform: np.ndarray) -> None:
        """A payable charge was declined: technical while the processor is down, else mostly "do not honour"."""
        caused = self.hidden.reason[invoice] == PAYS
        technical = down | (uniform < _TECHNICAL_SHARE)
        self.hidden.reason[invoice[caused]] = np.where(technical[caused], TECHNICAL, DO_NOT_HONOUR)

    def _late_days(self, uniform: np.ndarray) -> np.ndarray:
        share = self.settings.late_webhook_share
        return np.where(uniform < share, uniform / max(share, 1e-12) * 0.5, 0.0)

    def run_history(self, rng: np.random.Generator) -> tuple[Attempts, np.ndarray, np.ndarray]:
        """Bills the history by the legacy rules. Returns the attempts, and index and day of cancelled invoices."""
        s = self.settings
        open_ = self.add(*self.due_between(0.0, float(s.days)), rng)
        rounds = [self.charge(open_, rng.choice(len(PROCESSORS), len(open_), p=LEGACY_WEIGHTS), self.due[open_], rng)]
        cancelled: list[np.ndarray] = []
        cancelled_day: list[np.ndarray] = []
        for wait in LEGACY_RETRY_DAYS:
            declined = open_[~self.paid[open_] & ~self.stopped[open_]]
            leaves = declined[rng.random(len(declined)) < s.cancelling_share]
            self.stopped[leaves] = True
            cancelled.append(leaves)
            cancelled_day.append(self.last_attempt[leaves] + rng.uniform(0.01, 0.9, len(leaves)))
            open_ = declined[~self.stopped[declined]]
            day = self.first_decline[open_] + wait
            soon = day < s.days
            again, day = open_[soon], day[soon]
            same = rng.random(len(again)) < 0.5
            other = rng.choice(len(PROCESSORS), len(again), p=LEGACY_WEIGHTS)
            rounds.append(self.charge(again, np.where(same, self.last_processor[again], other), day, rng))
        merged = Attempts(**{f: np.concatenate([vars(r)[f] for r in rounds]) for f in vars(rounds[0])})
        return merged, np.concatenate(cancelled), np.concatenate(cancelled_day)


def invoice_id(index: int) -> str:
    """The id under which facts know an invoice."""
    return f"inv-{int(index) + 1:06d}"
