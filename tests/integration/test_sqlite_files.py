"""The file of a SQLite store: how it is made, whose it is, who may read it, and who leaves none behind."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, Run, StoreUnavailableError, StoreUnusableError
from fastapi_crons.management.management import Management
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons_sqlite import SQLiteLockBackend
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._schema import VERSION
from tests import seam
from tests.support import nothing

PATH = Path("jobs.db")
LIMITS = HistoryLimits(100, 30)


@contextmanager
def database(path: Path = PATH) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@asynccontextmanager
async def scheduler(path: Path = PATH) -> AsyncIterator[Crons]:
    crons = Crons(state_backend=SQLiteStateBackend(path), config=CronConfig())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


@asynccontextmanager
async def observer(path: Path = PATH) -> AsyncIterator[Management]:
    crons = Crons(state_backend=SQLiteStateBackend(path), config=CronConfig())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start("observer")
    try:
        yield Management(crons)
    finally:
        await crons.stop()


def modes() -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(Path().glob("jobs.db*"))}


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path().iterdir())}


async def test_a_new_file_and_what_lies_beside_it_is_for_its_owner_alone() -> None:
    umask = os.umask(0)
    try:
        async with scheduler() as crons:
            await crons.run_job("job")
            assert modes() == {"jobs.db": "0o600", "jobs.db-shm": "0o600", "jobs.db-wal": "0o600"}
        assert modes() == {"jobs.db": "0o600"}
    finally:
        os.umask(umask)


async def test_an_existing_file_keeps_its_mode() -> None:
    PATH.touch()
    PATH.chmod(0o640)
    async with scheduler() as crons:
        await crons.run_job("job")
        assert set(modes().values()) == {"0o640"}
    assert modes() == {"jobs.db": "0o640"}


async def test_a_file_that_is_made_anew_while_in_use_is_for_its_owner_alone() -> None:
    async with scheduler() as crons:
        for path in Path().glob("jobs.db*"):
            path.unlink()
        await crons.pause("job")
        assert set(modes().values()) == {"0o600"}


async def test_a_link_that_leads_nowhere_is_not_followed() -> None:
    PATH.symlink_to("elsewhere.db")
    with pytest.raises(StoreUnusableError, match=r"jobs\.db is a link to elsewhere\.db, which is not there"):
        async with scheduler():
            pass
    with pytest.raises(StoreUnusableError, match="is a link to"):
        async with observer():
            pass
    assert not Path("elsewhere.db").exists()
    assert PATH.is_symlink()


async def test_a_link_to_a_file_is_followed() -> None:
    Path("elsewhere.db").touch(mode=0o644)
    PATH.symlink_to("elsewhere.db")
    async with scheduler() as crons:
        await crons.run_job("job")
    assert PATH.is_symlink()
    assert Path("elsewhere.db").stat().st_size > 0


FOREIGN = {
    "tables": "CREATE TABLE users (id INTEGER PRIMARY KEY); INSERT INTO users VALUES (1)",
    "views": "CREATE VIEW shown AS SELECT 1",
    "user_version": "PRAGMA user_version = 12",
    "application_id": "PRAGMA application_id = 252006674",
    "a table with our name": "CREATE TABLE job_run (number INTEGER)",
    "a table with a documented name": "CREATE TABLE job_state (id INTEGER PRIMARY KEY, name TEXT)",
    "a layout of its own": "CREATE TABLE crons_layout (crons TEXT)",
    "tables beside those of version 2": "CREATE TABLE job_state (name TEXT PRIMARY KEY); CREATE TABLE users (id INTEGER)",
}


@pytest.mark.parametrize("kept", ["rollback journal", "write-ahead log", "write-ahead log, in use"])
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
async def test_another_programs_database_is_refused_before_a_byte_of_it_changes(content: str, kept: str) -> None:
    other = sqlite3.connect(PATH, isolation_level=None)
    if kept != "rollback journal":
        other.execute("PRAGMA journal_mode = WAL")
    other.executescript(content)
    if not kept.endswith("in use"):
        other.close()
    before = contents()
    for opened in (scheduler, observer):
        with pytest.raises(StoreUnusableError, match=r"of another program; set CRON_SQLITE_PATH"):
            async with opened():
                pass
    # What lies in shared memory is how those who have it open find each other.
    assert {**contents(), "jobs.db-shm": b""} == {**before, "jobs.db-shm": b""}
    other.close()


async def test_the_log_that_another_program_left_behind_is_left_alone() -> None:
    crash = "import os, sqlite3; c = sqlite3.connect('jobs.db'); c.execute('PRAGMA journal_mode = WAL');"
    crash += "c.execute('CREATE TABLE users (id)'); c.commit(); os._exit(0)"
    subprocess.run([sys.executable, "-c", crash], check=True)
    before = contents()
    assert before["jobs.db-wal"]
    with pytest.raises(StoreUnusableError, match="a table users of another program"):
        async with scheduler():
            pass
    assert {**contents(), "jobs.db-shm": b""} == {**before, "jobs.db-shm": b""}


async def test_a_layout_that_can_not_be_read_is_written_down_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with scheduler() as crons:
        await crons.run_job("job")
    for damage in ("UPDATE crons_layout SET version = 'x', compatible_from = x'00'", "DELETE FROM crons_layout"):
        with database() as db:
            db.execute(damage)
        async with observer() as management:
            assert len(await management.runs("job")) >= 1
        async with scheduler() as crons:
            await crons.run_job("job")
        with database() as db:
            assert db.execute("SELECT version, compatible_from FROM crons_layout").fetchall() == [(VERSION, 1)]


async def test_a_first_error_is_not_hidden_by_its_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite has rolled back by itself can't be rolled back again."""

    def full(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    seam.SQLITE_TAKE_OVER.replace(monkeypatch, full)
    with pytest.raises(StoreUnavailableError, match="database or disk is full"):
        async with scheduler():
            pass
    monkeypatch.undo()
    store = Database(PATH, busy_timeout=1, synchronous="FULL")
    await store.open()
    with pytest.raises(StoreUnavailableError, match="database or disk is full"):
        await store.write(lambda transaction: full(transaction._connection))
    assert await store.write(lambda transaction: transaction.execute("DELETE FROM job_run")) == 0
    await store.close()


_FULL = """
import asyncio, resource, signal
from fastapi_crons import Crons
from fastapi_crons.state import SQLiteStateBackend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(ALLOWED), resource.RLIM_INFINITY))
try:
    asyncio.run(Crons(state_backend=SQLiteStateBackend("jobs.db")).start())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [0, 4_096, 8_192, 20_000, 33_000])
def test_a_start_on_a_full_disk_says_what_is_wrong(limit: int) -> None:
    code = _FULL.replace("ALLOWED", str(limit))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("StoreUnavailableError"), done.stdout + done.stderr
    assert "full" in done.stdout or "disk I/O error" in done.stdout
    assert "rollback" not in done.stdout


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


async def test_a_file_that_is_made_by_two_at_a_time_keeps_the_locks_of_both() -> None:
    states = [SQLiteStateBackend(PATH) for _ in range(4)]
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, _open_and_write(state)) for state in states))
    with database() as db:
        assert db.execute("SELECT count(*) FROM job_run").fetchone() == (4,)


async def _open_and_write(state: SQLiteStateBackend) -> None:
    await state.open("default", LIMITS)
    await state.write([Run(RunIds()(), "job", None, "code", 1, "here", 1, "completed", 1.0, 2.0)])
    await state.close()


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
