"""Management: what the API and the command line ask of a scheduler; and History, which finds runs on record."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from fastapi_crons import CronsError, RunEndedError, UnknownJobError, UnknownRunError
from fastapi_crons.job import ManualRun
from fastapi_crons.management.history import History
from fastapi_crons.management.management import Management
from fastapi_crons.run import FAILED, Run
from fastapi_crons.state import RunQuery
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing


async def test_jobs_are_listed_by_tag_and_status(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="good", tags=["a", "b"])(nothing)
    crons.cron("* * * * *", name="bad", tags=["a"])(lambda: 1 / 0)
    crons.cron("0 0 1 1 *", name="never")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1)
    await crons.pause("never", note="quiet")
    management = Management(crons)

    async def names(*statuses: str, tags: tuple[str, ...] = ()) -> list[str]:
        return [view.job.name for view in await management.jobs(tags=tags, statuses=statuses)]  # type: ignore[arg-type]

    assert await names() == ["good", "bad", "never"]
    assert await names(tags=("a", "b")) == ["good"]
    assert await names("failed", "paused") == ["bad", "never"]
    assert await names("pending") == ["never"]
    assert (await management.job("never")).next_run is None, "it is paused"
    assert (await management.job("good")).next_run == clock.datetime + timedelta(minutes=1)


async def test_runs_of_several_jobs_and_statuses_are_one_list_newest_first(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="good")(nothing)
    crons.cron("* * * * *", name="bad")(lambda: 1 / 0)
    crons.cron("* * * * *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=3)
    management = Management(crons)
    found = await management.runs("good", "bad", limit=4)
    assert [run.id for run in found] == sorted((run.id for run in found), reverse=True)
    assert {run.job for run in found} == {"good", "bad"}
    assert len(found) == 4
    assert {run.job for run in await management.runs(statuses=["failed"])} == {"bad"}
    assert len(await management.runs()) == 9


async def test_what_failed_in_a_span_over_all_jobs(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="good", tags=["a", "b"])(nothing)
    crons.cron("*/2 * * * *", name="bad", tags=["a"])(lambda: 1 / 0)
    crons.cron("*/2 * * * *", name="worse", tags=["b"])(lambda: 1 / 0)
    await crons.start()
    began = clock.now()
    await clock.advance(crons, minutes=10)
    management = Management(crons)

    async def found(jobs: list[str] | None = None, since: int = 0, until: int = 11) -> list[tuple[str, int]]:
        query = RunQuery(jobs, FAILED, began + 60 * since, began + 60 * until)
        runs = await management.find_runs(query)
        return sorted((run.job, int(run.started_ts - began) // 60) for run in runs)

    assert await found() == [(name, minute) for name in ("bad", "worse") for minute in (2, 4, 6, 8, 10)]
    assert await found(["bad"], since=4, until=8) == [("bad", 4), ("bad", 6)]
    assert await found(management.names_of((), ["b"]), since=8) == [("worse", 8), ("worse", 10)]
    assert management.names_of((), ()) is None
    assert management.names_of((), ["a", "b"]) == ["good"]
    assert management.names_of(["bad", "worse", "bad"], ["a"]) == ["bad"]
    assert await found(management.names_of(["bad"], ["b"])) == [], "no job is meant, and not all"
    with pytest.raises(UnknownJobError):
        await found(["nope"])


async def test_a_manual_run_is_passed_whole(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(lambda: clock.sleep(60))
    await crons.start()
    management = Management(crons)
    wanted = ManualRun(management.definition("job"), timeout=30.0, actor="ops", note="because", trigger="cli")
    asked = asyncio.create_task(management.run_job(wanted))
    await clock.advance(crons, minutes=1)
    run = await asked
    assert (run.status, run.trigger, run.actor, run.note) == ("timed_out", "cli", "ops", "because")
    with pytest.raises(UnknownJobError):
        management.definition("nope")


async def test_a_run_that_nobody_waits_for_is_cancelled_once(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 0 1 1 *")
    async def long() -> None:
        await clock.sleep(3_600)

    await crons.start()
    management = Management(crons)
    run = await management.run_job(ManualRun(management.definition("long")), wait=False)
    assert run.status == "running"
    assert await management.cancel_run("long", run.id[-8:], actor="ops") == run.id
    await clock.settle(crons)
    assert (await management.run("long", run.id)).status == "cancelled"
    with pytest.raises(RunEndedError, match=f"can't cancel run {run.id} of job 'long': it has ended at"):
        await management.cancel_run("long", run.id)


@pytest.mark.parametrize("owned", [False, True])
async def test_an_owned_run_ends_with_its_caller_and_others_do_not(
    make_crons: MakeCrons, clock: VirtualClock, owned: bool
) -> None:
    crons = make_crons()

    @crons.cron("0 0 1 1 *")
    async def long() -> None:
        await clock.sleep(3_600)

    await crons.start()
    management = Management(crons)
    caller = asyncio.create_task(management.run_job(ManualRun(management.definition("long")), owned=owned))
    await clock.advance(crons, seconds=1)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await clock.settle(crons)
    (run,) = await management.runs("long")
    assert run.status == ("cancelled" if owned else "running")


@pytest.mark.parametrize("owned", [False, True])
async def test_an_owned_run_does_not_outlive_a_caller_who_leaves_while_it_starts(
    make_crons: MakeCrons, clock: VirtualClock, owned: bool
) -> None:
    crons = make_crons()

    @crons.cron("0 0 1 1 *")
    async def long() -> None:
        await clock.sleep(3_600)

    await crons.start()
    management = Management(crons)
    callers: list[asyncio.Task[Run]] = []
    wanted = ManualRun(management.definition("long"), actor="ops")

    def leave() -> None:
        callers[0].cancel()

    starting = management.run_job(wanted, owned=owned, on_start=leave)
    callers.append(asyncio.create_task(starting))
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    await clock.settle(crons)
    (run,) = await management.runs("long")
    assert (run.status, run.error and run.error.message) == (
        ("cancelled", "was cancelled by ops") if owned else ("running", None)
    )


async def test_a_tick_is_explained_from_both_stores(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=2)
    fate = await Management(crons).explain_tick("job", clock.datetime)
    assert (fate.fate, len(fate.runs)) == ("ran", 1)
    assert fate.next == clock.datetime + timedelta(minutes=1)


async def test_the_history_finds_the_runs_around_a_tick_and_says_what_it_does_not_have(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=5)
    assert crons.engine is not None
    history = History(crons.engine, 5.0)
    tick = int(clock.now()) - 2 * 3_600
    runs = await history.runs_around("job", tick, clock.now())
    assert [run.id for run in runs] == sorted(run.id for run in runs)
    assert tick in [run.tick_ts for run in runs]
    assert len(runs) < 150, "not all that follow"
    whole = runs[0].id
    for part in (
        whole[-12:],
        whole[-20:],
        whole[-20:].replace("-", ""),
        whole[:30],
        whole.replace("-", "").upper()[:30],
    ):
        assert (await history.run(None, part)).id == whole
    with pytest.raises(UnknownRunError, match=f"'{whole[:6]}' matches .* runs: .* and .* more; give more of the id"):
        await history.run(None, whole[:6])
    with pytest.raises(UnknownRunError, match="'abc' is too short"):
        await history.run(None, "abc")
    with pytest.raises(UnknownRunError, match="job 'job' has no run 'ffffffff' on record"):
        await history.run("job", "ffffffff")
    with pytest.raises(UnknownRunError, match="there is no run 'ffffffff' on record"):
        await history.run(None, "ffffffff")


async def test_the_stores_are_described_for_the_command_line(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="b")(nothing)
    crons.cron("* * * * *", name="a")(nothing)
    await crons.start()
    management = Management(crons)
    assert not management.has_durable_history
    assert management.unshared_lock() == "LocalLockBackend"
    assert [known.job for known in await management.known_jobs()] == ["a", "b"]
    assert [known.job for known in await management.known_jobs(["b", "unknown"])] == ["b"]
    assert (management.damaged(), management.obstacles()) == ([], [])


async def test_nothing_is_answered_before_the_start(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    management = Management(crons)
    for ask in (management.jobs(), management.job("job"), management.instances(), management.missed("job")):
        with pytest.raises(CronsError, match="the scheduler is not running"):
            await ask
    with pytest.raises(CronsError, match="can't list runs: the scheduler is not running"):
        await management.runs("job")
    with pytest.raises(UnknownJobError):
        await management.pause("nope")
