"""Routes over sample pages: twins, roles, tokens, questions asked once, errors as pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from console_sample import BATCH, CHOICE, SamplePages
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

from matinee.console.app import Person, page_routes
from matinee.exceptions import ReleaseError, StorageError

PAGES = [
    "/", "/decisions/home", "/decisions/retry", "/lineage", "/lineage?node=fact://played", "/quarantine", "/members",
    "/members/40217?decision=home", "/choices", f"/choices/{CHOICE}", "/search?q=ho",
]  # fmt: skip


@pytest.fixture
def pages() -> SamplePages:
    return SamplePages()


@pytest.fixture
def client(pages: SamplePages) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=page_routes(pages)), follow_redirects=False) as client:
        yield client


def token(client: TestClient) -> str:
    client.get("/decisions/home?ask=rollback")
    return str(client.cookies["matinee_csrf"])


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_twin_at_the_same_address(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    head, mark, query = path.partition("?")
    twin = client.get(f"{head}.json{mark}{query}")
    assert twin.status_code == 200 and twin.headers["content-type"] == "application/json"
    assert client.get(path, headers={"accept": "application/json"}).json() == twin.json()
    assert f'href="{head}.json' in page.text


def test_the_twin_has_numbers_where_the_page_has_words(client: TestClient) -> None:
    row = client.get("/.json").json()["decisions"][0]
    assert (row["name"], row["worth"]["value"], row["worth"]["low"]) == ("home", 3.1, 2.2)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_an_inline_script_or_handler_and_each_says_what_may_run(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe-eval" not in policy and "script-src" not in policy
    for opening, body in re.findall(r"<script([^>]*)>(.*?)</script>", answer.text, re.DOTALL):
        assert 'type="application/json"' in opening or ("src=" in opening and not body)
    assert not re.search(r"\son[a-z]+=", answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"


def test_what_comes_from_outside_is_escaped(client: TestClient) -> None:
    nasty = "<script>alert(1)</script>\"'"
    for path in ("/search", "/members/x", "/choices", "/members"):
        text = client.get(
            path, params={"q": nasty, "unit": nasty if path == "/choices" else "", "at": nasty, "id": nasty}
        ).text
        assert "<script>alert" not in text


def test_a_chart_in_a_page_cannot_close_its_script(client: TestClient) -> None:
    specs = re.findall(
        r'<script type="application/json" class="spec">(.*?)</script>', client.get("/decisions/home").text, re.DOTALL
    )
    assert len(specs) == 2 and all("<" not in spec for spec in specs)


def test_a_console_under_a_prefix_links_to_itself() -> None:
    app = Starlette(routes=[Mount("/console", routes=page_routes(SamplePages()))])
    with TestClient(app, follow_redirects=False) as client:
        text = client.get("/console/decisions/home").text
        assert 'href="/console/static/tokens.css?v=' in text and 'href="/console/members' in text
        assert client.get("/console/static/tokens.css").status_code == 200
        for link in re.findall(r'(?:href|action|src)="(/[^"#?]*)', text):
            assert link.startswith("/console"), link
        assert client.get("/console/members?unit=7").headers["location"] == "/console/members/7"


def test_every_link_and_asset_of_every_page_leads_somewhere(client: TestClient) -> None:
    links = {link for path in PAGES for link in re.findall(r'(?:href|src)="(/[^"#]*)', client.get(path).text)}
    wrong = {}
    for link in sorted(links):
        answer = client.get(link.replace("&amp;", "&"))
        if answer.status_code != 200 and not re.match(r"/(decisions/(route|artwork|mail)|choices/0193)", link):
            wrong[link] = answer.status_code
    assert not wrong


# ---------------------------------------------------------------------------------------------------------------- acts


def test_a_release_is_asked_once_and_then_done(client: TestClient, pages: SamplePages) -> None:
    fields = {"policy": "sequence-4", "share": "0.5", "baseline": "", "reason": ""}
    asked = client.get("/decisions/home", params={"ask": "release", **fields})
    assert "Release sequence-4?" in asked.text and not pages.acts
    unconfirmed = client.post("/decisions/home/release", data={**fields, "csrf": token(client)})
    assert unconfirmed.status_code == 303 and "ask=release" in unconfirmed.headers["location"] and not pages.acts
    done = client.post("/decisions/home/release", data={**fields, "csrf": token(client), "confirm": "yes"})
    assert done.status_code == 303 and done.headers["location"] == "/decisions/home?done=42#release"
    assert pages.acts == [("release", "home", "sequence-4", "0.5", "local")]
    assert "Release 42" in client.get(done.headers["location"]).text


def test_a_rollback_is_asked_once_done_and_undone(client: TestClient, pages: SamplePages) -> None:
    secret = token(client)
    assert (
        client.post("/decisions/home/rollback", data={"to": "40", "csrf": secret})
        .headers["location"]
        .endswith("to=40#release")
    )
    done = client.post("/decisions/home/rollback", data={"to": "40", "csrf": secret, "confirm": "yes"})
    text = client.get(done.headers["location"]).text
    assert "Rolled back" in text and "Undo" in text
    client.post("/decisions/home/rollback", data={"to": "41", "csrf": secret, "confirm": "yes"})
    assert [act[2] for act in pages.acts] == ["40", "41"]


def test_a_wrong_share_comes_back_with_what_would_be_right(client: TestClient, pages: SamplePages) -> None:
    fields = {"policy": "sequence-4", "share": "1.5", "csrf": token(client), "confirm": "yes"}
    back = client.post("/decisions/home/release", data=fields)
    assert back.status_code == 303 and not pages.acts
    page = client.get(back.headers["location"])
    assert page.status_code == 422 and "did you mean 0.15?" in page.text and 'aria-invalid="true"' in page.text


def test_a_gate_that_holds_a_release_back_brings_the_form_back(
    client: TestClient, pages: SamplePages, monkeypatch: Any
) -> None:
    def held(*args: object) -> int:
        raise ReleaseError("gate 'evidence attached' is not passed")

    monkeypatch.setattr(pages, "release", held)
    fields = {"policy": "boost-31", "share": "0.5", "csrf": token(client), "confirm": "yes"}
    answer = client.post("/decisions/home/release", data=fields)
    assert answer.status_code == 409 and "evidence attached" in answer.text and 'value="0.5"' in answer.text


def test_quarantine_is_tried_again_or_let_go_after_one_question(client: TestClient, pages: SamplePages) -> None:
    asked = client.get("/quarantine", params={"ask": "drop", "batch": BATCH.batch})
    assert "cannot come back" in asked.text
    fields = {"batch": BATCH.batch, "csrf": token(client)}
    assert "ask=drop" in client.post("/quarantine/drop", data=fields).headers["location"] and not pages.acts
    tried = client.post("/quarantine/retry", data={**fields, "confirm": "yes"})
    assert tried.headers["location"] == "/quarantine?done=retry%3A12%3A200"
    assert "12 rows" in client.get(tried.headers["location"]).text
    gone = client.post("/quarantine/drop", data={**fields, "confirm": "yes"})
    assert "212 rows were let go" in client.get(gone.headers["location"]).text


@pytest.mark.parametrize(
    "path", ["/decisions/home/release", "/decisions/home/rollback", "/quarantine/retry", "/quarantine/drop"]
)
def test_nothing_is_done_without_the_token_of_this_console(client: TestClient, pages: SamplePages, path: str) -> None:
    fields = {"policy": "boost-31", "share": "0.5", "to": "40", "batch": BATCH.batch, "confirm": "yes"}
    secret = token(client)
    for data, headers in (
        (fields, {}),
        ({**fields, "csrf": ""}, {}),
        ({**fields, "csrf": ("y" if secret[0] == "x" else "x") + secret[1:]}, {}),
        ({**fields, "csrf": secret}, {"origin": "http://elsewhere.example"}),
        ({**fields, "csrf": secret}, {"origin": "null"}),
        ({**fields, "csrf": secret}, {"origin": "http://testserver:8080"}),
        ({**fields, "csrf": secret}, {"sec-fetch-site": "same-site"}),
        ({**fields, "csrf": secret}, {"sec-fetch-site": "cross-site"}),
    ):
        assert client.post(path, data=data, headers=headers).status_code == 403
    client.cookies.clear()
    assert client.post(path, data={**fields, "csrf": secret}).status_code == 403
    assert not pages.acts
    assert client.get(path).status_code == 405


def test_the_token_is_kept_from_scripts_and_from_other_sites(client: TestClient) -> None:
    cookie = client.get("/").headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert "set-cookie" not in client.get("/").headers


def test_a_long_form_is_refused(client: TestClient, pages: SamplePages) -> None:
    body = "csrf=x&" + "a" * 70_000
    answer = client.post(
        "/quarantine/drop", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422 and not pages.acts


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ("&".join(f"f{i}=1" for i in range(60)), "application/x-www-form-urlencoded", "more than 50 fields"),
        ("csrf=x", "text/plain", "must be &#39;application/x-www-form-urlencoded&#39;"),
        ("csrf=x", "", "must be &#39;application/x-www-form-urlencoded&#39;"),
    ],
)
def test_a_form_that_is_none_of_ours_is_refused_in_words(
    client: TestClient, pages: SamplePages, body: str, kind: str, says: str
) -> None:
    answer = client.post("/quarantine/drop", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 422 and says in answer.text and not pages.acts


def test_a_form_that_trickles_in_is_given_up(pages: SamplePages, monkeypatch: Any) -> None:
    from matinee.console import app as console

    monkeypatch.setattr(console, "FORM_SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    form = (b"content-type", b"application/x-www-form-urlencoded")
    scope = {
        "type": "http", "method": "POST", "path": "/quarantine/drop", "raw_path": b"", "query_string": b"",
        "headers": [form], "scheme": "http", "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(Starlette(routes=page_routes(pages))(scope, receive, send), 10))
    assert sent[0]["status"] == 422 and b"did not come within" in sent[1]["body"]


def test_numbers_without_end_are_no_fault_of_the_page(client: TestClient, pages: SamplePages) -> None:
    huge, secret = "9" * 5000, token(client)
    assert client.get("/decisions/home", params={"ask": "rollback", "to": huge, "done": huge}).status_code == 200
    answer = client.post("/decisions/home/rollback", data={"to": huge, "csrf": secret, "confirm": "yes"})
    assert answer.status_code == 303 and not pages.acts
    assert client.get("/members/7", params={"slot": huge, "at": huge}).status_code in (200, 422)


def test_an_id_may_hold_slashes_and_what_leads_elsewhere(client: TestClient) -> None:
    for unit in ("in/17", "a//b", "x?y#z", "//elsewhere.example"):
        found = client.get("/members", params={"unit": unit, "decision": "home"})
        assert found.status_code == 303 and found.headers["location"].startswith("/members/")
        page = client.get(found.headers["location"], headers={"accept": "application/json"})
        assert page.status_code == 200 and page.json()["unit"] == unit


def test_no_header_is_made_from_what_was_typed(client: TestClient) -> None:
    nasty = "a\r\nSet-Cookie: a=b"
    found = client.get("/members", params={"unit": nasty, "c.device": nasty})
    secret = token(client)
    back = client.post("/decisions/home/release", data={"policy": nasty, "share": nasty, "csrf": secret})
    held = client.post("/quarantine/drop", data={"batch": nasty, "csrf": secret})
    for answer in (found, back, held):
        assert answer.status_code == 303 and not {"\r", "\n"} & set(answer.headers["location"])
        assert "set-cookie" not in answer.headers or "a=b" not in answer.headers["set-cookie"]


def test_files_say_what_they_are_and_are_kept(client: TestClient) -> None:
    for path in ("/static/console.js", "/static/favicon.svg", "/favicon.ico"):
        first = client.get(path)
        assert first.headers["x-content-type-options"] == "nosniff" and "max-age" in first.headers["cache-control"]
    again = client.get(
        "/static/console.js", headers={"if-none-match": client.get("/static/console.js").headers["etag"]}
    )
    assert again.status_code == 304 and "max-age" in again.headers["cache-control"]
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/fonts/",
        "/static//etc/passwd",
    ):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_a_head_has_the_headers_of_its_page_and_other_methods_are_refused(client: TestClient, path: str) -> None:
    head = client.head(path)
    assert head.status_code == 200 and head.headers["content-type"].startswith("text/html") and not head.content
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = client.request(method, path)
        assert answer.status_code == 405 and "GET" in answer.headers["allow"]


# --------------------------------------------------------------------------------------------------------------- roles


def served_as(role: str | None) -> tuple[TestClient, SamplePages]:
    pages = SamplePages()

    async def who(request: Request) -> Person | None:
        return None if role is None else Person("vera", role)  # type: ignore[arg-type]  # one of the roles

    return TestClient(Starlette(routes=page_routes(pages, authenticate=who)), follow_redirects=False), pages


def test_a_viewer_sees_and_does_not_act() -> None:
    client, pages = served_as("viewer")
    text = client.get("/decisions/home").text
    assert "operators only" in text and "disabled" in text and "Roll back to" not in text
    assert "Let them go" not in client.get(f"/quarantine?ask=drop&batch={BATCH.batch}").text
    fields = {"to": "40", "csrf": client.cookies["matinee_csrf"], "confirm": "yes"}
    answer = client.post("/decisions/home/rollback", data=fields)
    assert answer.status_code == 403 and "not decide on it" in answer.text and not pages.acts


def test_nobody_is_asked_who_they_are_and_sees_nothing() -> None:
    client, _ = served_as(None)
    for path in [*PAGES, "/.json"]:
        answer = client.get(path)
        assert (
            answer.status_code == 401
            and "Acme" not in answer.text
            and answer.headers["www-authenticate"].startswith("Basic")
        )


def test_a_viewer_is_not_even_listened_to() -> None:
    client, pages = served_as("viewer")
    answer = client.post("/quarantine/drop", content="a" * 70_000)
    assert answer.status_code == 403 and not pages.acts


def test_when_nobody_can_be_known_nothing_of_the_studio_is_shown(caplog: Any) -> None:
    def who(request: Request) -> Person | None:
        raise StorageError("/srv/acme/tokens.json cannot be read")

    client = TestClient(Starlette(routes=page_routes(SamplePages(), authenticate=who)))
    for path in ("/", "/decisions/home", "/.json", "/members/7"):
        answer = client.get(path)
        assert answer.status_code == 503 and "Acme" not in answer.text and "tokens.json" not in answer.text
    assert "tokens.json" in caplog.text


def test_an_operator_is_named_in_what_was_done() -> None:
    client, pages = served_as("operator")
    fields = {"to": "40", "csrf": token(client), "confirm": "yes"}
    client.post("/decisions/home/rollback", data=fields)
    assert pages.acts == [("rollback", "home", "40", "vera")]


# -------------------------------------------------------------------------------------------------------------- errors


def test_an_unknown_name_is_a_page_with_a_reference(client: TestClient) -> None:
    answer = client.get("/decisions/hom")
    assert answer.status_code == 404 and "did you mean &#39;home&#39;?" in answer.text and "Reference" in answer.text
    twin = client.get("/decisions/hom.json")
    assert twin.status_code == 404 and twin.json()["reference"]


def test_when_the_tables_are_out_the_page_says_what_is_safe(client: TestClient, pages: SamplePages) -> None:
    pages.out = True
    answer = client.get("/")
    assert answer.status_code == 503 and "Choices are still being made and kept" in answer.text


def test_the_page_of_an_error_stands_even_when_nothing_of_the_studio_can_be_read(
    client: TestClient, pages: SamplePages, monkeypatch: Any
) -> None:
    def out() -> Any:
        raise StorageError("the catalog does not answer")

    monkeypatch.setattr(pages, "shell", out)
    for path in ("/", "/decisions/home", "/decisions/nope"):
        answer = client.get(path)
        assert (
            answer.status_code == 503 and "The tables do not answer" in answer.text and 'href="/lineage"' in answer.text
        )
    assert client.get("/.json").status_code == 200  # the twin needs nothing around it


def test_a_page_that_breaks_says_so_and_keeps_the_rest_for_the_log(
    client: TestClient, pages: SamplePages, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr(pages, "front", lambda: 1 / 0)
    answer = client.get("/")
    assert answer.status_code == 500 and "Traceback" not in answer.text
    reference = re.search(r"Reference</dt><dd><code>(\w+)", answer.text)
    assert reference is not None and reference[1] in caplog.text


def test_an_empty_studio_says_what_to_do_next() -> None:
    client = TestClient(Starlette(routes=page_routes(SamplePages(empty=True))))
    text = client.get("/").text
    assert "No decisions yet" in text and "studio.append" in text


def test_an_id_in_the_ledger_leads_to_its_choice_or_says_that_there_is_none(client: TestClient) -> None:
    assert client.get("/choices", params={"id": CHOICE}).headers["location"] == f"/choices/{CHOICE}"
    missing = client.get("/choices", params={"id": "nope"})
    assert missing.status_code == 404 and "must be the id of a logged choice" in missing.text
