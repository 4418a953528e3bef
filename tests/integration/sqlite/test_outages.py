"""Runs and their records while a SQLite store does not answer, or has lost what it knew. Real files, real time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, JobLockedError, Run, StoreUnavailableError
from fastapi_crons.locking import DistributedLockManager, KnownJob
from fastapi_crons.run import RunIds
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.state.base import HistoryLimits, Record
from fastapi_crons.testing import reset
from fastapi_crons_sqlite import SQLiteLockBackend
from tests import seam
from tests.integration.sqlite.files import PATH, database
from tests.integration.sqlite.schedulers import locked, runs_beyond, scheduler
from tests.support import runs_of, until_async


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
    await until_async(lambda: len(ran) >= 30)
    for crons in schedulers:
        await crons.stop()
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
        path.unlink(missing_ok=True)
    await until_async(lambda: PATH.exists())
    await asyncio.sleep(2.2)
    await crons.stop()
    assert most == 1


async def test_a_manual_claim_whose_answer_was_lost_leaves_nothing_locked() -> None:
    crons = Crons(state_backend=SQLiteStateBackend(PATH, busy_timeout=30), config=CronConfig(store_timeout=2))

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None: ...

    await crons.start()
    other = await locked("IMMEDIATE")
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
        path.unlink(missing_ok=True)

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


async def test_a_history_that_could_not_be_cut_back_is_cut_back_the_next_time() -> None:
    state = SQLiteStateBackend(PATH, busy_timeout=0.1)
    await state.open("default", HistoryLimits(keep=5, days=30))
    new_id, now = RunIds(), time.time()
    await state.write([Run(new_id(), "job", None, "code", 1, "here", 1, "completed", now, now) for _ in range(20)])
    with closing(sqlite3.connect(PATH, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
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
