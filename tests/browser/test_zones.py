"""Times on the job's clock, on one's own, and in UTC."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, Site
from tests.browser.jobs import NIGHTLY

pytestmark = pytest.mark.slow


def test_all_times_of_an_answer_are_in_the_zone_that_was_chosen(site: Site, open_page: Open) -> None:
    page = open_page(timezone_id="Asia/Kolkata").page
    page.goto(f"{site.operator}/jobs/{quote(NIGHTLY)}/why")
    heading, answer = page.get_by_role("heading", level=1), page.locator("article.answer")
    for choice, zone, others in (("UTC", "UTC", "CE"), ("local", "GMT", "CE"), ("page", "CE", "UTC")):
        page.get_by_label("Times").select_option(choice)
        for told in (heading, answer):
            expect(told).to_contain_text(re.compile(rf":\d\d {zone}"))
            expect(told).not_to_contain_text(re.compile(rf":\d\d {others}"))
