"""The ASGI application: routes, who may use them, and the loop that takes up what was newly released.

Deciding and recording cost well under a millisecond and never wait, so they run on the event loop itself. Threads do
what may block: records that must reach the disk before they are acknowledged, features that are not published yet.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from matinee.choices import Outcome
from matinee.exceptions import MatineeError, OverloadedError
from matinee.serve.auth import Caller, Guardian
from matinee.serve.bodies import (
    ChoiceReply,
    DecideBody,
    FeaturesReply,
    HealthReply,
    OutcomeBody,
    OutcomeItem,
    OutcomeReply,
    OutcomesReply,
)
from matinee.serve.errors import Answer, HttpError, answer_error, detail
from matinee.serve.limits import Gate, read_body, slow_body
from matinee.serve.metrics import CONTENT_TYPE, Metrics
from matinee.serve.openapi import openapi
from matinee.serve.settings import ServeSettings

if TYPE_CHECKING:
    from matinee.studio import Studio

log = logging.getLogger("matinee.serve")
T = TypeVar("T")
Handler = Callable[[Scope, bytes], Awaitable[Answer]]
_DECIDE = msgspec.json.Decoder(DecideBody)
_OUTCOME = msgspec.json.Decoder(OutcomeBody)
_OUTCOMES = msgspec.json.Decoder(list[OutcomeBody])
_ENCODE = msgspec.json.Encoder(enc_hook=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
_JSON = {"content-type": "application/json", "cache-control": "no-store"}
_RAW_JSON = [(k.encode(), v.encode()) for k, v in _JSON.items()]
ANYBODY = ("service", "operator", "viewer")
_NO_ROUTE = {
    404: ("not_found", "there is nothing at this address, must be one of those in /openapi.json"),
    405: ("method_not_allowed", "this address takes another method, must be one of those in the Allow header"),
}
# What a decision makes is freed by counting references; the collector, which looks for rings, found none and took a
# tenth of the time, most of it walking through the choices and states that are held in memory.
_COLLECT = (20_000, 20, 20)
_AT_ONCE = 20  # outcomes recorded before other requests get their turn


class Service:
    """One studio behind HTTP: what the endpoints share."""

    def __init__(self, studio: Studio, settings: ServeSettings) -> None:
        self.studio, self.settings = studio, settings
        self.guardian = Guardian(studio.root, hosts=settings.hosts, every=settings.refresh)
        # Pages take long and run in threads: they have a gate of their own, so that they cannot keep decisions out.
        self.gate, self.pages, self.metrics = Gate(settings.max_in_flight), Gate(settings.max_in_flight), Metrics()
        self.threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="matinee-serve")
        self.loaded, self.draining, self.inline = False, False, False
        self.reload_failures = 0
        self.after_loading: Callable[[], object] = lambda: None  # done once, beside the first requests
        self.started = time.monotonic()
        self.version = version("matinee")
        self._openapi = msgspec.json.encode(openapi(self.version))
        self._failed = ""
        self._first = asyncio.Event()  # the studio was loaded once

    # -- rhythm

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load in the background, look for what is new every second, and at the end flush the log and let go of it."""
        refreshing = asyncio.create_task(self._refresh_forever(), name="matinee-refresh")
        following = asyncio.create_task(self._follow_loading(), name="matinee-after-loading")
        try:
            yield
        finally:
            self.draining = True
            refreshing.cancel()
            following.cancel()
            await asyncio.gather(refreshing, following, return_exceptions=True)
            # What is still at work in a thread reads the studio: it is closed when they are through.
            await asyncio.to_thread(self.threads.shutdown)
            await asyncio.to_thread(self.studio.close)

    async def _refresh_forever(self) -> None:
        while True:
            try:
                # In a thread: loading takes a while, and requests go on meanwhile with what they have.
                await self.in_thread(self._refresh)
                if not self.loaded:
                    # What was loaded stays: the collector need not walk through it again and again under load.
                    gc.collect()
                    gc.freeze()
                    gc.set_threshold(*_COLLECT)
                self.loaded, self._failed = True, ""
                self._first.set()
            except Exception as error:  # whatever is wrong with the new, the old goes on serving
                self.reload_failures += 1
                if str(error) != self._failed:  # once, not every second
                    self._failed = str(error)
                    log.exception("taking up what is new failed; serving goes on with what was loaded before")
            await asyncio.sleep(self.settings.refresh)

    async def _follow_loading(self) -> None:
        await self._first.wait()
        try:
            await self.in_thread(self.after_loading)
        except Exception:  # nobody asked for it yet: who does is told what is wrong
            log.exception("what follows the first loading failed; serving goes on")

    def _refresh(self) -> None:
        self.studio.refresh()
        published = bool(self.studio.health().get("generation"))
        # Unpublished features are read from tables, and a record that must reach the disk waits: not on the loop.
        self.inline = published and self.studio.config.get("durability", "process") == "process"

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what may block in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    def _check_ready(self) -> None:
        if not self.loaded:
            raise HttpError(
                503, "loading", "this process is still loading, ask again in a second", {"retry-after": "1"}
            )

    # -- endpoints

    async def decide(self, scope: Scope, body: bytes) -> Answer:
        """POST /decide/{decision}"""
        self._check_ready()
        asked, name = _decode(_DECIDE, body), scope["path_params"]["decision"]
        if self.inline:
            choice = self.studio.decide(name, asked.unit, asked.context)
        else:
            choice = await self.in_thread(self.studio.decide, name, asked.unit, asked.context)
        return Answer(200, _ENCODE.encode(ChoiceReply.of(choice)), _JSON)

    async def outcome(self, scope: Scope, body: bytes) -> Answer:
        """POST /outcome, one or a list."""
        self._check_ready()
        if body.lstrip()[:1] != b"[":
            made = await self._record(_decode(_OUTCOME, body))
            return Answer(200, _ENCODE.encode(OutcomeReply.of(made)), _JSON)
        asked = _decode(_OUTCOMES, body)
        if len(asked) > self.settings.max_outcomes:
            text = f"{len(asked)} outcomes, must be at most {self.settings.max_outcomes} in one request"
            raise HttpError(413, "too_large", text)
        items: list[OutcomeItem] = []
        for number, one in enumerate(asked):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                items.append(OutcomeItem(outcome=OutcomeReply.of(await self._record(one))))
            except MatineeError as error:
                items.append(OutcomeItem(error=detail(error, f"POST /outcome [{number}]")))
        failed = any(item.error is not None for item in items)
        return Answer(207 if failed else 200, _ENCODE.encode(OutcomesReply(items)), _JSON)

    async def _record(self, one: OutcomeBody) -> Outcome:
        def record() -> Outcome:
            return self.studio.record(one.choice, one.fact, one.row, id=one.id, at=one.at)

        return record() if self.inline else await self.in_thread(record)

    async def features(self, scope: Scope, body: bytes) -> Answer:
        """GET /features/{name}/{key}"""
        self._check_ready()
        name, key = scope["path_params"]["name"], scope["path_params"]["key"]
        typed: int | str = key
        declared = self.studio.features.get(name)
        if declared is not None and declared.key_kind == "int":
            try:
                typed = int(key)
            except ValueError:
                raise HttpError(400, "malformed", f"key == {key[:80]!r}, must be a whole number for {name!r}") from None
        values = await self.in_thread(self.studio.features_of, name, typed)
        return Answer(200, _ENCODE.encode(FeaturesReply(features=name, key=typed, values=values)), _JSON)

    async def health(self, scope: Scope, body: bytes) -> Answer:
        """GET /health: 200 as long as the process answers."""
        return self._health(200, scope)

    async def ready(self, scope: Scope, body: bytes) -> Answer:
        """GET /ready: 503 until loaded, and while draining."""
        return self._health(200 if self.loaded and not self.draining else 503, scope)

    def _health(self, status: int, scope: Scope) -> Answer:
        try:
            known = self.guardian.identify(scope) is not None
        except HttpError:
            known = False  # probes come by address and without a token: they learn the state and nothing else
        ready = self.loaded and not self.draining
        word = "draining" if self.draining else "ready" if self.loaded else "loading"
        reply = HealthReply(
            status=word,
            ready=ready,
            version=self.version,
            uptime_seconds=round(time.monotonic() - self.started, 1),
            studio=self.studio.health() if self.loaded and known else {},
        )
        return Answer(status, _ENCODE.encode(reply), _JSON)

    async def show_metrics(self, scope: Scope, body: bytes) -> Answer:
        """GET /metrics"""
        gauges = {
            "matinee_in_flight": self.gate.inside,
            "matinee_refused_total": self.gate.refused,
            "matinee_reload_failures_total": self.reload_failures,
            "matinee_ready": float(self.loaded and not self.draining),
        }
        text = self.metrics.text(self.studio.health() if self.loaded else {}, gauges)
        return Answer(200, text.encode(), {"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    async def show_openapi(self, scope: Scope, body: bytes) -> Answer:
        """GET /openapi.json"""
        return Answer(200, self._openapi, {"content-type": "application/json"})


class Endpoint:
    """One route as an ASGI application: admits, limits, reads, answers, counts. What is raised becomes an answer."""

    def __init__(
        self, service: Service, name: str, handler: Handler, roles: tuple[str, ...] | None, *, gated: bool = True
    ) -> None:
        self.service, self.name, self.handler, self.roles = service, name, handler, roles
        self.gate = service.gate if gated else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        service = self.service
        try:
            if self.roles is not None:
                scope["caller"] = service.guardian.admit(scope, self.roles)
            if self.gate is None:
                answer = await self._answer(scope, receive)
            else:
                async with self.gate:
                    answer = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001  # an answer and a line in the log, never a traceback over the wire
            answer = answer_error(error, f"{scope['method']} {scope['path']}")
        await _send(answer, send, head=scope["method"] == "HEAD")
        service.metrics.observe(self.name, answer.status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        settings, body = self.service.settings, None
        try:
            async with asyncio.timeout(settings.timeout):
                body = await read_body(scope, receive, settings.max_body) if scope["method"] == "POST" else b""
                return await self.handler(scope, body)
        except TimeoutError:
            if body is None:
                raise slow_body(settings.timeout) from None
            raise


class Page:
    """A route of the console: limited by a gate of its own, and counted among the others."""

    def __init__(self, service: Service, app: ASGIApp) -> None:
        self.service, self.app = service, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 500

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with self.service.pages:
                await self.app(scope, receive, watch)
        except OverloadedError as error:
            answer = answer_error(error, scope["path"])
            status = answer.status
            await _send(answer, send)
        finally:
            self.service.metrics.observe("console", status, time.perf_counter() - start)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise HttpError(400, "malformed", "the body is nested too deeply, must be flat values") from None


async def _send(answer: Answer, send: Send, *, head: bool = False) -> None:
    if answer.headers is _JSON:
        headers = [*_RAW_JSON, (b"content-length", b"%d" % len(answer.body))]
    else:
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers.items()]
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


class Application(Starlette):
    """The routes, with a way past Starlette's layers for what is asked thousands of times a second.

    Those layers catch what an endpoint raises and try one route after another. Endpoints raise nothing, and two of them
    are known by the first letters of the path; to go through the layers all the same costs a tenth of a decision.
    """

    decide: ASGIApp
    outcome: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and the end of the process."""
        serve: ASGIApp = super().__call__
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            path: str = scope["path"]
            name = path.removeprefix("/decide/")
            if path == "/outcome":
                serve = self.outcome
            elif name != path and name and "/" not in name:
                scope["path_params"], serve = {"decision": name}, self.decide
        await serve(scope, receive, send)


def create_app(studio: Studio, settings: ServeSettings | None = None, *, console: bool = True) -> Starlette:
    """The service of a studio as an ASGI application. It closes the studio when it is shut down.

    Args:
        studio: An open studio.
        settings: Limits and rhythms.
        console: Whether the pages are served beside the API.
    """
    service = Service(studio, settings or ServeSettings())
    acts, looks = ("service", "operator"), ANYBODY
    decide = Endpoint(service, "decide", service.decide, acts)
    outcome = Endpoint(service, "outcome", service.outcome, acts)
    routes: list[BaseRoute] = [
        Route("/decide/{decision}", decide, methods=["POST"]),
        Route("/outcome", outcome, methods=["POST"]),
        Route("/features/{name}/{key:path}", Endpoint(service, "features", service.features, looks), methods=["GET"]),
        Route("/health", Endpoint(service, "health", service.health, None, gated=False), methods=["GET"]),
        Route("/ready", Endpoint(service, "ready", service.ready, None, gated=False), methods=["GET"]),
        Route("/metrics", Endpoint(service, "metrics", service.show_metrics, looks, gated=False), methods=["GET"]),
        Route("/openapi.json", Endpoint(service, "openapi", service.show_openapi, None, gated=False), methods=["GET"]),
        *(_console_routes(service) if console else []),
    ]

    async def not_found(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # registered for nothing else
        code, text = _NO_ROUTE.get(error.status_code, ("http", str(error.detail)))
        made = answer_error(
            HttpError(error.status_code, code, text, error.headers), f"{request.method} {request.url.path}"
        )
        service.metrics.observe("other", made.status, 0.0)
        return Response(made.body, made.status, made.headers)

    app = Application(routes=routes, lifespan=service.lifespan, exception_handlers={HTTPException: not_found})
    app.state.service, app.decide, app.outcome = service, decide, outcome
    return app


def _console_routes(service: Service) -> list[BaseRoute]:
    """The console's pages, where it is installed."""
    try:
        from matinee.console.app import page_routes
        from matinee.console.building import StudioSource

        source = StudioSource(service.studio)
        found = page_routes(source, authenticate=service.guardian.authenticate)
        service.after_loading = source.warm
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("matinee.console"):
            raise
        log.warning("the console is not installed; only the API is served")
        return []
    for route in found:
        if hasattr(route, "app"):
            route.app = Page(service, route.app)
    return found


__all__ = ["Caller", "Service", "create_app"]
