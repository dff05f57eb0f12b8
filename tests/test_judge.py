"""Judging from the log: a policy is judged on choices that it did not learn from, and the evidence says which."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.decisions import choose
from matinee.exceptions import BadInputError, MatineeError
from matinee.scorers import register

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
CHOICES = 600
AGAIN = (400, 401)  # for members who had a choice three hours before


class Bought(mt.Fact, key="member"):
    """A member bought something."""

    member: int
    amount: int


offer = mt.Decision("offer", unit="member", among=["red", "blue"], reward=mt.did(Bought, within="6h"))


def choice(i: int) -> mt.Choice:
    """One an hour, each for a member of its own, drawn by a fair coin."""
    action = ["red", "blue"][int(np.random.default_rng(i).random() < 0.5)]
    return mt.Choice(
        id=f"c-{i}", decision="offer", unit=i - 3 * (i in AGAIN), at=BEGAN + timedelta(hours=i), policy="coin",
        candidates=["red", "blue"],
        action=[action], propensities=[0.5],
    )  # fmt: skip


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[mt.Studio]:
    """Six hundred choices; every second of those that were red was followed by a purchase that names its choice."""
    made = [choice(i) for i in range(CHOICES)]
    bought = [c for i, c in enumerate(made) if c.action == ["red"] and i % 2]
    with mt.open(tmp_path / "s", clock=lambda: BEGAN + timedelta(days=40)) as found:
        found.use(mt.Domain("shop", facts=[Bought], decisions=[offer]))
        found.log(made)
        rows = {"member": [c.unit for c in bought], "amount": 1, "choice": [c.id for c in bought]}
        at = [c.at + timedelta(hours=1) for c in bought]
        found.append(Bought, pl.DataFrame(rows).with_columns(pl.Series("at", at), pl.Series("known", at)))
        yield found


def saved(studio: mt.Studio, until: datetime | float | None, name: str = "ranker") -> str:
    ranker = studio.train("offer", mt.Linear(), on=[], action=True, until=until, name=name)
    return studio.save_policy("offer", mt.Softmax(ranker, temperature=0.3, floor=0.3))


def test_a_policy_is_judged_on_later_choices_than_it_learned_from(studio: mt.Studio) -> None:
    found = studio.evaluate("offer", saved(studio, BEGAN + timedelta(hours=400)))
    head = found.headline
    assert head is not None
    assert head.n == 200
    assert found.value is not None
    assert "judged on 200 choices from 2026-03-17 16:00 to 2026-03-25 23:00" in str(found)
    assert "ranker@1 learned up to 2026-03-17 15:00" in str(found)
    assert [n for why, n in found.left_out.items() if "learned from them" in why] == [400]
    assert studio.evidence("offer")[0]["judged_on"] == found.judged_on
    mean = studio.evaluate("offer", mt.Uniform()).headline
    assert mean is not None
    assert mean.n == CHOICES  # it learned from nothing


def test_since_cannot_bring_back_what_was_learned_from(studio: mt.Studio) -> None:
    found = studio.evaluate("offer", saved(studio, 0.5), since=BEGAN)
    assert found.headline is not None
    assert found.headline.n == 300
    fewer = studio.evaluate("offer", "offer@1", since=BEGAN + timedelta(hours=500))
    assert fewer.headline is not None
    assert fewer.headline.n == 100


def test_what_learned_from_everything_is_refused_and_told_what_is_missing(studio: mt.Studio) -> None:
    found = studio.evaluate("offer", saved(studio, None))
    assert found.value is None
    assert found.refused is not None
    assert "ranker@1 learned from choices up to 2026-03-25 23:00" in found.refused
    assert "until=2/3" in found.refused
    assert found.rows()[0]["policy"] == "offer@1"


def test_of_two_that_are_compared_the_one_that_learned_longer_decides(studio: mt.Studio) -> None:
    early, late = saved(studio, 0.5), saved(studio, 0.75, "late")
    found = studio.evaluate("offer", early, against=late)
    assert found.headline is not None
    assert found.headline.n == 150
    assert "late@1 learned up to" in found.judged_on


def test_a_model_inside_another_counts_as_learned_from(studio: mt.Studio) -> None:
    inner = studio.train("offer", mt.Linear(), on=[], action=True, until=0.9, name="inner")
    outer = studio.train("offer", mt.Linear(), on=[inner], until=0.5, name="outer")
    found = studio.evaluate("offer", mt.Softmax(outer, temperature=0.3, floor=0.5))
    assert found.headline is not None
    assert found.headline.n == 60
    assert "inner@1 learned up to" in found.judged_on


def test_an_outcome_that_names_no_choice_may_have_been_learned(studio: mt.Studio) -> None:
    cut = BEGAN + timedelta(hours=400)
    policy = saved(studio, cut)
    loose = pl.DataFrame({"member": [397, 398, 405, 500], "amount": 1}).with_columns(
        at=pl.Series([cut + timedelta(hours=h) for h in (2, 3, 4, 101)]),
        known=pl.Series([cut + timedelta(hours=h) for h in (2, 3, 4, 101)]),
    )
    studio.append(Bought, loose)
    found = studio.evaluate("offer", policy)
    assert found.headline is not None
    # But for the two members with a choice before and after the cut; 405 had none before.
    assert found.headline.n == 198
    assert [n for why, n in found.left_out.items() if "as the reward of a choice before" in why] == [2]


class Rates(mt.Linear):
    """A model of the reward that notes how many rows it was fitted on."""

    fitted_on: ClassVar[list[int]] = []

    def fit(self, X: Any, y: Any, **options: Any) -> Any:
        self.fitted_on.append(len(y))
        return super().fit(X, y, **options)


@pytest.mark.parametrize("allowing", [range(0, CHOICES, 2), range(0)], ids=["every second allows", "nobody allows"])
def test_a_model_of_the_reward_learns_only_from_units_that_allow_it(studio: mt.Studio, allowing: range) -> None:
    """Who allows it buys after red only, the others nearly always: a rate of 1/2, or of 2/3 were it learned from everybody."""
    asking = mt.Decision("asking", unit="member", among=["red", "blue"], reward=mt.did(Bought, within="6h"), consent="letters")
    studio.use(mt.Domain("post", facts=[Bought], decisions=[asking]))
    made = [msgspec.structs.replace(choice(i), id=f"a-{i}", decision="asking", unit=i) for i in range(CHOICES)]
    studio.log(made)
    bought = [c for i, c in enumerate(made) if (c.action == ["red"] and i in allowing) or (i not in allowing and i % 5)]
    at = [c.at + timedelta(minutes=5) for c in bought]
    rows = {"member": [c.unit for c in bought], "amount": 1, "choice": [c.id for c in bought], "at": at, "known": at}
    studio.append(Bought, pl.DataFrame(rows))
    early = BEGAN - timedelta(days=1)
    said = [{"person": str(m), "purpose": "letters", "granted": True, "at": early, "known": early} for m in allowing]
    said += [{**one, "granted": False, "person": str(int(one["person"]) + 1)} for one in said]
    if said:
        studio.append(mt.Consent, said)
    Rates.fitted_on.clear()
    for q in (None, Rates):
        found = studio.evaluate("asking", mt.Uniform(), q=q)
        value = {e.method: e.value for e in found.evidence}["dm"]
        assert value == pytest.approx(0.5 if allowing else 0.0, abs=0.04), q
        assert found.logged_value == pytest.approx(len(bought) / CHOICES), "everybody is counted"
        assert f"the reward's model learned from {len(allowing)} of them, whose units allow 'letters' now" in str(found)
    assert sum(Rates.fitted_on) == 2 * len(allowing)  # each in two of three folds
    assert "the reward's model" not in str(studio.evaluate("offer", mt.Uniform(), record=False))


def test_a_kept_scorer_learned_up_to_now_unless_it_says_otherwise(studio: mt.Studio) -> None:
    ranker = studio.train("offer", mt.Linear(), on=[], action=True, dry=True)
    studio.keep("told", ranker, facts=[Bought], learned_until=BEGAN + timedelta(hours=299))
    told = studio.evaluate("offer", mt.Softmax(ranker, temperature=0.3, floor=0.3))
    assert told.headline is not None
    assert told.headline.n == 300
    studio.keep("silent", ranker, facts=[Bought])
    assert studio.evaluate("offer", mt.Softmax(ranker, temperature=0.3, floor=0.3)).value is None
    studio.keep("rule", ranker)
    free = studio.evaluate("offer", mt.Softmax(ranker, temperature=0.3, floor=0.3))
    assert free.headline is not None
    assert free.headline.n == CHOICES


def test_a_model_of_a_part_of_the_log_is_made_again_to_the_bit(studio: mt.Studio) -> None:
    from matinee.workshop import reproduce

    saved(studio, 0.5)
    again = reproduce(studio, "ranker@1")
    assert again.same_data
    assert again.same_model


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 7.0])
def test_a_share_is_between_none_and_all(studio: mt.Studio, share: float) -> None:
    with pytest.raises(MatineeError, match="until == "):
        saved(studio, share)


def test_labels_are_their_own_cut(studio: mt.Studio) -> None:
    labels = pl.DataFrame({"unit": [1], "at": [BEGAN], "action": ["red"], "y": [1.0]})
    with pytest.raises(BadInputError, match="labels and until are both given"):
        studio.train("offer", mt.Linear(), on=[], action=True, labels=labels, until=0.5)
    with pytest.raises(BadInputError, match=r"complete before 2026-02-01"):
        saved(studio, datetime(2026, 2, 1, tzinfo=UTC))


def explained(studio: mt.Studio, model: mt.LightGBM | mt.Logistic) -> None:
    """The parts of each candidate's score and the model's base add up to the score before the link."""
    ranker = studio.train("offer", model, on=[], action=True, clock=True)
    options = offer.options.candidates() if offer.options is not None else None
    assert options is not None
    request = mt.Request("offer", 1, BEGAN, {}, {})
    scores = ranker.score(request, options).mean
    logits = np.log(scores / (1 - scores))
    for index in (0, 1):
        parts = ranker.explain(request, options, index)
        assert set(parts) == {"action", "clock.hour", "clock.weekday"}
        matrix = ranker.model.encode(ranker.columns(request, options), 2)
        base = model.contributions_array(matrix)[index, -1]
        assert sum(parts.values()) + base == pytest.approx(logits[index], abs=1e-9)
    assert ranker.explain(request, options, 0)["action"] > 0 > ranker.explain(request, options, 1)["action"]
    assert studio.scorer(ranker.name).explain(request, options, 0) == ranker.explain(request, options, 0)  # type: ignore[attr-defined]


def test_a_trained_model_says_what_moved_a_score(studio: mt.Studio) -> None:
    explained(studio, mt.LightGBM(trees=10))
    explained(studio, mt.Logistic())
    silent = studio.train("offer", mt.Popularity("action"), on=[], action=True)
    options = offer.options.candidates() if offer.options is not None else None
    assert options is not None
    assert silent.explain(mt.Request("offer", 1, BEGAN, {}, {}), options, 0) == {}


def test_what_is_advised_carries_its_drivers(studio: mt.Studio) -> None:
    from matinee.decisions import choose

    ranker = studio.train("offer", mt.LightGBM(trees=10), on=[], action=True)
    advised = mt.Decision("advised", unit="member", among=["red", "blue"], mode="advise")
    assert advised.options is not None
    made = choose(
        advised,
        mt.Greedy(ranker),
        mt.Request("advised", 1, BEGAN, {}, {}),
        advised.options.candidates(),
        uniforms=np.array([0.5]),
    )
    assert [set(a.drivers) for a in made.advice] == [{"action"}, {"action"}]
    assert made.advice[0].option == "red"
    assert made.advice[0].drivers["action"] > made.advice[1].drivers["action"]


@register
class RedFirst:
    """A scorer to which one option is worth far more than the others."""

    kind: ClassVar[str] = "test-red-first"
    name, needs = "", ()

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        return mt.Scores(np.where(candidates.ids == "red", 5.0, 0.0))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def load(cls, folder: Path) -> RedFirst:
        return cls()


def test_a_title_that_would_be_shown_once_is_counted_once(tmp_path: Path) -> None:
    """Three of six options a page, one of them worth 1. Under the logged slots above, the policy would show it in each."""
    page = mt.Decision(
        "page", unit="member", among=["red", "blue", "green", "grey", "pink", "teal"], slots=3,
        reward=mt.own(lambda rows: (rows["action"] == "red").cast(pl.Float64)),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with mt.open(tmp_path / "s", clock=lambda: BEGAN + timedelta(days=60)) as studio:
        studio.use(mt.Domain("shop", facts=[Bought], decisions=[page]))
        even = studio.save_policy("page", mt.Uniform())
        assert page.options is not None
        studio.log(
            choose(
                page, mt.Uniform(), mt.Request("page", i, BEGAN + timedelta(hours=i), {}, {}), page.options.candidates(),
                uniforms=rng.random(3), policy_name=even,
            )
            for i in range(1200)
        )  # fmt: skip
        scorer = RedFirst()
        scorer.name = studio.keep("red-first", scorer)
        found = studio.evaluate("page", mt.Softmax(scorer, temperature=1.0, floor=0.05))
        by_method = {e.method: e for e in found.evidence}
        alone = by_method["independent-ips"]
        assert alone.low is not None and alone.high is not None
        # It stands first with chance .95 x .967 + .05 / 6 = .927, and it is on all but one page in a thousand.
        assert alone.low <= 1.0 <= alone.high
        assert alone.high < 1.2
        assert found.logged_value == pytest.approx(0.5, abs=0.05)
        studio.log([mt.Choice(
            id="foreign", decision="page", unit=5, at=BEGAN + timedelta(days=55), policy="elsewhere",
            candidates=["red", "blue"], action=["red", "blue"], propensities=[0.5, 1.0],
        )])  # fmt: skip
        again = studio.evaluate("page", mt.Softmax(scorer, temperature=1.0, floor=0.05))
        assert "independent-ips" not in {e.method for e in again.evidence}, "of a foreign draw only the prefix is known"
