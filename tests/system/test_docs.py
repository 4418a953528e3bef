"""The documentation does what it says: every page is followed, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate
from tests.faults.redis_server import RedisServer, needs_redis
from tests.system.pages import ROOT, PageRun

REDIS = "redis://localhost:6379"
#: Written from the code, or followed by tests of their own.
APART = {*generate.PAGES, "plugins/hook-plugin.md", "plugins/backend.md"}
PAGES = sorted(
    path.relative_to(ROOT / "docs").as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if "_build" not in path.parts and path.relative_to(ROOT / "docs").as_posix() not in APART
)
WITH_REDIS = [page for page in PAGES if REDIS in (ROOT / "docs" / page).read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITH_REDIS])
def test_a_page_does_what_it_says(page: str) -> None:
    with PageRun(ROOT / "docs" / page) as run:
        run.run()


@pytest.mark.slow
@pytest.mark.timeout(180)
@needs_redis
@pytest.mark.parametrize("page", WITH_REDIS)
def test_a_page_with_redis_does_what_it_says(page: str, redis_server: RedisServer) -> None:
    with PageRun(ROOT / "docs" / page, {REDIS: f"redis://127.0.0.1:{redis_server.port}"}) as run:
        run.run()


@pytest.mark.parametrize(
    "page", [*(ROOT / "docs" / page for page in PAGES), *ROOT.glob("*.md")], ids=lambda page: page.name
)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", generate.PAGES)
def test_the_pages_written_from_the_code_are_up_to_date(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == generate.PAGES[page](), f"run {generate.COMMAND}"
