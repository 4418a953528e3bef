"""The file of a SQLite store: how it is made, whose it is, and who may read it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_crons import Run, StoreUnavailableError, StoreUnusableError
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._schema import VERSION
from tests import seam
from tests.integration.sqlite.files import PATH, contents, database, observer, scheduler

LIMITS = HistoryLimits(100, 30)


def modes() -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(Path().glob("jobs.db*"))}


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


async def test_a_file_that_is_made_by_two_at_a_time_keeps_the_locks_of_both() -> None:
    states = [SQLiteStateBackend(PATH) for _ in range(4)]
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, _open_and_write(state)) for state in states))
    with database() as db:
        assert db.execute("SELECT count(*) FROM job_run").fetchone() == (4,)


async def _open_and_write(state: SQLiteStateBackend) -> None:
    await state.open("default", LIMITS)
    await state.write([Run(RunIds()(), "job", None, "code", 1, "here", 1, "completed", 1.0, 2.0)])
    await state.close()
