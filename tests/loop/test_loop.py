"""The whole loop on one studio: facts, training, evidence, release, decisions, outcomes, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

import matinee as mt
from loop.running import Clock, decide_many, history, live_without_gates, open_films
from loop.small_domain import Watched, front, habit
from matinee.exceptions import BadInputError, RefusedError, ReleaseError
from matinee.judge import Evaluation
from matinee.releases import Release
from matinee.trial import Trial
from matinee.workshop import reproduce


def labels_of_watching(source: object) -> pl.DataFrame:
    """Labels from the pinned facts: whether a film that was begun was watched for twenty minutes."""
    rows = source.scan(Watched).collect()  # type: ignore[attr-defined]
    return rows.filter(pl.col("choice").is_null()).sort("seq").select(
        unit="viewer", at="at", action="film", y=(pl.col("seconds") > 1200).cast(pl.Float64)
    )


@dataclass
class Loop:
    studio: mt.Studio
    clock: Clock
    first: Release
    young: Evaluation
    evaluation: Evaluation
    refusal: str
    shared: Release
    trial: Trial


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Once around: each step uses what the one before left."""
    clock = Clock()
    with open_films(tmp_path_factory.mktemp("loop") / "films", clock) as studio:
        history(studio, clock)
        studio.publish()
        first = studio.release("front", mt.Uniform(), by="tests")
        decide_many(studio, clock, 300)
        studio.seal()
        young = studio.evaluate("front", "front@1")
        clock.forward(days=3)
        by_log = studio.train("front", mt.Logistic(), on=[habit], until=0.5)
        studio.train("front", mt.LightGBM(trees=10), on=[habit], name="by-labels", labels=labels_of_watching)
        policy = studio.save_policy("front", mt.Softmax(by_log, temperature=0.2, floor=0.1))
        with pytest.raises(ReleaseError) as refused:
            studio.release("front", policy, 0.5)
        evaluation = studio.evaluate("front", policy)
        shared = studio.release("front", policy, 0.5, note="try it", by="tests")
        decide_many(studio, clock, 300)
        clock.forward(days=3)
        studio.publish()
        studio.refresh()
        yield Loop(studio, clock, first, young, evaluation, str(refused.value), shared, studio.trial("front"))


def test_the_first_policy_is_live_for_everyone_after_its_gates(loop: Loop) -> None:
    assert [(a.policy, a.share, a.role) for a in loop.first.arms] == [("front@1", 1.0, "live")]


def test_every_choice_is_logged_once_with_an_exact_probability(loop: Loop) -> None:
    log = loop.studio.choices("front")
    assert len(log) == log["id"].n_unique() == 600
    assert log["fallback"].null_count() == 600
    uniform = log.filter(pl.col("policy") == "front@1")
    assert uniform["propensities"].list.first().to_list() == pytest.approx([1 / 6] * len(uniform))
    assert len(loop.studio.as_of(Watched).filter(pl.col("choice").is_not_null())) == 600


def test_the_evaluation_sees_what_is_better(loop: Loop) -> None:
    # By construction a film of four stars or more is liked in 80% of the cases, another in 20%: a uniform draw gives 0.5.
    found = loop.evaluation
    assert found.logged_value == pytest.approx(0.5, abs=0.1)
    assert found.interval is not None
    assert found.value is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert found.value == pytest.approx(0.76, abs=0.12)
    assert found.better
    assert "better" in str(found)


def test_a_release_without_evidence_is_refused_with_what_would_pass(loop: Loop) -> None:
    assert loop.refusal == (
        "gate 'evidence attached' is not passed: front@2 has no evidence, must be evaluated first (studio.evaluate), "
        "or released with without_evidence='the reason'"
    )


def test_a_share_of_the_units_is_decided_by_the_challenger_and_stays_with_it(loop: Loop) -> None:
    assert [(a.policy, a.share, a.role) for a in loop.shared.arms] == [
        ("front@1", 0.5, "live"), ("front@2", 0.5, "challenger"),
    ]  # fmt: skip
    since = loop.studio.choices("front").filter(pl.col("arm") == "challenger")
    units = since.group_by("unit").agg(pl.col("policy").n_unique())
    assert set(since["policy"]) == {"front@2"}
    assert 15 <= len(units) <= 45
    others = loop.studio.choices("front", limit=300).filter(pl.col("arm") == "live")
    assert not set(units["unit"]) & set(others["unit"])


def test_the_trial_compares_the_arms_and_says_it_is_too_early(loop: Loop) -> None:
    live, challenger = loop.trial.arms
    assert (live["policy"], challenger["policy"]) == ("front@1", "front@2")
    assert live["units"] + challenger["units"] == 60
    assert challenger["value"] > live["value"]
    assert "not yet" in str(loop.trial)


@pytest.mark.parametrize("name", ["front-ranker@1", "by-labels@1"])
def test_a_retrain_from_the_pins_is_the_same_to_the_bit(loop: Loop, name: str) -> None:
    again = reproduce(loop.studio, name)
    assert (again.same_data, again.same_model, again.erased) == (True, True, 0)


def test_the_lineage_leads_from_the_fact_to_the_live_decision(loop: Loop) -> None:
    uris = {r["uri"]: r["steps"] for r in loop.studio.impact("fact://watched").rows()}
    assert uris["model://front-ranker@1"] < uris["policy://front@2"]
    assert {"decision://front", "policy://front@2", "model://by-labels@1"} <= uris.keys()


def test_leverage_measures_this_studio(loop: Loop) -> None:
    found = loop.studio.leverage()
    assert (found.decisions_live, found.decisions, found.choices) == (1, 4, 600)
    assert found.with_propensity == 1.0
    assert found.releases_evaluated == 1.0  # the first release was evaluated too
    assert found.unused_models == ("by-labels@1",)


def test_the_doctor_finds_nothing_broken(loop: Loop) -> None:
    report = loop.studio.doctor()
    assert report.healthy, str(report)
    assert {f.check for f in report.findings} >= {"tables", "log", "models", "releases", "online store", "erasures"}


def test_rewards_that_are_not_complete_are_not_evaluated(loop: Loop) -> None:
    assert loop.young.value is None
    assert loop.young.interval is None
    assert "wait until the reward's time is over" in str(loop.young)
    assert loop.young.left_out == {"their reward is not complete yet": 300}


def test_too_little_data_gives_no_number_but_what_is_missing(loop: Loop) -> None:
    since = loop.studio.choices("front", limit=320)["at"].min()
    until = loop.studio.choices("front", limit=301)["at"].min()
    small = loop.studio.evaluate("front", "front@2", since=since, until=until, record=False)
    assert small.value is None
    assert small.difference is None
    assert small.refused
    assert "no value:" in str(small)


def test_advice_is_not_evaluated_as_if_it_were_drawn(loop: Loop) -> None:
    with pytest.raises(RefusedError, match="advise mode, must be judged by back-test"):
        loop.studio.evaluate("dub", mt.Uniform())


def test_a_rollback_decides_for_everybody_again_and_erasure_is_told_by_the_lineage(loop: Loop) -> None:
    back = loop.studio.rollback("front", note="enough", by="tests")
    assert [(a.policy, a.share) for a in back.arms] == [("front@1", 1.0)]
    made = decide_many(loop.studio, loop.clock, 60)
    assert Counter(c.policy for c in made) == {"front@1": 60}
    assert [r.number for r in loop.studio.releases.all("front")] == [3, 2, 1]
    with pytest.raises(ReleaseError, match="first one, must have one before it"):
        loop.studio.rollback("front")
    erased = loop.studio.erase("viewer", 7)
    assert erased.pins["watched@train-front-ranker-1"] == 12  # 7 of the history, 5 of the first 300 choices
    assert erased.pins["choices@train-front-ranker-1"] == 5
    again = reproduce(loop.studio, "front-ranker@1")
    assert not again.same_data
    assert again.erased == 17
    assert "17 rows were erased from its pinned set" in str(again)


def test_online_features_in_a_decision_are_those_of_the_batch_at_its_time(served: mt.Studio, clock: Clock) -> None:
    asked = []
    for k in range(40):
        viewer = (7 * k) % 9  # each comes back, so that what was recorded meanwhile must be seen
        clock.forward(minutes=37)
        choice = served.decide("front", viewer, age=18)
        asked.append((viewer, choice.at, served.live.features_of(habit, viewer, choice.at)))
        if k % 3 == 0:
            served.record(choice, "watched", {"viewer": viewer, "film": choice.action[0], "seconds": float(100 * k)})
        if k == 20:
            served.publish()
            served.refresh()
        if k % 10 == 5:
            served.append("watched", pl.DataFrame({"viewer": [viewer], "film": [2], "seconds": [55.0], "at": [clock()]}))
    served.seal()
    labels = pl.DataFrame([(v, t) for v, t, _ in asked], schema=["viewer", "at"], orient="row")
    batch = habit.batch(served.facts, labels.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))
    for (viewer, at, online), row in zip(asked, batch.iter_rows(named=True), strict=True):
        for name in habit.names:
            assert online[name] == pytest.approx(row[name]), (viewer, at, name)


def test_an_appended_fact_is_online_at_once(served: mt.Studio, clock: Clock) -> None:
    before = served.features_of("habit", 3)
    clock.forward(minutes=1)
    served.append("watched", pl.DataFrame({"viewer": [3], "film": [5], "seconds": [1000.0], "at": [clock()]}))
    after = served.features_of("habit", 3)
    assert after["plays"] == before["plays"] + 1
    assert after["seconds"] == before["seconds"] + 1000.0
    assert after["last"] == 5


def test_two_servers_on_one_folder_and_an_outcome_that_both_heard_of_counts_once(served: mt.Studio, clock: Clock) -> None:
    served.seal()
    before = len(served.as_of("watched"))
    with open_films(served.root, clock) as other:
        made = [s.decide("front", 21, age=18) for s in (served, other)]
        assert all(c.fallback is None for c in made)
        for studio in (served, other, other, served):
            for k, choice in enumerate(made):
                row = {"viewer": 21, "film": choice.action[0], "seconds": 1500.0}
                studio.record(choice, "watched", row, id=f"two-servers-{k}", at=made[-1].at)
        other.seal()
        served.seal()
        served.seal()
    log = served.choices("front").filter(pl.col("id").is_in([c.id for c in made]))
    assert len(log) == 2
    clock.forward(seconds=1)
    assert len(served.as_of("watched")) == before + 2


def test_without_consent_a_unit_is_neither_profiled_nor_trained_on(served: mt.Studio, clock: Clock) -> None:
    wrote = [{"account": a, "text": "hello", "stars": 4, "at": clock()} for a in ("yes", "no", "ended")]
    served.append("wrote", wrote)
    consent = [
        {"person": "yes", "purpose": "letters", "granted": True, "at": clock()},
        {"person": "no", "purpose": "letters", "granted": False, "at": clock()},
        {"person": "ended", "purpose": "letters", "granted": True, "until": clock(), "at": clock()},
        {"person": "other", "purpose": "voice", "granted": True, "at": clock()},
    ]
    served.append("consent", consent)
    clock.forward(minutes=1)
    at = clock()
    units = ["yes", "no", "ended", "other", "never"]
    labels = pl.DataFrame({"unit": units, "at": [at] * 5, "action": ["mail"] * 5, "y": [1.0, 0.0, 1.0, 0.0, 1.0]})
    labels = pl.concat([labels, labels.with_columns(action=pl.lit("call"), y=1 - pl.col("y"))])
    model = served.train("letter", mt.Logistic(), on=[served.features["voice"]], labels=labels, name="letters", action=True)
    record = served.graph.get(f"model://{model.name}").data
    assert (record["rows"], record["refused_without_consent"]) == (2, 8)
    rules = {f"consent for 'letters' {why}": 2 for why in ("was withdrawn", "has ended")}
    assert record["refused_by_rule"] == {**rules, "no consent for 'letters' was ever given": 4}
    by_function: dict[str, Any] = {"on": [served.features["voice"]], "labels": lambda source: labels, "action": True}
    model = served.train("letter", mt.Logistic(), name="letters", **by_function)
    assert served.graph.get(f"model://{model.name}").data["refused_without_consent"] == 8
    with pytest.raises(BadInputError, match="no unit has consent for 'letters' and 'voice' in force"):
        served.train("letter", mt.Logistic(), consent="voice", **by_function)
    live_without_gates(served, "letter", mt.Softmax(model))
    seen = {}
    for unit in units:
        request, *_ = served.live.preview(served.decision("letter"), unit, {})
        seen[unit] = (request.features.get("letters"), served.decide("letter", unit).context.get("profiled", True))
    assert seen["yes"] == (1, True)
    assert {u: s for u, s in seen.items() if u != "yes"} == dict.fromkeys(units[1:], (None, False))


def test_a_person_decides_on_advice_and_the_log_says_who(served: mt.Studio) -> None:
    advice = served.decide("dub", "someone")
    assert advice.action == []
    assert [(a.option, a.blocked_by) for a in advice.advice if a.blocked_by] == [("mail", "not by mail")]
    made = served.choose(advice, "call", by="Ada")
    with pytest.raises(mt.MatineeError, match="'mail' is kept out by 'not by mail'"):
        served.choose(advice, "mail", by="Ada")
    with pytest.raises(mt.MatineeError, match="must name the person"):
        served.choose(advice, "call", by="")
    with pytest.raises(mt.MatineeError, match="did you mean 'call'"):
        served.choose(advice, "cal", by="Ada")
    served.seal()
    log = served.choices("dub").filter(pl.col("chosen_by") == "Ada")
    assert log["id"].to_list() == [made.id]
    assert log["action"].to_list() == [["call"]]
    assert advice.id in log["context"][0]


def test_what_was_declared_is_what_is_decided() -> None:
    assert front.guard_names == ["maturity"]
