"""A proxy is learned from, and never shown alone: evidence has the reward first and the proxy beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import matinee as mt
from matinee.exceptions import DeclarationError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


class Began(mt.Fact, key="guest"):
    guest: int
    share: Annotated[float, mt.Range(ge=0, le=1)]


def decision() -> mt.Decision:
    return mt.Decision(
        "teaser", unit="guest", among=["loud", "calm"],
        reward=mt.did(Began, within="1d", where=Began.share >= 0.7), reward_unit="finished",
        proxy=mt.did(Began, within="1h"), proxy_unit="begun",
    )  # fmt: skip


@pytest.fixture
def studio(tmp_path: Path) -> mt.Studio:
    """Loud teasers are begun by most and finished by few; calm ones the other way round."""
    made = mt.open(tmp_path / "s", clock=lambda: NOW).use(mt.Domain("house", facts=[Began], decisions=[decision()]))
    rng = np.random.default_rng(0)
    choices, rows = [], []
    for g in range(400):
        at, action = BEGIN + timedelta(hours=g), ["loud", "calm"][int(rng.integers(2))]
        choices.append(
            mt.Choice(
                id=f"c{g}", decision="teaser", unit=g, at=at, policy="coin", candidates=["loud", "calm"], action=[action],
                propensities=[0.5],
            )
        )  # fmt: skip
        if rng.random() < (0.8 if action == "loud" else 0.5):
            share = 0.9 if rng.random() < (0.2 if action == "loud" else 0.8) else 0.1
            when = at + timedelta(minutes=5)
            rows.append({"guest": g, "share": share, "at": when, "known": when, "choice": f"c{g}"})
    made.log(choices)
    made.append(Began, rows)
    return made


def test_both_are_in_the_evidence_the_reward_first(studio: mt.Studio) -> None:
    found = studio.evaluate("teaser", mt.Uniform())
    assert found.unit == "finished"
    assert found.proxy is not None
    assert found.logged_value < 0.45 < 0.55 < found.proxy.logged_value  # type: ignore[operator]  # neither was refused
    metrics = [row["metric"] for row in found.rows()]
    assert metrics[0] == "finished"
    assert metrics[-1] == "proxy: begun"
    assert metrics == sorted(metrics, key=lambda m: m.startswith("proxy"))
    assert any(note.startswith("proxy (begun): ") for note in found.notes())
    kept = studio.evidence("teaser")
    assert len(kept) == 1  # the proxy is no evidence of its own
    assert kept[0]["unit"] == "finished"
    assert kept[0]["proxy"]["value"] == pytest.approx(found.proxy.value)
    assert [row["metric"] for row in kept[0]["rows"]] == metrics


def test_learning_from_the_proxy_prefers_what_the_reward_does_not_and_the_evidence_says_so(studio: mt.Studio) -> None:
    # From the first half: they are judged on the choices that came after those they learned from.
    told: dict[str, Any] = {"on": [], "action": True, "until": 0.5}
    by_proxy = studio.train("teaser", mt.LightGBM(trees=20, min_rows=20), proxy=True, name="eager", **told)
    by_reward = studio.train("teaser", mt.LightGBM(trees=20, min_rows=20), name="patient", **told)
    assert studio.graph.get("model://eager@1").data["proxy"] == "begun"
    eager, patient = (
        studio.evaluate("teaser", mt.Softmax(m, temperature=0.1, floor=0.1)) for m in (by_proxy, by_reward)
    )
    assert eager.difference is not None and eager.difference < 0  # worse where it counts
    assert (
        eager.proxy is not None and eager.proxy.difference is not None and eager.proxy.difference > 0
    )  # better by the proxy
    assert not eager.better
    assert patient.difference is not None and patient.difference > 0


def test_it_is_made_again_from_the_proxy(studio: mt.Studio) -> None:
    from matinee.workshop import reproduce

    studio.train("teaser", mt.LightGBM(trees=20, min_rows=20), on=[], action=True, proxy=True, name="eager")
    again = reproduce(studio, "eager@1")
    assert (again.same_data, again.same_model) == (True, True)


def test_a_proxy_never_stands_alone() -> None:
    proxy = mt.did(Began, within="1h")
    for other in ({}, {"reward": proxy, "reward_unit": "begun", "proxy_unit": "begun"}, {"reward": proxy}):
        with pytest.raises(DeclarationError, match="a proxy is never shown alone"):
            mt.Decision("teaser", unit="guest", among=["a"], proxy=proxy, **other)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="has no proxy"):
        mt.Decision("teaser", unit="guest", among=["a"], reward=proxy).by_proxy()
