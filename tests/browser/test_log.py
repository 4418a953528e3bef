"""The log of a run that is followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, serving
from tests.browser.jobs import TALKS

pytestmark = pytest.mark.slow


def test_what_was_followed_stays_when_the_run_ends_although_less_of_it_is_kept(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path, CRON_MAX_LOG_CHARS="300") as server:
        page = open_page().page
        page.goto(f"{server.url}/api/dashboard/jobs/{TALKS}")
        page.get_by_text("Run now", exact=True).click()
        page.get_by_role("button", name="Run", exact=True).click()
        log = page.get_by_role("list", name="Log")
        expect(log).to_contain_text("line 3")
        expect(page.locator("main")).to_contain_text(
            "the newest 300 characters are kept with a run (CRON_MAX_LOG_CHARS)"
        )
        followed = log.inner_text().splitlines()[0]
        expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
        expect(page.locator("main")).to_contain_text("earlier records not kept")
        expect(log).to_contain_text("line 19")
        expect(log).to_contain_text(followed)
        assert log.inner_text().count("line 19") == 1
        kept = log.get_by_role("listitem")
        many = kept.count()
        page.reload()
        assert kept.count() < many


def test_a_page_that_follows_hundreds_of_lines_a_second_can_be_used(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path) as server:
        shown = open_page()
        shown.may_be_lost = True  # a browser on a busy machine reads too slowly, is let go, and comes again
        page = shown.page
        page.goto(f"{server.url}/api/dashboard/jobs/{TALKS}")
        page.get_by_text("Run now", exact=True).click()
        page.get_by_label("lines int").fill("1000000")
        page.get_by_label("pause float").fill("0.001")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.get_by_text("Earlier lines are no longer shown here.")).to_be_visible(timeout=60_000)
        log = page.get_by_role("list", name="Log")
        newest = log.locator("li").last.inner_text()
        assert log.locator("li").count() < 3_000
        expect(log).not_to_contain_text(newest)
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
        expect(page.get_by_text("Earlier lines are no longer shown here.")).to_be_visible()
