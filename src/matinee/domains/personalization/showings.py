"""What the console shows of personalization: pages as members see them, what titles are made of, and one title alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.exploration import COLUMN
from matinee.domains.personalization.facts import Title
from matinee.domains.personalization.features import recent
from matinee.domains.personalization.front import front
from matinee.domains.personalization.home import home, names
from matinee.domains.personalization.home import why as why_at_home
from matinee.domains.personalization.page import PageModel, Shelf, shelves
from matinee.domains.personalization.page.mix import divergence, shares
from matinee.domains.personalization.page.words import heading, in_words
from matinee.domains.personalization.recommenders import Recommender
from matinee.showing import About, Kinds, PageRow, Progress, Showing

SIMILAR = 8
ROW_KINDS = {
    "continue": "Continue watching", "picked": "Picked for you", "top": "Top 10 this week", "new": "New",
    "leaving": "Leaving soon", "again": "Watch it again", "because": "Because you watched something", "genre": "A genre",
    "pair": "Two genres", "mood": "A genre and a mood", "era": "A genre and a decade", "provider": "A provider",
    "": "Titles for you",
}  # fmt: skip
DEVICES = ("tv", "phone", "tablet", "web")


def page_rows(studio: mt.Studio, choice: mt.Choice, request: mt.Request | None) -> list[PageRow]:
    """The rows of a front page; with the request it was made from, also why each title stands there."""
    rows = shelves(choice)
    if not rows:
        return []
    model = studio.policy(choice.policy).scorer if choice.policy and request is not None else None
    if request is None or not isinstance(model, PageModel):
        sources = [int(row.key) for row in rows if row.kind == "because"]
        known = names(studio, sources) if sources else {}
        profiled = choice.context.get("profiled") is not False
        return [_row(row, heading(row, known, profiled=profiled), ()) for row in rows]
    words = in_words(choice, request.features, model.recommender, lambda ids: names(studio, ids))
    return [
        _row(row, shown.heading, tuple(title.reason for title in shown.titles))
        for row, shown in zip(rows, words, strict=True)
    ]


def _row(row: Shelf, words: str, reasons: tuple[str, ...]) -> PageRow:
    return PageRow(words, ROW_KINDS[row.kind], row.chance, row.titles, reasons)


def list_rows(studio: mt.Studio, choice: mt.Choice, request: mt.Request | None) -> list[PageRow]:
    """A ranked list as the one row it is."""
    if not choice.action:
        return []
    reasons = () if request is None else tuple(why_at_home(studio, request, one) for one in choice.action)
    return [PageRow(ROW_KINDS[""], ROW_KINDS[""], 1.0, tuple(choice.action), reasons)]


def history(request: mt.Request) -> list[int]:
    """The titles that a member watched, as they were read for a page: of who is not profiled nothing is read."""
    return recent(request.features)


def genres(studio: mt.Studio) -> Kinds:
    """Each title's share of each genre, with the divergence of Steck (2018)."""
    frame = studio.as_of(Title).sort("title")
    found, mixes = shares(frame["genres"].to_list())
    return Kinds("genre", tuple(found), frame["title"].to_numpy(), mixes, divergence, "Steck's divergence")


def about(studio: mt.Studio, title: Any) -> About:
    """What is near to a title, and how far each policy is with showing it."""
    found = _recommender(studio)
    similar: tuple[tuple[int, float], ...] = ()
    if found is not None and np.isin(title, found[1].titles):
        ids, near = found[1].similar(int(title), SIMILAR)
        similar = tuple((int(i), float(v)) for i, v in zip(ids, near, strict=True) if int(i) != int(title))
    return About(similar, found[0] if found else "", tuple(_progress(studio, int(title))))


def _recommender(studio: mt.Studio) -> tuple[str, Recommender] | None:
    """The newest one that relates titles to each other, and the model that holds it."""
    for name in ("front-page", "home-together"):
        newest = studio.shelf.newest(name)
        found = studio.scorer(newest) if newest else None
        if newest and isinstance(found, PageModel):
            return newest, found.recommender
        if newest and isinstance(found, Recommender):
            return newest, found
    return None


def _progress(studio: mt.Studio, title: int) -> Iterator[Progress]:
    """Of each policy that is live for a share of the members, and keeps one for new titles."""
    for decision in (front, home):
        release = studio.releases.live(decision.name)
        candidates = studio.live.candidates(decision.name)
        where = np.flatnonzero(candidates.ids == title)
        if release is None or not len(where):
            continue
        for policy in dict.fromkeys(release.policies):
            for spec in _exposures(studio.policies(decision.name)[policy]):
                column = candidates.columns.get(str(spec.get("column", COLUMN)))
                shown = 0.0 if column is None else float(np.nan_to_num(column[where[0]]))
                yield Progress(policy, shown, int(spec["enough"]), float(spec["share"]), int(spec["budget"]))


def _exposures(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The specs of exposure within a policy's own, however deep."""
    if spec.get("kind") == "exposure":
        yield spec
    for value in spec.values():
        parts: Sequence[Any] = value if isinstance(value, list) else [value]
        for part in parts:
            if isinstance(part, Mapping):
                yield from _exposures(part)


SHOWINGS = {
    "front": Showing(page_rows, history, genres, {"device": DEVICES, "language": ("en", "de", "fr", "pt"), "country": ()}),
    "home": Showing(list_rows, history, genres, {"device": DEVICES, "country": ()}),
}
