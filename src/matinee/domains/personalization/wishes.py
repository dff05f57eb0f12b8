"""What a member asked of the product: never to see a title again, to be known anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import matinee as mt

HELD = 1000  # titles that can be hidden at a time; the oldest come back after that


class Hidden(mt.Fact, key="member"):
    """A member hid a title, or took that back. The newest row about a title holds."""

    member: int
    title: int
    hidden: bool = True


class TasteReset(mt.Fact, key="member"):
    """A member asked to be known anew: nothing from before that moment says anything about taste any more."""

    member: int
    reason: str | None = None


wishes = mt.Features(
    "member",
    name="wishes",
    hidden_titles=mt.history(Hidden.title, HELD),
    hidden_flags=mt.history(Hidden.hidden, HELD),
)


def hidden(features: Mapping[str, Any]) -> list[int]:
    """Titles that the member does not want to see.

    Example:
        >>> hidden({"hidden_titles": [1, 2, 1], "hidden_flags": [True, True, False]})
        [2]
    """
    titles, flags = features.get("hidden_titles") or [], features.get("hidden_flags") or []
    newest = {int(t): bool(f) for t, f in zip(titles, flags, strict=False)}
    return [title for title, flag in newest.items() if flag]


class Unhidden:
    """A guard: no title that the member has hidden. It holds without consent as well: a wish is no profile."""

    name, reason = "hidden by the member", "the member asked not to see it"

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's wishes."""
        return [wishes]

    def mask(self, request: mt.Request, candidates: mt.Candidates) -> np.ndarray[Any, Any]:
        """True for each title that is not hidden."""
        away = hidden(request.features)
        if not away or candidates.ids.dtype.kind not in "iu":
            return np.ones(len(candidates), np.bool_)
        return ~np.isin(candidates.ids, np.asarray(away, np.int64))

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


FACTS: list[type[mt.Fact]] = [Hidden, TasteReset]
