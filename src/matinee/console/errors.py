"""Errors as pages: what happened in words, what is safe, what to do, and a reference for whoever fixes it."""

from __future__ import annotations

from matinee.console.pages import ErrorPage, Lamp
from matinee.exceptions import (
    MatineeError,
    OverloadedError,
    RefusedError,
    ReleaseError,
    StorageError,
    TableBusyError,
    UnknownNameError,
)


class NotAllowedError(MatineeError):
    """A viewer tried to act, or a form did not come from a page of this console."""


_ANSWERING: tuple[str, str, Lamp] = ("Decisions", "answering: serving reads its own files, not this page's", "lit")
_LOGGED: tuple[str, str, Lamp] = (
    "Choices",
    "kept in the write-ahead log until the tables answer; none is lost",
    "lit",
)


def error_page(error: Exception, reference: str) -> ErrorPage:
    """The page for an error; its status says whose fault it is."""
    text = str(error)
    if isinstance(error, UnknownNameError):
        return ErrorPage(
            404,
            "There is nothing of that name",
            "It may have another name, or not be in this studio.",
            kicker="Not found",
            detail=text,
            reference=reference,
            safe=(("This studio", "is as it was: looking changes nothing", "lit"),),
            acts=(("To the front page", "/"), ("See what there is", "/lineage")),
        )
    if isinstance(error, NotAllowedError):
        return ErrorPage(
            403,
            "Not yours to decide here",
            text,
            kicker="Not allowed",
            reference=reference,
            safe=(("What you asked for", "was not done", "lit"),),
            acts=(("To the front page", "/"),),
        )
    if isinstance(error, ReleaseError):
        return ErrorPage(
            409,
            "The release was held back",
            "A gate did not let it through. **What was live is still live.**",
            kicker="Held",
            detail=text,
            reference=reference,
            safe=(("What was live", "is still live, and nobody saw the other policy", "lit"),),
            acts=(("To the front page", "/"),),
        )
    if isinstance(error, TableBusyError | StorageError | OverloadedError):
        return ErrorPage(
            503,
            "The tables do not answer",
            "Choices are still being made and kept; this page cannot be shown until the tables answer again.",
            kicker="Out",
            detail=text,
            reference=reference,
            safe=(_ANSWERING, _LOGGED, ("This page, training, evaluation", "wait for the tables", "out")),
            acts=(("Ask again", "/"),),
        )
    if isinstance(error, MatineeError | RefusedError):
        return ErrorPage(
            422,
            "That cannot be done as it was asked",
            "Nothing was changed. What was wrong stands at the right.",
            kicker="Not understood",
            detail=text,
            reference=reference,
            safe=(("This studio", "is as it was", "lit"),),
            acts=(("To the front page", "/"),),
        )
    return ErrorPage(
        500,
        "This page broke",
        "It is the page that broke, not the studio: decisions are answered without it.",
        kicker="Fault",
        detail=f"{type(error).__name__}: {text}",
        reference=reference,
        safe=(_ANSWERING, _LOGGED, ("This page", "is out; the server's log has the rest under the reference", "out")),
        acts=(("To the front page", "/"), ("Quarantine", "/quarantine")),
    )
