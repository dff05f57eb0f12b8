"""What the console shows of personalization: rows with reasons, genres, and one title; and that exposure can be released."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.console.building import StudioSource
from matinee.console.source import PreviewQuery
from matinee.domains.personalization.facts import Licence, Played, Title
from matinee.domains.personalization.front import front, train
from matinee.domains.personalization.page import Layout
from matinee.domains.personalization.showings import about, genres, history, list_rows, page_rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
START = NOW - timedelta(days=60)
TITLES, MEMBERS = 48, 40


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> mt.Studio:
    made = mt.open(tmp_path_factory.mktemp("showings") / "s", domains=["personalization"], clock=lambda: NOW)
    when = {"at": pl.lit(START, pl.Datetime("us", "UTC")), "known": pl.lit(START, pl.Datetime("us", "UTC"))}
    ids = list(range(TITLES))
    names = {"title": ids, "name": [f"Title {i}" for i in ids], "genres": [["War", "Drama"] if i % 2 else ["Drama"] for i in ids]}
    made.append(Title, pl.DataFrame(names).with_columns(**when))
    lent = {"title": ids, "territory": "*", "starts": [START] * TITLES}
    made.append(Licence, pl.DataFrame(lent).with_columns(**when))
    agreed = {"person": [str(m) for m in range(MEMBERS)], "purpose": "personalization", "granted": True}
    made.append(mt.Consent, pl.DataFrame(agreed).with_columns(**when))
    rng = np.random.default_rng(0)
    rows = [
        (m, int(t), START + timedelta(days=3 * k, minutes=m))
        for m in range(MEMBERS)
        for k, t in enumerate(rng.choice(np.arange(m % 2, TITLES, 2), 12, replace=False))
    ]
    plays = {"member": [m for m, _, _ in rows], "title": [t for _, t, _ in rows], "seconds": 1800.0, "share": 0.95}
    at = pl.Series([a for _, _, a in rows], dtype=pl.Datetime("us", "UTC"))
    made.append(Played, pl.DataFrame(plays).with_columns(at=at, known=at))
    assert train(made, layout=Layout(rows=4, columns=6, row_temperature=0.2)) == ["front@1", "front@2", "front@3"]
    made.publish()
    made.release("front", "front@2", share=1.0)
    return made


def rehearsed(studio: mt.Studio, member: int, policy: str = "", **context: object) -> tuple[mt.Choice, mt.Request]:
    made = studio.live.rehearse(front, member, context, policy=policy)
    return made.choice, made.request


def test_rows_have_headings_reasons_and_the_chances_of_the_log(studio: mt.Studio) -> None:
    choice, request = rehearsed(studio, 3)
    rows = page_rows(studio, choice, request)
    assert [i for row in rows for i in row.candidates] == choice.action
    assert all(len(row.reasons) == len(row.candidates) for row in rows)
    reasons = {r for row in rows for r in row.reasons}
    own = {f"because you watched Title {i}" for i in history(request)}
    assert any(r in own for r in reasons) and all(0 < row.chance <= 1 for row in rows)
    logged = page_rows(studio, choice, None)  # of the log only what it says is known
    assert [(r.heading, r.candidates) for r in logged] == [(r.heading, r.candidates) for r in rows]
    assert all(r.reasons == () for r in logged)


def test_nothing_of_a_member_is_said_without_profiling(studio: mt.Studio) -> None:
    choice, request = rehearsed(studio, 3, profiled=False)
    rows = page_rows(studio, choice, request)
    assert history(request) == [] and not any("because you" in r for row in rows for r in row.reasons)
    assert not any(row.heading == "Picked for you" for row in rows)


def test_a_policy_without_a_page_model_claims_no_reason(studio: mt.Studio) -> None:
    name = studio.save_policy(front, mt.Uniform())
    choice, request = rehearsed(studio, 3, name)
    rows = page_rows(studio, choice, request)
    assert [row.heading for row in rows] == ["Titles for you"] and rows[0].reasons == ()
    assert list_rows(studio, mt.Choice(id="a", decision="home", unit=1, at=NOW, policy="home@1", action=[]), None) == []


def test_genres_are_split_evenly_and_the_measure_is_stecks(studio: mt.Studio) -> None:
    kinds = genres(studio)
    assert kinds.names == ("Drama", "War") and kinds.mix([1, 2]).tolist() == [0.75, 0.25]
    assert kinds.apart(kinds.mix([1]), kinds.mix([1])) == 0.0 < kinds.apart(kinds.mix([1]), kinds.mix([2]))
    assert kinds.of(10**9) is None and kinds.mix([10**9]).tolist() == [0.0, 0.0]


def test_a_title_has_its_neighbours_and_no_progress_where_no_live_policy_keeps_a_share(studio: mt.Studio) -> None:
    found = about(studio, 4)
    assert found.similar_by == studio.shelf.newest("front-page") and 4 not in {i for i, _ in found.similar}
    near = [v for _, v in found.similar]
    assert near == sorted(near, reverse=True) and np.mean([i % 2 == 0 for i, _ in found.similar]) > 0.6
    assert found.progress == () and about(studio, 10**6).similar == ()


def test_exposure_passes_the_gates_and_its_progress_is_told(studio: mt.Studio) -> None:
    studio.release("front", "front@3", share=0.5, without_evidence="a test")
    (progress,) = about(studio, 4).progress
    assert (progress.policy, progress.shown, progress.enough, progress.share, progress.budget) == ("front@3", 0.0, 200, 0.05, 2)
    assert progress.owed == 200
    side = StudioSource(studio).preview("front", PreviewQuery("3", policy="front@3")).sides[0]
    assert side.young == side.slots  # nothing was shown to anybody yet


def test_a_rehearsal_is_what_would_be_decided_and_is_repeated(studio: mt.Studio, tmp_path: Path) -> None:
    first, again = (studio.live.rehearse(front, 5, {}, policy="front@2", draw=4) for _ in range(2))
    assert first.choice.action == again.choice.action and first.choice.propensities == again.choice.propensities
    other = studio.live.rehearse(front, 5, {}, policy="front@2", draw=5)
    assert other.choice.action != first.choice.action
    with pytest.raises(mt.exceptions.UnknownNameError):
        studio.live.rehearse(front, 5, {}, policy="front@99")
