"""One served studio for the tests that only look, or only add."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import matinee as mt
from loop.running import Clock, decide_many, history, live_without_gates, open_films


@pytest.fixture(scope="session")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[mt.Studio]:
    """History, published features, and a uniform policy live for every decision; the gates have their own test."""
    with open_films(tmp_path_factory.mktemp("served") / "films", clock) as studio:
        history(studio, clock)
        for name in ("front", "letter", "reach"):
            live_without_gates(studio, name, mt.Uniform())
        studio.publish()
        studio.refresh()
        decide_many(studio, clock, 120)
        yield studio
