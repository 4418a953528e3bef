"""What breaks under a SQLite store, and what the scheduler makes of it. Real files, real time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Literal

import pytest

from fastapi_crons import (
    ConfigurationError,
    CronConfig,
    Crons,
    JobLockedError,
    Run,
    StoreUnavailableError,
    StoreUnusableError,
)
from fastapi_crons.locking import DistributedLockManager, KnownJob
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits, Record
from fastapi_crons.testing import reset
from fastapi_crons_sqlite import SQLiteLockBackend
from tests import seam
from tests.support import runs_of, until_async

PATH = Path("jobs.db")


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's, closed at the end."""
    with closing(sqlite3.connect(PATH)) as connection, connection:
        yield connection


@asynccontextmanager
async def scheduler(**settings: float) -> AsyncIterator[Crons]:
    """A scheduler on jobs.db whose job fires every second."""
    crons = Crons(state_backend=SQLiteStateBackend(PATH, busy_timeout=0.3), config=CronConfig(**settings))

    @crons.cron("* * * * * *", name="tick")
    async def tick() -> None: ...

    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


async def runs_beyond(crons: Crons, count: int) -> None:
    async def more() -> bool:
        return len(await runs_of(crons, "tick")) > count

    await until_async(more)


async def _locked(kind: Literal["IMMEDIATE", "EXCLUSIVE"]) -> sqlite3.Connection:
    """A connection of somebody else who has locked the file. It waits in a thread: what it waits for needs this loop."""
    other = sqlite3.connect(PATH, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(other.execute, f"BEGIN {kind}")
    return other


async def test_the_documented_tables_hold_the_documented_columns() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        columns = {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in ("job_state", "job_status")
        }
        assert columns == {
            "job_state": ["name", "last_run", "created_at", "updated_at"],
            "job_status": ["name", "status", "instance_id", "started_at"],
        }
        (state,) = db.execute("SELECT * FROM job_state").fetchall()
        (status,) = db.execute("SELECT * FROM job_status").fetchall()
    assert state[0] == "tick"
    assert state[1].endswith("+00:00")
    assert status[:2] == ("tick", "completed")


async def test_history_is_restored_after_a_restart() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
        before = await runs_of(crons, "tick")
    async with scheduler() as crons:
        assert (await runs_of(crons, "tick"))[: len(before)] == before


async def test_a_file_locked_by_another_process_stops_claims_until_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
        other = await _locked("IMMEDIATE")
        loop_was_held = 0.0
        for _ in range(50):
            before = time.monotonic()
            await asyncio.sleep(0.05)
            loop_was_held = max(loop_was_held, time.monotonic() - before - 0.05)
        assert loop_was_held < 1, "the event loop waited for SQLite"
        assert "does not answer" in caplog.text
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
        path.unlink()
    await runs_beyond(crons, 0)
    await until_async(lambda: PATH.exists() and len(ran) > 4)
    await crons.stop()
    assert len(ran) == len(set(ran))
    assert "was deleted or replaced while in use" in caplog.text


async def test_a_file_overwritten_while_in_use_is_noticed_and_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async with scheduler(store_timeout=1) as crons:
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


async def test_a_database_of_version_2_is_taken_over_with_its_rows() -> None:
    with database() as db:
        db.execute("CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT, updated_at TEXT)")
        db.execute("CREATE TABLE job_status (name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT)")
        db.execute("INSERT INTO job_state VALUES ('old', '2025-01-09T02:00:00', NULL, NULL)")
        db.execute("INSERT INTO job_status VALUES ('old', 'completed', 'worker-001', '2025-01-09T02:00:00')")
    async with scheduler() as crons:
        assert crons.engine is not None
        states = await crons.engine.state.states()
        assert (states["old"].status, states["old"].instance) == ("completed", "worker-001")
        await runs_beyond(crons, 0)


async def test_a_newer_layout_works_as_long_as_it_lets_us() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        db.execute("UPDATE crons_layout SET version = 99")
        db.execute("PRAGMA user_version = 99")
        db.execute("ALTER TABLE job_run ADD COLUMN later TEXT")
    async with scheduler() as crons:
        await runs_beyond(crons, 1)
    with database() as db:
        assert db.execute("SELECT version FROM crons_layout").fetchone() == (99,)
        db.execute("UPDATE crons_layout SET compatible_from = 99")
    with pytest.raises(StoreUnusableError, match="newer version"):
        async with scheduler():
            pass


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


async def test_two_schedulers_on_one_file_run_each_tick_once() -> None:
    ran: list[str] = []
    schedulers = []
    for _ in range(2):
        crons = Crons(state_backend=SQLiteStateBackend(PATH))
        for number in range(10):

            @crons.cron("* * * * * *", name=f"job-{number}")
            async def job(number: int = number) -> None: ...

        crons.add_after_run_hook(lambda job, context: ran.append(f"{job} {context['scheduled_time']}"))
        await crons.start()
        schedulers.append(crons)
    await asyncio.sleep(3.2)
    for crons in schedulers:
        await crons.stop()
    assert len(ran) >= 20
    assert len(ran) == len(set(ran))


async def test_jobs_run_while_the_state_store_is_down_and_their_records_come_later() -> None:
    class Failing(SQLiteStateBackend):  # type: ignore[misc]
        down = False

        async def write(self, records: object) -> None:
            if self.down:
                raise OSError("no space")
            await super().write(records)

    state = Failing(PATH)
    crons = Crons(state_backend=state)
    ran: list[float] = []

    @crons.cron("* * * * * *", name="tick")
    async def tick() -> None:
        ran.append(time.time())

    await crons.start()
    await runs_beyond(crons, 0)
    state.down = True
    seen = len(ran)
    await until_async(lambda: len(ran) >= seen + 3)
    state.down = False
    await runs_beyond(crons, seen + 2)
    await crons.stop()
    assert len(ran) == len(set(ran))


async def test_a_file_deleted_under_a_running_job_does_not_start_it_a_second_time() -> None:
    live, most = 0, 0
    crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(shutdown_timeout=0))

    @crons.cron("* * * * * *", name="long")
    async def long() -> None:
        nonlocal live, most
        live += 1
        most = max(most, live)
        try:
            await asyncio.sleep(30)
        finally:
            live -= 1

    await crons.start()
    await until_async(lambda: live == 1)
    for path in Path().glob("jobs.db*"):
        path.unlink()
    await until_async(lambda: PATH.exists())
    await asyncio.sleep(2.2)
    await crons.stop()
    assert most == 1


async def test_a_manual_claim_whose_answer_was_lost_leaves_nothing_locked() -> None:
    crons = Crons(state_backend=SQLiteStateBackend(PATH, busy_timeout=3), config=CronConfig(store_timeout=0.4))

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None: ...

    await crons.start()
    other = await _locked("IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        await crons.run_job("job")
    other.execute("COMMIT")
    other.close()

    async def runs_again() -> bool:
        try:
            return (await crons.run_job("job")).status == "completed"
        except JobLockedError:
            return False

    await until_async(runs_again)
    await crons.stop()


async def test_a_run_of_a_job_that_is_gone_is_closed_all_the_same() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        db.execute("UPDATE job_run SET job = 'gone', status = 'running', ended_ts = NULL")
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        assert db.execute("SELECT DISTINCT status FROM job_run WHERE job = 'gone'").fetchall() == [("interrupted",)]


async def test_a_record_that_can_not_be_kept_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(SQLiteStateBackend):  # type: ignore[misc]
        async def write(self, records: Sequence[Record]) -> None:
            if any(record.job == "poison" for record in records):
                raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
            await super().write(records)

    crons = Crons(state_backend=Picky(PATH))
    for name in ("poison", "tick"):

        @crons.cron("* * * * * *", name=name)
        async def job() -> None: ...

    await crons.start()
    await runs_beyond(crons, 1)
    await crons.stop()
    assert "which the state store can't keep" in caplog.text


async def test_the_answer_to_a_locked_file_at_start_says_so() -> None:
    async with scheduler():
        pass
    other = await _locked("EXCLUSIVE")
    with pytest.raises(StoreUnavailableError, match=r"jobs\.db.*locked"):
        async with scheduler():
            pass
    other.close()


async def test_leases_are_renewed_and_a_run_that_lost_its_lease_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in two containers that share a folder: neither sees the other's processes.
    seam.BOOT.replace(monkeypatch, lambda: "")
    crons = Crons(
        state_backend=SQLiteStateBackend(PATH),
        config=CronConfig(lock_timeout=3, lock_renewal_interval=0.4, heartbeat_interval=0.2, instance_timeout=1),
    )

    @crons.cron("0 0 1 1 *", name="long")
    async def long() -> None:
        await asyncio.sleep(60)

    await crons.start()
    asked = asyncio.create_task(crons.run_job("long"))

    async def expires() -> float:
        with database() as db:
            found = db.execute("SELECT expires FROM lock_lease").fetchone()
        return float(found[0]) if found else 0.0

    async def first() -> bool:
        return await expires() > 0

    await until_async(first)
    began = await expires()

    async def later() -> bool:
        return await expires() > began + 1

    await until_async(later)
    with database() as db:
        # A successor has been given a later token, and has ended.
        db.execute("UPDATE lock_job SET token = token + 10")
        db.execute("DELETE FROM lock_lease")
    run = await asyncio.wait_for(asked, 10)
    assert run.status == "interrupted"
    assert run.error is not None
    assert run.error.message.startswith("lost its lease")
    await crons.stop()


async def test_a_store_that_lost_the_leases_of_runs_takes_them_back() -> None:
    crons = Crons(
        state_backend=SQLiteStateBackend(PATH), config=CronConfig(lock_renewal_interval=0.3, heartbeat_interval=0.2)
    )
    done = asyncio.Event()

    @crons.cron("0 0 1 1 *", name="long")
    async def long() -> str:
        await done.wait()
        return "done"

    await crons.start()
    asked = asyncio.create_task(crons.run_job("long"))
    await until_async(lambda: bool(crons.engine and crons.engine.runner.active))
    for path in Path().glob("jobs.db*"):
        path.unlink()

    async def taken_back() -> bool:
        if not PATH.exists():
            return False
        with database() as db:
            tables = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'lock_lease'").fetchall()
            return bool(tables) and db.execute("SELECT count(*) FROM lock_lease").fetchone()[0] == 1

    await until_async(taken_back)
    done.set()
    assert (await asked).result == "done"
    await crons.stop()


async def test_an_outcome_that_waits_for_the_state_store_is_not_closed_by_another_instance() -> None:
    class Failing(SQLiteStateBackend):  # type: ignore[misc]
        down = False

        async def write(self, records: Sequence[Record]) -> None:
            if self.down:
                raise OSError("no space")
            await super().write(records)

    state, done = Failing(PATH), asyncio.Event()
    first = Crons(state_backend=state)
    first.cron("0 0 1 1 *", name="job")(done.wait)
    await first.start()
    asked = asyncio.create_task(first.run_job("job"))

    async def on_record() -> bool:
        return [run.status for run in await runs_of(first, "job")] == ["running"]

    await until_async(on_record)
    state.down = True
    done.set()
    run = await asked
    async with scheduler() as second:
        await runs_beyond(second, 0)
        assert [kept.status for kept in await runs_of(second, "job")] == ["running"]
        state.down = False

        async def completed() -> bool:
            return [kept.status for kept in await runs_of(second, "job")] == ["completed"]

        await until_async(completed)
    await first.stop()
    assert run.status == "completed"


class ForgetfulOnce(SQLiteLockBackend):
    """A lock store that does not say the first time what it knows of jobs."""

    asked = 0

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailableError("it is down")
        return await super().known(jobs)


async def test_another_function_under_the_same_name_is_noticed_though_the_store_did_not_answer_at_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = CronConfig(heartbeat_interval=0.2)

    async def one() -> None: ...

    async def another() -> None: ...

    made: list[Crons] = []
    for function in (one, another):
        reset()
        locks = DistributedLockManager(ForgetfulOnce(PATH), config)
        crons = Crons(state_backend=SQLiteStateBackend(PATH), lock_manager=locks, config=config)
        crons.cron("0 0 1 1 *", name="shared")(function)
        await crons.start()
        made.append(crons)
    await until_async(lambda: any("another function" in each for each in made[0].health().findings))
    assert "can't compare the functions of other instances with ours" in caplog.text
    for crons in made:
        await crons.stop()


async def test_a_history_that_could_not_be_cut_back_is_cut_back_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    state = SQLiteStateBackend(PATH)
    await state.open("default", HistoryLimits(keep=5, days=30))
    new_id, now = RunIds(), time.time()
    await state.write([Run(new_id(), "job", None, "code", 1, "here", 1, "completed", now, now) for _ in range(20)])
    with monkeypatch.context() as patched:

        async def locked(_: str) -> None:
            raise StoreUnavailableError("it is locked")

        patched.setattr(state, "_keep_newest", locked)
        with pytest.raises(StoreUnavailableError):
            await state.prune(now)
    await state.prune(now)
    assert len(await state.runs("job")) == 5
    await state.close()


async def test_a_function_that_moved_is_told_of_as_moved_where_no_other_instance_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def one() -> None: ...

    async def another() -> None: ...

    for function in (one, another):
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(heartbeat_interval=0.2))
        crons.cron("0 0 1 1 *", name="shared")(function)
        await crons.start()
        assert crons.health().status == "ok"
        await crons.stop()
    here = f"{__name__}:test_a_function_that_moved_is_told_of_as_moved_where_no_other_instance_lives.<locals>"
    assert f"job 'shared' moved from {here}.one to {here}.another" in caplog.messages
    assert "CRON_NAMESPACE" not in caplog.text
