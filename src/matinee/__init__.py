"""Matinee: facts, features, models, guarded decisions, evidence, on one loop."""

from __future__ import annotations
