"""What an operator does at night, by clicking; and what the pages do when the server stops."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ROOT, Open, Site, serving
from tests.browser.jobs import NIGHTLY, ODD
from tests.browser.watched import Watched
from tests.support import until

pytestmark = pytest.mark.slow


@pytest.fixture
def shown(site: Site, open_page: Open) -> Watched:
    """The first page, as an operator opens it."""
    opened = open_page()
    opened.page.goto(site.operator)
    return opened


def test_which_runs_of_all_jobs_failed_since_yesterday(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_role("heading", name="Runs that did not succeed")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="the other side does not answer").first
    row.get_by_role("link", name="failed").click()
    expect(page.locator("#traceback")).to_contain_text("ConnectionError: the other side does not answer")
    expect(page.get_by_role("list", name="Log")).to_contain_text("asking the other side")


def test_why_the_run_of_the_night_did_not_happen_and_that_tick_is_run_again(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name=NIGHTLY, exact=True).click()
    page.get_by_role("link", name="Why did a tick not run?").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(NIGHTLY)
    answer = page.locator("article.answer")
    expect(answer).to_contain_text("missed")
    expect(answer).to_contain_text("no instance ran the job until")
    page.get_by_text("Run this tick now …").click()
    page.get_by_label("Note").fill("made up for by hand")
    page.get_by_role("button", name="Run it now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run ")
    expect(page.get_by_text("made up for by hand")).to_be_visible()
    page.get_by_role("link", name="what became of it").click()
    expect(page.locator("article.answer")).to_contain_text("running")
    page.go_back()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")


def test_what_is_running_where_and_its_log_while_it_runs(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name="talks", exact=True).click()
    page.get_by_text("Run now", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    log = page.get_by_role("list", name="Log")
    expect(log).to_contain_text("line 3")
    page.get_by_role("link", name="Instances").click()
    expect(page.get_by_role("link", name="talks")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
    expect(page.get_by_role("list", name="Log")).to_contain_text("line 19")


def test_a_job_is_paused_everywhere_with_the_reason_and_resumed(shown: Watched, site: Site, open_page: Open) -> None:
    page = shown.page
    page.get_by_role("link", name=ODD, exact=True).click()
    page.locator("summary", has_text="Pause").click()
    page.get_by_role("textbox", name="Note").fill("the <b>other</b> side is down")
    page.get_by_role("button", name="Pause on all instances").click()
    expect(page.locator("main q")).to_have_text("the <b>other</b> side is down")
    another = open_page()
    another.page.goto(site.prefix)
    expect(another.page.get_by_role("row").filter(has_text=ODD)).to_contain_text("paused")
    page.locator("summary", has_text="Resume").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("main q")).to_have_count(0)
    # The other one hears of it with the next run, or looks by itself.
    another.page.reload()
    expect(another.page.get_by_role("row").filter(has_text=ODD)).not_to_contain_text("paused by")


def test_what_is_due_in_the_next_six_hours(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name="Plan").click()
    page.get_by_label("Due within").select_option("6")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**hours=6*")
    rows = page.get_by_role("row")
    expect(rows.filter(has_text="cleanup")).to_have_count(1)
    expect(rows.filter(has_text="talks")).to_have_count(0)


def test_how_often_it_failed_this_week_and_how_long_it_takes(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name="flaky sync", exact=True).click()
    page.get_by_role("link", name="7 days").click()
    figures = page.locator("dl.figures")
    expect(figures).to_contain_text("Usual duration (7 days; of completed runs)")
    expect(figures).to_contain_text(re.compile(r"Failed \(7 days\)\s*[1-9]\d* of [1-9]\d* runs"))


def test_a_job_fails_and_is_seen_at_once_without_loading_the_page(shown: Watched, site: Site, open_page: Open) -> None:
    row = shown.page.get_by_role("row").filter(has_text="talks")
    other = open_page()
    other.page.goto(site.operator)
    other.page.get_by_role("row").filter(has_text="talks").get_by_role("button", name="Run").click()
    expect(row).to_contain_text("running")
    expect(row).to_contain_text("completed")


def test_a_job_that_failed_is_looked_into_paused_run_with_another_argument_and_resumed(
    tmp_path: Path, open_page: Open
) -> None:
    # Half an hour away from now: no tick comes in between.
    minute = str((datetime.now(timezone.utc).minute + 30) % 60)
    environment = {**os.environ, "BACKUP_MINUTE": minute, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "tests.browser.backups"], cwd=tmp_path, env=environment, check=True)
    with serving(tmp_path, app="tests.browser.backups:app", BACKUP_MINUTE=minute) as server:
        shown = open_page()
        page = shown.page
        answer, heading, log = (
            page.locator("article.answer"),
            page.get_by_role("heading", level=1),
            page.locator("#lines"),
        )
        # It failed; its log.
        page.goto(f"{server.url}/api/dashboard")
        page.get_by_role("link", name="1 failing").click()
        page.locator("td.last").get_by_role("link").click()
        expect(heading).to_contain_text("failed")
        expect(page.locator("#traceback")).to_contain_text("OSError: nas-1 is full")
        expect(log).to_contain_text("writing to nas-1")
        # Why the one before did not run.
        page.get_by_role("link", name="what became of it").click()
        expect(answer).to_contain_text("failed")
        page.get_by_role("link", name="The tick before").click()
        expect(answer).to_contain_text("It was not run: the job was still running")
        # Pause it.
        page.get_by_role("link", name="backup", exact=True).click()
        page.locator("summary", has_text="Pause").click()
        page.locator("#pause-form").get_by_label("Note").fill("nas-1 is full")
        page.get_by_role("button", name="Pause on all instances").click()
        expect(page.locator("main q")).to_have_text("nas-1 is full")
        # Run it, and watch it end.
        page.get_by_text("Run now", exact=True).click()
        page.get_by_label("target str").fill("nas-2")
        page.get_by_label("minutes float").fill("0.05")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(log).to_contain_text("writing to nas-2")
        expect(heading).to_contain_text("completed")
        expect(log).to_contain_text("written")
        expect(page.locator("#returned")).to_contain_text("all of it is on nas-2")
        # Resume it.
        page.get_by_role("link", name="backup", exact=True).click()
        page.locator("summary", has_text="Resume").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#said")).to_contain_text("Resumed with its next tick.")
        expect(page.locator("main q")).to_have_count(0)
        page.get_by_role("link", name="Jobs", exact=True).first.click()
        expect(page.get_by_role("link", name="0 failing")).to_be_visible()
        shown.watches = False  # what the browser says of a server that is gone


@pytest.mark.parametrize("workers", [1, 2])
def test_open_pages_do_not_hold_the_server_when_it_stops(tmp_path: Path, open_page: Open, workers: int) -> None:
    opened = [open_page() for _ in range(4)]
    with serving(tmp_path, "--workers", str(workers)) as server:
        log = tmp_path / "server.log"
        until(lambda: log.read_text().count("Application startup complete") == workers)
        for shown, path in zip(opened, ("", "/timeline", "/runs", "/jobs/cleanup"), strict=True):
            with shown.page.expect_response("**/dashboard/events"):
                shown.page.goto(f"{server.url}/api/dashboard{path}")
        assert [shown.complaints for shown in opened] == [[]] * 4
        for shown in opened:
            shown.watches = False  # what the browser says of a server that is gone
        assert server.end() in (0, -15)
        assert log.read_text().count("Cron scheduler stopped") == workers
        assert "Traceback" not in log.read_text()
