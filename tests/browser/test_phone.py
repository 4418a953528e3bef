"""What a phone shows without scrolling sideways, and where words and charts begin."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open, Site

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
#: How many lines its first text has.
LINES = (
    "it => { const range = document.createRange(); range.selectNodeContents(it); return range.getClientRects().length }"
)


def right_edge(shown: Locator) -> float:
    expect(shown).to_be_visible()
    box = shown.bounding_box()
    assert box is not None
    return box["x"] + box["width"]


def is_cut(page: Page) -> list[str]:
    """The regions whose content does not fit into them."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.scrolls')].filter(it => it.scrollWidth > it.clientWidth).map(it => it.ariaLabel)"
    )
    return found


def test_a_phone_shows_the_state_and_the_buttons_of_each_job(site: Site, open_page: Open) -> None:
    page = open_page(**PHONE).page
    page.goto(site.operator)
    row = page.get_by_role("row", name="flaky sync")
    for part in (row.locator(".state"), row.locator(".next"), row.get_by_role("button", name="Pause")):
        assert right_edge(part) <= 360
    assert is_cut(page) == []
    # The first job is on the first screen: filters are folded until they are wanted.
    name = page.get_by_role("link", name="across the sea").bounding_box()
    assert name is not None
    assert name["y"] < 740
    expect(page.get_by_label("Job or tag")).to_be_hidden()
    page.get_by_text("Filter", exact=True).first.click()
    page.get_by_label("Job or tag").fill("flaky")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("link", name="across the sea")).to_have_count(0)
    expect(page.get_by_label("Job or tag")).to_be_visible()


def test_tables_of_runs_fit_a_phone(site: Site, open_page: Open) -> None:
    page = open_page(**PHONE).page
    page.goto(f"{site.operator}/runs")
    assert is_cut(page) == []
    name = page.get_by_role("table").first.get_by_role("link", name="flaky sync").first
    assert right_edge(name) <= 360
    assert name.evaluate(LINES) == 1


def test_no_table_is_cut_on_a_phone(site: Site, open_page: Open) -> None:
    page = open_page(**PHONE).page
    for address in ("/plan", "/instances"):
        page.goto(f"{site.operator}{address}")
        for details in page.locator("main details").all():
            details.evaluate("each => { each.open = true; }")
        assert set(is_cut(page)) <= {"Ticks by hour"}, address
    page.goto(f"{site.operator}/jobs/flaky%20sync?status=completed")
    page.get_by_role("region", name="Runs", exact=True).locator("a[href*='/why?at=']").first.click()
    expect(page.get_by_role("region", name="Runs", exact=True)).to_contain_text("completed")
    assert is_cut(page) == []


def test_names_are_broken_only_where_they_must_be(site: Site, open_page: Open) -> None:
    page = open_page(viewport={"width": 1280, "height": 900}).page
    for address in ("", "/runs", "/plan"):
        page.goto(f"{site.operator}{address}")
        names = page.locator("table a.name")
        assert names.count() > 3
        assert names.evaluate_all(f"all => all.map({LINES})") == [1] * names.count()
    page.goto(site.operator)
    assert is_cut(page) == []


def test_the_chart_of_a_job_begins_with_today(site: Site, open_page: Open) -> None:
    page = open_page(**PHONE).page
    page.goto(f"{site.operator}/jobs/cleanup")
    today = page.locator(".days svg g").last.bounding_box()
    assert today is not None
    assert 0 < today["x"] < 360
