"""Simulators with known truth: a small streaming service for the demo, closed-loop tests and load tests."""

from __future__ import annotations

from matinee.worlds.contexts import Contexts, retry_options
from matinee.worlds.retry import PrototypeRetry
from matinee.worlds.service import TABLES, Charged, Play, StreamingService
from matinee.worlds.settings import Settings
from matinee.worlds.truth import TrueValue

__all__ = [
    "TABLES",
    "Charged",
    "Contexts",
    "Play",
    "PrototypeRetry",
    "Settings",
    "StreamingService",
    "TrueValue",
    "retry_options",
]
