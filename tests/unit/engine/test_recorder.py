"""Recorder: records go out in batches, wait while the state store is away, and leases are released after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from fastapi_crons import CronConfig, MissedTicks, Run
from fastapi_crons._util.part import Finding
from fastapi_crons._util.tasks import Supervisor
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.locking import LeaseRef, LeaseTerms, LocalLockBackend
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.state import HistoryLimits, MemoryStateBackend
from fastapi_crons.state.base import Record
from fastapi_crons.testing import VirtualClock
from tests.seam import Unheard
from tests.support import until_async

STORE_TIMEOUT = 5.0
#: More turns of the event loop than the recorder needs for what is to be done at one instant.
_TURNS = 200


class State(MemoryStateBackend):
    """Notes each batch. It can be away, and refuse single records."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.refuses: set[str] = set()
        self.away: BaseException | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self._steps = steps

    async def write(self, records: Sequence[Record]) -> None:
        self.batches.append([record.id for record in records])
        await self.answers.wait()
        if self.away is not None:
            raise self.away
        if any(record.id in self.refuses for record in records):
            raise UnicodeError("no such character")
        await super().write(records)
        self._steps += [f"write {record.id}" for record in records]


class Locks(LocalLockBackend):
    """Notes which leases it is asked to release."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self._steps = steps

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        self._steps += [f"release {lease.run_id}" for lease in leases]
        return await super().release(leases)


class Fixture:
    """A recorder between two stores; `steps` is what they were asked, in this order."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.clock = VirtualClock()
        self.state = State(self.steps)
        config = CronConfig(store_timeout=STORE_TIMEOUT)
        self.leases = LeaseBook("process", LeaseTerms(60, 15), 5, self.clock.monotonic)
        self.locks = LockClient(
            Locks(self.steps),
            config,
            self.clock,
            self.leases,
            count_ticks=lambda seconds: (0, False),
            on_outage=lambda since, until, why: None,
        )
        self.recorder = Recorder(
            self.state,
            self.locks,
            self.leases,
            self.clock,
            Supervisor(),
            store_timeout=STORE_TIMEOUT,
            max_buffered=4,
        )

    async def open(self) -> None:
        await self.state.open("test", HistoryLimits(100, 30))
        await self.locks.open(Instance.of_this_process())
        await self.recorder.startup()

    async def pass_time(self, seconds: float = 0) -> None:
        """Let the recorder's tasks do what is to be done until then."""
        await self.clock.advance(seconds=seconds)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def finish(self, run_id: str) -> None:
        """A run ends: its outcome is noted, then its lease is to be released."""
        self.recorder.ended(run(run_id))
        self.recorder.release(lease(run_id))


def run(run_id: str) -> Run:
    return Run(run_id, "job", 60, "schedule", 1, "here", 1, "completed", 60.0, 61.0)


def lease(run_id: str) -> LeaseRef:
    return LeaseRef("job", run_id, 1)


class Ongoing:
    """A run that is running."""

    def __init__(self, run_id: str) -> None:
        self._id = run_id

    def so_far(self) -> Run:
        return replace(run(self._id), status="running", ended_ts=None)


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Fixture]:
    fixture = Fixture()
    await fixture.open()
    yield fixture
    fixture.state.answers.set()
    await fixture.recorder.shutdown(1)
    await fixture.locks.close()


async def test_what_is_noted_in_one_turn_is_one_batch_and_what_is_noted_meanwhile_the_next(made: Fixture) -> None:
    made.state.answers.clear()
    for run_id in "ab":
        made.finish(run_id)
    await made.pass_time()
    for run_id in "cd":
        made.finish(run_id)
    await made.pass_time()
    assert made.state.batches == [["a", "b"]]
    made.state.answers.set()
    await made.pass_time()
    assert made.state.batches == [["a", "b"], ["c", "d"]]
    assert made.recorder.idle


async def test_a_run_that_ends_at_once_is_written_once_and_a_longer_one_also_when_it_begins(made: Fixture) -> None:
    made.recorder.started("short", Ongoing("short"))
    made.recorder.started("long", Ongoing("long"))
    await asyncio.sleep(0)
    made.finish("short")
    await made.pass_time()
    made.finish("long")
    await made.pass_time()
    assert [sorted(batch) for batch in made.state.batches] == [["long", "short"], ["long"]]


async def test_a_run_that_has_logged_more_is_written_once_and_never_instead_of_its_outcome(made: Fixture) -> None:
    made.state.answers.clear()
    made.recorder.started("a", Ongoing("a"))
    made.recorder.logged("a", Ongoing("a"))
    await made.pass_time()
    for _ in range(3):
        made.recorder.logged("a", Ongoing("a"))
    assert [noted.status for noted in made.recorder.noted_runs()] == ["running"]
    made.finish("a")
    made.recorder.logged("a", Ongoing("a"))
    assert made.recorder.noted("a") == run("a")
    made.state.answers.set()
    await made.pass_time()
    assert made.steps == ["write a", "write a", "release a"]
    assert await made.state.run("a") == run("a")


async def test_a_run_that_has_logged_more_holds_no_lease_of_others(made: Fixture) -> None:
    made.state.away = ConnectionError("no route")
    made.recorder.logged("long", Ongoing("long"))
    made.finish("a")
    await made.pass_time(1)
    assert made.steps == ["release a"]
    made.state.away = None
    await made.pass_time(60)
    assert sorted(made.steps) == ["release a", "write a", "write long"]


async def test_a_lease_is_released_after_its_outcome_is_written(made: Fixture) -> None:
    released: list[str] = []
    made.recorder.ended(run("a"))
    made.recorder.release(lease("a"), lambda: released.append("a"))
    made.state.answers.clear()
    await made.pass_time()
    assert (made.steps, released, len(made.leases)) == ([], [], 1)
    made.state.answers.set()
    await made.pass_time()
    assert (made.steps, released, len(made.leases)) == (["write a", "release a"], ["a"], 0)


async def test_to_a_store_that_is_far_away_outcomes_and_leases_travel_side_by_side(made: Fixture) -> None:
    made.recorder.expect(0.5)
    made.state.answers.clear()
    made.finish("a")
    await made.pass_time()
    assert made.steps == ["release a"]
    made.state.answers.set()
    await made.pass_time()
    assert made.steps == ["release a", "write a"]
    assert not made.recorder.slow, "it was near after all"


async def test_while_the_state_store_is_away_records_wait_and_leases_of_runs_are_released(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    made.state.away = ConnectionError("no route")
    made.finish("a")
    made.recorder.missed(MissedTicks("m", "job", 60, 60, 1, "overlap", 61.0, "here"))
    made.recorder.release(lease("m"))
    await made.pass_time(1)
    assert made.steps == ["release a"], "a lease that answers for missed ticks waits for their record"
    assert "the state store does not answer" in caplog.text
    (finding,) = made.recorder.findings()
    assert (finding.failure, finding.cause) == (True, "ConnectionError: no route")
    assert made.recorder.noted("a") == run("a")
    made.state.away = None
    await made.pass_time(60)
    assert made.steps == ["release a", "write a", "write m", "release m"]
    assert "the state store answers again" in caplog.text
    assert list(made.recorder.findings()) == []
    assert made.recorder.noted("a") is None


async def test_as_many_records_wait_as_there_is_room_for_and_the_oldest_are_dropped(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    made.state.away = ConnectionError("no route")
    for run_id in "abcdef":
        made.finish(run_id)
    await made.pass_time(1)
    assert [noted.id for noted in made.recorder.noted_runs()] == list("cdef")
    assert Finding("2 records were dropped while the state store was down") in made.recorder.findings()
    assert "2 records dropped so far, the oldest first; at most 4 wait" in caplog.text
    made.state.away = None
    await made.pass_time(60)
    assert [step for step in made.steps if step.startswith("write")] == [f"write {run_id}" for run_id in "cdef"]


async def test_a_record_that_the_store_can_not_keep_is_dropped_alone(made: Fixture) -> None:
    made.state.refuses = {"c"}
    for run_id in "abcd":
        made.finish(run_id)
    await made.pass_time(1)
    written = [step for step in made.steps if step.startswith("write")]
    assert written == ["write a", "write b", "write d"]
    assert sorted(set(made.steps) - set(written)) == [f"release {run_id}" for run_id in "abcd"]
    assert made.recorder.idle


async def test_a_batch_that_takes_too_long_is_halved(made: Fixture) -> None:
    made.state.away = asyncio.TimeoutError()
    for run_id in "abcd":
        made.finish(run_id)
    await made.pass_time(60)
    assert [len(batch) for batch in made.state.batches[:4]] == [4, 2, 1, 1]
    (finding,) = made.recorder.findings()
    assert finding.cause == "no answer within 5 s"


async def test_a_batch_waits_whatever_is_raised_instead_of_written(made: Fixture) -> None:
    made.state.away = Unheard("a driver's own")
    for run_id in "ab":
        made.finish(run_id)
    await made.pass_time()
    assert [noted.id for noted in made.recorder.noted_runs()] == ["a", "b"]
    made.state.away = None
    await until_async(lambda: made.recorder.idle, 5)  # the supervisor waits a moment
    assert made.steps == ["write a", "write b", "release a", "release b"]


async def test_a_stop_writes_and_releases_what_is_left(made: Fixture) -> None:
    made.recorder.started("long", Ongoing("long"))
    made.finish("a")
    await made.recorder.shutdown(1)
    assert sorted(made.steps) == ["release a", "write a", "write long"]
    assert made.steps.index("write a") < made.steps.index("release a")


async def test_a_stop_does_not_wait_long_for_a_store_that_is_away_and_releases_all_the_same(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    made.state.away = ConnectionError("no route")
    made.finish("a")
    await asyncio.wait_for(made.recorder.shutdown(0.2), 5)
    assert made.steps == ["release a"]
    assert "could not write 1 record to the state store: ConnectionError: no route" in caplog.text
