"""Routes of the console: pages, their JSON twins, and the few acts an operator may do.

`routes(studio)` gives what a server mounts, at the root or under a prefix. Every page is one GET of a page model,
printed by a template or, at the same address with `.json` (or with `Accept: application/json`), as JSON. Acts are
POSTs that carry a token and a confirmation; they answer with a redirect to the page that shows what was done, which
htmx puts in place and a plain browser follows.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from matinee.console.errors import NotAllowedError, error_page
from matinee.console.parts import NavItem, Shell
from matinee.console.release_panel import wrong
from matinee.console.render import render
from matinee.console.source import (
    DecisionQuery,
    LedgerQuery,
    MemberQuery,
    PreviewQuery,
    QuarantineQuery,
    ReleaseForm,
    Source,
)
from matinee.exceptions import MatineeError, ReleaseError
from matinee.times import utc_now

if TYPE_CHECKING:
    from matinee.studio import Studio

log = logging.getLogger("matinee.console")
STATIC = Path(__file__).with_name("static")
COOKIE = "matinee_csrf"
MAX_FORM, MAX_FIELDS = 64 * 1024, 50
LONGEST = 200  # letters of a field in an address
FORM_SECONDS = 5.0  # a form of the console is short, and comes at once
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Who(Protocol):
    """Whom a request comes from, as the server's own authentication says."""

    @property
    def name(self) -> str:
        """What the log calls them."""
        ...

    @property
    def role(self) -> str:
        """ "viewer" sees, "operator" acts."""
        ...


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a name and a role."""

    name: str
    role: Literal["viewer", "operator"]


Authenticate = Callable[[Request], "Who | Awaitable[Who | None] | None"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, read: who asks, for what, with which fields."""

    who: Who
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        """True for an operator."""
        return self.who.role == "operator"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: a template and the model it prints."""

    template: str
    model: Any
    current: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Go:
    """An answer: look there instead. The path is relative to where the console is mounted."""

    path: str


View = Callable[[Source, Ask], "Page | Go"]


def routes(studio: Studio, *, authenticate: Authenticate | None = None) -> list[BaseRoute]:
    """The console of a studio, as routes to mount.

    Args:
        studio: Whose pages these are.
        authenticate: Says whom a request comes from, or None for nobody; it may be a coroutine. Viewers see, operators
            act. Without it everybody who can reach the port is an operator, as on one's own machine.
    """
    from matinee.console.building import StudioSource

    return page_routes(StudioSource(studio), authenticate=authenticate)


def page_routes(source: Source, *, authenticate: Authenticate | None = None) -> list[BaseRoute]:
    """The same over anything that builds page models."""
    pages: list[tuple[str, View]] = [
        ("/", front),
        ("/decisions/{name}", decision),
        ("/decisions/{name}/page", preview),
        ("/decisions/{name}/reach", reach),
        ("/items/{entity}/{id:path}", item),
        ("/lineage", lineage),
        ("/quarantine", quarantine),
        ("/members", members),
        ("/members/{unit:path}", member),  # an id may hold slashes
        ("/choices", choices),
        ("/choices/{id}", choice),
        ("/search", search),
    ]
    acts: list[tuple[str, View]] = [
        ("/decisions/{name}/release", release),
        ("/decisions/{name}/rollback", rollback),
        ("/quarantine/retry", retry),
        ("/quarantine/drop", drop),
    ]
    found: list[BaseRoute] = []
    for path, view in pages:
        # The twin comes first: "{name}" alone would swallow ".json".
        found.append(Route(f"{path}.json", _endpoint(source, view, authenticate, twin=True), methods=["GET"]))
        found.append(Route(path, _endpoint(source, view, authenticate), methods=["GET"]))
    found += [Route(path, _endpoint(source, view, authenticate, act=True), methods=["POST"]) for path, view in acts]
    found.append(Route("/favicon.ico", _favicon))
    found.append(Mount("/static", app=Files(directory=STATIC), name="console-static"))
    return found


# --------------------------------------------------------------------------------------------------------------- views


def front(source: Source, ask: Ask) -> Page:
    """How the studio is doing."""
    return Page("front.html", source.front(), "/")


def decision(source: Source, ask: Ask) -> Page:
    """One decision."""
    q = ask.query
    query = DecisionQuery(q.get("ask", ""), ReleaseForm.read(q), q.get("to", ""), q.get("done", ""))
    name = ask.path["name"]
    page = source.decision(name, query, allowed=ask.allowed)
    return Page("decision.html", page, f"/decisions/{name}", 422 if page.release.error else 200)


def lineage(source: Source, ask: Ask) -> Page:
    """What is made from what."""
    return Page("lineage.html", source.lineage(ask.query.get("node", "")), "/lineage")


def quarantine(source: Source, ask: Ask) -> Page:
    """Rows that wait for a person."""
    query = QuarantineQuery(*(ask.query.get(k, "") for k in ("ask", "batch", "done")))
    return Page("quarantine.html", source.quarantine(query, allowed=ask.allowed), "/quarantine")


def members(source: Source, ask: Ask) -> Page | Go:
    """The form that finds a member; with an id it leads to the page."""
    unit = ask.query.get("unit", "").strip()
    if unit:
        rest = {k: v for k, v in ask.query.items() if k != "unit" and v}
        return Go(f"/members/{quote(unit, safe='')}" + (f"?{urlencode(rest)}" if rest else ""))
    missing = "an id is missing, must be given: type one above" if "unit" in ask.query else None
    return Page("members.html", source.members(ask.query.get("decision", ""), missing), "/members")


def member(source: Source, ask: Ask) -> Page:
    """One member: what would be decided now, and why."""
    slot = ask.query.get("slot", "1")
    page = source.member(
        MemberQuery(
            ask.path["unit"],
            ask.query.get("decision", ""),
            ask.query.get("at", ""),
            int(slot) if slot.isdecimal() and len(slot) < 5 else 1,
            {k[2:]: v for k, v in ask.query.items() if k.startswith("c.")},
        )
    )
    return Page("member.html", page, "/members", 422 if page.error else 200)


def preview(source: Source, ask: Ask) -> Page:
    """A whole page as one unit would see it, beside another policy's where one is named."""
    q, name = ask.query, ask.path["name"]

    def typed(key: str) -> str:
        return q.get(key, "").strip()[:LONGEST]

    query = PreviewQuery(
        unit=typed("unit"),
        policy=typed("policy"),
        against=typed("against"),
        viewer=typed("as"),
        limit=typed("limit"),
        at=typed("at"),
        draw=typed("draw"),
        chosen=typed("chosen"),
        context={k[2:]: typed(k) for k in q if k.startswith("c.")},
    )
    page = source.preview(name, query)
    return Page("preview.html", page, f"/decisions/{name}/page", 422 if page.error else 200)


def reach(source: Source, ask: Ask) -> Page:
    """What the pages of a policy reach over a sample of units."""
    name = ask.path["name"]
    page = source.reach(name, *(ask.query.get(k, "").strip()[:LONGEST] for k in ("policy", "against")))
    return Page("reach.html", page, f"/decisions/{name}/page")


def item(source: Source, ask: Ask) -> Page:
    """One candidate."""
    return Page("item.html", source.item(ask.path["entity"], ask.path["id"]))


def choices(source: Source, ask: Ask) -> Page | Go:
    """The ledger; with an id that exists it leads to that choice."""
    query = LedgerQuery(*(ask.query.get(k, "").strip() for k in ("decision", "unit", "id", "before", "action")))
    page = source.ledger(query)
    if query.id and not page.missing:
        return Go(f"/choices/{quote(query.id, safe='')}")
    return Page("choices.html", page, "/choices", 404 if page.missing else 200)


def choice(source: Source, ask: Ask) -> Page:
    """Everything that was logged with one choice."""
    return Page("choice.html", source.choice(ask.path["id"]), "/choices")


def search(source: Source, ask: Ask) -> Page:
    """What is called that."""
    return Page("search.html", source.search(ask.query.get("q", "").strip()[:200]))


# ---------------------------------------------------------------------------------------------------------------- acts


def release(source: Source, ask: Ask) -> Page | Go:
    """Release a policy; unless it was confirmed, and the form is right, back to the question."""
    name, form = ask.path["name"], ReleaseForm.read(ask.form)
    if ask.form.get("confirm") != "yes" or wrong(form):
        return Go(f"/decisions/{quote(name)}?{urlencode({'ask': 'release', **form.fields()})}#release")
    try:
        number = source.release(name, form, ask.who.name)
    except ReleaseError as error:
        # The form comes back with what the gate said; what was live is still live.
        page = source.decision(name, DecisionQuery("", form, held=str(error)), allowed=True)
        return Page("decision.html", page, f"/decisions/{name}", 409)
    return Go(f"/decisions/{quote(name)}?done={number}#release")


def rollback(source: Source, ask: Ask) -> Go:
    """Go back to an earlier release; unless it was confirmed, back to the question."""
    name, to = ask.path["name"], ask.form.get("to", "")
    if ask.form.get("confirm") != "yes" or not _is_number(to):
        return Go(f"/decisions/{quote(name)}?{urlencode({'ask': 'rollback', 'to': to})}#release")
    return Go(f"/decisions/{quote(name)}?done={source.rollback(name, int(to), ask.who.name)}#release")


def retry(source: Source, ask: Ask) -> Go:
    """Try a quarantined batch again."""
    return _batch_act(ask, "retry", lambda batch: "{}:{}".format(*source.retry(batch, ask.who.name)))


def drop(source: Source, ask: Ask) -> Go:
    """Let a quarantined batch go."""
    return _batch_act(ask, "drop", lambda batch: str(source.drop(batch, ask.who.name)))


def _is_number(text: str) -> bool:
    """True for the number of a release; `int` refuses thousands of digits with an error of its own."""
    return text.isdecimal() and len(text) < 10


def _batch_act(ask: Ask, kind: str, act: Callable[[str], str]) -> Go:
    batch = ask.form.get("batch", "")
    if ask.form.get("confirm") != "yes":
        return Go(f"/quarantine?{urlencode({'ask': kind, 'batch': batch})}#batch-{quote(batch)}")
    return Go(f"/quarantine?{urlencode({'done': f'{kind}:{act(batch)}'})}")


# ------------------------------------------------------------------------------------------------------------- plumbing


def _endpoint(
    source: Source, view: View, authenticate: Authenticate | None, *, twin: bool = False, act: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        as_json = twin or _prefers_json(request)
        token = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        who: Who | None = Person("local", "operator")
        try:
            if authenticate is not None:
                given = authenticate(request)
                who = await given if inspect.isawaitable(given) else given
        except Exception as error:  # noqa: BLE001  # nobody is known then: the page says so, and nothing of the studio
            return await run_in_threadpool(
                _print, bare_shell, request, _broken(error, request, told=False), token, as_json
            )
        if who is None:
            return _denied()
        try:
            ask = Ask(who, request.path_params, dict(request.query_params))
            if act:
                _may_act(request, ask)  # before the form is read: who may not act need not be listened to
                ask = replace(ask, form=await _form(request))
                _is_ours(request, ask)
            reply = await run_in_threadpool(view, source, ask)
        except Exception as error:  # noqa: BLE001  # whatever fails behind a page, the reader gets a page that says so
            reply = _broken(error, request)
        try:
            return await run_in_threadpool(_print, source.shell, request, reply, token, as_json)
        except Exception as error:  # noqa: BLE001  # what stands around the page failed too: the tables are out, for instance
            return await run_in_threadpool(_print, bare_shell, request, _broken(error, request), token, as_json)

    return answer


def _broken(error: Exception, request: Request, *, told: bool = True) -> Page:
    """The page of an error; the rest of it goes to the log, under the reference that the page shows.

    Args:
        error: What was raised.
        request: By what.
        told: False for somebody of whom nothing is known: the error's own text may name files.
    """
    reference = secrets.token_hex(4).upper()
    page = error_page(error, reference)
    if page.status >= 500:
        log.error("%s: %s %s", reference, request.method, request.url.path, exc_info=error)
    return Page("error.html", page if told else replace(page, detail=""), "", page.status)


def bare_shell() -> Shell:
    """What stands around a page when the studio cannot say: the pages there always are, and no lamps."""
    pages = (("/", "Front", "f"), ("/members", "Members", "m"), ("/lineage", "Lineage", "l"))
    more = (("/quarantine", "Quarantine", "q"), ("/choices", "Ledger", "c"))
    return Shell("Matinee", utc_now(), tuple(NavItem(*one) for one in (*pages, *more)))


def _print(shell: Callable[[], Shell], request: Request, reply: Page | Go, token: str, as_json: bool) -> Response:
    base = request.scope.get("root_path", "").rstrip("/")
    response: Response
    if isinstance(reply, Go):
        response = RedirectResponse(base + _twin_path(reply.path, as_json), status_code=303, headers=HEADERS)
    elif as_json:
        body = msgspec.json.format(msgspec.json.encode(reply.model, enc_hook=str), indent=2)
        response = Response(body, reply.status, HEADERS, "application/json")
    else:
        text = render(
            reply.template, reply.model, shell(), request=request, base=base, csrf=token, current=reply.current
        )
        response = Response(text, reply.status, HEADERS, "text/html")
        if request.cookies.get(COOKIE) != token:
            response.set_cookie(
                COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path=base or "/"
            )
    return response


def _twin_path(path: str, as_json: bool) -> str:
    """A redirect of a twin leads to a twin."""
    if not as_json:
        return path
    head, mark, query = path.partition("#")[0].partition("?")
    return f"{head}.json{mark}{query}"


def _prefers_json(request: Request) -> bool:
    """True when the caller asks for JSON and not, alike or rather, for a page."""
    wanted = [part.split(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    return "application/json" in wanted and "text/html" not in wanted


async def _form(request: Request) -> dict[str, str]:
    """The fields of a plain form; forms of the console carry no files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise MatineeError(f"content-type == {kind[:80]!r}, must be 'application/x-www-form-urlencoded'")
    body = b""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM:
                    raise MatineeError(f"form is longer than {MAX_FORM} bytes, must be one of this console's own")
    except TimeoutError:
        raise MatineeError(f"form did not come within {FORM_SECONDS:g} s, must be sent at once") from None
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise MatineeError(f"form has more than {MAX_FIELDS} fields, must be one of this console's own") from None
    return dict(fields)


def _may_act(request: Request, ask: Ask) -> None:
    """An operator, and no page of another site: a browser names the site, and a page cannot forge that."""
    if not ask.allowed:
        raise NotAllowedError("You may see this, not decide on it. Ask whoever operates this studio.")
    origin = request.headers.get("origin")  # "null" is a page in a sandbox, or one that hides where it is from
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise NotAllowedError("This form came from another site. Nothing was done.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise NotAllowedError("This form came from another site. Nothing was done.")


def _is_ours(request: Request, ask: Ask) -> None:
    """A form from a page of this very console: its token is the cookie's."""
    cookie, given = request.cookies.get(COOKIE, ""), ask.form.get("csrf", "")
    if not cookie or not hmac.compare_digest(cookie.encode(), given.encode()):
        raise NotAllowedError("This form is not from a page of this console, or is too old. Open the page again.")


def _denied() -> Response:
    headers = {**HEADERS, "WWW-Authenticate": 'Basic realm="Matinee"'}
    return Response("Who are you? This console asks for a name and a password.\n", 401, headers, "text/plain")


class Files(StaticFiles):
    """The console's own files: kept by a browser for a day (a new version has new addresses), and what they say they are."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One file, or 304 where the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"})
        return response


async def _favicon(request: Request) -> Response:
    headers = {"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"}
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml", headers=headers)
