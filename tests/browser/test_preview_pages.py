"""Page previews, reach and items of a real studio in a real browser: read by everybody, at both widths, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_pages import CHECKS, wide
from test_previews import EXPIRED, Clock, filled
from test_studio_pages import opened

from conftest import serving, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATHS = [
    "/decisions/page/page", "/decisions/page/page?unit=2", "/decisions/page/page?unit=2&policy=page@1&against=page@2",
    "/decisions/page/page?unit=2&as=kids&limit=7", "/decisions/page/page?unit=2&at=2001-01-01T00:00:00Z",
    "/items/title/5", f"/items/title/{EXPIRED}", "/members/2?decision=page", "/decisions/page",
]  # fmt: skip


@pytest.fixture(scope="module")
def pages_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from starlette.applications import Starlette

    from matinee.console.app import routes

    root: Path = tmp_path_factory.mktemp("previews") / "acme"
    with filled(root, Clock()) as studio, serving(Starlette(routes=routes(studio))) as url:
        yield url


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.mark.parametrize("path", PATHS)
def test_a_page_can_be_read(browser: Browser, pages_address: str, heard: list[str], path: str) -> None:
    for width, scheme in ((1440, "light"), (380, "dark")):
        page = opened(browser, pages_address + path, heard, viewport={"width": width, "height": 900}, color_scheme=scheme)
        assert page.evaluate(CHECKS) == [] and wide(page) == [] and heard == []
        page.context.close()


def test_a_row_is_one_stop_and_arrows_move_within_it(browser: Browser, pages_address: str, heard: list[str]) -> None:
    page = opened(browser, f"{pages_address}/decisions/page/page?unit=2", heard)
    rows = page.locator(".shelf.long")
    assert rows.count() == 2
    assert [row.locator("a:not([tabindex='-1'])").count() for row in rows.all()] == [1, 1]
    first, second = (rows.first.locator("a").nth(k) for k in (0, 1))
    first.focus()
    page.keyboard.press("ArrowRight")
    assert second.evaluate("e => e === document.activeElement && e.tabIndex === 0") and heard == []
    assert first.get_attribute("tabindex") == "-1"
    name = second.locator(".pt").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**chosen=**")
    assert page.locator("#why h2").first.inner_text() == f"Why {name}"
    page.context.close()


def test_another_draw_is_another_page_and_going_back_is_the_same(browser: Browser, pages_address: str, heard: list[str]) -> None:
    page = opened(browser, f"{pages_address}/decisions/page/page?unit=2", heard)

    def names() -> list[str]:
        return [str(t) for t in page.locator(".shelf.long .pt").all_inner_texts()]

    before = names()
    page.keyboard.press("n")
    page.wait_for_url("**draw=1**")
    assert names() != before
    page.go_back()
    assert names() == before and heard == []
    page.context.close()


def test_the_figures_come_in_by_themselves_and_are_drawn(browser: Browser, pages_address: str, heard: list[str]) -> None:
    page = opened(browser, f"{pages_address}/decisions/page/reach?against=page@2", heard)
    until(page, "document.querySelectorAll('#reach figure.chart .vega svg path').length > 6")
    assert page.locator("#reach table").first.locator("tbody tr").count() == 2
    assert page.evaluate(CHECKS) == [] and wide(page) == [] and heard == []
    page.context.close()


def test_a_preview_reads_without_scripts(browser: Browser, pages_address: str) -> None:
    context: Any = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{pages_address}/decisions/page/page?unit=2")
    assert page.locator(".shelf.long a:visible").count() == 8
    page.get_by_label("Profile").select_option("kids")
    page.get_by_role("button", name="Draw this").click()
    assert "a kids profile of this member" in page.locator(".lead").inner_text()
    context.close()
