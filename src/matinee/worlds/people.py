"""The members of the simulated service: what they like, may watch, use, pay, and have consented to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matinee.worlds.settings import Settings

COUNTRIES = ("DE", "FR", "ES", "IT", "NL", "AT")
COUNTRY_SHARES = (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)  # the segment shares of the payments notes, section 8
DEVICES = ("tv", "phone", "tablet", "web")
LANGUAGES = ("de", "fr", "es", "it", "nl", "de")
NETWORKS = ("Visa", "Master")
PLANS = ("weekly", "basic", "standard", "premium")
PRICES_MINOR = (399, 799, 1299, 1799)
# Payday of a month by day, or weekly on Thursday or Friday (section 9).
PAYDAYS = ("1st", "15th", "26th", "weekly")
PAYDAY_SHARES = (0.30, 0.25, 0.20, 0.25)
PAYDAY_OF_MONTH = np.array([1, 15, 26, 0])
# Relative weight of each hour of the day for adults and for kids profiles.
_HOURS = np.array([3, 2, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7, 9, 12, 14, 13, 9, 5], dtype=float)
_KIDS_HOURS = np.array([0, 0, 0, 0, 0, 0, 2, 5, 5, 4, 4, 4, 4, 4, 7, 10, 12, 12, 9, 5, 1, 0, 0, 0], dtype=float)


@dataclass(frozen=True)
class Members:
    """Arrays over members, shape (members,) unless said; hidden ones are the world's truth."""

    ids: np.ndarray
    country: np.ndarray  # index into COUNTRIES
    kids: np.ndarray
    maturity: np.ndarray  # highest age rating the profile may watch
    joined: np.ndarray  # days from the start; negative: before the history
    rate: np.ndarray  # visits a day
    devices: np.ndarray  # (members, devices) shares
    taste: np.ndarray  # hidden, (members, dimensions)
    personalization: np.ndarray
    research: np.ndarray
    plan: np.ndarray  # index into PLANS
    network: np.ndarray  # index into NETWORKS
    debit: np.ndarray
    three_d: np.ndarray  # authenticated with 3-D Secure when the card was stored
    payday: np.ndarray  # hidden, index into PAYDAYS
    weekday: np.ndarray  # hidden, of weekly paydays: 3 Thursday, 4 Friday
    budget_minor: np.ndarray  # hidden, what the household spends on entertainment in a month
    bill_day: np.ndarray  # days from the start to the first renewal
    bill_hour: np.ndarray  # fraction of a day at which renewals fall due

    @property
    def count(self) -> int:
        """Number of members."""
        return len(self.ids)


def make_members(settings: Settings, genre_vectors: np.ndarray, rng: np.random.Generator) -> Members:
    """Draws the members. `genre_vectors` is (genres, dimensions), the last genre being the one for kids."""
    n, genres = settings.members, len(genre_vectors)
    kids = rng.random(n) < settings.kids_share
    likes = rng.dirichlet(np.full(genres, 0.35), n)
    likes[kids] *= 0.3
    likes[kids, -1] += 0.7
    taste = likes @ genre_vectors + rng.normal(0, 0.25, (n, genre_vectors.shape[1]))
    joining = rng.random(n) < settings.joining_share
    joined = np.where(joining, rng.uniform(0, settings.days, n), -rng.exponential(300, n))
    rate = np.exp(rng.normal(-(settings.visits_spread**2) / 2, settings.visits_spread, n)) * settings.visits_per_day
    personalization = rng.random(n) < settings.consent_personalization
    plan = np.where(rng.random(n) < settings.weekly_share, 0, rng.choice([1, 2, 3], n, p=[0.4, 0.4, 0.2]))
    return Members(
        ids=np.arange(1, n + 1),
        country=rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARES),
        kids=kids,
        maturity=np.where(kids, rng.choice([6, 12], n), rng.choice([16, 18], n, p=[0.1, 0.9])),
        joined=joined,
        rate=rate,
        devices=rng.dirichlet([2.2, 1.0, 0.5, 0.7], n),
        taste=taste,
        personalization=personalization,
        research=personalization & (rng.random(n) < settings.consent_research),
        plan=plan,
        network=(rng.random(n) < 0.45).astype(np.int64),
        debit=rng.random(n) < 0.45,
        three_d=rng.random(n) < 0.24,
        payday=rng.choice(len(PAYDAYS), n, p=PAYDAY_SHARES),
        weekday=rng.choice([3, 4], n),
        budget_minor=np.round(np.exp(rng.normal(np.log(6_000), 0.5, n))).astype(np.int64),
        bill_day=np.where(plan == 0, rng.uniform(0, 7, n), rng.uniform(0, 30, n)) + np.maximum(joined, 0),
        bill_hour=rng.random(n),
    )


def visit_times(kids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fractions of a day at which members come, by the hours their kind of profile keeps."""
    adult, child = np.cumsum(_HOURS) / _HOURS.sum(), np.cumsum(_KIDS_HOURS) / _KIDS_HOURS.sum()
    draw = rng.random(len(kids))
    hour = np.where(kids, np.searchsorted(child, draw, side="right"), np.searchsorted(adult, draw, side="right"))
    return np.asarray((hour + rng.random(len(kids))) / 24)


def pick_devices(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One device index a row of `shares`, shape (visits, devices)."""
    last = shares.shape[1] - 1  # shares may sum to a hair less than one
    return np.asarray(np.minimum((np.cumsum(shares, axis=1) < rng.random((len(shares), 1))).sum(axis=1), last))
