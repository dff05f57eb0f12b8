"""The front page: the decision over whole pages, its guards, how it is trained, and what is on it in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matinee as mt
from matinee.domains.personalization.exploration import Exposure
from matinee.domains.personalization.facts import Licence, Played, Tagged, Title
from matinee.domains.personalization.features import recent
from matinee.domains.personalization.home import PERIOD, QUALIFIED, Profiled, _quantile, events
from matinee.domains.personalization.home import names as names_of
from matinee.domains.personalization.page import Layout, PageModel, Pages, Relevance, Shelf, Titles
from matinee.domains.personalization.page.features import unfinished
from matinee.domains.personalization.page.settings import MOST
from matinee.domains.personalization.page.words import POPULAR, ShownRow, in_words
from matinee.domains.personalization.page.words import reason as reason_of
from matinee.domains.personalization.recommenders import Histories, Popular, Recommender, Together
from matinee.domains.personalization.wishes import Unhidden

Progress = Callable[..., None]
MOODS, TAGGED = 40, 5  # tags that make moods: the most used ones, each put on a title so many times

front = mt.Decision(
    "front",
    title="Front page",
    unit="member",
    among="title",
    slots=MOST * MOST,
    reward=mt.did(Played, within="48h", where=Played.seconds >= QUALIFIED),
    reward_unit="qualified plays",
    guards=[mt.licensed(Licence, territory="territory"), Profiled(), Unhidden()],
    consent="personalization",
    sheltered="kids",
    description="A member's whole page: rows, and the titles in them",
)


def train(studio: mt.Studio, step: Progress = lambda *_a: None, *, layout: Layout | None = None) -> list[str]:
    """Fit the page model; returns the policies, the baseline first.

    The recommender that serves has seen everything. How likely its best titles are to be played is learnt from one that
    has not seen the last tenth of time.
    """
    import polars as pl

    source = studio.source(front)
    every = events(source)
    step(1, "learning how likely titles are to be played")
    cut = _quantile(every, PERIOD)
    earlier = Histories.of(every.filter(pl.col("at") < cut))
    everything = Histories.of(every)
    relevance = Relevance.learn(recommender().fit(earlier), earlier, everything)
    step(1, "fitting the recommender on everything")
    catalogue = Titles.of(studio.as_of(Title), moods(source))
    step(1, "finding what is near to what")
    model = PageModel.fit(recommender().fit(everything), catalogue, everything, relevance=relevance)
    studio.keep("front-page", model, facts=source, record={"learner": "page", "decision": "front"})
    size = layout or Layout(row_temperature=0.15)
    plain = PageModel.fit(Popular().fit(everything), catalogue, everything, relevance=relevance)
    studio.keep("front-popular", plain, facts=source, record={"learner": "page", "decision": "front"})
    return [
        studio.save_policy(front, Pages(plain, size), note="what is popular, in the same rows: the baseline"),
        studio.save_policy(front, Pages(model, size), note="whole pages, calibrated to the member"),
        studio.save_policy(front, Exposure(Pages(model, size)), note="the same, with a share for titles hardly shown yet"),
    ]


def recommender() -> Recommender:
    """The recommender behind the page, not yet fitted."""
    return Together()


def moods(source: Any) -> dict[int, list[str]]:
    """Moods of titles: the tags that most titles have, of those that several members gave."""
    import polars as pl

    tags: pl.DataFrame = (
        source.scan(Tagged, ["title", "member", "tag"])
        .with_columns(pl.col("tag").str.strip_chars().str.to_lowercase())
        .filter(pl.col("tag").str.len_chars().is_between(2, 24))
        .group_by("title", "tag")
        .agg(pl.col("member").n_unique().alias("members"))
        .filter(pl.col("members") >= TAGGED)
        .collect()
    )
    used = tags.group_by("tag").len().sort("len", "tag", descending=[True, False]).head(MOODS)["tag"]
    rows = tags.filter(pl.col("tag").is_in(used.implode())).sort("title", "tag")
    return {int(k[0]): v["tag"].to_list() for k, v in rows.partition_by("title", as_dict=True).items()}


def model_of(studio: mt.Studio, policy: str) -> PageModel:
    """The page model behind a policy.

    Raises:
        MatineeError: If the policy draws no pages.
    """
    found = studio.policy(policy).scorer
    if not isinstance(found, PageModel):
        raise mt.MatineeError(f"policy == {policy!r}, must be one that draws pages")
    return found


def page(studio: mt.Studio, choice: mt.Choice, features: Mapping[str, Any]) -> list[ShownRow]:
    """A logged front page in words: the rows with their headings, the titles with their names and reasons.

    Args:
        studio: Where it was decided.
        choice: The page.
        features: The member's features, as `studio.features_of` gives those that the model needs.
    """
    return in_words(choice, features, model_of(studio, choice.policy).recommender, lambda ids: names_of(studio, ids))


def why(studio: mt.Studio, request: mt.Request, title: Any) -> str:
    """The reason line of a title, for whichever page model is newest; nothing is said of taste to who is not profiled."""
    newest = studio.shelf.newest("front-page")
    found = studio.scorer(newest) if newest else None
    if not isinstance(found, PageModel):
        return POPULAR
    features = {} if request.context.get("profiled") is False else request.features
    history = [*recent(features), *unfinished(features)]
    row = Shelf("continue" if int(title) in unfinished(features) else "picked", "", (int(title),))
    return reason_of(row, int(title), features, found.recommender, names_of(studio, sorted(set(history))))
