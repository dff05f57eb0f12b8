"""The history before anybody learned: a popularity page shown for some weeks, and what members did with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matinee.worlds.people import pick_devices, visit_times
from matinee.worlds.settings import Settings
from matinee.worlds.viewing import Played, Viewing


@dataclass
class Visits:
    """Arrivals at the home page, by time: member and device indices, days from the start of the history."""

    member: np.ndarray
    day: np.ndarray
    device: np.ndarray


@dataclass
class ViewingHistory:
    """All pages shown and all plays; `organic` plays were found without the page."""

    member: np.ndarray  # (pages,)
    day: np.ndarray
    device: np.ndarray
    slates: np.ndarray  # (pages, slots) title indices
    plays: Played  # `row` points to the page
    organic: np.ndarray  # per play


def visits_on(viewing: Viewing, day: int, rng: np.random.Generator) -> Visits:
    """Who comes on one day, when and with which device."""
    m = viewing.members
    count = rng.poisson(np.where(m.joined < day, m.rate, 0.0))
    member = np.repeat(np.arange(m.count), count)
    when = day + visit_times(m.kids[member], rng)
    device = pick_devices(m.devices[member], rng)
    order = np.argsort(when, kind="stable")
    return Visits(member[order], when[order], device[order])


def draw_slates(weights: np.ndarray, allowed: np.ndarray, slots: int, rng: np.random.Generator) -> np.ndarray:
    """Slot after slot without replacement, in proportion to the weights among the allowed (Plackett and Luce).

    An exponential race: the title with the smallest E / weight comes first, which is the same draw.

    Args:
        weights: Non-negative, shape (titles,) or (pages, titles).
        allowed: Shape (pages, titles); at least `slots` a row.
    """
    keys = rng.standard_exponential(allowed.shape, dtype=np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        keys /= weights.astype(np.float32)
    keys[~allowed] = np.inf
    best = np.argpartition(keys, slots - 1, axis=1)[:, :slots]
    order = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def run_history(settings: Settings, viewing: Viewing, rng: np.random.Generator) -> ViewingHistory:
    """Plays the history day by day; the members' memory in `viewing` is what it leaves behind.

    The page is what many services start with: the titles played most in the last seven days, fresh launches helped
    along, shuffled by chance. Every allowed title has some chance in every slot.
    """
    recent = np.zeros((7, viewing.titles.count))
    parts: list[tuple[Visits, np.ndarray, Played, np.ndarray]] = []
    pages = 0
    for day in range(settings.days):
        visits = visits_on(viewing, day, rng)
        fresh = np.where((viewing.titles.launch <= day) & (day - viewing.titles.launch < 14), 15.0, 0.0)
        weights = 1.0 + recent.sum(axis=0) + fresh
        allowed = viewing.titles.open[day] & viewing.suitable[visits.member]
        slates = draw_slates(weights, allowed, settings.slots, rng)
        plays = viewing.respond(visits.member, slates, visits.day, visits.device, rng)
        found = _organic(viewing, visits, allowed, rng)
        joined = Played(*(np.concatenate(pair) for pair in zip(plays, found)))
        organic = np.arange(len(joined.row)) >= len(plays.row)
        recent[day % 7] = np.bincount(joined.title, minlength=viewing.titles.count)
        parts.append((visits, slates, joined._replace(row=joined.row + pages), organic))
        pages += len(visits.member)
    return ViewingHistory(
        member=np.concatenate([v.member for v, *_ in parts]),
        day=np.concatenate([v.day for v, *_ in parts]),
        device=np.concatenate([v.device for v, *_ in parts]),
        slates=np.concatenate([s for _, s, *_ in parts]),
        plays=Played(*(np.concatenate(columns) for columns in zip(*(p for _, _, p, _ in parts)))),
        organic=np.concatenate([o for *_, o in parts]),
    )


def _organic(viewing: Viewing, visits: Visits, allowed: np.ndarray, rng: np.random.Generator) -> Played:
    """Plays found by search: one title for a share of the visits, by taste and appeal, a quarter of an hour later."""
    row = np.flatnonzero(rng.random(len(visits.member)) < viewing.settings.organic_share)
    member, day, device = visits.member[row], visits.day[row] + 15 / 1_440, visits.device[row]
    inside = day < np.floor(visits.day[row]) + 1  # licences end at midnight: whoever comes later is not counted
    row, member, day, device = row[inside], member[inside], day[inside], device[inside]
    utility = viewing.base[member] - viewing.settings.watched_aversion * viewing.watched[member]
    title = draw_slates(np.exp(utility), allowed[row], 1, rng)[:, 0]
    share = rng.random(len(row)) ** (1 / viewing.stay[member, title])
    seconds = np.maximum(np.round(share * viewing.titles.runtime[title], 1), 1.0)
    known = day + seconds / 86_400 + viewing.report_days(rng.random(len(row)), device)
    viewing.remember_plays(member, title, share)
    return Played(row, np.full(len(row), -1), title, seconds, np.round(share, 4), day, known)
