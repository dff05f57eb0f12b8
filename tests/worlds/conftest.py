"""One small world for the tests that only read it; whoever charges or shows pages builds their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from matinee.worlds import StreamingService

Small = Callable[..., StreamingService]


def _small(seed: int = 11, **changes: Any) -> StreamingService:
    return StreamingService(seed, **({"members": 400, "titles": 120, "days": 20, "live_days": 60} | changes))


@pytest.fixture(scope="package")
def world() -> StreamingService:
    """Read only."""
    return _small()


@pytest.fixture
def small() -> Small:
    """Builds a world in a tenth of a second."""
    return _small
