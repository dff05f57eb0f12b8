"""How members answer a home page: which titles they begin, how long they stay, what they remember.

A page is read as a cascade: slot after slot, a title that is looked at is begun with a probability that depends on the
member, the title and what the member has already seen; after a title that was not begun the member goes on with
probability `patience`, after one that was begun with 1 - `stop_after_play`. The expectation of a given page therefore
has a closed form (`expected`), which is what true values are computed from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import exp, log1p
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import numpy as np

from matinee.worlds.catalogue import Catalogue
from matinee.worlds.people import DEVICES, Members
from matinee.worlds.settings import Settings

if TYPE_CHECKING:
    _Row: TypeAlias = tuple[memoryview[float], memoryview[float], memoryview[float]]

_OFFLINE = np.array([device in ("phone", "tablet") for device in DEVICES])
DRAWS = 4  # uniforms a slot: begin or not, go on or not, how long, how late it is reported


class Played(NamedTuple):
    """Plays as aligned arrays: `row` points to the page, times are days from the start of the history."""

    row: np.ndarray
    slot: np.ndarray
    title: np.ndarray  # index
    seconds: np.ndarray
    share: np.ndarray  # of the title's runtime
    day: np.ndarray  # when it began
    known_day: np.ndarray  # when it was reported


@dataclass(frozen=True)
class Expected:
    """What one page brings on average, shape (pages, slots): plays, qualified plays, hours."""

    plays: np.ndarray
    qualified: np.ndarray
    hours: np.ndarray


class Viewing:
    """Tastes turned into answers, and the members' memory of what they saw and watched.

    Members and titles are indices (0-based) here; `StreamingService` translates ids.
    """

    def __init__(self, settings: Settings, members: Members, titles: Catalogue) -> None:
        self.settings, self.members, self.titles = settings, members, titles
        match = members.taste @ titles.vectors.T
        self.match = ((match - match.mean()) / match.std()).astype(np.float64)
        s = settings
        fixed = s.play_base + s.play_appeal * titles.appeal + s.play_quality * titles.quality
        self.base = s.play_taste * self.match + fixed
        exponent = s.stay_base + s.stay_taste * self.match + s.stay_quality * titles.quality
        self.stay = np.exp(exponent.clip(-3, 3))
        shortness = -(np.log(titles.runtime) - np.log(titles.runtime).mean()) / np.log(titles.runtime).std()
        self.by_device = np.zeros((len(DEVICES), titles.count))
        self.by_device[DEVICES.index("phone")] = s.play_short_on_phone * shortness
        age = np.arange(s.calendar_days)[:, None] + 0.5 - titles.launch
        self.buzz = np.where(age >= 0, s.play_buzz * 0.5 ** (np.maximum(age, 0) / s.buzz_half_days), 0.0)
        # Impressions are stored grown by 2 ** (day / half life), so that decay needs no pass over the matrix.
        self.seen = np.zeros((members.count, titles.count))
        self.watched = np.zeros((members.count, titles.count))
        self.suitable = titles.maturity[None, :] <= members.maturity[:, None]
        self._growth = math.log(2) / s.fatigue_half_days
        self._extras: dict[tuple[int, int], list[float]] = {}
        self._rows: dict[int, _Row] = {}
        self._weights = (s.watched_aversion, s.fatigue, s.patience, 1 - s.stop_after_play)
        self._browse_days = s.browse_seconds / 86_400 * np.arange(1, 200)

    def utility(self, member: np.ndarray, slate: np.ndarray, day: np.ndarray, device: np.ndarray) -> np.ndarray:
        """Logit of beginning each title if it is looked at, shape (pages, slots)."""
        rows, s = member[:, None], self.settings
        decay = np.exp(-self._growth * day)[:, None]
        return np.asarray(
            self.base[rows, slate]
            + self.buzz[day.astype(np.int64)[:, None], slate]
            + self.by_device[device[:, None], slate]
            - s.fatigue * np.log1p(self.seen[rows, slate] * decay)
            - s.watched_aversion * self.watched[rows, slate]
        )

    def chances(self, member: np.ndarray, slate: np.ndarray, day: np.ndarray, device: np.ndarray) -> np.ndarray:
        """Probability of beginning each title if looked at; 0 outside its licence or above the profile's limit."""
        when = (day[:, None] + self._browse_days[: slate.shape[1]]).astype(np.int64)
        playable = self.titles.open[when, slate] & self.suitable[member[:, None], slate]
        return np.asarray(playable / (1 + np.exp(-self.utility(member, slate, day, device))))

    def expected(self, member: np.ndarray, slate: np.ndarray, day: np.ndarray, device: np.ndarray) -> Expected:
        """Closed form of what the pages bring, averaged over everything but the pages themselves."""
        p = self.chances(member, slate, day, device)
        s = self.settings
        on = p * (1 - s.stop_after_play) + (1 - p) * s.patience
        reach = np.ones_like(p)
        np.cumprod(on[:, :-1], axis=1, out=reach[:, 1:])
        plays = reach * p
        k, runtime = self.stay[member[:, None], slate], self.titles.runtime[slate]
        beyond = 1 - np.minimum(s.qualified_seconds / runtime, 1.0) ** k
        return Expected(plays, plays * beyond, plays * k / (k + 1) * runtime / 3600)

    def respond(
        self, member: np.ndarray, slate: np.ndarray, day: np.ndarray, device: np.ndarray, rng: np.random.Generator,
        *, remember: bool = True,
    ) -> Played:  # fmt: skip
        """Answers many pages at once, all from the memory as it is before the first of them.

        Args:
            member, day, device: Shape (pages,).
            slate: Title indices, shape (pages, slots).
            rng: Source of chance: `DRAWS` uniforms a slot, page after page, so that one page at a time and many at
                once draw the same numbers.
            remember: Keep the impressions and plays for later answers.
        """
        s, (pages, slots) = self.settings, slate.shape
        draws = rng.random((pages, slots, DRAWS))
        begins = draws[:, :, 0] < self.chances(member, slate, day, device)
        on = draws[:, :, 1] < np.where(begins, 1 - s.stop_after_play, s.patience)
        reached = np.ones((pages, slots), dtype=bool)
        np.logical_and.accumulate(on[:, :-1], axis=1, out=reached[:, 1:])
        row, slot = np.nonzero(begins & reached)
        title, who = slate[row, slot], member[row]
        share = draws[row, slot, 2] ** (1 / self.stay[who, title])
        seconds = np.maximum(np.round(share * self.titles.runtime[title], 1), 1.0)
        began = day[row] + self._browse_days[slot]
        known = began + seconds / 86_400 + self.report_days(draws[row, slot, 3], device[row])
        played = Played(row, slot, title, seconds, np.round(share, 4), began, known)
        if remember:
            self.remember(member, slate, day, played)
        return played

    def report_days(self, uniform: np.ndarray, device: np.ndarray) -> np.ndarray:
        """Delay of the report: half a minute online; hours for the offline share on phones and tablets."""
        s = self.settings
        offline = _OFFLINE[device] & (uniform < s.offline_share)
        within = np.minimum(uniform / max(s.offline_share, 1e-12), 0.9999)  # uniform again, given that it is offline
        late = (2 - s.offline_delay_hours * np.log1p(-within)) / 24
        return np.where(offline, late, (2 + 28 * uniform) / 86_400)

    def remember(self, member: np.ndarray, slate: np.ndarray, day: np.ndarray, played: Played) -> None:
        """Adds impressions (a play clears those of its title) and what was watched."""
        titles = self.titles.count
        weight = np.repeat(np.exp(self._growth * day), slate.shape[1])
        np.add.at(self.seen.reshape(-1), (member[:, None] * titles + slate).reshape(-1), weight)
        self.remember_plays(member[played.row], played.title, played.share)

    def remember_plays(self, member: np.ndarray, title: np.ndarray, share: np.ndarray) -> None:
        """What was watched, and fresh eyes for its title."""
        flat = member * self.titles.count + title
        self.seen.reshape(-1)[flat] = 0.0
        np.maximum.at(self.watched.reshape(-1), flat, share)

    def respond_one(
        self, member: int, slate: list[int], day: float, device: int, rng: np.random.Generator, *, remember: bool
    ) -> list[tuple[int, int, float, float, float, float]]:
        """One page, the same numbers as `respond`; plain floats, because ten of them are too few for arrays.

        Returns:
            One tuple a play: slot, title, seconds, share, day it began, day it was known.
        """
        (base, seen, watched), extra = self._row(member), self._extra(int(day), device)
        grown = math.exp(self._growth * day)
        aversion, fatigue, patience, stop = self._weights
        plays: list[tuple[int, int, float, float, float, float]] = []
        for slot, (one, two, three, four) in enumerate(rng.random((len(slate), DRAWS)).tolist()):
            title, begins = slate[slot], False
            u = base[title] + extra[title] - aversion * watched[title]
            if seen[title]:
                u -= fatigue * log1p(seen[title] / grown)
            if one * (1 + exp(-u)) < 1:
                began = day + self._browse_days.item(slot)
                begins = self.titles.open.item(int(began), title) and self.suitable.item(member, title)
            if begins:
                runtime = self.titles.runtime.item(title)
                share = three ** (1 / self.stay.item(member, title))
                seconds = max(round(share * runtime, 1), 1.0)
                known = began + seconds / 86_400 + self._report_days_of(four, device)
                plays.append((slot, title, seconds, round(share, 4), began, known))
            if two >= (stop if begins else patience):
                break
        if remember:
            for title in slate:
                seen[title] += grown
            for _, title, _, share, _, _ in plays:
                seen[title] = 0.0
                watched[title] = max(watched[title], share)
        return plays

    def _row(self, member: int) -> _Row:
        """One member's rows of `base`, `seen` and `watched`: views that read and write single floats fast."""
        row = self._rows.get(member)
        if row is None:
            views = (memoryview(matrix[member]) for matrix in (self.base, self.seen, self.watched))
            row = self._rows[member] = cast("_Row", tuple(views))
        return row

    def _extra(self, day: int, device: int) -> list[float]:
        """What is the same for all members on a day and device: the launch's buzz and the length."""
        if (day, device) not in self._extras:
            self._extras[day, device] = (self.buzz[day] + self.by_device[device]).tolist()
        return self._extras[day, device]

    def _report_days_of(self, uniform: float, device: int) -> float:
        """`report_days` of one play."""
        s = self.settings
        if not _OFFLINE.item(device) or uniform >= s.offline_share:
            return (2 + 28 * uniform) / 86_400
        return (2 - s.offline_delay_hours * math.log1p(-min(uniform / s.offline_share, 0.9999))) / 24
