"""Small scenes and page models that tests of pages share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
import polars as pl

import matinee as mt
from matinee.domains.personalization.facts import Licence
from matinee.domains.personalization.page import PageModel, Relevance, Row, Scene, Titles
from matinee.domains.personalization.page.construct import sparse
from matinee.domains.personalization.recommenders import Histories, Recommender, Together
from matinee.domains.personalization.wishes import Unhidden
from matinee.times import to_us

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86_400_000_000
GENRES = ("Comedy", "Crime", "Drama", "Horror", "War")
DECISION = mt.Decision(
    "page", unit="member", among="title", slots=1600,
    guards=[mt.licensed(Licence, territory="territory"), mt.maturity(), Unhidden()],
)  # fmt: skip


class Column(Recommender):
    """Scores that were given, whatever the history: the last title is the best, unless told otherwise."""

    kind: ClassVar[str] = "test-column"

    def fit(self, histories: Histories) -> Column:
        return self

    def scores(self, history: Any) -> np.ndarray:
        return np.arange(len(self.titles), dtype=np.float32) + 0.001 * len(history)


def scene(rows: list[list[int]], worth: list[float], kinds: list[str] | None = None, **more: Any) -> Scene:
    """Rows of titles; a genre each where no kinds are given, named after their place."""
    named = [
        Row(kind, str(k), np.array(titles, np.int64), genres=(str(k),) if kind == "genre" else ())
        for k, (titles, kind) in enumerate(zip(rows, kinds or ["genre"] * len(rows), strict=True))
    ]
    n = len(worth)
    return whole(named, np.array(worth), more.pop("mixes", np.zeros((n, 1))), more.pop("wanted", np.zeros(1)), **more)


def whole(rows: list[Row], worth: np.ndarray, mixes: np.ndarray, wanted: np.ndarray, **more: Any) -> Scene:
    """A scene from dense genre shares."""
    return Scene(rows, worth, sparse(mixes), np.arange(len(worth)), wanted, **more)


def catalogue(n: int = 400, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "title": np.arange(n) * 3 + 5,
            "genres": [sorted(rng.choice(GENRES, rng.integers(1, 3), replace=False).tolist()) for _ in range(n)],
            "year": rng.integers(1970, 2020, n),
            "provider": [f"P{i}" for i in rng.integers(0, 4, n)],
        }
    )


def model(n: int = 400, seed: int = 0) -> PageModel:
    rng = np.random.default_rng(seed)
    titles = Titles.of(catalogue(n, seed))
    histories = Histories.of_sequences([rng.choice(titles.ids, 20, replace=False) for _ in range(150)])
    made = PageModel.fit(Together().fit(histories), titles, histories, relevance=Relevance())
    made.name = "front-page@1"
    return made


def candidates(titles: Titles, seed: int = 0) -> mt.Candidates:
    """All of the catalogue, a fifth without a licence now, a third above 12."""
    rng = np.random.default_rng(seed)
    n = len(titles)
    starts = to_us(NOW) - rng.integers(1, 120, (n, 1)) * DAY
    columns = {
        "licence.starts": starts, "licence.ends": starts + rng.integers(60, 200, (n, 1)) * DAY,
        "licence.territory": np.full((n, 1), "*"), "maturity": rng.choice([0.0, 12.0, 18.0], n),
        "plays_7d": rng.poisson(2, n).astype(float), "provider": rng.integers(0, 4, n),
    }  # fmt: skip
    return mt.Candidates(titles.ids, columns)


def request(history: list[int], **context: Any) -> mt.Request:
    return mt.Request("page", 1, NOW, context, {"played_recently": history})
