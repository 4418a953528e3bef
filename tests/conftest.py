"""What all tests share: a folder of their own, no scheduler left over, virtual time."""

from __future__ import annotations

import asyncio
import inspect
import re
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from _pytest.terminal import TerminalReporter
from hypothesis import HealthCheck, Phase, settings

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.faults.redis_server import RedisServer, needs_redis, redis_binary
from tests.leftovers import files_with_leases, leases_in_redis

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# How long it takes to make up examples says something about the machine that day.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
#: For interpreters and dependencies other than those that decide: the same tests, with a tenth of the examples.
settings.register_profile("light", settings.get_profile("any machine"), max_examples=10)
# The same examples each time, fewer of them, and no time spent on making a failing one smaller.
settings.register_profile(
    "mutants",
    max_examples=30,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def pytest_configure() -> None:
    """Refuse an editable installation that is out of date: it keeps the entry points of the day it was made."""
    for file in (Path(__file__).parent.parent / "packages").rglob("pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        stated = set(project.get("entry-points", {}).get("fastapi_crons", {}).items())
        installed = distribution(project["name"]).entry_points
        if stated != {(point.name, point.value) for point in installed if point.group == "fastapi_crons"}:
            raise pytest.UsageError(f"{project['name']} has new entry points: pip install --no-deps -e {file.parent}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A private Redis server for the whole session; tests keep to namespaces or databases of their own."""
    if redis_binary() is None:
        pytest.skip(needs_redis.kwargs["reason"])
    with RedisServer() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only a test that says why is run a second time when it fails."""
    for item in items:
        allowed = item.get_closest_marker("second_try")
        if allowed is not None:
            (reason,) = allowed.args
            item.user_properties.append(("second_try", reason))
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Name what was run a second time, and why it may be."""
    used = terminalreporter.stats.get("rerun", [])
    if used:
        terminalreporter.section("second tries", red=True, bold=True)
        for report in used:
            terminalreporter.write_line(f"{report.nodeid}: {dict(report.user_properties)['second_try']}")


Once = Callable[[str, Callable[[Path], None]], Path]
MakeCrons = Callable[..., Crons]
Install = Callable[..., None]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Gives the folder of a name, which the first worker to want it has filled."""
    from filelock import FileLock  # whole programs need it, which are not tried on other interpreters

    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, done = shared / name, shared / f"{name}.done"
        with FileLock(f"{path}.lock"):
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(autouse=True)
def _on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    reset()
    yield
    reset()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest, _on_its_own: None) -> Iterator[None]:
    """Fail where a test leaves a task, a thread or a lease behind. `leaves(what, reason)` allows one of them."""
    allowed = {mark.args[0] for mark in request.node.iter_markers("leaves")}
    if "task" not in allowed and inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_task_left")
    shared = "redis_server" in request.fixturenames
    server: RedisServer | None = request.getfixturevalue("redis_server") if shared else None
    leases = leases_in_redis(server) if server is not None else set()
    threads = set(threading.enumerate())
    yield
    if "thread" not in allowed:
        left = [thread for thread in set(threading.enumerate()) - threads if _has_to_end(thread)]
        for thread in left:
            thread.join(20)
        assert [thread.name for thread in left if thread.is_alive()] == []
    if "lease" not in allowed:
        # In virtual time no process ends without its stop.
        assert files_with_leases(of_living_too="virtual_time" in request.path.parts) == []
        if server is not None:
            assert leases_in_redis(server) - leases == set()


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=10)
    assert [str(task) for task in left if not task.done()] == []


def _has_to_end(thread: threading.Thread) -> bool:
    """Whether a thread is ours, and none of a pool: those end when they have been idle for a while."""
    return thread.name.startswith("fastapi-crons") and not re.search(r"-\d+$", thread.name)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock("2026-03-01T00:00:00Z")


@pytest_asyncio.fixture
async def make_crons(clock: VirtualClock) -> AsyncIterator[MakeCrons]:
    """Makes schedulers on the virtual clock, in memory unless told otherwise, and stops them at the end."""
    made: list[Crons] = []

    def make(**options: Any) -> Crons:
        state = options.pop("state_backend", None) or MemoryStateBackend()
        locks = options.pop("lock_manager", None)
        crons = Crons(state_backend=state, lock_manager=locks, config=CronConfig(**options), clock=clock)
        made.append(crons)
        return crons

    yield make
    for crons in made:
        await crons.stop()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes a distribution of one module, `acme 1.2` unless told otherwise, whose plugin has the distribution's name."""
    modules: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str, name: str = "acme", *, entry_point: str | None = None, requires: str = "") -> None:
        modules.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        information = tmp_path / f"{name}-1.2.dist-info"
        information.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 1.2",
            *([f"Requires-Dist: {requires}"] * bool(requires)),
        ]
        (information / "METADATA").write_text("\n".join(lines) + "\n")
        (information / "entry_points.txt").write_text(f"[fastapi_crons]\n{entry_point or name} = {name}\n")

    yield make
    for name in modules:
        sys.modules.pop(name, None)
