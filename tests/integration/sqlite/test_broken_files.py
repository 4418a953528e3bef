"""What breaks under a SQLite store - the file, its folder, the disk - and what the scheduler makes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from fastapi_crons import ConfigurationError, Crons, Run, StoreUnavailableError, StoreUnusableError
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits
from tests.integration.sqlite.files import PATH, database
from tests.integration.sqlite.schedulers import locked, runs_beyond, scheduler
from tests.support import runs_of, until_async


async def test_a_file_locked_by_another_process_stops_claims_until_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
        other = await locked("IMMEDIATE")
        await until_async(lambda: "does not answer" in caplog.text)
        count = len(await runs_of(crons, "tick"))
        other.execute("COMMIT")
        other.close()
        await runs_beyond(crons, count)
    assert "answers again" in caplog.text


async def test_a_file_that_is_deleted_while_in_use_is_made_anew_and_no_tick_runs_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[int] = []
    crons = Crons(state_backend=SQLiteStateBackend(PATH))
    crons.add_before_run_hook(lambda job, context: ran.append(context["scheduled_time"]))

    @crons.cron("* * * * * *", name="tick")
    async def tick() -> None: ...

    await crons.start()
    await runs_beyond(crons, 1)
    for path in Path().glob("jobs.db*"):
        path.unlink(missing_ok=True)
    await runs_beyond(crons, 0)
    await until_async(lambda: PATH.exists() and len(ran) > 4)
    await crons.stop()
    assert len(ran) == len(set(ran))
    assert "was deleted or replaced while in use" in caplog.text


async def test_a_file_that_is_deleted_while_it_is_opened_anew_is_noticed() -> None:
    state, new_id = SQLiteStateBackend(PATH), RunIds()
    await state.open("default", HistoryLimits(1_000, 30))

    async def write() -> None:
        await state.write([Run(new_id(), "job", None, "code", 1, "here", 1, "completed", 1.0, 2.0)])

    for moment in range(60):
        # A write notices this, and opens the file anew; then, at some moment of that, the file goes as well.
        Path("jobs.db-wal").unlink(missing_ok=True)
        writing = asyncio.create_task(write())
        await asyncio.sleep(moment / 4_000)
        for path in Path().glob("jobs.db*"):
            path.unlink(missing_ok=True)
        with suppress(StoreUnavailableError):
            await writing
        await write()
        assert PATH.exists()
        with database() as db:
            assert db.execute("SELECT count(*) FROM job_run").fetchone()[0] >= 1
    await state.close()


async def test_a_file_overwritten_while_in_use_is_noticed_and_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
        for path in (PATH, Path("jobs.db-wal")):
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))
        await until_async(lambda: "does not answer" in caplog.text)
    assert PATH.exists()


@pytest.mark.parametrize("content", [b"this is no database, and it is longer than a header", b"PK\x03\x04" * 10])
async def test_a_garbage_file_stops_the_start_and_is_left_as_it_is(content: bytes) -> None:
    PATH.write_bytes(content)
    with pytest.raises(StoreUnusableError, match=r"jobs\.db is not a database"):
        async with scheduler():
            pass
    assert PATH.read_bytes() == content


async def test_a_damaged_database_stops_the_start() -> None:
    with database() as db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 500)
    content = bytearray(PATH.read_bytes())
    content[4096:40960] = os.urandom(40960 - 4096)
    PATH.write_bytes(content)
    with pytest.raises(StoreUnusableError, match=r"damaged|can't be used"):
        async with scheduler():
            pass
    assert PATH.read_bytes() == content


async def test_a_missing_folder_and_memory_paths_are_refused_with_a_reason() -> None:
    with pytest.raises(StoreUnusableError, match="no folder"):
        await Crons(state_backend=SQLiteStateBackend("nowhere/jobs.db")).start()
    for path in ("", ":memory:", "file::memory:"):
        with pytest.raises(ConfigurationError, match="MemoryStateBackend"):
            SQLiteStateBackend(path)


async def test_a_database_of_another_program_is_refused() -> None:
    with database() as db:
        db.execute("PRAGMA user_version = 12")
    before = PATH.read_bytes()
    with pytest.raises(StoreUnusableError, match="another program"):
        async with scheduler():
            pass
    assert PATH.read_bytes()[100:] == before[100:]


_LIMITED = """
import asyncio, logging, resource, sqlite3, sys, time
from fastapi_crons import Crons
from fastapi_crons.locking import DistributedLockManager, KnownJob
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.run import RunIds
from fastapi_crons.state.base import HistoryLimits, Record
logging.basicConfig(level=logging.WARNING)

async def main():
    crons = Crons(state_backend=SQLiteStateBackend("jobs.db"))
    ran = []
    @crons.cron("* * * * * *", name="tick")
    async def tick(): ran.append(time.time())
    @crons.cron("* * * * * *", name="talk")
    async def talk(): return "x" * 60_000
    await crons.start()
    while len(ran) < 2: await asyncio.sleep(0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    await asyncio.sleep(2.5)
    stalled = len(ran)
    await asyncio.sleep(1.5)
    assert len(ran) == stalled, "ticks were claimed on a full disk"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    until = time.time() + 12
    while len(ran) <= stalled and time.time() < until: await asyncio.sleep(0.05)
    assert len(ran) > stalled, "it did not recover"
    await crons.stop()
    assert sqlite3.connect("jobs.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print("recovered")

asyncio.run(main())
"""


def test_a_full_disk_stops_claims_and_it_recovers_by_itself() -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "recovered", done.stderr
    assert "does not answer" in done.stderr


_READ_ONLY = """
import asyncio, os
from fastapi_crons import Crons, testing
from fastapi_crons.engine import engine
from fastapi_crons.locking import DistributedLockManager, KnownJob
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.run import RunIds
from fastapi_crons.state.base import HistoryLimits, Record
crons = Crons(state_backend=SQLiteStateBackend("jobs.db"))
crons.plugins, crons.given.state_backend.companion_lock()
import importlib.metadata
importlib.metadata.version("fastapi-crons-core")  # what is imported later can't be read by the other user
if os.geteuid() == 0:
    os.setuid(65534)  # permission bits mean nothing to root
try:
    asyncio.run(crons.start())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
async def test_a_read_only_file_stops_the_start_with_path_and_reason(
    monkeypatch: pytest.MonkeyPatch, folder_mode: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.chdir(folder)
        async with scheduler():
            pass
        PATH.chmod(0o444)
        Path(folder).chmod(folder_mode)
        done = subprocess.run([sys.executable, "-c", _READ_ONLY], capture_output=True, text=True, check=False)
        Path(folder).chmod(0o755)
        monkeypatch.undo()
    assert done.stdout.startswith("StoreUnusableError"), done.stderr
    assert "jobs.db" in done.stdout
    assert "readonly" in done.stdout or "unable to open" in done.stdout


async def test_the_answer_to_a_locked_file_at_start_says_so() -> None:
    async with scheduler():
        pass
    other = await locked("EXCLUSIVE")
    with pytest.raises(StoreUnavailableError, match=r"jobs\.db.*locked"):
        async with scheduler():
            pass
    other.close()
