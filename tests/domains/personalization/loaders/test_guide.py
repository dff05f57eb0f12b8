"""The guide and the help name every format there is."""

from __future__ import annotations

from pathlib import Path

from matinee.cli.facts import import_
from matinee.domains import payments, personalization

FORMATS = [*personalization.domain.importers, *payments.domain.importers]


def test_the_guide_has_a_row_for_every_format() -> None:
    text = (Path(__file__).parents[4] / "docs" / "guides" / "importing.md").read_text()
    assert not [f for f in FORMATS if f"| `{f}` |" not in text]
    assert not [f for f in FORMATS if f not in str(import_.__doc__)]
