"""The ranker that learns from the log: weighted, made again to the bit, monotone; better than its parts in a known world."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import matinee as mt
from matinee.demo import home as pages_of
from matinee.demo.parts import Clock
from matinee.domains.personalization import ranking
from matinee.domains.personalization.home import home
from matinee.exceptions import BadInputError
from matinee.workshop import reproduce
from matinee.worlds import StreamingService


def served(
    root: Path, *, members: int, titles: int, days: int, pages: int, recipe: bool
) -> tuple[mt.Studio, StreamingService]:
    """A simulated service whose studio has logged home pages, drawn by the recipe's baseline or at random."""
    seed = 0
    world = StreamingService(seed=seed, members=members, titles=titles, days=days)
    clock = Clock(world.now)
    studio = mt.open(root, domains=["personalization"], clock=clock)
    frames = world.frames()
    for name in ("member", "consent", "title", "licence", "shown", "played"):
        studio.append(name, frames[name])
    made = (
        studio.domains["personalization"].recipes["home"](studio)
        if recipe
        else [studio.save_policy(home, mt.Uniform())]
    )
    studio.publish()
    studio.release("home", made[0], 1.0, note="explored", by="test")
    studio.refresh()
    rng = np.random.default_rng(seed)
    visits: list[tuple[int, datetime, str]] = []
    while len(visits) < pages:
        visits += pages_of._visits(world, world.now, rng)
    visits = sorted(visits[:pages], key=lambda visit: visit[1])
    pages_of._serve_pages(studio, world, clock, visits, rng, lambda *_: None, world.end)
    clock.now = world.now + timedelta(days=6)
    studio.seal()
    return studio, world


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> mt.Studio:
    return served(tmp_path_factory.mktemp("ranking") / "s", members=40, titles=40, days=12, pages=540, recipe=False)[0]


def test_it_learns_from_the_log_and_is_made_again_to_the_bit(small: mt.Studio) -> None:
    name = ranking.learn(small)
    policy = small.policy(name)
    ranker = policy.scorers()[0]
    assert ranker.name == "home-order@1"
    assert set(ranker.parts) == {  # type: ignore[attr-defined]  # it is a Trained
        "home-place-popular", "home-place-fresh", "home-place-following", "home-place-together", "home-in_vain",
        "home-played", "home-finished", "home-language",
    }  # fmt: skip
    again = reproduce(small, "home-order@1")
    assert (again.same_data, again.same_model) == (True, True)
    choice = small.decide("home", 1, {"device": "tv"}, dry=True)
    assert len(choice.action) == home.slots


def test_another_weighing_is_another_model_and_is_recorded(small: mt.Studio) -> None:
    middle = small.choices("home")["at"].median()
    half = ranking.learn(small, weights=mt.LogWeights(clip=4.0, position=False))
    node = small.graph.get(f"model://{small.policy(half).scorers()[0].name}").data
    assert node["weights"] == {"clip": 4.0, "position": False, "most": 10.0}
    with pytest.raises(mt.MatineeError, match="must be at least 500 to learn from"):
        ranking.learn(small, until=middle)


def test_what_was_shown_in_vain_never_helps(small: mt.Studio) -> None:
    ranker = small.scorer("home-order")
    candidates = small.sample_request("home", most=10**9)[1]
    known = {"rated_recently": [], "played_recently": [1, 2], "titles_shown": {}, "shown_30m": 0}
    fresh = ranker.score(mt.Request("home", 1, small.clock(), {"device": "tv"}, known), candidates).mean
    tired = dict.fromkeys(candidates.ids.tolist(), 9)
    weary = ranker.score(
        replace(
            mt.Request("home", 1, small.clock(), {"device": "tv"}, known), features={**known, "titles_shown": tired}
        ),
        candidates,
    ).mean
    assert (weary <= fresh + 1e-12).all()


def test_labels_and_the_log_are_one_or_the_other(small: mt.Studio) -> None:
    with pytest.raises(BadInputError, match="must be one: until, since, weights and proxy"):
        small.train(home, mt.LightGBM(), on=[], labels=lambda _source: None, weights=mt.LogWeights())  # type: ignore[arg-type,return-value]


@pytest.mark.slow
def test_rankers_beat_their_parts_where_the_truth_is_known(tmp_path: Path) -> None:
    """Both rankers, from plays and from the log, against popularity and the best recommender: true values over the same
    visits, drawn an eighth as warm as the recipe does so that the order shows, twice the joint standard error between."""
    studio, world = served(tmp_path / "s", members=400, titles=300, days=60, pages=3000, recipe=True)
    true = {}
    for name in ("home@1", "home@2", "home@3", ranking.learn(studio)):
        policy = studio.policy(name)
        if isinstance(policy, mt.Softmax):
            policy = mt.Softmax(policy.scorer, temperature=policy.temperature / 8)
        true[name] = pages_of._true_pages(studio, world, studio.save_policy(home, policy))
    parts, rankers = list(true.values())[:2], list(true.values())[2:]
    for ours in rankers:
        for other in parts:
            assert ours.value - other.value > 2 * np.hypot(ours.error, other.error), true
