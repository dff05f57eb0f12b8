"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# One thread a process: the suite runs on several workers, and thread pools multiply.
os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Two workers share the cores with what each of them compiles: a slow example is no failure.
settings.register_profile("matinee", deadline=None)
settings.load_profile("matinee")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder is not beside this checkout")
    return SHARED_DATA
