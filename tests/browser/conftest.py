"""A real Chromium and a server of sample pages; tests are skipped with a reason where there is no browser."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "console"))

CHROMIUM = Path("/usr/bin/chromium")
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of this machine; gives its address."""
    import uvicorn

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not start within 20 s")
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium a module. Playwright keeps an event loop running in this thread until it is closed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def sample() -> Any:
    """The source of the sample pages; acts change it."""
    from console_sample import SamplePages

    return SamplePages()


@pytest.fixture
def address(sample: Any) -> Iterator[str]:
    """Where the sample pages are served; an empty studio under /empty, one whose tables are out under /out."""
    from console_sample import SamplePages
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from matinee.console.app import page_routes

    out = SamplePages()
    out.out = True
    mounts = [
        Mount("/empty", routes=page_routes(SamplePages(empty=True))),
        Mount("/out", routes=page_routes(out)),
    ]
    with serving(Starlette(routes=[*mounts, *page_routes(sample)])) as url:
        yield url


Open = Callable[..., "Page"]


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Open]:
    """Open a page: `visit("/lineage", width=380, scheme="dark", scripts=False)`. Console errors fail the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(
        path: str, *, width: int = 1440, scheme: str = "light", scripts: bool = True, status: int = 200, may: int = 0
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def heard(message: Any) -> None:
            # The page itself may be an error page; nothing it loads may be.
            own = any(f"status of {code}" in message.text for code in (status, may) if code >= 400)
            if message.type in ("error", "warning") and not own:
                errors.append(f"{path}: {message.text}")

        page.on("console", heard)
        page.on("pageerror", lambda error: errors.append(f"{path}: {error}"))
        answer = page.goto(address + path)
        assert answer is not None and answer.status == status
        if scripts:
            drawn(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def drawn(page: Page) -> None:
    """Wait until every chart of the page has its marks."""
    until(
        page,
        "[...document.querySelectorAll('figure.chart')].every(f => f.querySelector('.vega svg path, .vega svg text'))",
    )


def until(page: Page, condition: str) -> None:
    """Wait for a condition. (`wait_for_function` polls with eval, which the pages' policy forbids.)"""
    deadline = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so after 15 s: {condition}"
        page.wait_for_timeout(20)
