"""The pages of ten thousand jobs are looked through, filtered and sorted as those of ten, and are not longer for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.browser.conftest import ROOT, Open, serving
from tests.programs import run

pytestmark = pytest.mark.slow

#: How long (bytes) the HTML of a page may be, however many jobs there are.
LONGEST = 300_000


@pytest.fixture(scope="module")
def base(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("many")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run([sys.executable, "-m", "tests.browser.many"], cwd=folder, env=environment, check=True)
    with serving(folder, app="tests.browser.many:app", CRON_STORE_TIMEOUT="60") as server:
        yield f"{server.url}/api/dashboard"


@pytest.fixture
def page(base: str, open_page: Open) -> Iterator[Page]:
    """The first page. This one, and each that it leads to, is measured."""
    shown = open_page()
    lengths: list[tuple[int, str]] = []

    def measure(answer: Response) -> None:
        if "text/html" in answer.headers.get("content-type", ""):
            lengths.append((int(answer.headers["content-length"]), answer.url))

    shown.page.on("response", measure)
    shown.page.goto(base)
    yield shown.page
    assert 0 < max(lengths)[0] <= LONGEST, max(lengths)
    assert shown.accessible() == []


def test_jobs_are_paged_filtered_and_sorted(page: Page) -> None:
    caption = page.get_by_role("region", name="Table of jobs").locator("caption")
    names = page.locator("table.jobs tbody th a:first-child")
    expect(caption).to_have_text("10,000 jobs, page 1 of 200")
    expect(names).to_have_count(50)
    page.get_by_role("link", name="After →").click()
    expect(names.first).to_have_text("job-00050")
    page.get_by_role("searchbox", name="Job or tag").fill("job-099")
    page.get_by_role("button", name="Filter").click()
    expect(caption).to_have_text("100 jobs of 10,000, page 1 of 2")
    page.get_by_role("combobox", name="State").select_option("failing")
    page.get_by_role("combobox", name="Tag").select_option("group-2")
    page.get_by_role("button", name="Filter").click()
    expect(names).to_have_text(["job-09982"])
    page.get_by_role("link", name="Show all").click()
    state = page.get_by_role("columnheader", name="State")
    for order in ("ascending", "descending"):
        state.get_by_role("link").click()
        expect(state).to_have_attribute("aria-sort", order)
    expect(names.first).to_have_text("job-09996")


def test_the_timeline_is_paged_zoomed_and_filtered(page: Page) -> None:
    page.get_by_role("link", name="Timeline").click()
    lanes = page.locator("table.timeline tbody th")
    expect(lanes).to_have_count(25)
    page.get_by_role("link", name="After →").click()
    expect(lanes.first).to_contain_text("job-00025")
    page.get_by_label("Zoom").select_option("7d")
    page.get_by_role("searchbox", name="Job or tag").fill("job-099")
    page.get_by_role("button", name="Show").click()
    expect(lanes.first).to_contain_text("job-09900")


def test_the_plan_is_paged_and_filtered(page: Page) -> None:
    page.get_by_role("link", name="Plan").click()
    rows = page.locator("table.plan tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="After →").click()
    page.get_by_label("Job or tag").fill("job-09999")
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(1)


def test_the_runs_of_all_jobs_are_paged_and_lead_to_a_run(page: Page) -> None:
    page.get_by_role("link", name="Runs", exact=True).click()
    region = page.get_by_role("region", name="Runs", exact=True)
    expect(region.locator("caption")).to_contain_text("The newest 50 of more than 50 runs (there are older ones)")
    page.get_by_role("link", name="Older →").first.click()
    expect(region.locator("caption")).to_contain_text("older than those before")
    region.get_by_role("link", name="failed").first.click()
    expect(page.get_by_role("heading", name="ConnectionError")).to_be_visible()


def test_a_job_among_ten_thousand_is_run_and_seen_to_have_run(page: Page) -> None:
    page.get_by_role("searchbox", name="Job or tag").fill("job-05000")
    page.get_by_role("button", name="Filter").click()
    row = page.get_by_role("row").filter(has_text="job-05000")
    row.get_by_role("button", name="Run").click()
    expect(page.locator("#said")).to_have_text("The run has started.")
    row.get_by_role("link", name="job-05000", exact=True).click()
    expect(page.get_by_role("region", name="Runs", exact=True).locator("caption")).to_have_text("2 runs, newest first")
