"""The same pages where several processes share a store, and where each keeps what it knows in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import TOKEN, Open, log_in, serving
from tests.browser.jobs import ODD, QUICK, WAITS
from tests.browser.test_pages import PAGES, go
from tests.browser.watched import Watched
from tests.browser.workers import PORTS
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer, needs_redis
from tests.support import until

pytestmark = pytest.mark.slow


class Fleet(NamedTuple):
    """Where the dashboards of two processes that share a store are. A token guards them."""

    here: str
    there: str
    store: str
    """What Instances calls it, at least."""


@contextmanager
def workers(folder: Path) -> Iterator[Fleet]:
    """Two workers of one server on SQLite. Each has an address of its own, for the tests alone."""
    with serving(folder, "--workers", "2", app="tests.browser.workers:app", CRON_API_TOKEN=TOKEN):

        def ports() -> list[str]:
            return [port for path in folder.glob(PORTS) if (port := path.read_text())]

        until(lambda: len(ports()) == 2, 30, "a port of each worker")
        here, there = (f"http://127.0.0.1:{port}/api/dashboard" for port in ports())
        yield Fleet(here, there, "SQLite")


@contextmanager
def on_redis(folder: Path) -> Iterator[Fleet]:
    """Two servers on one Redis server."""
    with (
        RedisServer() as redis,
        serving(folder, CRON_API_TOKEN=TOKEN, CRON_REDIS_URL=redis.url) as one,
        serving(folder, CRON_API_TOKEN=TOKEN, CRON_REDIS_URL=redis.url) as other,
    ):
        yield Fleet(f"{one.url}/api/dashboard", f"{other.url}/api/dashboard", "Redis")


@contextmanager
def on_postgres(folder: Path) -> Iterator[Fleet]:
    """Two servers on one PostgreSQL server."""
    with (
        PostgresServer() as postgres,
        serving(folder, CRON_API_TOKEN=TOKEN, CRON_POSTGRES_URL=postgres.url) as one,
        serving(folder, CRON_API_TOKEN=TOKEN, CRON_POSTGRES_URL=postgres.url) as other,
    ):
        yield Fleet(f"{one.url}/api/dashboard", f"{other.url}/api/dashboard", "Postgres")


OTHERS = {on_redis: needs_redis, on_postgres: needs_postgres}
#: Everything is tried on the store that is the default, on the others what shows that the instances know of each other.
on_each_store = pytest.mark.parametrize(
    "fleet", [workers, *(pytest.param(store, marks=need) for store, need in OTHERS.items())], indirect=True
)


@pytest.fixture(
    scope="module",
    params=[workers, *(pytest.param(store, marks=[need, pytest.mark.full]) for store, need in OTHERS.items())],
)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with request.param(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def in_memory(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("memory")
    with serving(folder, CRON_STATE_BACKEND="memory", CRON_LOCK_BACKEND="local") as server:
        yield f"{server.url}/api/dashboard"


@pytest.fixture
def here(fleet: Fleet, open_page: Open) -> Watched:
    """The first page of one instance, signed in there."""
    shown = open_page()
    log_in(shown, fleet.here)
    return shown


@pytest.fixture
def there(here: Watched, fleet: Fleet, open_page: Open) -> Watched:
    """The first page of the other instance, in the same browser; it listens by now."""
    shown = open_page(beside=here)
    with shown.page.expect_response("**/events"):
        shown.page.goto(fleet.there)
    return shown


def row(shown: Watched, job: str) -> Locator:
    return shown.page.get_by_role("row").filter(has=shown.page.get_by_role("link", name=job, exact=True))


def run_quickly(shown: Watched) -> None:
    row(shown, QUICK).get_by_role("button", name="Run").click()
    expect(row(shown, QUICK)).to_contain_text("completed")


def faults_of(shown: Watched, base: str) -> list[str]:
    """What axe finds on any page."""
    faults = []
    for page in PAGES:
        go(shown, base, page, QUICK)
        faults += [f"{page}: {fault}" for fault in shown.accessible()]
    return faults


@on_each_store
def test_instances_names_the_store_of_lock_and_history(there: Watched, fleet: Fleet) -> None:
    there.page.get_by_role("link", name="Instances").click()
    for heading in ("Locking", "History"):
        expect(there.page.locator(f"dt:text-is('{heading}') + dd")).to_contain_text(fleet.store)


def test_all_pages_of_the_instance_that_did_not_run_the_job(here: Watched, there: Watched, fleet: Fleet) -> None:
    run_quickly(here)
    assert faults_of(there, fleet.there) == []


def test_who_signed_in_at_one_instance_is_known_to_the_other_until_the_end(here: Watched, there: Watched) -> None:
    expect(there.page.get_by_role("heading", name="Jobs")).to_be_visible()
    there.page.get_by_role("button", name="Sign out").click()
    there.page.wait_for_url("**/login**")
    here.page.reload()
    expect(here.page.get_by_label("Token")).to_be_visible()


@on_each_store
def test_a_run_is_seen_to_begin_and_end_on_the_other_instance_without_loading_the_page(
    here: Watched, there: Watched
) -> None:
    row(here, WAITS).get_by_role("button", name="Run").click()
    expect(row(there, WAITS)).to_contain_text("running")
    row(here, WAITS).locator("a[href*='/runs/']").click()
    here.page.get_by_role("button", name="Cancel").click()
    expect(row(there, WAITS)).not_to_contain_text("running")
    expect(row(there, WAITS)).to_contain_text("cancelled")


def test_a_run_of_the_other_instance_is_found_with_its_log_and_cancelled(here: Watched, there: Watched) -> None:
    row(here, WAITS).get_by_role("link", name=WAITS, exact=True).click()
    here.page.get_by_text("Run now", exact=True).click()
    here.page.get_by_role("button", name="Run", exact=True).click()
    here.page.wait_for_url("**/runs/**")
    there.page.get_by_role("link", name="Instances").click()
    card = there.page.get_by_role("article").filter(has=there.page.get_by_role("link", name=WAITS))
    expect(card.get_by_role("heading", level=2)).not_to_contain_text("this one")
    card.get_by_role("link", name=WAITS).click()
    expect(there.page.get_by_role("list", name="Log")).to_contain_text("waiting for an hour")
    there.page.get_by_role("button", name="Cancel").click()
    for shown in (there, here):
        expect(shown.page.get_by_role("heading", level=1)).to_contain_text("cancelled")


def test_a_job_paused_at_one_instance_is_resumed_at_the_other(here: Watched, there: Watched) -> None:
    row(here, ODD).get_by_role("button", name="Pause").click()
    expect(row(here, ODD)).to_contain_text("paused")
    there.page.reload()
    row(there, ODD).get_by_role("button", name="Resume").click()
    expect(row(there, ODD)).not_to_contain_text("paused")
    here.page.reload()
    expect(row(here, ODD)).not_to_contain_text("paused")


def test_all_pages_in_memory(in_memory: str, open_page: Open) -> None:
    shown = open_page()
    shown.page.goto(in_memory)
    run_quickly(shown)
    assert faults_of(shown, in_memory) == []


def test_what_memory_does_not_keep_is_said(in_memory: str, open_page: Open) -> None:
    shown = open_page()
    shown.page.goto(f"{in_memory}/instances")
    expect(shown.page.locator("main")).to_contain_text("gone when the process ends")
    expect(shown.page.locator("main")).to_contain_text("each process runs every tick by itself")


def test_a_job_is_paused_run_and_cancelled_in_memory(in_memory: str, open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    page.goto(in_memory)
    row(shown, WAITS).get_by_role("button", name="Pause").click()
    expect(row(shown, WAITS)).to_contain_text("paused")
    row(shown, WAITS).get_by_role("button", name="Run").click()
    expect(row(shown, WAITS)).to_contain_text("running")
    row(shown, WAITS).locator("a[href*='/runs/']").click()
    expect(page.get_by_role("list", name="Log")).to_contain_text("waiting for an hour")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    page.goto(in_memory)
    row(shown, WAITS).get_by_role("button", name="Resume").click()
    expect(row(shown, WAITS)).not_to_contain_text("paused")
