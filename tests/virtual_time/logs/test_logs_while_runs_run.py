"""What a run logs is on record while it runs: every few seconds, bounded, redacted, and never instead of its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from fastapi_crons import MissedTicks, Run, hookimpl
from fastapi_crons.engine.log_writer import INTERVAL, MOST_CHARS
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.state.base import Record
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import kept_of, runs_of, until_async

app = logging.getLogger("app")


class State(MemoryStateBackend):
    """Notes what is written of runs; it can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, str, list[str]]] = []
        self.away = False

    async def write(self, records: Sequence[Record]) -> None:
        if self.away:
            raise ConnectionError("no route")
        await super().write(records)
        self.written += [
            (run.job, run.status, [line.message for line in run.log]) for run in records if isinstance(run, Run)
        ]


class CountingClock(VirtualClock):
    """Counts how often the task that writes logs waits for time to pass."""

    def __init__(self) -> None:
        super().__init__("2026-03-01T00:00:00Z")
        self.waits = 0

    async def sleep(self, delay: float) -> None:
        task = asyncio.current_task()
        self.waits += task is not None and task.get_name() == "fastapi-crons log"
        await super().sleep(delay)


@pytest.fixture
def clock() -> VirtualClock:
    return CountingClock()


@pytest.fixture
def state() -> State:
    return State()


def of(state: State, job: str) -> list[tuple[str, list[str]]]:
    """What was written of a job's runs, in this order."""
    return [(status, messages) for name, status, messages in state.written if name == job]


async def test_what_a_run_logs_is_on_record_before_it_ends(
    make_crons: MakeCrons, clock: VirtualClock, state: State
) -> None:
    crons = make_crons(state_backend=state)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(3):
            app.warning("step %d", number)
            await clock.sleep(10)

    await crons.start()
    await clock.advance(crons, seconds=60 + INTERVAL, finish_runs=False)
    run = await kept_of(crons)
    assert (run.status, [line.message for line in run.log]) == ("running", ["step 0"])
    await clock.advance(crons, seconds=10, finish_runs=False)
    assert [line.message for line in (await kept_of(crons)).log] == ["step 0", "step 1"]
    await clock.advance(crons, seconds=30)
    assert of(state, "job") == [
        ("running", ["step 0"]),
        ("running", ["step 0"]),
        ("running", ["step 0", "step 1"]),
        ("running", ["step 0", "step 1", "step 2"]),
        ("completed", ["step 0", "step 1", "step 2"]),
    ]


async def test_a_short_run_is_written_as_if_it_had_logged_nothing(
    make_crons: MakeCrons, clock: VirtualClock, state: State
) -> None:
    crons = make_crons(state_backend=state)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        app.warning("begun")
        await clock.sleep(INTERVAL / 2)
        app.warning("done")

    await crons.start()
    await clock.advance(crons, minutes=1, seconds=10)
    assert of(state, "job") == [("running", ["begun"]), ("completed", ["begun", "done"])]


async def test_a_scheduler_whose_runs_log_nothing_wakes_for_no_log(
    make_crons: MakeCrons, clock: CountingClock, state: State
) -> None:
    crons = make_crons(state_backend=state)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        await clock.sleep(30)

    @crons.cron("30 0 * * *", name="talks")
    async def talks() -> None:
        app.warning("once")
        await clock.sleep(600)

    await crons.start()
    await clock.advance(crons, minutes=20)
    assert clock.waits == 0
    await clock.advance(crons, minutes=30)
    assert clock.waits == 1
    assert of(state, "talks") == [("running", ["once"]), ("running", ["once"]), ("completed", ["once"])]


async def test_what_a_thread_logs_is_written_too(make_crons: MakeCrons, clock: VirtualClock, state: State) -> None:
    crons = make_crons(state_backend=state)
    logged, go_on = asyncio.Event(), asyncio.Event()

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None:
        await asyncio.to_thread(app.warning, "from a thread")
        logged.set()
        await go_on.wait()

    await crons.start()
    running = asyncio.ensure_future(crons.run_job("job"))
    await until_async(logged.is_set)
    await clock.advance(crons, seconds=INTERVAL, finish_runs=False)
    assert [line.message for line in (await kept_of(crons)).log] == ["from a thread"]
    go_on.set()
    assert (await running).status == "completed"


async def test_what_goes_out_early_is_redacted_once(make_crons: MakeCrons, clock: VirtualClock, state: State) -> None:
    seen: list[str] = []

    class Redacting:
        @hookimpl
        def redact(self, field: str, value: str) -> str:
            seen.append(value)
            app.warning("redacted")  # a hook may log, and it is not the run that does
            return value.replace("hunter2", "***")

    crons = make_crons(state_backend=state, max_log_chars=400)
    crons.plugins.register(Redacting())

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(8):
            app.warning("%d with hunter2 %s", number, "x" * 40)
            await clock.sleep(5)

    await crons.start()
    await clock.advance(crons, seconds=70, finish_runs=False)
    kept = await kept_of(crons)
    assert [line.message[:10] for line in kept.log] == ["0 with ***", "1 with ***"]
    await clock.advance(crons, seconds=40)
    kept = await kept_of(crons)
    assert kept.log_dropped > 0
    assert [line.message[:10] for line in kept.log] == [f"{number} with ***" for number in range(kept.log_dropped, 8)]
    assert not any("hunter2" in message for _, messages in of(state, "job") for message in messages)
    assert len(seen) == 8, "each text once"


async def test_while_the_state_store_is_away_only_the_newest_waits(
    make_crons: MakeCrons, clock: VirtualClock, state: State
) -> None:
    crons = make_crons(state_backend=state)

    @crons.cron("0 1 * * *", name="job")
    async def job() -> None:
        for number in range(600):
            app.warning("step %d", number)
            await clock.sleep(1)

    await crons.start()
    await clock.advance(crons, minutes=60, seconds=5, finish_runs=False)
    before = len(state.written)
    state.away = True
    await clock.advance(crons, minutes=2, finish_runs=False)
    assert crons.engine is not None
    assert len(crons.engine.recorder.noted_runs()) == 1
    state.away = False
    await clock.advance(crons, seconds=10, finish_runs=False)
    status, messages = of(state, "job")[before]
    assert (status, messages[-1] > "step 120") == ("running", True)
    assert len(state.written) - before <= 10 / INTERVAL + 1
    state.away = True
    await clock.advance(crons, minutes=10)
    state.away = False
    await clock.advance(crons, minutes=1)
    assert of(state, "job")[-1][0] == "completed"
    assert [run.status for run in await runs_of(crons, "job")] == ["completed"]


async def test_so_much_is_written_at_a_time_and_the_other_runs_come_next(
    make_crons: MakeCrons, clock: VirtualClock, state: State
) -> None:
    crons = make_crons(state_backend=state, max_log_chars=MOST_CHARS)

    def add(name: str) -> None:
        @crons.cron("* * * * *", name=name)
        async def job() -> None:
            while True:
                app.warning("x" * (MOST_CHARS // 2 - 1000))
                await clock.sleep(1)

    names = [f"job {number}" for number in range(4)]
    for name in names:
        add(name)
    await crons.start()
    await clock.advance(crons, seconds=60 + INTERVAL, finish_runs=False)
    rounds: list[list[str]] = []
    for _ in range(4):
        state.written.clear()
        await clock.advance(crons, seconds=INTERVAL, finish_runs=False)
        rounds.append([name for name, _, _ in state.written])
    assert all(len(written) < len(names) for written in rounds), rounds
    assert {name for written in rounds for name in written} == set(names), rounds


async def test_listeners_hear_of_a_run_when_it_starts_and_when_it_ends(
    make_crons: MakeCrons, clock: VirtualClock, state: State
) -> None:
    crons = make_crons(state_backend=state)
    called: list[str] = []
    crons.add_before_run_hook(lambda job, context: called.append("before"))
    crons.add_after_run_hook(lambda job, context: called.append("after"))

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(5):
            app.warning("step %d", number)
            await clock.sleep(5)

    await crons.start()
    assert crons.engine is not None
    heard: list[str] = []

    async def listen(records: AsyncIterator[object]) -> None:
        async for published in records:
            record = getattr(published, "record", None)
            assert isinstance(record, (Run, MissedTicks))
            heard.append(record.status if isinstance(record, Run) else "missed")

    with crons.engine.feed.listen() as records:
        listening = asyncio.ensure_future(listen(records))
        await clock.advance(crons, seconds=100)
        await asyncio.sleep(0)
        assert len(of(state, "job")) > 4
        assert heard == ["running", "completed"]
        assert called == ["before", "after"]
        listening.cancel()
        await asyncio.wait({listening})


@pytest.mark.parametrize("run_in", ["loop", "thread"])
async def test_lines_have_the_time_of_the_schedulers_clock(
    make_crons: MakeCrons, clock: VirtualClock, run_in: str
) -> None:
    crons = make_crons()

    def says() -> None:
        app.warning("now")

    async def says_in_the_loop() -> None:
        says()

    crons.cron("0 * * * *", name="job")(says_in_the_loop if run_in == "loop" else says)
    await crons.start()
    await clock.advance(crons, hours=1)
    run = await kept_of(crons)
    assert [line.ts for line in run.log] == [run.tick_ts]
