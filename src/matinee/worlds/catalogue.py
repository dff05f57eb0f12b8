"""The titles of the simulated service and the licence windows in which they may be shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matinee.worlds.names import provider_names, title_names
from matinee.worlds.settings import Settings

GENRES = (
    "drama", "thriller", "comedy", "romance", "documentary", "science fiction", "horror", "action", "crime", "family"
)  # fmt: skip
_MATURITY = np.array([12, 16, 12, 12, 6, 12, 18, 16, 16, 0])  # the usual rating of each genre


@dataclass(frozen=True)
class Catalogue:
    """Arrays over titles, shape (titles,) unless said. Days count from the start of the history."""

    ids: np.ndarray
    names: list[str]
    series: np.ndarray
    genre: np.ndarray  # index into GENRES
    second_genre: np.ndarray
    maturity: np.ndarray
    provider: np.ndarray  # index into providers
    providers: list[str]
    runtime: np.ndarray  # seconds of one sitting: a film, or two episodes
    launch: np.ndarray
    quality: np.ndarray  # hidden
    appeal: np.ndarray  # hidden
    vectors: np.ndarray  # hidden, (titles, dimensions)
    windows: np.ndarray  # (licences, 4): title index, start day, end day (inf: no end), day on which it was known
    open: np.ndarray  # (calendar days, titles) bool: a licence is in force; windows begin and end at midnight

    @property
    def count(self) -> int:
        """Number of titles."""
        return len(self.ids)


def make_genres(settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Directions of the genres in the taste space, unit vectors, shape (genres, dimensions)."""
    vectors = rng.normal(size=(len(GENRES), settings.dimensions))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def make_catalogue(settings: Settings, genre_vectors: np.ndarray, rng: np.random.Generator) -> Catalogue:
    """Draws the titles and their licences."""
    n, kids_genre = settings.titles, len(GENRES) - 1
    genre = rng.choice(len(GENRES), n, p=[0.16, 0.12, 0.14, 0.09, 0.09, 0.08, 0.06, 0.09, 0.07, 0.10])
    second = rng.integers(0, kids_genre, n)
    family = genre == kids_genre
    second = np.where(family | (second == genre), -1, second)
    vectors = genre_vectors[genre] + 0.5 * np.where((second >= 0)[:, None], genre_vectors[second], 0.0)
    vectors = vectors + rng.normal(0, 0.30, vectors.shape)
    shift = rng.choice([-1, 0, 1], n, p=[0.2, 0.6, 0.2])
    ratings = np.array([0, 6, 12, 16, 18])
    usual = np.searchsorted(ratings, _MATURITY[genre])
    maturity = ratings[np.clip(usual + np.where(family, np.abs(shift), shift), 0, 4)]
    series = rng.random(n) < 0.45
    minutes = np.where(series, 2 * rng.choice([22, 30, 45, 55], n), rng.normal(105, 16, n).clip(70, 180))
    quality = rng.normal(0, settings.quality_spread, n)
    rho = settings.appeal_quality
    appeal = rho * quality / max(settings.quality_spread, 1e-9) + np.sqrt(1 - rho**2) * rng.normal(size=n)
    launching = rng.random(n) < settings.launching_share
    launch = np.where(launching, rng.integers(1, settings.calendar_days, n), -rng.integers(5, 1_500, n)).astype(float)
    licensed = rng.random(n) < settings.licensed_share
    providers = provider_names()
    provider = np.where(licensed, rng.integers(1, len(providers), n), 0)
    windows = _make_windows(settings, licensed, launch, rng)
    return Catalogue(
        ids=np.arange(1, n + 1),
        names=title_names(n, rng),
        series=series,
        genre=genre,
        second_genre=second,
        maturity=maturity,
        provider=provider,
        providers=providers,
        runtime=np.round(minutes * 60),
        launch=launch,
        quality=quality,
        appeal=appeal,
        vectors=vectors,
        windows=windows,
        open=_open_table(settings, windows, n),
    )


def _make_windows(settings: Settings, licensed: np.ndarray, launch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Owned titles have one window without end; licensed ones end, and some come back after a gap."""
    n = len(licensed)
    title = np.arange(n)
    length = rng.integers(60, 720, n)
    # A licence that ended long before the history would only be noise: such titles were licensed anew.
    start = np.where(licensed & (launch + length < 10), 10 - rng.integers(5, 200, n), launch)
    end = np.where(licensed, np.maximum(start, -5) + np.maximum(rng.integers(20, 200, n), 12), np.inf)
    known = start - rng.integers(5, 60, n)
    first = np.column_stack([title, start, end, known])
    back = licensed & (rng.random(n) < settings.renewed_share)
    gap = rng.integers(10, 40, n)
    again = np.column_stack([title, end + gap, end + gap + rng.integers(40, 200, n), end - rng.integers(0, 10, n)])
    return np.concatenate([first, again[back & (again[:, 3] < settings.calendar_days)]])  # unknown till the end: none


def _open_table(settings: Settings, windows: np.ndarray, titles: int) -> np.ndarray:
    days = np.arange(settings.calendar_days)[:, None]
    table = np.zeros((settings.calendar_days, titles), dtype=bool)
    in_force = (windows[:, 1] <= days) & (days < windows[:, 2])
    for row, title in enumerate(windows[:, 0].astype(int)):
        table[:, title] |= in_force[:, row]
    return table
