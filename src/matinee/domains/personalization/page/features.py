"""What a page reads of a member beside taste: the last visit's rows, what was begun, what was shown over and over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matinee as mt
from matinee.domains.personalization.facts import Played, Shown

REMEMBERED = 400  # impressions: what the last visits had on the screen
BEGUN = 60  # plays of which it is known how far they went
STARTED, FINISHED = 0.02, 0.9  # share of the title: before the one it was a look, after the other it is over
WATCHED = "finished_lately"

visits = mt.Features(
    "member",
    name="visits",
    shown_titles=mt.history(Shown.title, REMEMBERED),
    shown_shelves=mt.history(Shown.shelf, REMEMBERED),
    shown_often=mt.counts(Shown.title, "7d"),
    begun=mt.history(Played.title, BEGUN, where=Played.share >= STARTED),  # type: ignore[operator]  # a column here, a number in a row
    begun_share=mt.history(Played.share, BEGUN, where=Played.share >= STARTED),  # type: ignore[operator]
    finished_lately=mt.history(Played.title, BEGUN, where=Played.share >= FINISHED),  # type: ignore[operator]
)


def unfinished(features: Mapping[str, Any]) -> list[int]:
    """Titles that were begun and not finished, the newest first.

    Example:
        >>> unfinished({"begun": [1, 2, 1, 3], "begun_share": [0.5, 0.3, 0.95, 0.1]})
        [3, 2]
    """
    titles, far = features.get("begun") or [], features.get("begun_share") or []
    newest: dict[int, float] = {}
    for title, share in zip(reversed(titles), reversed(far), strict=False):
        newest.setdefault(int(title), float(share))
    return [title for title, share in newest.items() if share < FINISHED]


def last_page(features: Mapping[str, Any]) -> dict[str, list[int]]:
    """Rows of the pages seen lately, by name, each with the titles that were on the screen in it."""
    rows: dict[str, list[int]] = {}
    titles, shelves = features.get("shown_titles") or [], features.get("shown_shelves") or []
    for title, shelf in zip(titles, shelves, strict=False):
        if shelf:
            rows.setdefault(str(shelf), []).append(int(title))
    return rows
