"""A studio for imports, its clock after every set."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import matinee as mt
from matinee.domains import personalization

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def studio(tmp_path: Path) -> mt.Studio:
    return mt.open(tmp_path / "studio", clock=lambda: NOW).use(personalization.domain)
