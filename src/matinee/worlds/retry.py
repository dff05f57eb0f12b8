"""Why a charge fails and when it would succeed: the prototype world of the payments notes, section 9.

Six reasons with their shares, success probabilities over the days since the first decline, and the codes that are
shown. The parameters are guesses of that prototype, not calibrated to any issuer; they are kept as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from matinee.worlds.people import PAYDAY_OF_MONTH, PAYDAY_SHARES, PAYDAYS

PAYS, FUNDS, DO_NOT_HONOUR, HOLD, TECHNICAL, EXPIRED, HARD = range(7)
REASONS = ("pays", "insufficient funds", "do not honour", "temporary hold", "technical", "expired", "hard")
SHARES = (0.44, 0.30, 0.09, 0.05, 0.06, 0.06)  # of FUNDS ... HARD among first declines
# The code of a reason and how often it is shown; otherwise the second. Category 1 codes stand for "never again".
_SHOWN: dict[int, tuple[tuple[str, ...], float, str]] = {
    FUNDS: (("51",), 0.82, "05"),
    DO_NOT_HONOUR: (("05",), 0.90, "51"),
    HOLD: (("61", "62"), 0.60, "05"),
    TECHNICAL: (("91",), 0.85, "05"),
    EXPIRED: (("54",), 0.75, "05"),
    HARD: (("04", "14", "41", "43"), 0.80, "05"),
}
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass
class Declined:
    """Hidden state of charges, arrays of one length: why each fails and what it waits for."""

    reason: np.ndarray
    level: np.ndarray  # FUNDS: how likely there is money right after payday
    tau: np.ndarray  # FUNDS: days over which it runs out
    quality: np.ndarray  # DO_NOT_HONOUR: how well the issuer thinks of the charge
    ready: np.ndarray  # HOLD, TECHNICAL, EXPIRED: days after the first decline until it can succeed (inf: never)
    payday: np.ndarray  # index into PAYDAYS
    weekday: np.ndarray

    @property
    def count(self) -> int:
        """Number of charges."""
        return len(self.reason)

    def take(self, index: np.ndarray) -> Declined:
        """The charges at these positions."""
        return Declined(**{name: column[index] for name, column in vars(self).items()})

    @staticmethod
    def join(parts: list[Declined]) -> Declined:
        """Several states as one, in order."""
        return Declined(**{name: np.concatenate([vars(p)[name] for p in parts]) for name in vars(parts[0])})


def draw_declined(reason: np.ndarray, payday: np.ndarray, weekday: np.ndarray, rng: np.random.Generator) -> Declined:
    """Draws what each charge waits for, given its reason and the member's payday."""
    n = len(reason)
    hold, technical = rng.exponential(4.0, n), rng.exponential(0.12, n)
    updated = np.where(rng.random(n) < 0.55, rng.exponential(7.0, n), np.inf)
    # A charge that pays may still be declined by a processor's failure, and then waits like a technical one.
    failing = (reason == TECHNICAL) | (reason == PAYS)
    ready = np.select([reason == HOLD, failing, reason == EXPIRED], [hold, technical, updated], 0.0)
    level, tau, quality = rng.beta(6, 2.5, n), rng.uniform(2, 8, n), rng.beta(2, 6, n)
    return Declined(reason, level, tau, quality, ready, payday, weekday)


def days_since_payday(days: np.ndarray, payday: np.ndarray, weekday: np.ndarray) -> np.ndarray:
    """Days since the last payday.

    Args:
        days: Days since 1970-01-01 (UTC), with fractions; any shape that the others broadcast to.
        payday: Index into `PAYDAYS`: the 1st, 15th or 26th of a month, or weekly.
        weekday: 3 Thursday or 4 Friday, of weekly paydays.
    """
    whole = np.floor(days).astype(np.int64)
    day = whole.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    due = PAYDAY_OF_MONTH[payday] - 1
    this = month.astype("datetime64[D]").astype(np.int64) + due
    last = (month - 1).astype("datetime64[D]").astype(np.int64) + due
    monthly = np.where(this <= whole, this, last)
    weekly = whole - (whole + 3 - weekday) % 7  # 1970-01-01 was a Thursday
    return np.asarray(days - np.where(payday == PAYDAYS.index("weekly"), weekly, monthly))


def days_since_payday_of(day: float, payday: int, weekday: int) -> float:
    """The same for one day."""
    whole = math.floor(day)
    if PAYDAYS[payday] == "weekly":
        return day - (whole - (whole + 3 - weekday) % 7)
    today = date.fromordinal(whole + _EPOCH_ORDINAL)
    last = today.replace(day=PAYDAY_OF_MONTH.item(payday))
    if last > today:
        last = (today.replace(day=1) - timedelta(days=1)).replace(day=PAYDAY_OF_MONTH.item(payday))
    return day - (last.toordinal() - _EPOCH_ORDINAL)


def success(declined: Declined, first: np.ndarray, t: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Probability that a retry succeeds, before the processor's part.

    Args:
        declined: Hidden state, n charges.
        first: Day of the first decline, days since 1970 with fractions, shape (n,).
        t: Days since the first decline, shape (n,) or (n, waits).
        number: Retries made before this one, shape (n,).

    Returns:
        Probabilities of the shape of `t`.
    """
    wide = (slice(None),) + (None,) * (t.ndim - 1)
    d = {name: column[wide] for name, column in vars(declined).items()}
    when = first[wide] + t
    since = days_since_payday(when, d["payday"], d["weekday"])
    weekly = np.where(d["payday"] == PAYDAYS.index("weekly"), 0.8, 1.0)
    early = np.where(when % 1 < 0.3, 1.1, 0.95)
    funds = (d["level"] * np.exp(-np.maximum(since - 0.1, 0) / d["tau"]) * weekly + 0.03) * early
    honour = d["quality"] * (0.35 + t / 4).clip(0, 1.25) * 0.86 ** number[wide]
    waited = t >= d["ready"]
    reason = d["reason"]
    return np.asarray(
        np.select(
            [reason == kind for kind in (PAYS, FUNDS, DO_NOT_HONOUR, HOLD, TECHNICAL, EXPIRED)],
            [1.0, funds, honour, 0.85 * waited, 0.93 * waited, 0.9 * waited],
            0.0,
        ).clip(0, 1)
    )


def success_of(declined: Declined, i: int, first: float, t: float, number: int) -> float:
    """The same for one charge at one time, without arrays."""
    reason = declined.reason.item(i)
    if reason == PAYS:
        return 1.0
    if reason == FUNDS:
        when = first + t
        since = days_since_payday_of(when, declined.payday.item(i), declined.weekday.item(i))
        p: float = declined.level.item(i) * math.exp(-max(since - 0.1, 0) / declined.tau.item(i))
        p = (p * (0.8 if declined.payday.item(i) == 3 else 1.0) + 0.03) * (1.1 if when % 1 < 0.3 else 0.95)
        return min(p, 1.0)
    if reason == DO_NOT_HONOUR:
        return float(declined.quality.item(i) * min(0.35 + t / 4, 1.25) * 0.86**number)
    ceiling = {HOLD: 0.85, TECHNICAL: 0.93, EXPIRED: 0.9}.get(reason, 0.0)
    return ceiling if t >= declined.ready.item(i) else 0.0


def shown_code(reason: int, one: float, two: float) -> str:
    """The code that an issuer shows for a reason; `one` and `two` are uniforms."""
    codes, often, other = _SHOWN[reason]
    return codes[int(two * len(codes))] if one < often else other


def shown_codes(reason: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """`shown_code` over arrays."""
    out = np.full(len(reason), "00", dtype="<U2")
    for kind, (codes, often, other) in _SHOWN.items():
        at = np.flatnonzero(reason == kind)
        out[at] = np.where(one[at] < often, np.array(codes)[(two[at] * len(codes)).astype(np.int64)], other)
    return out


@dataclass(frozen=True)
class Recovery:
    """What a schedule of retries recovers: share of invoices, retries an invoice, mean day of the recovered."""

    recovered: float
    attempts: float
    day: float


class PrototypeRetry:
    """The retry world of section 9 by itself: n invoices that were just declined, no processors, no fees.

    Args:
        invoices: How many.
        seed: Everything follows from it.

    Example:
        >>> world = PrototypeRetry(20_000, seed=1)
        >>> abs(world.schedule([8, 16, 24]).recovered - 0.558) < 0.02
        True
    """

    def __init__(self, invoices: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        rng = self.rng
        self.declined = draw_declined(
            rng.choice(np.arange(FUNDS, HARD + 1), invoices, p=SHARES),
            rng.choice(len(PAYDAYS), invoices, p=PAYDAY_SHARES),
            rng.choice([3, 4], invoices),
            rng,
        )
        self.first = 20_454 + rng.uniform(0, 365, invoices)  # any time of 2026
        self.codes = shown_codes(self.declined.reason, rng.random(invoices), rng.random(invoices))
        # Half of those with a monthly payday give a noisy hint of it, as past renewals would.
        hinted = (self.declined.payday < 3) & (rng.random(invoices) < 0.5)
        since = days_since_payday(self.first, self.declined.payday, self.declined.weekday)
        self.hint = np.where(hinted, since - rng.normal(1, 1.2, invoices), np.nan)  # days since the hinted payday

    def success(self, t: np.ndarray, number: np.ndarray) -> np.ndarray:
        """True probability of success at `t` days (n,) or (n, waits) after the first decline, `number` retries made."""
        return success(self.declined, self.first, t, number)

    def schedule(self, days: list[float]) -> Recovery:
        """Retries every invoice on these days after the first decline, until it is paid."""
        n = self.declined.count
        paid, attempts, day = np.zeros(n, dtype=bool), np.zeros(n), np.zeros(n)
        for number, t in enumerate(days):
            open_ = ~paid
            p = self.success(np.full(n, float(t)), np.full(n, number))
            hit = open_ & (self.rng.random(n) < p)
            attempts += open_
            day[hit] = t
            paid |= hit
        return Recovery(float(paid.mean()), float(attempts.mean()), float(day[paid].mean()))
