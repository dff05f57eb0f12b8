"""Every error a user can cause and correct. One base, one line each; the message says what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when a known name is close to the given one, else an empty string."""
    near = difflib.get_close_matches(str(given), [str(name) for name in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class MatineeError(ValueError):
    """Base of every error a user can cause and correct."""


class DeclarationError(MatineeError):
    """A fact, feature, decision, guard or policy is declared in a way that cannot work."""


class UnknownNameError(MatineeError):
    """A name that the studio does not hold: a decision, fact, policy, model, guard or page."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(str(one) for one in known)
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none yet"
        super().__init__(
            f"{kind} == {str(name)!r}, must be one of this studio's ({listed}){did_you_mean(str(name), names)}"
        )


class UnknownColumnError(MatineeError):
    """A feature, guard, reward or file names a column its fact does not have."""

    def __init__(self, owner: str, column: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"column == {column!r}, must be a column of {owner} ({', '.join(names)}){did_you_mean(column, names)}"
        )


class BadInputError(MatineeError):
    """Input that cannot be read at all: an unreadable file, a frame of the wrong shape, a malformed body."""


class LeakError(MatineeError):
    """A column that is known only after the moment of decision was offered to training."""


class ConsentError(MatineeError):
    """Something that a person or a contract has not allowed was asked for."""


class GuardError(MatineeError):
    """A guard raised or returned something that is no mask: the decision falls back rather than go unguarded."""


class ReleaseError(MatineeError):
    """A release did not pass its gates."""


class RefusedError(MatineeError):
    """A number was asked for that the data cannot carry."""


class TableBusyError(MatineeError):
    """Another process holds the table or the catalog, and did not let go within the time allowed."""


class StorageError(MatineeError):
    """The disk is full, a file is damaged, or a folder is not a studio. Nothing acknowledged was lost."""


class ShardError(MatineeError):
    """One shard of a distributed job failed; the others were cancelled."""


class OverloadedError(MatineeError):
    """More requests are waiting than can be answered in time."""
