"""Jobs that are removed and replaced while the scheduler runs: for the stores, what a deploy would be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastapi_crons import CronJob, Crons, DuplicateJobError, UnknownJobError
from fastapi_crons.engine.engine import Engine
from fastapi_crons.locking import ClaimRequest, ClaimResult
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of


class Fleet:
    """Instances that share one SQLite file."""

    def __init__(self, clock: VirtualClock, folder: Path) -> None:
        self.clock, self.file = clock, folder / "jobs.db"

    async def start(self, *jobs: CronJob) -> Crons:
        crons = Crons(state_backend=SQLiteStateBackend(self.file), clock=self.clock)
        crons.jobs.extend(jobs)
        await crons.start()
        await self.clock.settle(crons)
        return crons


@pytest.fixture
def fleet(clock: VirtualClock, tmp_path: Path) -> Fleet:
    return Fleet(clock, tmp_path)


def job(expr: str = "0 * * * *", func: Callable[[], Awaitable[object]] = nothing, name: str = "sync") -> CronJob:
    return CronJob(func, expr, name)


async def test_a_removed_job_has_no_more_ticks_and_keeps_its_history(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.jobs.extend([job(), job(name="other")])
    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    removed = crons.jobs.remove("sync")
    assert removed.name == "sync"
    assert [known.name for known in crons.jobs] == ["other"]
    await clock.advance(crons, hours=2)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["01:00:00"]
    assert len(await runs_of(crons, "other")) == 3
    for refused in (crons.run_job("sync"), crons.pause("sync"), crons.resume("sync"), crons.runs("sync")):
        with pytest.raises(UnknownJobError, match="no job named 'sync'"):
            await refused
    with pytest.raises(UnknownJobError, match="no job named 'sync'"):
        crons.jobs.remove("sync")
    with pytest.raises(UnknownJobError, match="no job named 'sync'"):
        crons.jobs.replace(job())
    assert crons.health().status == "ok"


async def test_a_job_that_comes_back_has_been_away_for_a_downtime(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.jobs.append(job())
    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    crons.jobs.remove("sync")
    await clock.advance(crons, hours=3)
    crons.jobs.append(job())
    await clock.settle(crons)
    newest = (await runs_of(crons, "sync"))[-1]
    assert (at(newest), newest.trigger, newest.missed_ticks) == ("04:00:00", "catch_up", 2)


async def test_a_replaced_schedule_begins_now_and_the_ticks_of_the_former_end(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, ran = make_crons(), list[str]()

    async def newer() -> None:
        ran.append("newer")

    crons.jobs.append(job())
    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    former = crons.jobs.replace(job("*/40 * * * *", newer))
    assert former.func is nothing
    await clock.advance(crons, hours=1)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["01:00:00", "01:40:00", "02:00:00"]
    assert ran == ["newer", "newer"]
    assert await missed_of(crons, "sync") == []
    assert (await crons.run_job("sync")).status == "completed"
    assert ran == ["newer"] * 3


async def test_ticks_that_the_former_definition_had_not_claimed_are_on_record(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.jobs.append(job())
    await crons.start()
    await clock.advance(crons, minutes=30)
    await crons.pause("sync")
    await clock.advance(crons, hours=2)
    crons.jobs.replace(job("30 * * * *"))
    await clock.settle(crons)
    (missed,) = await missed_of(crons, "sync")
    assert (missed.reason, missed.count) == ("paused", 2)
    assert "sync" in await crons.pauses(), "the pause holds for the new definition"
    await crons.resume("sync")
    await clock.advance(crons, hours=1)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["03:30:00"]


async def test_a_pause_outlives_the_removal(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.jobs.append(job())
    await crons.start()
    await clock.settle(crons)
    await crons.pause("sync", actor="ops")
    crons.jobs.remove("sync")
    await clock.advance(crons, hours=2)
    assert (await crons.pauses())["sync"].actor == "ops"
    crons.jobs.append(job())
    await clock.advance(crons, hours=2)
    assert await runs_of(crons, "sync") == []
    assert await crons.resume("sync")
    await clock.advance(crons, hours=1)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["05:00:00"]


@pytest.mark.parametrize("change", ["remove", "replace"])
async def test_a_running_run_finishes_as_it_began(make_crons: MakeCrons, clock: VirtualClock, change: str) -> None:
    crons, ended = make_crons(), list[str]()

    def func(label: str) -> Callable[[], Awaitable[object]]:
        async def run() -> str:
            await clock.sleep(5_400)
            ended.append(label)
            return label

        return run

    crons.jobs.append(job(func=func("old")))
    await crons.start()
    await clock.advance(crons, hours=1, minutes=10, finish_runs=False)
    if change == "remove":
        crons.jobs.remove("sync")
    else:
        crons.jobs.replace(job(func=func("new")))
    await clock.advance(crons, hours=1, finish_runs=False)  # 02:10
    assert ended == []
    await clock.advance(crons, minutes=30, finish_runs=False)  # 02:40
    assert ended == ["old"]
    await clock.advance(crons, hours=2)
    runs = [(at(run), run.status, run.result) for run in await runs_of(crons, "sync")]
    if change == "remove":
        assert runs == [("01:00:00", "completed", "old")]
    else:
        assert runs[:2] == [("01:00:00", "completed", "old"), ("03:00:00", "completed", "new")]
        (missed, *_) = await missed_of(crons, "sync")
        assert (missed.reason, missed.first.hour) == ("overlap", 2), "the tick of 02:00 met the run of the former one"


async def test_other_instances_go_on_with_the_job(fleet: Fleet, clock: VirtualClock) -> None:
    one, other = await fleet.start(job()), await fleet.start(job())
    await clock.advance(one, other, hours=1, minutes=30)
    one.jobs.remove("sync")
    await clock.advance(one, other, hours=3)
    assert len(await runs_of(other, "sync")) == 4
    assert {run.instance for run in (await runs_of(other, "sync"))[1:]} == {_instance(other)}
    await one.stop()
    await other.stop()


async def test_a_replacement_takes_over_from_instances_with_the_former_definition(
    fleet: Fleet, clock: VirtualClock
) -> None:
    one, other = await fleet.start(job()), await fleet.start(job())
    await clock.advance(one, other, hours=1, minutes=30)
    one.jobs.replace(job("30 * * * *"))
    await clock.advance(one, other, hours=3)
    assert [at(run) for run in await runs_of(one, "sync")] == ["01:00:00", "02:30:00", "03:30:00", "04:30:00"]
    assert {run.instance for run in (await runs_of(one, "sync"))[1:]} == {_instance(one)}
    assert "a newer definition" in other.health().findings[0]
    await one.stop()
    await other.stop()


async def test_the_former_definition_comes_back_where_the_newer_one_is_removed_everywhere(
    fleet: Fleet, clock: VirtualClock
) -> None:
    """As after a roll-back: the instance that is left has the only definition."""
    old = await fleet.start(job())
    new = await fleet.start(job("30 * * * *"))
    await clock.advance(old, new, hours=1, minutes=40)
    assert [at(run) for run in await runs_of(old, "sync")] == ["00:30:00", "01:30:00"]
    new.jobs.remove("sync")
    await clock.advance(old, new, hours=2)
    assert [at(run) for run in await runs_of(old, "sync")] == ["00:30:00", "01:30:00", "02:00:00", "03:00:00"]
    await old.stop()
    await new.stop()


async def test_what_changes_while_the_store_is_down_is_seen_to_when_it_is_back(
    fleet: Fleet, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await fleet.start(job(), job(name="kept")), await fleet.start(job())
    await clock.advance(one, other, minutes=30)
    down = True

    async def broken(*_: object) -> None:
        raise ConnectionError("the store is down")

    lock = _engine(one).locks.backend
    real = lock.register
    monkeypatch.setattr(lock, "register", lambda *given: broken() if down else real(*given))
    one.jobs.remove("sync")
    one.jobs.replace(job("15 * * * *", name="kept"))
    await clock.advance(other, hours=1, minutes=10)
    assert [run.instance for run in await runs_of(other, "sync")] == [_instance(other)]
    assert await runs_of(one, "kept") == []
    down = False

    await clock.advance(one, other, hours=1)
    assert await _definition(one, "kept") == "15 * * * *"
    assert at((await runs_of(one, "kept"))[-1]) == "02:15:00"
    assert {run.instance for run in await runs_of(other, "sync")} == {_instance(other)}
    await one.stop()
    await other.stop()


@pytest.mark.parametrize("change", ["remove", "replace"])
async def test_what_waits_for_the_store_to_claim_a_tick_is_the_job_as_it_is_when_the_store_is_back(
    fleet: Fleet, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    ran, down = list[str](), [True]

    def runs(label: str) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            ran.append(label)

        return run

    one = await fleet.start(job(func=runs("old")), job(func=runs("kept"), name="kept"))

    async def broken(*_: object) -> None:
        raise ConnectionError("the store is down")

    lock = _engine(one).locks.backend
    claim, register = lock.claim, lock.register
    monkeypatch.setattr(lock, "claim", lambda *given: broken() if down[0] else claim(*given))
    monkeypatch.setattr(lock, "register", lambda *given: broken() if down[0] else register(*given))
    await clock.advance(hours=1, minutes=5)
    if change == "remove":
        one.jobs.remove("sync")
    else:
        one.jobs.replace(job(func=runs("new")))
    await clock.advance(minutes=5)
    down[0] = False
    await clock.advance(one, minutes=5)
    assert sorted(ran) == (["kept"] if change == "remove" else ["kept", "new"])
    assert [(at(run), run.trigger) for run in await runs_of(one, "kept")] == [("01:00:00", "catch_up")]
    await one.stop()


async def test_a_tick_that_was_claimed_before_the_removal_runs(
    fleet: Fleet, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crons = await fleet.start(job())
    lock = _engine(crons).locks.backend
    real = lock.claim

    async def claim(requests: list[ClaimRequest]) -> list[ClaimResult]:
        answers = await real(requests)
        if "sync" in {request.job for request in requests} and crons.jobs.get("sync"):
            crons.jobs.remove("sync")
        return answers

    monkeypatch.setattr(lock, "claim", claim)
    await clock.advance(crons, hours=3)
    assert [(at(run), run.status) for run in await runs_of(crons, "sync")] == [("01:00:00", "completed")]
    (known,) = await lock.known()
    assert known.leases == ()
    await crons.stop()


async def test_a_manual_run_that_is_about_to_start_is_refused_where_its_job_is_removed(fleet: Fleet) -> None:
    crons = await fleet.start(job())
    starting = asyncio.ensure_future(crons.run_job("sync"))
    crons.jobs.remove("sync")
    with pytest.raises(UnknownJobError, match="'sync'"):
        await starting
    assert await runs_of(crons, "sync") == []
    await crons.stop()


async def test_jobs_change_before_the_start_and_from_any_thread(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.jobs.extend(job(name=f"job-{number}") for number in range(60))
    crons.jobs.remove("job-0")
    crons.jobs.replace(job("30 * * * *", name="job-1"))
    await crons.start()

    def change(part: int) -> None:
        for number in range(2 + part, 60, 4):
            crons.jobs.remove(f"job-{number}")
            crons.jobs.append(job("15 * * * *", name=f"job-{number}"))
            crons.jobs.replace(job("45 * * * *", name=f"job-{number}"))
            if number % 2:
                crons.jobs.remove(f"job-{number}")

    threads = [threading.Thread(target=change, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await clock.advance(crons, hours=1)
    ran = {run.job: at(run) for number in range(60) for run in await _engine(crons).state.runs(f"job-{number}")}
    assert ran == {"job-1": "00:30:00"} | {f"job-{number}": "00:45:00" for number in range(2, 60, 2)}
    assert len(_engine(crons).dispatcher.jobs) == len(crons.jobs) == 30


async def test_hooks_of_a_removed_job_do_not_hinder_the_next_start(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons, seen = make_crons(), list[str]()
    crons.jobs.extend([job(), job(name="other")])
    crons.add_after_run_hook(lambda job_name, context: seen.append(job_name), job_name="sync")
    await crons.start()
    await clock.advance(crons, hours=1)
    crons.jobs.remove("sync")
    await crons.stop()
    await crons.start()
    await clock.advance(crons, hours=1)
    assert seen == ["sync"]


def test_extending_with_a_name_that_is_taken_registers_nothing(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.jobs.append(job())
    for others in ([job(name="a"), job(func=_other)], [job(name="a"), job(name="b"), job(name="a", func=_other)]):
        with pytest.raises(DuplicateJobError):
            crons.jobs.extend(others)
        assert [known.name for known in crons.jobs] == ["sync"]


async def _other() -> None: ...


def _engine(crons: Crons) -> Engine:
    assert crons.engine is not None
    return crons.engine


def _instance(crons: Crons) -> str:
    return _engine(crons).instance.id


async def _definition(crons: Crons, job: str) -> str:
    """The schedule that is in force."""
    (known,) = await _engine(crons).locks.known([job])
    return known.schedule
