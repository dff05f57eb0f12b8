"""Backpressure and sizes: how much is at work at once, how long a body may be, how long anything may take."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive, Scope

from matinee.exceptions import OverloadedError
from matinee.serve.errors import HttpError


class Gate:
    """Lets in at most `limit` requests at once and turns the next away: there is no queue to grow.

    Deciding runs on the event loop without ever waiting, so a request that is at work keeps the others from even being
    counted. `enter` therefore lets the loop turn once after counting: everything that has arrived by then is counted
    before the first of them is answered, and what is over the limit is refused at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.inside, self.refused = limit, 0, 0

    async def __aenter__(self) -> Self:
        if self.inside >= self.limit:
            self.refused += 1
            raise OverloadedError(
                f"{self.inside} requests are at work, must be at most {self.limit}; ask again in a second"
            )
        self.inside += 1
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.inside -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.inside -= 1


def header(scope: Scope, name: bytes) -> str:
    """A request header by its lower-case name; empty where absent."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a request.

    Raises:
        HttpError: 413 for a body over `limit` bytes: by its `Content-Length` before anything is read, else as soon as
            too much has come; the answer closes the connection, so that the rest is not read either. 400 for a caller
            who left before the end.
    """
    announced = header(scope, b"content-length")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    first = await receive()
    if first["type"] == "http.request" and not first.get("more_body", False):
        body: bytes = first.get("body", b"")  # the usual case: all of it came at once
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks, message = bytearray(), first
    while True:
        if message["type"] == "http.disconnect":
            raise HttpError(400, "incomplete", "the body ended early, must be sent whole")
        chunks += message.get("body", b"")
        if len(chunks) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(chunks)
        message = await receive()


def slow_body(timeout: float) -> HttpError:
    """The answer to a caller who sends too slowly; it closes the connection."""
    text = f"the body did not come within {timeout:g} s, must be sent at once"
    return HttpError(408, "slow_body", text, {"connection": "close"})


def _too_large(limit: int) -> HttpError:
    text = f"the body is longer than {limit:,} bytes, must be shorter: send outcomes in several requests"
    return HttpError(413, "too_large", text, {"connection": "close"})
