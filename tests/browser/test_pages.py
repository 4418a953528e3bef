"""Each page under each condition: the browser complains about nothing, and axe finds nothing."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, Site, log_in
from tests.browser.jobs import MARKUP, ODD, QUICK
from tests.browser.watched import Watched

pytestmark = pytest.mark.slow

PAGES = {
    "jobs": "",
    "runs": "/runs",
    "timeline": "/timeline",
    "job": "/jobs/{}",
    "run": "/jobs/{}",
    "why": "/jobs/{}/why",
    "plan": "/plan",
    "instances": "/instances",
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "without script": {"java_script_enabled": False},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True},
    "viewer": {},
    "prefix": {},
    "proxy": {},
}


def base_of(site: Site, condition: str) -> str:
    return {"viewer": site.viewer, "prefix": site.prefix, "proxy": site.proxy}.get(condition, site.operator)


def go(shown: Watched, base: str, page: str, job: str = ODD) -> None:
    """Open a page as a person finds it: runs are reached from their job."""
    answer = shown.page.goto(base + PAGES[page].format(quote(job, safe="")))
    assert answer is not None
    assert answer.status == 200
    if page == "run":
        shown.page.locator("main a[href*='/runs/']").first.click()
        shown.page.wait_for_url("**/runs/*")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_pages(site: Site, open_page: Open, condition: str) -> None:
    shown = open_page(**CONDITIONS[condition])
    base = base_of(site, condition)
    if condition == "proxy":
        log_in(shown, base)
    faults = []
    for page in PAGES:
        go(shown, base, page)
        faults += faults_of(shown, page, condition)
        if condition == "viewer":
            assert shown.page.locator("main form[method=post]").count() == 0, page
            assert "You may only look: only people on call may change jobs." in shown.page.inner_text("main"), page
    assert faults == []


@pytest.mark.parametrize("condition", ["light", "dark", "without script", "phone"])
def test_the_login_page_before_and_after_a_wrong_token(site: Site, open_page: Open, condition: str) -> None:
    shown = open_page(**CONDITIONS[condition])
    shown.page.goto(f"{site.proxy}/login")
    faults = faults_of(shown, "login", condition)
    shown.expected = (401,)
    shown.page.get_by_label("Token").fill("a wrong one")
    shown.page.get_by_role("button", name="Sign in").click()
    expect(shown.page.get_by_role("alert")).to_contain_text("That is not the token")
    assert faults + faults_of(shown, "login", condition) == []


def faults_of(shown: Watched, page: str, condition: str) -> list[str]:
    """What is wrong with the page that is shown."""
    shown.page.wait_for_timeout(300)
    assert shown.page.title() != "broken"
    assert shown.page.locator("h1").count() == 1, page
    # axe is a script
    faults = shown.accessible() if condition != "without script" else []
    if condition == "phone":
        wide = shown.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{page} is {wide} pixels wide"
    return [f"{page}: {fault}" for fault in faults]


def test_markup_is_shown_as_text_wherever_it_is(site: Site, open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    page.goto(f"{site.operator}/jobs/{quote(QUICK)}")
    page.get_by_text("Run now", exact=True).click()
    page.get_by_label("Note").first.fill(MARKUP)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("main dd", has_text=MARKUP)).to_be_visible()
    for each in PAGES.keys() - {"instances"}:
        go(shown, site.operator, each)
        if each == "why":  # of a tick whose run failed
            page.goto(f"{site.operator}/jobs/{quote(ODD, safe='')}?status=failed")
            page.get_by_role("region", name="Runs", exact=True).locator("a[href*='/why?at=']").last.click()
            page.wait_for_url("**/why?at=*")
        expect(page.locator("main")).to_contain_text(MARKUP)
        expect(page.locator("main :is(script, b:text('&'))")).to_have_count(0)
        expect(page).to_have_title(re.compile("FastAPI Crons$"))
    page.goto(f"{site.operator}/plan?q=paused+job")
    expect(page.get_by_role("row").filter(has_text="paused job")).to_contain_text(MARKUP)
