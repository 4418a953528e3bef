"""The examples do what their pages say: each is started and looked at."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer, needs_redis
from tests.support import until
from tests.system.conftest import ROOT
from tests.system.pages.pages import Block, PageRun, blocks
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
DISTRIBUTED = EXAMPLES / "distributed_locking"
COMPOSE, POSTGRES_COMPOSE = "compose.yaml", "compose.postgres.yaml"
#: Started by tests of their own.
APART = {DISTRIBUTED, EXAMPLES / "plugins"}


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in EXAMPLES.glob("*/README.md") if path.parent not in APART),
    ids=lambda f: f.name,
)
def test_an_example_does_what_its_page_says(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_SHUTDOWN_TIMEOUT", "0")  # nobody waits for what its jobs still do
    _copy(folder, tmp_path)
    page = folder / "README.md"
    with PageRun(page) as run:
        run.run()
        log = Path("server.log")
        for block in blocks(page):
            if block.language == "text":
                until(lambda block=block: _shows(block, log.read_text()))  # type: ignore[misc]


def _shows(block: Block, log: str) -> bool:
    """Whether a log has the lines of a block; `…` stands for any text."""
    return all(re.search(".*?".join(map(re.escape, line.split("…"))), log) for line in block.text.splitlines())


@contextmanager
def _redis() -> Iterator[str]:
    """A Redis server with the settings of the compose file."""
    server = RedisServer()
    program, *arguments = _service("redis")["command"]
    assert program == "redis-server"
    server.arguments = tuple(arguments)
    with server:
        assert server.cli("CONFIG", "GET", "appendfsync")[1] == "always"
        assert server.cli("CONFIG", "GET", "maxmemory-policy")[1] == "noeviction"
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def _postgres() -> Iterator[str]:
    """A PostgreSQL server with the database of the compose file."""
    database = _service("postgres", POSTGRES_COMPOSE)["environment"]["POSTGRES_DB"]
    with PostgresServer() as server:
        server.psql(f"CREATE DATABASE {database}")
        yield server.url_of(database)


@pytest.mark.parametrize(
    ("store", "variable", "compose"),
    [
        pytest.param(_redis, "CRON_REDIS_URL", COMPOSE, marks=needs_redis, id="redis"),
        pytest.param(_postgres, "CRON_POSTGRES_URL", POSTGRES_COMPOSE, marks=needs_postgres, id="postgres"),
    ],
)
def test_instances_that_share_a_server_run_each_tick_once(
    store: Callable[[], AbstractContextManager[str]],
    variable: str,
    compose: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert variable in _service("app", compose)["environment"]
    _copy(DISTRIBUTED, tmp_path)
    with store() as url:
        monkeypatch.setenv(variable, url)
        _ticks_run_once(_service("app", compose)["deploy"]["replicas"], monkeypatch)


def _ticks_run_once(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_HEARTBEAT_INTERVAL", "1")  # when a process of this host counts as dead
    servers = [Server("--timeout-graceful-shutdown", "10") for _ in range(replicas)]
    try:
        for server in servers:
            until(lambda server=server: _answers(server))  # type: ignore[misc]
        until(lambda: len(_instances(servers[0])) == 3)

        # Each tick once, and not all on one instance.
        until(lambda: len({run["instance_id"] for run in servers[0].runs("poll")}) > 1)
        ticks = [run["scheduled_time"] for run in servers[0].runs("poll")]
        assert len(ticks) == len(set(ticks))

        # One that dies in a run: another one runs the tick again.
        until(
            lambda: servers[0].runs("settle_accounts") and servers[0].runs("settle_accounts")[-1]["status"] == "running"
        )
        cut_off = servers[0].runs("settle_accounts")[-1]
        pid = next(each["pid"] for each in _instances(servers[0]) if each["instance_id"] == cut_off["instance_id"])
        os.kill(pid, signal.SIGKILL)
        other = next(server for server in servers if server.process.pid != pid)
        until(lambda: _again(other, cut_off)["status"] == "completed")
        again = _again(other, cut_off)
        assert again["instance_id"] != cut_off["instance_id"]
        assert again["fencing_token"] > cut_off["fencing_token"]
        assert again["result"] == {"token": again["fencing_token"], "attempt": 2}
        assert (
            next(run for run in other.runs("settle_accounts") if run["id"] == cut_off["id"])["status"] == "interrupted"
        )
    finally:
        for server in servers:
            server.kill()


@pytest.mark.parametrize("compose", [COMPOSE, POSTGRES_COMPOSE])
def test_the_files_for_docker_name_what_there_is(compose: str) -> None:
    lines = (DISTRIBUTED / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    given = [rest for name, rest in instructions if name == "COPY"]
    for copied in given:
        assert (ROOT / copied.split()[0]).exists(), copied
    (installed,) = (rest for name, rest in instructions if name == "RUN")
    program, action, *words = shlex.split(installed)
    assert (program, action) == ("pip", "install")
    for word in words:
        assert not word.startswith("./") or (ROOT / word / "pyproject.toml").exists(), word
    (command,) = (json.loads(rest) for name, rest in instructions if name == "CMD")
    # As the test above starts it, but for where it listens.
    assert command == ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "10"]
    app = _service("app", compose)
    assert (DISTRIBUTED / app["build"]["context"]).resolve() == ROOT
    assert ROOT / app["build"]["dockerfile"] == DISTRIBUTED / "Dockerfile"
    for block in blocks(DISTRIBUTED / "README.md"):
        for line in block.text.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line)
            assert program in ("docker", "export") or (program, words[:1]) == ("uvicorn", ["app:app"]), line


def test_the_page_about_a_real_app_shows_the_example() -> None:
    folder = EXAMPLES / "real_app"
    shown = {
        block.path: block.text.partition("\n")[2]
        for block in blocks(ROOT / "docs/how-to/real-app.md")
        if block.language == "python" and block.path is not None
    }
    modules = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.glob("*/**/*.py")
        if path.name != "__init__.py"
    }
    assert shown == modules


def test_pages_of_examples_link_to_what_there_is() -> None:
    pages = [*EXAMPLES.glob("*.md"), *EXAMPLES.glob("*/*.md")]
    links = [(page, target) for page in pages for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text())]
    assert links
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def _service(name: str, compose: str = COMPOSE) -> Any:
    return yaml.safe_load((DISTRIBUTED / compose).read_text())["services"][name]


def _copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.db*", ".*"))


def _answers(server: Server) -> bool:
    try:
        return bool(server.get("/api/scheduler"))
    except OSError:
        return False


def _instances(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/api/scheduler")["instances"]
    return found


def _again(server: Server, cut_off: dict[str, Any]) -> dict[str, Any]:
    """The second run of a tick that was cut off; one that has not begun yet has no status."""
    found = [run for run in server.runs("settle_accounts") if run["scheduled_time"] == cut_off["scheduled_time"]]
    return next((run for run in found if run["attempt"] == 2), {"status": None})
