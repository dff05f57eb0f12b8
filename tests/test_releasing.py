"""Ramps: whoever is in a challenger stays in it as its share grows, and comes back to it after a rollback."""

from __future__ import annotations

from pathlib import Path

import pytest

import matinee as mt
from matinee import releasing

UNITS = range(3_000)
offer = mt.Decision("offer", unit="member", among=["red", "blue"])


def test_a_ramp_keeps_the_units_that_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "gates", lambda *_: [])  # they have tests of their own
    with mt.open(tmp_path / "s") as studio:
        studio.use(mt.Domain("shop", decisions=[offer]))
        new, other = (mt.Mixture({mt.Uniform(): 0.5, mt.Uniform(): 0.5}), mt.Mixture({mt.Uniform(): 1.0}))

        def challenged() -> set[int]:
            split = studio.live._serving.arms["offer"].split
            return {u for u in UNITS if split.assign(u) == "challenger"}

        studio.release("offer", mt.Uniform(), 1.0)
        inside: set[int] = set()
        for share in (0.05, 0.2, 0.5):
            studio.release("offer", new, share, baseline=0.1)
            now = challenged()
            assert inside < now
            assert len(now) / len(UNITS) == pytest.approx(share, abs=0.04)
            inside = now
        studio.rollback("offer")
        assert challenged() < inside
        studio.release("offer", new, 0.5)
        assert challenged() == inside
        studio.release("offer", other, 0.5)
        assert 0.4 < len(challenged() & inside) / len(inside) < 0.6, "another challenger draws anew"
