"""A real browser, and real servers with a day of history."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.proxies import StrippingProxy
from tests.browser.watched import FLAGS, Watched
from tests.conftest import Once
from tests.programs import run
from tests.support import until
from tests.system.servers.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
TOKEN = "a token of thirty-two characters"
BEHIND = "/behind/a-proxy"
# A page that comes late on a busy machine is no worse for that. One that has missed an event asks anew after 10 s.
expect.set_options(timeout=40_000)


# Playwright keeps an event loop running in this thread: tests of other files must not find it.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Site(NamedTuple):
    """Where the dashboards of the running servers are."""

    operator: str
    viewer: str
    prefix: str
    proxy: str
    """Behind a proxy that strips a prefix; with a token."""
    folder: Path


@contextmanager
def serving(
    folder: Path, *options: str, app: str = "tests.browser.app:app", port: int = 0, **environment: str
) -> Iterator[Server]:
    """A server in a folder, which ends with the block."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", *environment)}
    here = Path.cwd()
    os.environ.update({"PYTHONPATH": str(ROOT), **environment})
    os.chdir(folder)
    try:
        server = Server(*options, app=app, port=port)
    finally:
        os.chdir(here)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    try:
        until(lambda: server.is_listening)
        yield server
    finally:
        server.kill()


def _make_a_day(folder: Path) -> None:
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run([sys.executable, "-m", "tests.browser.past"], cwd=folder, env=environment, check=True)


# For the tests of this folder: its servers end before those of the next one begin.
@pytest.fixture(scope="package")
def site(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(once("day", _make_a_day), folder, dirs_exist_ok=True)
    with (
        serving(folder) as plain,
        serving(folder, "--root-path", BEHIND, CRON_API_TOKEN=TOKEN) as guarded,
    ):
        proxy = StrippingProxy(guarded.port, BEHIND)
        yield Site(
            f"{plain.url}/api/dashboard",
            f"{plain.url}/readers/dashboard",
            f"{plain.url}/a/deep/prefix/dashboard",
            f"http://127.0.0.1:{proxy.port}{BEHIND}/api/dashboard",
            folder,
        )
        proxy.stop()


def log_in(shown: Watched, base: str) -> None:
    shown.page.goto(f"{base}/login")
    shown.page.get_by_label("Token").fill(TOKEN)
    shown.page.get_by_role("button", name="Sign in").click()
    shown.page.get_by_role("heading", name="Jobs").wait_for()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is in real time, and seen through a browser that shares the processors with other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(
                pytest.mark.second_try("a browser may be held up for seconds by what else runs on the machine")
            )


Open = Callable[..., Watched]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages, and fails at the end where the browser had something to complain about."""
    opened: list[Watched] = []

    def make(beside: Watched | None = None, **conditions: Any) -> Watched:
        """A browser of its own; or else another page of one that is open."""
        context = browser.new_context(**conditions) if beside is None else beside.page.context
        page = Watched(context.new_page())
        opened.append(page)
        return page

    yield make
    for page in opened:
        page.close()
    for page in opened:
        assert page.complaints == []
