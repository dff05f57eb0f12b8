"""Exposure of new titles with exact chances, what it cost and taught, first picks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.decisions import choose
from matinee.domains.personalization.exploration import Exposure, explored, first_picks
from matinee.domains.personalization.page import Layout, Pages
from matinee.policies import from_spec
from matinee.testing import ColumnScorer, check_policy

from .page.scenes import DECISION, candidates, model, request

SCORER = ColumnScorer(std=None)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def among(scores: list[float], shown: list[float]) -> mt.Candidates:
    return mt.Candidates(np.arange(len(scores)), {"score": np.array(scores), "shown_7d": np.array(shown)})


def matrix(policy: mt.Policy, these: mt.Candidates, slots: int, uniforms: list[float]) -> tuple[Any, np.ndarray]:
    drawn = policy.draw(mt.Request("d", 1, NOW, {}, {}), these, slots, uniforms=np.array(uniforms), full=True)
    return drawn, drawn.matrix


def test_the_young_get_their_share_by_what_they_are_owed() -> None:
    these = among([2.0, 1.0, 0.0, 0.0], [500.0, 500.0, 100.0, np.nan])
    policy = Exposure(mt.Greedy(SCORER), share=0.3, budget=2, enough=200)
    drawn, p = matrix(policy, these, 1, [0.5])
    assert p[0] == pytest.approx([0.7, 0.0, 0.1, 0.2])  # owed 100 and 200
    assert drawn.chance.tolist() == pytest.approx([0.7])


def test_the_share_ends_with_the_budget_and_the_model_may_still_like_them() -> None:
    these = among([0.0, 3.0, 0.0, 9.0], [500.0, 500.0, 0.0, 0.0])
    policy = Exposure(mt.Greedy(SCORER), share=0.4, budget=1, enough=200)
    drawn, p = matrix(policy, these, 3, [0.95, 0.5, 0.5])
    assert drawn.picked.tolist() == [3, 1, 0]  # drawn from the share; then the best of what is left
    assert p[1] == pytest.approx([0.0, 1.0, 0.0, 0.0])
    both = Exposure(mt.Greedy(ColumnScorer(std=None)), share=0.4, budget=0, enough=200)
    assert matrix(both, these, 2, [0.5, 0.5])[0].picked.tolist() == [3, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_chances_are_exact_whatever_the_mixture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    these = among(rng.normal(size=n).tolist(), (rng.integers(0, 2, n) * 300.0).tolist())
    inner = mt.Mixture({mt.Softmax(SCORER, 0.7): 0.8, mt.Uniform(): 0.2}) if seed % 2 else mt.Epsilon(SCORER, 0.3)
    policy = Exposure(inner, share=0.25, budget=int(rng.integers(0, 3)))
    drawn, p = matrix(policy, these, n, rng.random(n).tolist())
    assert p.sum(axis=1) == pytest.approx(np.ones(n))
    assert drawn.chance == pytest.approx(p[np.arange(n), drawn.picked])
    walked = policy.draw(mt.Request("d", 1, NOW, {}, {}), these, n, forced=drawn.picked)
    assert walked.chance == pytest.approx(drawn.chance)
    count = 4000
    seen = np.zeros(n)
    for u in (np.arange(count) + 0.5) / count:
        seen[policy.draw(mt.Request("d", 1, NOW, {}, {}), these, 1, uniforms=np.array([u])).picked[0]] += 1 / count
    assert seen == pytest.approx(p[0], abs=0.002)


def test_it_is_a_policy_like_any_other() -> None:
    policy = Exposure(mt.Mixture({mt.Softmax(SCORER): 0.9, mt.Uniform(): 0.1}), share=0.1)
    again = from_spec(policy.spec(), {SCORER.name: SCORER}.__getitem__)
    assert again.spec() == policy.spec()
    assert repr(again).endswith("share=0.1, budget=2)")
    check_policy(Exposure(mt.Uniform(), share=0.0, column="score"))
    choice = choose(
        mt.Decision("d", unit="u", among=[1, 2], slots=1), policy, mt.Request("d", 1, NOW, {}, {}),
        mt.Candidates(np.arange(2), {"score": np.zeros(2)}), uniforms=np.zeros(1),
    )  # fmt: skip
    assert choice.fallback is not None
    assert "column == 'shown_7d', must be one of the candidates' columns (score)" in choice.fallback


def test_rows_of_a_page_give_the_share_too() -> None:
    made = model(300)
    these = candidates(made.titles)
    young = np.arange(300) % 6 == 0
    columns = {**these.columns, "shown_7d": np.where(young, 0.0, 999.0)}
    these = mt.Candidates(these.ids, columns)
    pages = Pages(made, Layout(rows=4, columns=5, temperature=0.1, depth=8))
    asked = request(made.titles.ids[:9].tolist())
    counts = []
    for policy in (pages, Exposure(pages, share=0.5, budget=99), Exposure(pages, share=0.5, budget=1)):
        shown = 0
        for seed in range(12):
            u = np.random.default_rng(seed).random(1600)
            choice = choose(DECISION, policy, asked, these, uniforms=u)
            assert choice.fallback is None
            shown += int(young[np.searchsorted(these.ids, choice.action)].sum())
            where = np.searchsorted(these.ids, choice.candidates)
            again = policy.draw(asked, these.take(where), 1600, uniforms=u)
            assert again.chance == pytest.approx(choice.propensities)
        counts.append(shown)
    assert counts[1] > 1.5 * counts[0]
    assert counts[0] < counts[2] < counts[1]


# -- the report


class Item(mt.Entity, key="title"):
    title: int


class Watched(mt.Fact, key="member"):
    member: int
    title: int


def log_of(tmp_path: Path, rate: dict[int, float], n: int = 400) -> tuple[mt.Studio, mt.Decision]:
    decision = mt.Decision("pick", unit="member", among="title", slots=2, reward=mt.did(Watched, within="1h"))
    domain = mt.Domain(name="small", facts=[Item, Watched], decisions=[decision])
    clock = [NOW]
    studio = mt.open(tmp_path / "s", clock=lambda: clock[0]).use(domain)
    rng = np.random.default_rng(0)
    titles = list(rate)
    chance = np.array([0.1 if t >= 90 else 0.9 / sum(x < 90 for x in titles) for t in titles])
    made = []
    for k in range(n):
        picked = rng.choice(len(titles), 2, replace=False, p=chance / chance.sum())
        p = chance / chance.sum()
        made.append(mt.Choice(
            id=f"{k:05}", decision="pick", unit=k % 150, at=NOW + timedelta(minutes=k), policy="p@1", candidates=titles,
            action=[titles[i] for i in picked],
            propensities=[float(p[picked[0]]), float(p[picked[1]] / (1 - p[picked[0]]))],
        ))  # fmt: skip
    studio.log(made)
    clock[0] = NOW + timedelta(days=9)
    seen = [(c.unit, a, c.at + timedelta(minutes=1), c.id) for c in made for a in c.action if rng.random() < rate[int(a)]]
    for unit, title, at, choice in seen:
        studio.live.record(choice, "watched", {"member": unit, "title": title, "at": at})
    studio.seal()
    return studio, decision


def test_the_report_says_what_it_cost_and_what_is_known_now(tmp_path: Path) -> None:
    rate = {1: 0.5, 2: 0.5, 3: 0.5, 91: 0.1}
    studio, decision = log_of(tmp_path, rate)
    found = explored(studio, decision, young={1: 999, 2: 999, 3: 999})
    assert found.refused is None
    assert found.cost_interval is not None
    low, high = found.cost_interval
    assert low < 0.4 < high
    assert low > 0.1
    (title,) = found.taught
    assert title["title"] == "91"
    assert title["interval"][0] < 0.1 < title["interval"][1]
    assert title["impressions"] == pytest.approx(found.share * found.slots)
    assert "slots in 400 choices went to titles shown little before" in str(found)
    assert found.to_polars()["impressions"].to_list() == [title["impressions"]]


def test_too_little_is_a_refusal(tmp_path: Path) -> None:
    studio, decision = log_of(tmp_path, {1: 0.5, 2: 0.5, 91: 0.1}, n=12)
    found = explored(studio, decision, young={1: 999, 2: 999})
    assert found.cost is None
    assert found.refused is not None
    assert "must be at least 30 each" in found.refused
    nothing = explored(studio, decision, since=NOW + timedelta(days=30))
    assert nothing.refused == "nothing was decided whose reward is complete"
    assert nothing.rows() == []


# -- first picks


def test_first_picks_are_known_and_differ_from_each_other() -> None:
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(4, 6)
    vectors = np.repeat(centres, 25, axis=0) + 0.1 * rng.normal(size=(100, 6))
    plays = rng.integers(50, 100, 100).astype(float)
    plays[::25] = 0  # nobody knows these
    picks = first_picks(vectors, plays, 4)
    assert sorted((picks // 25).tolist()) == [0, 1, 2, 3]  # one of each kind
    assert not set(picks.tolist()) & {0, 25, 50, 75}
    assert first_picks(vectors, plays, 3, diversity=0).tolist() == np.argsort(-plays, kind="stable")[:3].tolist()
    assert len(set(first_picks(vectors, plays, 1000).tolist())) == 100
    assert first_picks(np.zeros((0, 3)), np.zeros(0), 5).tolist() == []


def test_answers_to_the_picks_tell_more_than_answers_to_the_most_popular() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 8)) @ np.diag(np.linspace(2, 0.3, 8))
    plays = rng.pareto(1.0, 200) + 0.1
    vectors[np.argsort(-plays)[:20], 2:] = 0  # the best known are all alike

    def volume(picks: np.ndarray) -> float:
        return float(np.linalg.slogdet(np.eye(8) + vectors[picks].T @ vectors[picks])[1])

    assert volume(first_picks(vectors, plays, 10)) > 1.3 * volume(np.argsort(-plays)[:10])


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(mt.MatineeError, match="popularity has shape"):
        first_picks(np.zeros((3, 2)), np.array([1.0, np.nan, 1.0]), 1)
    with pytest.raises(mt.MatineeError, match="vectors hold values that are not finite"):
        first_picks(np.full((3, 2), np.nan), np.ones(3), 1)
    with pytest.raises(mt.MatineeError, match=r"share == 1.0, must be < 1"):
        Exposure(mt.Uniform(), share=1.0)
