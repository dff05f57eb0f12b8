"""The front page in a studio: trained, released, decided, in words; and what members may ask of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.decisions import check_slate
from matinee.domains.personalization.facts import Licence, Member, Played, Tagged, Title
from matinee.domains.personalization.features import recent, taste
from matinee.domains.personalization.front import front, model_of, moods, page, train, why
from matinee.domains.personalization.home import home
from matinee.domains.personalization.page import Layout, shelves, visits
from matinee.domains.personalization.page.features import last_page, unfinished
from matinee.domains.personalization.wishes import Hidden, TasteReset, Unhidden, hidden, wishes
from matinee.testing import check_features, check_guard

NOW = datetime(2026, 3, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
MEMBERS, TITLES, SESSIONS = 60, 60, 12
KID, SILENT = 58, 59
UNLICENSED, GROWN_UP = 7, 8


def stamped(frame: pl.DataFrame, at: datetime = START) -> pl.DataFrame:
    when = pl.lit(at, pl.Datetime("us", "UTC"))
    return frame.with_columns(at=when, known=when)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> mt.Studio:
    made = mt.open(tmp_path_factory.mktemp("front") / "s", domains=["personalization"], clock=lambda: NOW)
    ids = list(range(TITLES))
    made.append(Title, stamped(pl.DataFrame({
        "title": ids, "name": [f"Title {i}" for i in ids], "genres": [["War"] if i % 2 else ["Drama"] for i in ids],
        "maturity": [18 if i == GROWN_UP else 0 for i in ids],
    })))  # fmt: skip
    made.append(Licence, stamped(pl.DataFrame({
        "title": ids, "territory": "*", "starts": [START] * TITLES,
        "ends": [NOW - timedelta(hours=1) if i == UNLICENSED else None for i in ids],
    }, schema_overrides={"ends": pl.Datetime("us", "UTC")})))  # fmt: skip
    kids = [m == KID for m in range(MEMBERS)]
    made.append(Member, stamped(pl.DataFrame(
        {"member": list(range(MEMBERS)), "kids": kids, "maturity": [6 if k else None for k in kids]}
    )))  # fmt: skip
    agreed = [str(m) for m in range(MEMBERS) if m != SILENT]
    made.append(mt.Consent, stamped(pl.DataFrame({"person": agreed, "purpose": "personalization", "granted": True})))
    rng = np.random.default_rng(0)
    rows = [
        (m, int(t), START + timedelta(days=4 * k, minutes=m))
        for m in range(MEMBERS)
        for k, t in enumerate(rng.choice(np.arange(m % 2, TITLES, 2), SESSIONS, replace=False))
    ]
    made.append(Played, pl.DataFrame({
        "member": [m for m, _, _ in rows], "title": [t for _, t, _ in rows], "seconds": 1800.0, "share": 0.95,
        "at": pl.Series([a for _, _, a in rows], dtype=pl.Datetime("us", "UTC")),
    }).with_columns(known=pl.col("at")))  # fmt: skip
    policies = train(made, layout=Layout(rows=5, columns=6, row_temperature=0.2))
    assert policies == ["front@1", "front@2", "front@3"]
    made.publish()
    made.release("front", "front@2", share=1.0)
    return made


def features(studio: mt.Studio, member: int) -> dict[str, Any]:
    return {**studio.features_of("taste", member), **studio.features_of("visits", member)}


def lawful(studio: mt.Studio, choice: mt.Choice, request: mt.Request | None = None) -> None:
    assert choice.fallback is None
    assert choice.action
    assert UNLICENSED not in choice.action
    assert len(set(choice.action)) == len(choice.action)
    assert all(0 < p <= 1 for p in choice.propensities)


def test_a_page_is_decided_under_the_guards_and_logged(studio: mt.Studio) -> None:
    choice = studio.decide("front", member=3, country="DE")
    lawful(studio, choice)
    assert choice.policy == "front@2"
    assert choice.blocked["licence window"] == [UNLICENSED]
    request, among, _, _ = studio.live.preview(front, 3, {"country": "DE"})
    assert check_slate(front, request, among, choice.action) == []
    studio.seal()
    logged = studio.choices("front").filter(pl.col("id") == choice.id).row(0, named=True)
    assert [int(a) for a in logged["action"]] == choice.action
    assert logged["propensities"] == choice.propensities


def test_a_page_can_be_judged_on_the_log_of_pages(studio: mt.Studio) -> None:
    """The page's own value on its own log is the mean of the log: every weight is one."""
    for member in range(20, 50):
        studio.decide("front", member=member, at=NOW + timedelta(minutes=1))  # after what the page model learned from
    studio.seal()
    later = mt.open(studio.root, clock=lambda: NOW + timedelta(days=6))
    found = later.evaluate("front", "front@2", record=False)
    assert found.evidence
    assert found.evidence[0].mean_weight == pytest.approx(1.0)
    later.close()


def test_the_page_leans_to_what_the_member_watches(studio: mt.Studio) -> None:
    for member, odd in ((3, 1), (4, 0)):
        first = shelves(studio.decide("front", member=member, dry=True))[0]
        assert np.mean([t % 2 == odd for t in first.titles]) > 0.6, first


def test_it_says_why_in_words_and_the_words_are_true(studio: mt.Studio) -> None:
    choice = studio.decide("front", member=3)
    own = features(studio, 3)
    shown = page(studio, choice, own)
    assert [t.title for row in shown for t in row.titles] == choice.action
    assert all(t.name == f"Title {t.title}" for row in shown for t in row.titles)
    history = {f"because you watched Title {t}" for t in recent(own)}
    said = {t.reason for row in shown for t in row.titles}
    assert said & history
    assert said <= history | {"popular with members now", "you watched it"} | {f"number {k} this week" for k in range(1, 11)}
    request, _, _, _ = studio.live.preview(front, 3, {})
    assert why(studio, request, choice.action[0]) in history | {"popular with members now"}


@pytest.mark.parametrize(("member", "context"), [(SILENT, {}), (3, {"profiled": False}), (KID, {})])
def test_a_page_without_profiling(studio: mt.Studio, member: int, context: dict[str, Any]) -> None:
    """Nobody's consent, the member's own request, a profile of kids: what is popular, and nothing of taste in it."""
    choice = studio.decide("front", member=member, **context)
    lawful(studio, choice)
    assert choice.context["profiled"] is False
    assert {row.kind for row in shelves(choice)} <= {"picked", "top", "new", "leaving", "genre"}
    shown = page(studio, choice, features(studio, member))
    assert "Popular now" in {row.heading for row in shown}
    assert all("watched" not in t.reason for row in shown for t in row.titles)
    # Others without profiling would get the very same page: nothing about the member has an influence.
    request, among, policy, _ = studio.live.preview(front, member, context)
    other, _, _, _ = studio.live.preview(front, 5, {"profiled": False})
    assert policy is not None
    u = np.random.default_rng(1).random(1600)
    limit = 6 if member == KID else 99
    same = among.take(np.flatnonzero(among.columns["maturity"] <= limit))
    pages = [policy.draw(r, same, 1600, uniforms=u).picked.tolist() for r in (request, other)]
    assert pages[0] == pages[1]


def test_nobody_can_profile_a_kid_by_asking(studio: mt.Studio) -> None:
    choice = studio.decide("front", member=KID, profiled=True, dry=True)
    assert choice.context["profiled"] is False
    assert GROWN_UP not in choice.action
    assert GROWN_UP in choice.blocked["maturity"]
    learned_from = studio.source("front").scan(Played, ["member"]).collect()["member"].unique().to_list()
    assert KID not in learned_from
    assert SILENT not in learned_from
    assert 3 in learned_from
    assert {KID, SILENT} <= set(studio.facts.scan(Played, ["member"]).collect()["member"].to_list())


def test_a_hidden_title_is_gone_at_once_and_comes_back_when_asked(studio: mt.Studio) -> None:
    title = studio.decide("front", member=9, dry=True).action[0]
    for decision in (front, home):
        assert any(isinstance(g, Unhidden) for g in decision.guards)
    studio.append(Hidden, stamped(pl.DataFrame({"member": [9], "title": [title], "hidden": [True]}), NOW))
    for context in ({}, {"profiled": False}):
        for _ in range(5):
            choice = studio.decide("front", member=9, dry=True, **context)
            assert title not in choice.action
            assert choice.blocked["hidden by the member"] == [title]
    assert "hidden by the member" not in studio.decide("front", member=10, dry=True).blocked
    studio.append(Hidden, stamped(pl.DataFrame({"member": [9], "title": [title], "hidden": [False]}), NOW))
    assert "hidden by the member" not in studio.decide("front", member=9, dry=True).blocked


def test_a_reset_forgets_what_was_before_and_nothing_after(studio: mt.Studio) -> None:
    assert len(recent(features(studio, 11))) == SESSIONS
    studio.append(TasteReset, stamped(pl.DataFrame({"member": [11]}), NOW - timedelta(hours=2)))
    assert recent(features(studio, 11)) == []
    choice = studio.decide("front", member=11)
    lawful(studio, choice)
    assert "because" not in {row.kind for row in shelves(choice)}
    later = stamped(pl.DataFrame({"member": [11], "title": [4], "seconds": [1800.0]}), NOW - timedelta(hours=1))
    studio.append(Played, later)
    assert recent(features(studio, 11)) == [4]
    assert len(recent(features(studio, 12))) == SESSIONS


def test_the_next_page_knows_the_last_one(studio: mt.Studio) -> None:
    own = {"shown_titles": [4, 6, 8], "shown_shelves": ["picked", None, "genre:War"]}
    assert last_page(own) == {"picked": [4], "genre:War": [8]}
    assert last_page({}) == {}
    assert unfinished({"begun": [1, 2, 1], "begun_share": [0.1, 0.5, 0.95]}) == [2]


def test_moods_are_tags_that_several_members_gave(tmp_path: Path) -> None:
    made = mt.open(tmp_path / "s", domains=["personalization"], clock=lambda: NOW)
    rows = [(1, m, " Dark ") for m in range(5)] + [(2, m, "dark") for m in range(4)] + [(1, 0, "x")]
    made.append(Tagged, stamped(pl.DataFrame(rows, schema=["title", "member", "tag"], orient="row")))
    assert moods(made.facts) == {1: ["dark"]}


def test_no_page_model_is_said(studio: mt.Studio) -> None:
    assert model_of(studio, "front@1").recommender.kind == "popular"
    studio.save_policy(home, mt.Uniform())
    with pytest.raises(mt.MatineeError, match="policy == 'home@1', must be one that draws pages"):
        model_of(studio, "home@1")


def test_the_parts_keep_the_platforms_promises() -> None:
    check_guard(Unhidden())
    for one in (wishes, visits, taste):
        check_features(one)
    assert hidden({}) == []
