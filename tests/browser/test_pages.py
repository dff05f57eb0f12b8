"""Every page in a real browser: renders, reads without scripts, works by keyboard, fits 380 pixels, can be seen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Open, drawn, until

CHOICE = "019353f0a1b2c3d4e5f60718293a4b5c"
PAGES = {
    "front": "/",
    "decision": "/decisions/home",
    "asked": "/decisions/home?ask=rollback",
    "bare decision": "/decisions/retry",
    "lineage": "/lineage",
    "impact": "/lineage?node=fact%3A%2F%2Fplayed",
    "quarantine": "/quarantine?ask=drop&batch=ab12cd34ef56",
    "members": "/members",
    "member": "/members/40217?decision=home",
    "ledger": "/choices",
    "choice": f"/choices/{CHOICE}",
    "search": "/search?q=ho",
    "empty": "/empty/",
}
ERRORS = {
    "out": ("/out/", 503),
    "unknown": ("/decisions/hom", 404),
    "wrong share": ("/decisions/home?ask=release&policy=boost-31&share=1.5", 422),
}
CHECKS = (Path(__file__).parent / "checks.js").read_text()
pytestmark = pytest.mark.browser


def wide(page: Any) -> list[str]:
    """What stands beyond the right edge of the page, unless it scrolls in its own box."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
        [`page is ${document.documentElement.scrollWidth} wide`,
        ...[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
        && !e.closest('.scroll, .shelf, .nav, pre')).slice(0, 5).map(e => e.outerHTML.slice(0, 120))]"""
    )
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_and_can_be_read_by_everybody(visit: Open, name: str) -> None:
    for scheme in ("light", "dark"):
        page = visit(PAGES[name], scheme=scheme)
        assert page.locator("h1").inner_text().strip()
        assert page.evaluate(CHECKS) == []
        assert wide(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(visit: Open, name: str) -> None:
    page = visit(PAGES[name], width=380)
    assert wide(page) == []
    assert page.evaluate(CHECKS) == []


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_page_like_the_others(visit: Open, name: str) -> None:
    path, status = ERRORS[name]
    for width in (1440, 380):
        page = visit(path, width=width, status=status)
        assert page.evaluate(CHECKS) == [] and wide(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_without_scripts(visit: Open, name: str) -> None:
    page = visit(PAGES[name], scripts=False)
    assert page.locator("h1").is_visible()
    assert not page.locator(".theme").is_visible()
    for table in page.locator("figure.chart details.data").all():
        assert table.locator("tbody tr").first.is_visible()
    for chart in page.locator("figure.chart .drawn").all():
        assert not chart.is_visible()


# -------------------------------------------------------------------------------------------------------------- charts


def test_a_chart_draws_its_line_its_band_and_its_words(visit: Open) -> None:
    page = visit("/decisions/home")
    chart = page.locator("#chart-value .vega svg")
    assert chart.locator("path[stroke='#C47000']").count() == 1
    assert chart.locator("path[fill='#F9EBCA']").count() >= 1
    words = chart.locator("text").all_text_contents()
    assert sum(bool(re.fullmatch(r"\d{1,2} [A-Z][a-z]{2}", w)) for w in words) >= 4  # the days, along the axis
    assert "release 40" in words and any(re.match(r"\+1\.2 % \[0\.7, 1\.8\]", w) for w in words)
    assert page.locator("#chart-chance .vega svg path[fill='#7B766A']").count() >= 7
    assert not page.locator("#chart-value details.data").get_attribute("open")


def test_the_theme_switch_redraws_the_charts_and_is_kept(visit: Open) -> None:
    page = visit("/decisions/home")
    assert page.locator("#chart-value .vega svg path[stroke='#C47000']").count() == 1
    page.locator(".theme").click()
    page.wait_for_selector("#chart-value .vega svg path[stroke='#FFB01F']", state="attached")
    assert page.evaluate("localStorage.getItem('matinee-theme')") == "dark"
    page.reload()
    drawn(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("#chart-value .vega svg path[stroke='#FFB01F']").count() == 1


def test_no_name_leaves_its_poster(visit: Open) -> None:
    for width in (1440, 380):
        page = visit("/members/40217", width=width)
        spilled = page.evaluate(
            """() => [...document.querySelectorAll('.poster .pt')].filter(e => {
                const card = e.closest('.poster').getBoundingClientRect(), range = document.createRange();
                range.selectNodeContents(e);
                const box = range.getBoundingClientRect();
                const high = e.closest('.mid') ? 1 : 0.5;
                return box.right > card.right - 2 || box.bottom > card.top + high * card.height;
            }).map(e => e.textContent)"""
        )
        assert spilled == []


# ---------------------------------------------------------------------------------------------------------------- keys


def focused(page: Any) -> str:
    text: str = page.evaluate("document.activeElement.textContent.trim().replace(/\\s+/g, ' ')")
    return text


def test_slash_finds_and_arrows_lead_through_what_was_found(visit: Open) -> None:
    page = visit("/lineage")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("ho")
    page.wait_for_selector("#found a")
    page.keyboard.press("ArrowDown")
    assert "Home page ranking" in focused(page)
    page.keyboard.press("ArrowDown")
    assert "played" in focused(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/decisions/home")


def test_escape_closes_what_was_found(visit: Open) -> None:
    page = visit("/")
    page.keyboard.press("/")
    page.keyboard.type("ho")
    page.wait_for_selector("#found a")
    page.keyboard.press("Escape")
    assert page.locator("#found a").count() == 0


def test_question_mark_shows_the_keys(visit: Open) -> None:
    page = visit("/")
    assert not page.locator("#keys").is_visible()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/quarantine")


def test_letters_typed_into_a_field_stay_letters(visit: Open) -> None:
    page = visit("/members")
    page.locator("#unit").focus()
    page.keyboard.type("g/?d7")
    assert page.locator("#unit").input_value() == "g/?d7"
    assert not page.locator("#keys").is_visible()


def test_arrows_move_between_the_rows_of_a_table(visit: Open) -> None:
    page = visit("/")
    page.locator("table[data-arrows] tbody a").first.focus()
    page.keyboard.press("ArrowDown")
    assert focused(page) == "Payment retry"
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Home page ranking"
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Home page ranking"


def test_arrows_move_between_posters_and_d_decides_again(visit: Open) -> None:
    page = visit("/members/40217")
    page.locator(".shelf a").first.focus()
    page.keyboard.press("ArrowRight")
    assert "Glass Harbour" in focused(page)
    page.keyboard.press("Enter")
    page.wait_for_url("**slot=2**")
    assert "Why Glass Harbour" in page.locator("#why").inner_text()
    page.keyboard.press("d")
    page.wait_for_url("**/members/40217?decision=home**")


def test_arrows_move_in_the_drawing_and_enter_asks_what_breaks(visit: Open) -> None:
    page = visit("/lineage")
    page.locator("svg.graph a").first.focus()
    page.keyboard.press("ArrowRight")
    assert "invoice" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.wait_for_url("**node=features**")
    assert page.locator("#impact").is_visible()
    assert page.locator("svg.graph a.focus").count() == 1 and page.locator("svg.graph a.downstream").count() >= 1


def test_everything_that_can_be_pressed_is_reached_by_tab_and_shows_it(visit: Open) -> None:
    page = visit("/decisions/home")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the page"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "(e => [e.textContent.trim().slice(0, 40), getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        seen.add(name)
        assert outline != "none", name
    assert {"Release", "Roll back to 40", "Preview for a member", "Lineage"} <= seen


# ---------------------------------------------------------------------------------------------------------------- acts


def test_a_release_is_asked_and_done_in_place(visit: Open, sample: Any) -> None:
    page = visit("/decisions/home")
    page.evaluate("for (const e of [document.body, ...document.querySelectorAll('#lead, #arms')]) e.dataset.same = 'yes'")
    page.locator("#release-policy").select_option("boost-31")
    page.locator("#release-share").fill("0.5")
    page.get_by_role("button", name="Release", exact=True).click()
    page.wait_for_selector("#release .ask")
    assert page.evaluate("document.activeElement.classList.contains('ask')")
    assert "Release boost-31?" in page.locator("#release .ask").inner_text()
    assert sample.acts == []
    page.locator("#release .ask button").click()
    page.wait_for_selector("#release .toast")
    assert sample.acts == [("release", "home", "boost-31", "0.5", "local")]
    assert "Release 42" in page.locator("#release .toast").inner_text()
    assert page.locator("#releases li").first.inner_text().startswith("42")
    assert "release 42" in page.locator("#sheet").inner_text()
    assert page.locator("#lead:not([data-same])").count() == page.locator("#arms:not([data-same])").count() == 1
    assert page.evaluate("document.body.dataset.same") == "yes"
    page.locator("#release .toast button").click()
    until(page, "document.querySelector('#releases li').textContent.includes('43')")
    assert sample.acts[-1] == ("rollback", "home", "41", "local")


def test_a_wrong_share_is_said_beside_its_field_in_place(visit: Open, sample: Any) -> None:
    page = visit("/decisions/home", may=422)
    page.locator("#release-share").fill("1.5")
    with page.expect_response(lambda r: r.status == 422):
        page.get_by_role("button", name="Release", exact=True).click()
    page.wait_for_selector("#release-error")
    assert "did you mean 0.15?" in page.locator("#release-error").inner_text()
    assert page.locator("#release-share").get_attribute("aria-invalid") == "true"
    assert sample.acts == []


def test_no_leads_back_and_nothing_is_done(visit: Open, sample: Any) -> None:
    page = visit("/decisions/home")
    page.locator("#release").get_by_role("link", name="Roll back to 40").click()
    page.wait_for_selector("#release .ask")
    page.get_by_role("link", name="Keep 41").click()
    page.wait_for_selector("#release form #release-policy")
    assert sample.acts == []


def test_a_rollback_works_without_scripts(visit: Open, sample: Any) -> None:
    page = visit("/decisions/home", scripts=False)
    page.get_by_role("link", name="Roll back to 40").click()
    assert sample.acts == []
    page.get_by_role("button", name="Roll back").click()
    assert sample.acts == [("rollback", "home", "40", "local")]
    assert "Rolled back" in page.locator("#release .toast").inner_text()
    page.get_by_role("button", name="Undo").click()
    assert sample.acts[-1] == ("rollback", "home", "41", "local")


def test_quarantined_rows_are_let_go_in_place(visit: Open, sample: Any) -> None:
    page = visit("/quarantine")
    page.get_by_role("link", name="Let them go").click()
    page.wait_for_selector(".ask")
    page.get_by_role("button", name="Let them go").click()
    page.wait_for_selector("#quarantine .toast")
    assert "212 rows were let go" in page.locator("#quarantine").inner_text()
    assert sample.acts == [("drop", "ab12cd34ef56", "local")]


def test_search_works_without_scripts(visit: Open) -> None:
    page = visit("/", scripts=False)
    page.locator("#q").fill("ho")
    page.locator("#q").press("Enter")
    assert page.locator(".hits a").count() == 4


def test_what_the_doctor_found_comes_into_the_front_page_by_itself(visit: Open, sample: Any) -> None:
    whole = sample.front()
    sample.front = lambda: replace(whole, looking=True, needs=(), headline="All is being checked.")
    page = visit("/")
    assert "being checked" in page.locator("#needs [role=status]").inner_text()
    sample.front = lambda: replace(whole, headline="Something was found.")
    until(page, "document.querySelector('#headline').textContent === 'Something was found.'")
    assert page.locator("#needs li").count() == len(whole.needs) and not page.locator("#needs[hx-get]").count()
    assert page.locator(".bill #chart-worth .vega svg").count() == 1  # the chart was left as it stood
