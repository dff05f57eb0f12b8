"""Pictures and reason lines as decisions: guards, beliefs with a known answer, the loop from log to a better policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.decisions import choose
from matinee.domains.personalization.artwork import TONES, Image, OfTitle, Pictures, Truthful, artwork, evidence, train
from matinee.domains.personalization.facts import Member, Played
from matinee.testing import check_guard

NOW = datetime(2026, 3, 1, tzinfo=UTC)
START = NOW - timedelta(days=30)


def pictures(tones: list[str], title: int = 7) -> mt.Candidates:
    return mt.Candidates(np.arange(1, len(tones) + 1), {"tone": np.array(tones), "title": np.full(len(tones), float(title))})


def request(**context: object) -> mt.Request:
    return mt.Request("artwork", 1, NOW, context, {})


def test_only_pictures_of_the_title_that_is_asked_about() -> None:
    both = mt.Candidates(np.arange(4), {"tone": np.array(["face"] * 4), "title": np.array([7.0, 7.0, 8.0, 8.0])})
    choice = choose(artwork, mt.Uniform(), request(title=8), both, uniforms=np.array([0.1]))
    assert choice.action == [2]
    assert choice.propensities == [0.5]
    assert choice.blocked == {"of the title": [0, 1]}
    for context in ({}, {"title": 99}):
        nothing = choose(artwork, mt.Uniform(), request(**context), both, uniforms=np.array([0.1]))
        assert nothing.fallback == "every candidate is kept out: of the title"
    check_guard(OfTitle())


def test_only_reason_lines_that_are_true_and_plain_always_is() -> None:
    lines = evidence.options.candidates()  # type: ignore[union-attr]
    choice = choose(evidence, mt.Uniform(), request(true="new,because"), lines, uniforms=np.array([0.0]))
    assert sorted(choice.candidates) == ["because", "new", "plain"]
    silent = choose(evidence, mt.Uniform(), request(), lines, uniforms=np.array([0.9]))
    assert silent.action == ["plain"]
    assert silent.propensities == [1.0]
    check_guard(Truthful())


def test_beliefs_by_hand_and_where_nothing_is_known() -> None:
    made = Pictures(prior=0.1, spread=0.2, noise=0.5)
    fresh = made.score(request(), pictures(["face", "text"]))
    assert fresh.mean.tolist() == [0.1, 0.1]
    assert fresh.std == pytest.approx(np.full(2, (2 * 0.2**2) ** 0.5))  # the tone's and the picture's own
    made.fit(np.array([1] * 4), np.array(["face"] * 4), np.zeros(4), np.ones(4))
    known = made.score(request(), pictures(["face", "face", "text"]))
    # Sum of two normals with variance .04 each, seen four times with variance .25: the mean of the sum moves by
    # .08 / (.08 + .25 / 4) of .9; half of it belongs to the tone, which the second picture shares.
    moved = 0.9 * 0.08 / (0.08 + 0.25 / 4)
    assert known.mean == pytest.approx([0.1 + moved, 0.1 + moved / 2, 0.1])
    assert known.std is not None
    assert known.std[0] == pytest.approx((0.08 * 0.0625 / (0.08 + 0.0625)) ** 0.5)
    assert known.std[0] < known.std[1] < known.std[2]


def test_what_works_on_a_phone_is_known_of_phones_only() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    image, phone = rng.integers(1, 3, n), rng.random(n) < 0.5
    tone = np.array(["face", "text"])[image - 1]
    rate = np.where(phone, np.where(image == 1, 0.1, 0.3), np.where(image == 1, 0.3, 0.1))
    made = Pictures().fit(image, tone, phone, (rng.random(n) < rate).astype(float))
    both = pictures(["face", "text"])
    assert made.score(request(device="phone"), both).mean == pytest.approx([0.1, 0.3], abs=0.04)
    assert made.score(request(device="tv"), both).mean == pytest.approx([0.3, 0.1], abs=0.04)
    choice = choose(artwork, mt.Thompson(made, floor=0.1), request(title=7, device="phone"), both, uniforms=np.array([0.5]))
    assert choice.action == [2]
    assert choice.propensities[0] == pytest.approx(0.95, abs=0.01)


def test_bad_numbers_are_refused_and_a_missing_column_falls_back(tmp_path: Path) -> None:
    with pytest.raises(mt.MatineeError, match="rewards hold 1 values that are not finite"):
        Pictures().fit(np.array([1]), np.array(["face"]), np.zeros(1), np.array([np.nan]))
    bare = mt.Candidates(np.array([1]), {"title": np.array([7.0])})
    choice = choose(artwork, mt.Thompson(Pictures()), request(title=7), bare, uniforms=np.array([0.5]))
    assert "column == 'tone', must be one of the candidates' columns (title)" in str(choice.fallback)
    (tmp_path / "p" / "1").mkdir(parents=True)
    (tmp_path / "p" / "1" / "pictures.safetensors").write_bytes(b"no")
    with pytest.raises(mt.MatineeError, match="model p@1 is cut short or damaged"):
        Pictures.load(tmp_path / "p" / "1")


def test_from_a_uniform_log_to_a_better_policy(tmp_path: Path) -> None:
    """Faces earn .1 and action .5; the policy trained on a uniform log takes action nearly always, and is judged better."""
    clock = [START]
    studio = mt.open(tmp_path / "s", domains=["personalization"], clock=lambda: clock[0])
    when = pl.lit(START - timedelta(days=1), pl.Datetime("us", "UTC"))
    rows = [(2 * t + k, t, TONES[k]) for t in range(6) for k in range(2)]
    studio.append(Image, pl.DataFrame(rows, schema=["image", "title", "tone"], orient="row").with_columns(at=when, known=when))
    members = pl.DataFrame({"member": list(range(800)), "kids": [m == 799 for m in range(800)]})
    studio.append(Member, members.with_columns(at=when, known=when))
    yes = pl.DataFrame({"person": [str(m) for m in range(800)], "purpose": "personalization", "granted": True})
    studio.append(mt.Consent, yes.with_columns(at=when, known=when))
    assert train(studio) == ["artwork@1"]  # nothing to learn from yet
    studio.publish()
    studio.release("artwork", "artwork@1", share=1.0)
    rng = np.random.default_rng(0)
    for member in range(799):
        title = int(rng.integers(6))
        moment = clock[0] = START + timedelta(minutes=member)
        choice = studio.decide("artwork", member=member, title=title, device="tv")
        assert choice.propensities == [0.5]
        rate = 0.5 if choice.action[0] % 2 else 0.1
        if rng.random() < rate:
            studio.record(choice, Played(member=member, title=title, seconds=1500.0, at=moment + timedelta(seconds=30)))
    assert studio.decide("artwork", member=799, title=1, dry=True).context["profiled"] is False
    clock[0] = NOW
    studio.seal()
    policies = train(studio)
    assert policies == ["artwork@2", "artwork@3"] or policies == ["artwork@1", "artwork@2"]
    found = studio.evaluate("artwork", policies[-1], record=False)
    assert found.better
    assert found.value == pytest.approx(0.5, abs=0.12)
    thompson = studio.policy(policies[-1])
    again = Pictures.load(studio.shelf.path(thompson.scorer.name))  # type: ignore[union-attr]
    asked = pictures(["face", "action"])
    assert again.score(request(), asked).mean == pytest.approx(thompson.scorer.score(request(), asked).mean)  # type: ignore[union-attr]
    studio.close()
