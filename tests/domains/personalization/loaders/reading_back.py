"""What the tests of importers read back."""

from __future__ import annotations

import matinee as mt


def rows(studio: mt.Studio, fact: type[mt.Fact], *columns: str) -> list[tuple[object, ...]]:
    """The rows of a fact, sorted by the columns asked for."""
    return studio.facts.scan(fact).select(*columns).collect().sort(*columns, nulls_last=True).rows()


def reasons(studio: mt.Studio) -> list[tuple[str, str]]:
    """Fact and reasons of every row held back, in order."""
    held = [row for _, batch in studio.quarantine.batches() for row in studio.quarantine.rows(batch)]
    return sorted((h.fact, "; ".join(h.reasons)) for h in held)
