"""The pages of a real studio in a real browser: what was built from its log renders, can be read and acted upon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_building import Clock, filled
from test_pages import CHECKS, wide

from conftest import drawn, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATHS = [
    "/", "/decisions/home", "/decisions/retry", "/lineage?node=fact%3A%2F%2Fplayed", "/quarantine", "/members",
    "/members/7?decision=home", "/members/in_3?decision=retry", "/choices", "/search?q=ho",
]  # fmt: skip


@pytest.fixture(scope="module")
def studio_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from starlette.applications import Starlette

    from matinee.console.app import routes

    root: Path = tmp_path_factory.mktemp("browser") / "acme"
    with filled(root, Clock()) as studio, serving(Starlette(routes=routes(studio))) as url:
        yield url


@pytest.fixture
def heard() -> list[str]:
    return []


def opened(browser: Browser, url: str, heard: list[str], **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: heard.append(str(e)))
    page.goto(url)
    drawn(page)
    return page


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_a_studio_can_be_read(browser: Browser, studio_address: str, heard: list[str], path: str) -> None:
    for width, scheme in ((1440, "light"), (380, "dark")):
        page = opened(
            browser, studio_address + path, heard, viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        assert page.evaluate(CHECKS) == [] and wide(page) == [] and heard == []
        page.context.close()


def test_quarantine_of_a_studio_is_let_go_in_place(browser: Browser, studio_address: str, heard: list[str]) -> None:
    page = opened(browser, studio_address + "/quarantine", heard)
    assert page.locator("h1").inner_text() == "3 rows wait in quarantine"
    page.get_by_role("link", name="Let them go").first.click()
    page.get_by_role("button", name="Let them go").click()
    page.wait_for_selector("#quarantine .toast")
    assert "were let go" in page.locator("#quarantine .toast").inner_text() and heard == []
    assert page.locator("h1").inner_text() == "Quarantine is empty"  # not 3 rows any more
    page.context.close()
