"""Errors as answers: one shape, `{"error": {"code", "message", "reference"}}`, and never a traceback."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

import msgspec

from matinee.exceptions import (
    ConsentError,
    MatineeError,
    OverloadedError,
    StorageError,
    TableBusyError,
    UnknownNameError,
)

log = logging.getLogger("matinee.serve")


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong: for a program (`code`), a person (`message`), and whoever reads the log (`reference`)."""

    code: str
    message: str
    reference: str


class ErrorBody(msgspec.Struct, frozen=True):
    """Every answer that is not a success."""

    error: ErrorDetail


class HttpError(MatineeError):
    """An answer other than success, with its status.

    Args:
        status: The HTTP status.
        code: A word for programs; stays the same when the message gets better.
        message: What would be right.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


class Answer(msgspec.Struct, frozen=True):
    """A reply, encoded: what goes over the wire."""

    status: int
    body: bytes
    headers: dict[str, str]


def answer_error(error: Exception, what: str) -> Answer:
    """The answer for any exception; those that are not the caller's fault go to the log with their traceback.

    Args:
        error: What was raised.
        what: The request, for the log: "POST /decide/home".
    """
    status, code, message, headers = _worded(error)
    reference = secrets.token_hex(4).upper()
    if status >= 500 and not isinstance(error, HttpError | OverloadedError):
        log.error("%s: %s failed", reference, what, exc_info=error)
    body = msgspec.json.encode(ErrorBody(ErrorDetail(code, message, reference)))
    return Answer(status, body, {"content-type": "application/json", "cache-control": "no-store", **headers})


def detail(error: Exception, what: str) -> ErrorDetail:
    """The error of one item among many."""
    return msgspec.json.decode(answer_error(error, what).body, type=ErrorBody).error


def _worded(error: Exception) -> tuple[int, str, str, dict[str, str]]:
    if isinstance(error, HttpError):
        return error.status, error.code, str(error), error.headers
    if isinstance(error, msgspec.DecodeError):  # ValidationError is one: its text ends in the path, "at `$.unit`"
        return 400, "malformed", str(error), {}
    if isinstance(error, UnknownNameError):
        return 404, "unknown_name", str(error), {}
    if isinstance(error, OverloadedError):
        return 503, "overloaded", str(error), {"retry-after": "1"}
    if isinstance(error, ConsentError):
        return 403, "no_consent", str(error), {}
    if isinstance(error, StorageError | TableBusyError):
        # The text names files of this machine: it is for the log, not for the caller.
        text = "the studio's storage does not answer; what was not acknowledged may be sent again with the same id"
        return 503, "storage", text, {"retry-after": "5"}
    if isinstance(error, TimeoutError):
        text = "this took too long and was given up; it may have been recorded: send it again with the same id"
        return 503, "timeout", text, {"retry-after": "1"}
    if isinstance(error, MatineeError):
        return 422, "invalid", str(error), {}
    return 500, "internal", "something failed here that should not; the log has it under this reference", {}
