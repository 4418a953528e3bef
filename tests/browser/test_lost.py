"""Pages that lose their server, or whose server loses its store: they say since when, and go on by themselves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, serving
from tests.browser.jobs import QUICK
from tests.browser.test_pages import PAGES, go
from tests.browser.watched import Watched
from tests.faults.redis_server import RedisServer, needs_redis
from tests.system.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

#: Within so many milliseconds a page says that what it shows is old, and is fresh again.
SOON = 40_000
#: All pages that change; a run that has ended does not.
LIVE = [page for page in PAGES if page != "run"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def opened(open_page: Open, base: str, page: str) -> Watched:
    shown = open_page()
    go(shown, base, page, QUICK)
    shown.expected, shown.may_be_lost = (503,), True
    return shown


def notice(page: Page, words: str = "") -> None:
    expect(page.locator("#lost")).to_contain_text(words, timeout=SOON)


def no_notice(page: Page) -> None:
    expect(page.locator("#lost")).to_be_empty(timeout=SOON)


def run_quickly(page: Page) -> None:
    """Run a job by its button on the overview, and see it end."""
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=QUICK, exact=True))
    row.get_by_role("button", name="Run").click()
    expect(row).to_contain_text("completed", timeout=SOON)


@needs_redis
def test_pages_keep_what_they_show_while_the_store_is_gone_and_follow_it_again(tmp_path: Path, open_page: Open) -> None:
    with RedisServer() as redis, serving(tmp_path, CRON_REDIS_URL=redis.url) as server:
        base = f"{server.url}/api/dashboard"
        pages = {name: opened(open_page, base, name).page for name in LIVE}
        instances = pages.pop("instances")
        headings = {name: page.locator("h1").inner_text() for name, page in pages.items()}
        redis.kill()
        for page in pages.values():
            notice(page, "The store does not answer; the log says why. What is shown is from ")
        assert {name: page.locator("h1").inner_text() for name, page in pages.items()} == headings
        expect(instances.locator("main")).to_contain_text("not known which instances live", timeout=SOON)
        expect(instances.locator("main")).to_contain_text("the lock store has answered no heartbeat", timeout=SOON)
        expect(instances.get_by_role("heading", name="Settings")).to_be_visible()
        late = open_page()
        late.expected, late.may_be_lost = (503,), True
        late.page.goto(base)
        expect(late.page.get_by_role("heading", level=1)).to_have_text("Service Unavailable")
        redis.start()
        for page in pages.values():
            no_notice(page)
        expect(instances.locator("main")).to_contain_text("1 instance.", timeout=SOON)
        expect(late.page.get_by_role("heading", level=1)).to_have_text("Jobs", timeout=SOON)
        run_quickly(pages["jobs"])
        expect(pages["job"].get_by_role("region", name="Runs", exact=True)).to_contain_text("1 run", timeout=SOON)


def test_pages_say_that_the_server_is_gone_and_follow_the_next_one(
    tmp_path: Path, server: Server, open_page: Open
) -> None:
    base = f"{server.url}/api/dashboard"
    pages = {name: opened(open_page, base, name).page for name in LIVE}
    server.end()
    for page in pages.values():
        notice(page, "No answer since ")
        expect(page.locator("body")).not_to_contain_text("crons.start()")
    heartbeat = pages["instances"].locator("dt:text('Heartbeat') + dd time")
    shown = heartbeat.inner_text()
    pages["instances"].wait_for_timeout(2_500)
    expect(heartbeat).to_have_text(shown)
    with serving(tmp_path, port=server.port):
        for page in pages.values():
            no_notice(page)
        run_quickly(pages["jobs"])
        expect(pages["job"].get_by_role("region", name="Runs", exact=True)).to_contain_text("1 run", timeout=SOON)


def test_a_page_says_that_its_server_hangs(server: Server, open_page: Open) -> None:
    shown = opened(open_page, f"{server.url}/api/dashboard", "jobs")
    page = shown.page
    server.process.send_signal(signal.SIGSTOP)
    notice(page, "No answer since ")
    assert shown.accessible() == []
    server.process.send_signal(signal.SIGCONT)
    no_notice(page)
    run_quickly(page)


def test_a_button_that_nothing_answers_says_so(server: Server, open_page: Open) -> None:
    page = opened(open_page, f"{server.url}/api/dashboard", "jobs").page
    page.set_viewport_size({"width": 360, "height": 740})
    run_quickly(page)
    server.kill()
    page.get_by_role("button", name=f"Run {QUICK}").click()
    notice(page, "No answer since ")
    both = page.locator(".notices p")
    expect(both).to_have_count(2)
    for each in both.all():
        expect(each).to_be_in_viewport(ratio=1)
