"""Features of personalization: a member's taste, a title's standing.

A rating is read as a sign that the title was seen: data sets that only have ratings work as those that have plays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matinee as mt
from matinee.domains.personalization.facts import Member, Opened, Played, Rated, Shown
from matinee.domains.personalization.wishes import TasteReset

HISTORY = 100  # titles


taste = mt.Features(
    "member",
    name="taste",
    hours_7d=mt.sum(Played.seconds, "7d") / 3600,
    plays_28d=mt.count(Played, "28d"),
    ratings_28d=mt.count(Rated, "28d"),
    quiet_days=mt.recency(Played) / 86_400,
    shown_7d=mt.count(Shown, "7d"),
    rated_recently=mt.history(Rated.title, HISTORY),
    opened_recently=mt.history(Opened.title, HISTORY),
    played_recently=mt.history(Played.title, HISTORY),
    # A fact's class has `at` as a column; mypy sees the attribute of its rows only.
    rated_when=mt.history(Rated.at, HISTORY),  # type: ignore[misc]
    opened_when=mt.history(Opened.at, HISTORY),  # type: ignore[misc]
    played_when=mt.history(Played.at, HISTORY),  # type: ignore[misc]
    reset_at=mt.last(TasteReset.at),  # type: ignore[misc]
)

profile = mt.Features(
    "member",
    name="profile",
    maturity_limit=mt.state(Member.maturity),
    kids=mt.state(Member.kids),
    home=mt.state(Member.country),
)

standing = mt.Features(
    "title",
    name="standing",
    plays_1d=mt.count(Played, "1d"),
    plays_7d=mt.count(Played, "7d"),
    plays_28d=mt.count(Played, "28d"),
    hours_28d=mt.sum(Played.seconds, "28d") / 3600,
    shown_7d=mt.count(Shown, "7d"),
    ratings_90d=mt.count(Rated, "90d"),
    stars=mt.mean(Rated.stars),
)


def recent(features: Mapping[str, Any]) -> list[int]:
    """The titles of a member's history, oldest first: ratings, openings, then plays, which say most about now.

    What came before the member asked to be known anew is left out.
    """
    return [title for kind in ("rated", "opened", "played") for title in _since_reset(features, kind)][-HISTORY:]


def _since_reset(features: Mapping[str, Any], kind: str) -> list[int]:
    titles, reset = features.get(f"{kind}_recently") or [], features.get("reset_at")
    if reset is None:
        return list(titles)
    when = features.get(f"{kind}_when") or []
    return [title for title, at in zip(titles, when, strict=True) if at > reset]


FEATURES = [taste, profile, standing]
