"""Page models from a studio: each module builds one page."""

from __future__ import annotations

from matinee.console.building.source import StudioSource

__all__ = ["StudioSource"]
