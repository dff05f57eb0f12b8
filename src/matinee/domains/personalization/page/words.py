"""Words on a page: the heading of a row, and why a title is shown, from what truly put it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matinee as mt
from matinee.domains.personalization.features import recent
from matinee.domains.personalization.page.features import unfinished
from matinee.domains.personalization.page.policy import Shelf, shelves

if TYPE_CHECKING:
    from matinee.domains.personalization.recommenders import Recommender

Names = Callable[[Sequence[int]], Mapping[int, str]]
POPULAR = "popular with members now"


@dataclass(frozen=True)
class ShownTitle:
    """A title on a page, with the reason in words."""

    title: int
    name: str
    reason: str


@dataclass(frozen=True)
class ShownRow:
    """A row of a page, with its heading in words."""

    heading: str
    name: str
    titles: tuple[ShownTitle, ...]


def heading(shelf: Shelf, names: Mapping[int, str], *, profiled: bool = True) -> str:
    """The heading of a row.

    Args:
        shelf: The row.
        names: Names of titles, for "because you watched".
        profiled: Whether the member's history was read.

    Example:
        >>> heading(Shelf("era", "Horror|1980", ()), {})
        'Horror of the 1980s'
        >>> heading(Shelf("because", "318", ()), {318: "Heat"})
        'Because you watched Heat'
    """
    first, _, second = shelf.key.partition("|")
    if shelf.kind == "because":
        return f"Because you watched {names.get(int(shelf.key), shelf.key)}"
    if shelf.kind == "picked" and not profiled:
        return "Popular now"
    plain = {
        "continue": "Continue watching", "picked": "Picked for you", "top": "Top 10 this week", "new": "New",
        "leaving": "Leaving soon",
        "again": "Watch it again", "genre": first, "pair": f"{first} and {second}", "mood": f"{first}: {second}",
        "era": f"{first} of the {second}s", "provider": f"{second} from {first}" if second else f"From {first}",
        "": "Titles for you",
    }  # fmt: skip
    if shelf.kind not in plain:
        raise mt.MatineeError(f"kind of row == {shelf.kind!r}, must be one of {', '.join(k for k in plain if k)}")
    return plain[shelf.kind]


def reason(
    shelf: Shelf, title: int, features: Mapping[str, Any], recommender: Recommender, names: Mapping[int, str]
) -> str:
    """Why a title is shown, in words a member understands.

    A row of the day says so itself. Else it is the title of the member's history that adds most to the score, as the
    recommender's own `explain` takes the score apart. Where the history adds nothing, it is popularity, and no taste is
    claimed.
    """
    if shelf.kind == "continue":
        return "you have not finished it"
    if shelf.kind == "again":
        return "you watched it"
    if shelf.kind == "top":
        return f"number {list(shelf.titles).index(title) + 1} this week"
    history = recent(features)
    drivers = recommender.explain(history, title) if history else []
    if drivers and drivers[0][1] > 0:
        because = drivers[0][0]
        if shelf.kind == "because" and any(t == int(shelf.key) and v > 0 for t, v in drivers):
            because = int(shelf.key)
        return f"because you watched {names.get(because, because)}"
    if shelf.kind in ("new", "leaving"):
        return {"new": "new here", "leaving": "leaving soon"}[shelf.kind]
    return POPULAR


def in_words(
    choice: mt.Choice, features: Mapping[str, Any], recommender: Recommender, names: Names
) -> list[ShownRow]:
    """A logged page in words: headings, names, reasons.

    Args:
        choice: The page.
        features: The member's features as they were read for it.
        recommender: Whose scores made it.
        names: Names of titles by id.
    """
    profiled = choice.context.get("profiled") is not False
    known = features if profiled else {}
    rows = shelves(choice)
    history = recent(known)
    named = names(sorted({*(int(a) for a in choice.action), *history, *unfinished(known)}))
    return [
        ShownRow(
            heading(row, named, profiled=bool(history)), row.name,
            tuple(
                ShownTitle(int(t), named.get(int(t), str(t)), reason(row, int(t), known, recommender, named))
                for t in row.titles
            ),
        )
        for row in rows
    ]  # fmt: skip
