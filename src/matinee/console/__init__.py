"""The console: server-rendered pages over a studio."""

from __future__ import annotations

from matinee.console.app import routes

__all__ = ["routes"]
