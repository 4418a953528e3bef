"""Folders of SQLite stores that can not be written to, and whoever only reads: who leaves no file behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, Run
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.integration.sqlite.files import PATH, contents, database, observer, scheduler
from tests.support import nothing

_NOBODY = """
import asyncio, os, sys
from fastapi_crons import Crons, testing
from fastapi_crons.engine import engine
from fastapi_crons.management import management
from fastapi_crons.state import SQLiteStateBackend
import importlib.metadata
importlib.metadata.version("fastapi-crons-core")  # what is imported later can't be read by the other user
crons = Crons(state_backend=SQLiteStateBackend("jobs.db"))
crons.cron("0 0 1 1 *", name="job")(print)
crons.plugins, crons.given.state_backend.companion_lock()
if os.geteuid() == 0:
    os.setuid(65534)  # permission bits mean nothing to root

async def main():
    await crons.start(sys.argv[1])
    print([view.status for view in await management.Management(crons).jobs()])
    if "obstacles" in sys.argv:
        print(crons.engine.state.obstacle(), crons.engine.locks.backend.obstacle(), sep="\\n")
    await crons.stop()

try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""


def as_nobody(role: str, *more: str) -> str:
    """What a scheduler says that a user starts who has no rights to anything."""
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY, role, *more], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout, done.stderr
    return done.stdout


@pytest.fixture
def shared_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which every user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.chdir(folder)
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)
        monkeypatch.undo()


def test_a_folder_that_can_not_be_written_to_is_named_with_its_rights(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    said = as_nobody("scheduler")
    assert said.startswith("StoreUnusableError"), said
    for part in (
        f"{shared_folder}/jobs.db can't be made",
        f"the folder {shared_folder} is dr-xr-xr-x",
        "CRON_SQLITE_PATH",
    ):
        assert part in said
    assert "belongs to user" in said


async def test_a_file_in_a_folder_that_can_not_be_written_to_is_named_with_its_rights(shared_folder: Path) -> None:
    async with scheduler():
        pass
    PATH.chmod(0o644)
    shared_folder.chmod(0o555)
    said = as_nobody("scheduler")
    assert said.startswith("StoreUnusableError"), said
    for part in ("the file", "-rw-r--r--", f"the folder {shared_folder} is dr-xr-xr-x", "CRON_SQLITE_PATH"):
        assert part in said


def test_whoever_only_reads_can_tell_that_no_file_could_be_made(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    status, *obstacles = as_nobody("observer", "obstacles").splitlines()
    assert status == "['pending']"
    assert len(obstacles) == 2
    for said in obstacles:
        assert said.startswith(f"{shared_folder}/jobs.db can't be made (the folder {shared_folder} is dr-xr-xr-x")
        assert "CRON_SQLITE_PATH" in said


async def test_whoever_only_reads_can_tell_that_nothing_could_be_written(shared_folder: Path) -> None:
    async with scheduler():
        pass
    PATH.chmod(0o644)
    _, *obstacles = as_nobody("observer", "obstacles").splitlines()
    for said in obstacles:
        assert said.startswith(f"{shared_folder}/jobs.db can't be written to (the file "), said
    PATH.chmod(0o666)
    shared_folder.chmod(0o777)
    assert as_nobody("observer", "obstacles").splitlines()[1:] == ["None", "None"]


async def test_a_folder_matters_only_where_something_is_to_be_made_in_it(shared_folder: Path) -> None:
    async with scheduler() as crons:
        await crons.run_job("job")
        for path in shared_folder.iterdir():
            path.chmod(0o666)
        assert as_nobody("observer", "obstacles").splitlines()[1:] == ["None", "None"]


async def test_whoever_only_reads_makes_no_file_and_finds_nothing() -> None:
    async with observer() as management:
        (view,) = await management.jobs()
        assert (view.status, view.last_run) == ("pending", None)
        assert await management.runs("job") == []
        assert await management.instances() == []
        assert (await management.scheduler()).paused == 0
    assert contents() == {}


async def test_whoever_only_reads_sees_what_others_write_from_the_moment_that_there_is_a_file() -> None:
    async with observer() as management:
        assert (await management.jobs())[0].status == "pending"
        heard = asyncio.ensure_future(anext(management.events()))
        async with scheduler() as crons:
            assert (await management.jobs())[0].status == "pending"
            await asyncio.sleep(1.2)
            await crons.run_job("job")
            (view,) = await management.jobs()
            assert view.status == "completed"
            assert (await asyncio.wait_for(heard, 10)).job == "job"
    assert set(contents()) == {"jobs.db"}


async def test_whoever_listens_before_there_is_a_file_hears_of_all_that_it_begins_with() -> None:
    elsewhere = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(namespace="elsewhere"))
    elsewhere.cron("0 0 1 1 *", name="job")(nothing)
    async with observer() as management, aclosing(management.events()) as events:
        heard = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        async with scheduler() as crons, elsewhere:
            await elsewhere.run_job("job")
            ran = [(await crons.run_job("job")).id for _ in range(3)]
        assert [(await asyncio.wait_for(heard, 10)).id, *[(await anext(events)).id for _ in range(2)]] == ran


async def test_whoever_only_reads_leaves_a_file_as_it_is() -> None:
    async with scheduler() as crons:
        await crons.run_job("job")
    before = contents()
    async with observer() as management:
        assert (await management.jobs())[0].status == "completed"
    assert contents() == before


async def test_an_older_layout_is_read_and_left_as_it_is() -> None:
    with database() as db:
        db.execute("CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT)")
        db.execute("INSERT INTO job_state VALUES ('job', '2025-01-09T02:00:00')")
    before = contents()
    async with observer() as management:
        assert (await management.jobs())[0].status == "completed"
    assert contents() == before


@pytest.mark.parametrize("left_open", [False, True])
async def test_a_store_in_a_folder_that_can_not_be_written_to_can_be_read(shared_folder: Path, left_open: bool) -> None:
    async with scheduler() as crons:
        await crons.run_job("job")
        if left_open:
            for path in shared_folder.iterdir():
                path.chmod(0o644)
            shared_folder.chmod(0o555)
            assert as_nobody("observer").strip() == "['completed']"
            shared_folder.chmod(0o755)
    for path in shared_folder.iterdir():
        path.chmod(0o444)
    shared_folder.chmod(0o555)
    before = contents()
    assert as_nobody("observer").strip() == "['completed']"
    assert contents() == before


def test_a_folder_without_a_store_that_can_not_be_written_to_reads_as_empty(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    assert as_nobody("observer").strip() == "['pending']"


async def test_the_lock_store_can_be_read_before_there_is_one() -> None:
    crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig())
    await crons.start("observer")
    assert crons.engine is not None
    locks = crons.engine.locks.backend
    assert isinstance(locks, SQLiteLockBackend)
    assert await locks.known() == []
    assert await locks.pauses() == {}
    assert await locks.last_handled(["job"]) == [None]
    assert await locks.leased(["run"]) == set()
    await crons.stop()
    assert contents() == {}


async def test_a_reader_that_begins_to_listen_can_be_asked_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    state = SQLiteStateBackend(path)
    await state.open("default", HistoryLimits(keep=5, days=30))
    now = time.time()
    await state.write([Run(RunIds()(), "job", None, "code", 1, "here", 1, "completed", now, now)])
    await state.close()
    for pause in (0.0, 0.001, 0.003, 0.01):
        reader = SQLiteStateBackend(path)
        await reader.open_to_read("default", HistoryLimits(keep=5, days=30))
        events = reader.events()
        assert events is not None
        coming = asyncio.ensure_future(anext(events))
        try:
            for _ in range(10):
                await asyncio.sleep(pause)
                assert len(await reader.runs("job")) == 1
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            await events.aclose()
            await reader.close()
