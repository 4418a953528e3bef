"""Times on the job's clock, on one's own, and in UTC."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, Site
from tests.browser.jobs import NIGHTLY

pytestmark = pytest.mark.slow

#: An instant as pages write them.
INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w+-]+")


def test_all_times_of_an_answer_are_in_the_zone_that_was_chosen(site: Site, open_page: Open) -> None:
    page = open_page(timezone_id="Asia/Kolkata").page
    page.goto(f"{site.operator}/jobs/{quote(NIGHTLY)}/why")
    heading, answer = page.get_by_role("heading", level=1), page.locator("article.answer")
    for choice, zone, others in (("UTC", "UTC", "CE"), ("local", "GMT", "CE"), ("page", "CE", "UTC")):
        page.get_by_label("Times").select_option(choice)
        for told in (heading, answer):
            expect(told).to_contain_text(re.compile(rf":\d\d {zone}"))
            expect(told).not_to_contain_text(re.compile(rf":\d\d {others}"))


def test_a_page_has_all_its_times_and_asks_for_one_on_the_clock_that_was_chosen(site: Site, open_page: Open) -> None:
    page = open_page(timezone_id="America/Bogota").page
    page.goto(f"{site.operator}/jobs/{NIGHTLY}/why")
    main, field = page.locator("main"), page.get_by_role("textbox", name="Another instant")
    expect(page.get_by_text("Another instant, in Europe/Berlin")).to_be_visible()
    own = page.locator("h1").inner_text()
    page.get_by_label("Times").select_option("local")
    expect(page.get_by_text("Another instant, in America/Bogota")).to_be_visible()
    found = INSTANT.findall(main.inner_text())
    assert len(found) >= 3
    assert [text for text in found if not text.endswith("GMT-5")] == []
    shown = page.locator("h1 time").inner_text()
    assert datetime.fromisoformat(field.input_value()) == datetime.fromisoformat(shown[:19])
    field.fill(field.input_value())
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**zone=America**")
    expect(page.locator("h1 time")).to_have_text(shown)
    page.get_by_label("Times").select_option("page")
    expect(page.locator("h1")).to_have_text(own)
    expect(page.get_by_text("Another instant, in Europe/Berlin")).to_be_visible()


def test_a_timeline_is_moved_by_a_time_on_the_clock_that_was_chosen(site: Site, open_page: Open) -> None:
    page = open_page(timezone_id="America/Bogota").page
    page.goto(f"{site.operator}/timeline?zoom=1h")
    page.get_by_label("Times").select_option("local")
    page.get_by_label("Around").fill("2026-03-01T12:00")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**at=2026**")
    expect(page.locator("main")).to_contain_text("2026-03-01 11:30:00 GMT-5 – 2026-03-01 12:30:00 GMT-5")
    expect(page.get_by_label("Around")).to_have_value(re.compile("^2026-03-01T12:00"))
