"""Run the service in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import webbrowser
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from matinee.checks import must
from matinee.exceptions import MatineeError
from matinee.serve.app import Service, create_app
from matinee.serve.auth import LOOPBACK, list_tokens
from matinee.serve.settings import ServeSettings

if TYPE_CHECKING:
    from matinee.studio import Studio

log = logging.getLogger("matinee.serve")


class Server(uvicorn.Server):
    """uvicorn, and a pause between "not ready" and "not accepting" so that a load balancer can look away first."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._tell = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept, then tells so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains and ends in order, a second one at once; stopping on request is no failure."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        pause = self._service.settings.drain
        if pause:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(lambda: loop.call_later(pause, setattr, self, "should_exit", True))
        else:
            self.should_exit = True


def check_binding(studio: Studio, host: str) -> None:
    """Refuse to listen on other addresses than the loopback while nobody needs a token.

    Raises:
        MatineeError: With the reason and the command that helps.
    """
    if host in LOOPBACK or any(token.role in ("service", "operator") for token in list_tokens(studio.root)):
        return
    raise MatineeError(
        f"host == {host!r}, must be 127.0.0.1 while this studio has no tokens: anybody who reaches the port could "
        "decide, record and release; make one first with `matinee token service --name player`"
    )


def serve(
    studio: Studio,
    *,
    host: str = "127.0.0.1",
    port: int = 8321,
    open_browser: bool = False,
    settings: ServeSettings | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve a studio over HTTP until SIGINT or SIGTERM; then finish what is in flight, flush the log, let go of it.

    Args:
        studio: An open studio; it is closed at the end.
        host: Loopback by default; another address needs tokens.
        port: 0 for any free one.
        open_browser: Open the console.
        settings: Limits and rhythms.
        started: Called with the address once requests are accepted.

    Raises:
        MatineeError: If the address may not be used (see `check_binding`) or cannot be.
    """
    must(port, "port", typ=int, ge=0, le=65535)
    check_binding(studio, host)
    settings = settings or ServeSettings()
    sock = _listen(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"

    def tell() -> None:
        log.info("serving %s at %s", studio.root.name, address)
        if started is not None:
            started(address)
        if open_browser:
            webbrowser.open(address)

    app = create_app(studio, settings)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on", backlog=1024,
        limit_concurrency=settings.max_connections, timeout_graceful_shutdown=max(1, round(settings.grace)),
        proxy_headers=False,
    )  # fmt: skip
    server = Server(config, app.state.service, tell)
    try:
        server.run(sockets=[sock])
    finally:
        sock.close()
        studio.close()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; bound here so that a port in use is said in words, before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it on, head and body of an
    # answer are 40 ms apart.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise MatineeError(
            f"port == {port} on {host!r} cannot be used ({error.strerror}), must be a free one"
        ) from error
    return sock
