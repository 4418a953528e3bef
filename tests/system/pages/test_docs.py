"""The documentation does what it says: every page is followed, word for word."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import fastapi_crons
import fastapi_crons.locking
import fastapi_crons.plugins
import fastapi_crons.state
import fastapi_crons.testing
from docs import generate
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer, needs_redis
from tests.system.conftest import ROOT
from tests.system.pages.pages import PageRun, check_languages
from tests.system.pages.requirements import check_distributions

REDIS = "redis://localhost:6379"
POSTGRES = "postgresql://crons:secret@localhost:5432"
#: Written from the code, or followed by tests of their own.
APART = {
    *generate.PAGES,
    "plugins/hook-plugin.md",
    "plugins/backend.md",
    "plugins/lock-store.md",
    "how-to/postgres-alembic.md",
}
PAGES = sorted(
    path.relative_to(ROOT / "docs").as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if "_build" not in path.parts and path.relative_to(ROOT / "docs").as_posix() not in APART
)
#: Other tools that our code meets on a page, as far as it needs them.
STAND_INS = {
    "celery/__init__.py": "from unittest.mock import MagicMock\n\n\ndef Celery(*_, **__):\n    return MagicMock()\n",
    "celery/schedules.py": "from unittest.mock import MagicMock as crontab",
}
#: Pages beside those of the documentation.
PAGES_OF_DISTRIBUTIONS = sorted((ROOT / "packages").rglob("README.md"))
PAGES_OF_EXAMPLES = sorted((ROOT / "examples").rglob("README.md"))
EVERY_PAGE = [
    *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    *ROOT.glob("*.md"),
    *PAGES_OF_DISTRIBUTIONS,
    *PAGES_OF_EXAMPLES,
]
WITH_REDIS = [page for page in PAGES if REDIS in (ROOT / "docs" / page).read_text(encoding="utf-8")]
WITH_POSTGRES = [page for page in PAGES if POSTGRES in (ROOT / "docs" / page).read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITH_REDIS + WITH_POSTGRES])
def test_a_page_does_what_it_says(page: str) -> None:
    with PageRun(ROOT / "docs" / page) as run:
        run.run()


@pytest.mark.slow
@needs_redis
@pytest.mark.parametrize("page", WITH_REDIS)
def test_a_page_with_redis_does_what_it_says(page: str, redis_server: RedisServer) -> None:
    for name, text in STAND_INS.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    with PageRun(ROOT / "docs" / page, {REDIS: f"redis://127.0.0.1:{redis_server.port}"}) as run:
        run.run()


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize("page", WITH_POSTGRES)
def test_a_page_with_postgres_does_what_it_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer() as server:
        server.psql("CREATE DATABASE shop")
        # Of the server's version: pg_dump refuses a newer one.
        monkeypatch.setenv("PATH", f"{server.programs}{os.pathsep}{os.environ['PATH']}")
        with PageRun(ROOT / "docs" / page, {POSTGRES: server.url_of("").rstrip("/")}) as run:
            run.run()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_OF_DISTRIBUTIONS, ids=lambda page: page.parent.name)
def test_the_page_of_a_distribution_does_what_it_says(page: Path) -> None:
    with PageRun(page) as run:
        run.run()


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_is_followed_or_meant_to_be_shown(page: Path) -> None:
    check_languages(page)


def on_pages(pattern: str) -> list[tuple[Path, str]]:
    """What is found on all pages: where, and what. There is always something."""
    found = [(page, match) for page in EVERY_PAGE for match in re.findall(pattern, page.read_text(encoding="utf-8"))]
    assert found, pattern
    return found


def test_what_is_installed_in_passing_can_be() -> None:
    for _, command in on_pages(r"`(pip install [^`…]+)`"):
        check_distributions(shlex.split(command)[2:])


def test_links_to_files_lead_somewhere() -> None:
    links = on_pages(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", generate.PAGES)
def test_the_pages_written_from_the_code_are_up_to_date(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == generate.PAGES[page](), f"run {generate.COMMAND}"


@pytest.mark.parametrize(
    ("module", "page"),
    [
        (fastapi_crons, "python.md"),
        (fastapi_crons.state, "stores.md"),
        (fastapi_crons.locking, "stores.md"),
        (fastapi_crons.testing, "stores.md"),
        (fastapi_crons.plugins, "stores.md"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_name_is_in_the_reference(module: ModuleType, page: str) -> None:
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    assert module.__all__
    for name in module.__all__:
        assert f"\n### {name}\n" in text, name
