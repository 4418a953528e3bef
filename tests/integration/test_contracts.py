"""What every state store and every lock store must do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from fastapi_crons import LogLine, MissedTicks, Run, RunError
from fastapi_crons.clock import SystemClock
from fastapi_crons.instance import Instance
from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    Lease,
    LeaseRef,
    LeaseTerms,
    LocalLockBackend,
    LockBackend,
    PauseRequest,
    ResumeRequest,
)
from fastapi_crons.run import RunIds, RunStatus
from fastapi_crons.state import HistoryLimits, MemoryStateBackend, StateBackend
from fastapi_crons_sqlite import SQLiteLockBackend, SQLiteStateBackend

NOW = SystemClock().now()
new_id = RunIds()


def a_run(job: str = "job", status: RunStatus = "running", *, run_id: str | None = None, started: float = NOW) -> Run:
    ended = None if status == "running" else started + 1
    return Run(run_id or new_id(), job, int(started), "schedule", 1, "here", 7, status, started, ended)


@pytest_asyncio.fixture(params=[MemoryStateBackend, SQLiteStateBackend])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[StateBackend]:
    backend: StateBackend = request.param()
    await backend.open("default", HistoryLimits(5, 30))
    yield backend
    await backend.close()


@pytest_asyncio.fixture(params=[LocalLockBackend, SQLiteLockBackend])
async def lock(request: pytest.FixtureRequest) -> AsyncIterator[LockBackend]:
    backend: LockBackend = request.param()
    await backend.open(Instance.of_this_process(), "default", LeaseTerms(300, 30), SystemClock())
    yield backend
    await backend.close()


async def test_a_run_comes_back_as_it_was(state: StateBackend) -> None:
    run = Run(
        new_id(),
        'jöb "quoted" 🚀',
        int(NOW),
        "catch_up",
        2,
        "instance",
        2**53,
        "failed",
        NOW,
        NOW + 1.5,
        RunError("ValueError", "message\nwith lines", "traceback"),
        '{"a": [1, null, "ü"]}',
        3,
        int(NOW) - 300,
        "actor",
        "note",
    )
    await state.write([run])
    assert await state.run(run.id) == run
    assert await state.runs(run.job) == [run]
    assert await state.run("no such run") is None


async def test_a_closed_record_never_changes(state: StateBackend) -> None:
    running = a_run()
    await state.write([running])
    assert [run.id for run in await state.unfinished()] == [running.id]
    closed = a_run(status="interrupted", run_id=running.id)
    await state.write([closed])
    await state.write([a_run(status="completed", run_id=running.id)])
    assert await state.run(running.id) == closed
    assert await state.unfinished() == []
    assert (await state.states())["job"].status == "interrupted"


async def test_runs_are_paged_newest_first(state: StateBackend) -> None:
    runs = [a_run(status="completed" if number % 2 else "failed", started=NOW + number) for number in range(5)]
    await state.write([*runs, a_run("other", "completed")])
    assert await state.runs("job", limit=2) == runs[:2:-1]
    assert await state.runs("job", limit=10, before=runs[3].id) == runs[2::-1]
    assert await state.runs("job", status="failed") == [runs[4], runs[2], runs[0]]


async def test_states_show_the_latest_run_of_each_job(state: StateBackend) -> None:
    old, new = a_run("a", "completed", started=NOW - 60), a_run("a", "failed", started=NOW)
    await state.write([old, new, a_run("b")])
    states = await state.states()
    assert {name: seen.status for name, seen in states.items()} == {"a": "failed", "b": "running"}
    assert abs(states["a"].last_run_ts - NOW) < 0.01
    assert set(await state.states(["b", "never ran"])) == {"b"}


async def test_missed_ticks_come_back_newest_first(state: StateBackend) -> None:
    rows = [
        MissedTicks(new_id(), "job", 10, 20, 3, "overlap", NOW + number, "here", number == 1, "why")
        for number in range(2)
    ]
    await state.write([replace(rows[1], count=2), rows[0]])
    await state.write([rows[1]])
    assert await state.missed("job") == rows[::-1]
    assert await state.missed("other") == []


async def test_history_is_bounded_by_number_and_age(state: StateBackend) -> None:
    ids = RunIds(lambda: NOW - 40 * 86_400)
    await state.write([a_run("old", "completed", run_id=ids(), started=NOW - 40 * 86_400)])
    await state.write([a_run("busy", "completed", started=NOW + number) for number in range(20)])
    await state.prune(NOW)
    assert await state.runs("old") == []
    assert len(await state.runs("busy", limit=100)) == 5
    await state.write([a_run("busy", "completed", started=NOW + 100 + number) for number in range(3)])
    await state.prune(NOW)
    kept = await state.runs("busy", limit=100)
    assert len(kept) == 5
    assert kept[0].started_ts == NOW + 102


async def test_missed_ticks_are_bounded_too_and_running_runs_are_kept(state: StateBackend) -> None:
    running = a_run("busy")
    await state.write([running])
    await state.write([a_run("busy", "completed", started=NOW + number) for number in range(20)])
    old = RunIds(lambda: NOW - 40 * 86_400)()
    rows = [MissedTicks(new_id(), "hung", 10, 20, 3, "overlap", NOW, "here") for _ in range(20)]
    await state.write([*rows, MissedTicks(old, "old", 10, 20, 3, "overlap", NOW - 40 * 86_400, "here")])
    await state.prune(NOW)
    assert await state.missed("hung", limit=100) == rows[:-6:-1]
    assert await state.missed("old") == []
    if isinstance(state, SQLiteStateBackend):
        assert await state.run(running.id) == running


async def test_cutting_back_one_namespace_leaves_the_others_alone(tmp_path: Path) -> None:
    kept: dict[str, StateBackend] = {}
    for name, keep in (("prod", 1000), ("prod2", 1000), ("default", 1000), ("staging", 2)):
        backend: StateBackend = SQLiteStateBackend(tmp_path / "shared.db")
        kept[name] = backend
        await backend.open(name, HistoryLimits(keep, 30))
        old = RunIds(lambda: NOW - 29 * 86_400)
        await backend.write([a_run(status="completed", run_id=old(), started=NOW) for _ in range(5)])
        await backend.write([MissedTicks(old(), "job", 10, 20, 3, "overlap", NOW, "here") for _ in range(5)])
    await kept["staging"].prune(NOW + 5 * 86_400)
    assert {name: len(await backend.runs("job")) for name, backend in kept.items()} == {
        "prod": 5,
        "prod2": 5,
        "default": 5,
        "staging": 0,
    }
    await kept["default"].prune(NOW + 5 * 86_400)
    assert [len(await kept[name].missed("job")) for name in ("prod", "prod2", "default")] == [5, 5, 0]
    for backend in kept.values():
        await backend.close()


async def test_a_run_comes_back_with_its_log_when_it_is_asked_for(state: StateBackend) -> None:
    lines = tuple(LogLine(NOW + number, "INFO", "app", f"line {number} ü\n") for number in range(3))
    run = replace(a_run(status="completed"), log=lines, log_dropped=7, beside="another")
    await state.write([replace(a_run(run_id=run.id), beside="another")])
    await state.write([run])
    assert await state.run(run.id) == run
    (listed,) = await state.runs("job")
    assert (listed.id, listed.log_dropped) == (run.id, 7)


def request(run_id: str, tick: int | None, *, job: str = "job", schedule: str = "* * * * *") -> ClaimRequest:
    return ClaimRequest(job, run_id, tick, schedule, "UTC")


def define(job: str = "job", schedule: str = "* * * * *", mark: int = 0) -> Definition:
    return Definition(job, schedule, "UTC", "module:function", mark)


async def test_a_tick_is_claimed_once_and_the_job_is_busy_until_released(lock: LockBackend) -> None:
    mark = (await lock.enrol([define()]))[0].mark
    assert abs(mark - SystemClock().now()) < 3
    (granted,) = await lock.claim([request("r1", mark + 1)])
    assert (granted.outcome, granted.mark) == ("granted", mark)
    stale, busy = await lock.claim([request("r2", mark + 1), request("manual", None)])
    assert (stale.outcome, busy.outcome, busy.holder) == ("stale", "busy", "r1")
    assert await lock.leased(["r1", "r2"]) == {"r1"}
    assert await lock.release([LeaseRef("job", "r1", granted.token + 1)]) == [False]
    assert await lock.renew([LeaseRef("job", "r1", granted.token), LeaseRef("job", "r2", 1)]) == [True, False]
    assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [True]
    (again,) = await lock.claim([request("manual", None)])
    assert again.outcome == "granted"
    assert again.token > granted.token


async def test_a_claim_that_is_asked_again_gets_the_same_answer(lock: LockBackend) -> None:
    mark = (await lock.enrol([define()]))[0].mark
    first = await lock.claim([request("r1", mark + 1)])
    assert await lock.claim([request("r1", mark + 1)]) == first


async def test_a_paused_job_grants_no_tick_until_it_is_resumed(lock: LockBackend) -> None:
    mark = (await lock.enrol([define(), define("other")]))[0].mark
    assert await lock.pause([PauseRequest("nope")]) == [None]
    (pause,) = await lock.pause([PauseRequest("job", "ops", "why")])
    assert pause is not None
    assert abs(pause.since - SystemClock().now()) < 3
    assert set(await lock.pauses()) == {"job"}
    assert (await lock.pauses())["job"][1:] == ("ops", "why")
    answers = await lock.claim([request("r1", mark + 1), request("r2", mark + 1, job="other"), request("r3", None)])
    assert [answer.outcome for answer in answers] == ["paused", "granted", "granted"]
    await lock.release([LeaseRef("job", "r3", answers[2].token)])
    (resumed, none) = await lock.resume([ResumeRequest("job", "n1", catch_up=True), ResumeRequest("other", "n2")])
    assert resumed is not None
    assert (resumed.after, resumed.mark, resumed.token, none) == (mark, mark, 0, None)
    (granted,) = await lock.claim([request("r4", mark + 1)])
    assert (granted.outcome, granted.mark) == ("granted", mark)


async def test_a_skipped_tick_leaves_a_lease_until_it_is_on_record(lock: LockBackend) -> None:
    mark = (await lock.enrol([define()]))[0].mark
    (granted,) = await lock.claim([request("r1", mark)._replace(tick=mark + 1)])
    assert granted.outcome == "granted"
    (again,) = await lock.enrol([define(mark=mark - 10)])
    assert again.mark == mark + 1
    (forced,) = await lock.claim([request("forced", None)._replace(force=True)])
    assert (forced.outcome, forced.holder) == ("granted", "r1")
    (let_go,) = await lock.claim([request("r2", mark + 1)._replace(let_go="misfire_grace_time")])
    assert let_go.outcome == "stale"
    assert await lock.leased(["r1", "forced", "r2"]) == {"r1", "forced"}


async def test_a_store_that_lost_its_records_takes_leases_back(lock: LockBackend) -> None:
    now = SystemClock().now()
    token = int(now * 1000)
    owner = Instance.of_this_process()
    held = Lease("job", "r1", int(now) - 5, owner.owner, token, 1, now + 300, int(now) - 65)
    owner.lives_here(alive=True)
    (enrolment,) = await lock.enrol([define(mark=int(now) - 5)._replace(held=(held,))])
    assert await lock.leased(["r1"]) == {"r1"}
    (stale,) = await lock.claim([request("r2", int(now) - 5)])
    assert stale.outcome == "stale"
    assert await lock.release([LeaseRef("job", "r1", token)]) == [True]
    (granted,) = await lock.claim([request("r3", None)])
    assert granted.token > token
    assert enrolment.mark >= int(now) - 5
    owner.lives_here(alive=False)


async def test_unknown_jobs_other_schedules_and_the_future_are_refused(lock: LockBackend) -> None:
    mark = (await lock.enrol([define()]))[0].mark
    answers = await lock.claim(
        [request("r1", mark, job="unknown"), request("r2", mark + 1, schedule="0 * * * *"), request("r3", mark + 60)]
    )
    assert [answer.outcome for answer in answers] == ["unknown", "not_in_force", "early"]


async def test_a_batch_of_thousands_is_decided_in_order(lock: LockBackend) -> None:
    enrolments = await lock.enrol([define(f"job-{number}") for number in range(3_000)])
    results = await lock.claim(
        [request(f"r{number}", enrolment.mark + 1, job=f"job-{number}") for number, enrolment in enumerate(enrolments)]
    )
    assert {result.outcome for result in results} == {"granted"}
    refs = [LeaseRef(f"job-{number}", f"r{number}", result.token) for number, result in enumerate(results)]
    assert await lock.release(refs) == [True] * 3_000


async def test_a_new_schedule_comes_into_force_and_names_the_old_one(lock: LockBackend) -> None:
    mark = (await lock.enrol([define()]))[0].mark
    (changed,) = await lock.enrol([define(schedule="0 * * * *")])
    assert changed.replaced is not None
    assert changed.replaced[:4] == ("* * * * *", "UTC", mark, "schedule_changed")
    (raised,) = await lock.enrol([define(schedule="0 * * * *", mark=mark + 500)])
    assert raised.mark == mark + 500


async def test_namespaces_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    states = {name: SQLiteStateBackend(path) for name in ("default", "staging")}
    locks = {name: SQLiteLockBackend(path) for name in states}
    for name, backend in states.items():
        await backend.open(name, HistoryLimits(5, 30))
        await locks[name].open(Instance.of_this_process(), name, LeaseTerms(300, 30), SystemClock())
        await backend.write([a_run(status="completed" if name == "default" else "failed")])
        mark = (await locks[name].enrol([define()]))[0].mark
        assert (await locks[name].claim([request(f"run in {name}", mark + 1)]))[0].outcome == "granted"
    assert {name: (await backend.states())["job"].status for name, backend in states.items()} == {
        "default": "completed",
        "staging": "failed",
    }
    assert [len(await backend.runs("job")) for backend in states.values()] == [1, 1]
    for name, backend in states.items():
        await backend.close()
        await locks[name].close()


def test_run_ids_only_grow_whatever_the_clock_does() -> None:
    times = iter([5.0, 5.0, 3.0, 4.0, 9.0] * 2000)
    make: Callable[[], str] = RunIds(lambda: next(times))
    ids = [make() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000
