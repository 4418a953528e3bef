"""Following a run's log: its lines as they come, each with its number, and the run when it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from fastapi_crons import CronsError, Run
from fastapi_crons.engine.log_feed import LogEvent, Logged, Lost
from fastapi_crons.errors import StoreUnavailableError, TooManyListenersError
from fastapi_crons.management.management import Management
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of, until_async

app = logging.getLogger("app")


class State(MemoryStateBackend):
    """Counts how often a run is read; it can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.away = False

    async def run(self, run_id: str) -> Run | None:
        self.read += 1
        if self.away:
            raise StoreUnavailableError("no route")
        return await super().run(run_id)


class Listener:
    """Takes what comes of a log."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.lost: list[Lost] = []
        self.end: Run | None = None
        self.over = False

    async def listen(self, management: Management, run: Run, after: int = 0) -> None:
        with management.follow_log(run, after=after) as events:
            await self._take(events)

    async def _take(self, events: AsyncIterator[LogEvent]) -> None:
        async for event in events:
            if isinstance(event, Logged):
                self.lines.append((event.number, event.line.message))
            elif isinstance(event, Lost):
                self.lost.append(event)
            else:
                self.end = event
        self.over = True


async def test_lines_come_as_a_run_of_this_instance_writes_them_and_then_its_end(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    state = State()
    crons = make_crons(state_backend=state)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(3):
            app.warning("step %d", number)
            await clock.sleep(10)

    await crons.start()
    management = Management(crons)
    await clock.advance(crons, seconds=60, finish_runs=False)
    (running,) = await runs_of(crons, "job")
    listeners = [Listener() for _ in range(3)]
    run = await management.run("job", running.id)
    tasks = [
        asyncio.ensure_future(listener.listen(management, run, after))
        for listener, after in zip(listeners, (0, 0, 1), strict=True)
    ]
    await clock.advance(crons, seconds=1, finish_runs=False)
    assert [listener.lines for listener in listeners] == [[(1, "step 0")], [(1, "step 0")], []]
    await clock.advance(crons, seconds=10, finish_runs=False)
    assert listeners[2].lines == [(2, "step 1")], "at once, whenever it is written"
    assert state.read == 0
    await clock.advance(crons, seconds=30)
    await asyncio.wait(tasks, timeout=5)
    for listener, first in zip(listeners, (1, 1, 2), strict=True):
        assert listener.lines == [(number, f"step {number - 1}") for number in range(first, 4)]
        assert listener.end is not None
        assert (listener.end.id, listener.end.status, listener.lost) == (run.id, "completed", [])


async def test_what_a_log_has_no_room_for_is_said_to_be_lost(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_log_chars=500)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(1, 21):
            app.warning("step %d %s", number, "x" * 60)
            if number in (2, 18):
                await clock.sleep(10)

    await crons.start()
    management = Management(crons)
    await clock.advance(crons, seconds=60, finish_runs=False)
    (running,) = await runs_of(crons, "job")
    listener = Listener()
    following = asyncio.ensure_future(listener.listen(management, await management.run("job", running.id)))
    await clock.advance(crons, seconds=60)
    await asyncio.wait({following}, timeout=5)
    numbers = [number for number, _ in listener.lines]
    (lost,) = listener.lost
    assert lost.number > 5
    assert numbers == [1, 2, *range(lost.until + 1, 21)]
    assert lost.until - lost.number == 2
    assert all(message.startswith(f"step {number} ") for number, message in listener.lines)
    ended = await management.run("job", running.id)
    late = Listener()
    await late.listen(management, ended, after=19)
    assert [number for number, _ in late.lines] == [20]
    late = Listener()
    await late.listen(management, ended)
    assert [(lost.number, lost.until) for lost in late.lost] == [(ended.log_dropped, ended.log_dropped)]
    assert [number for number, _ in late.lines] == list(range(ended.log_dropped + 1, 21))
    assert late.end == ended


async def test_a_run_of_another_instance_is_read_once_a_second_however_many_listen(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    state = State()
    crons, other = make_crons(state_backend=state), make_crons(state_backend=state)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(6):
            app.warning("step %d", number)
            await clock.sleep(5)

    other.cron("0 0 1 1 *", name="job")(job)
    await crons.start()
    await other.start("observer")
    management = Management(other)
    await clock.advance(crons, seconds=60, finish_runs=False)
    (running,) = await runs_of(crons, "job")
    run = await management.run("job", running.id)
    state.read = 0
    listeners = [Listener() for _ in range(50)]
    tasks = [asyncio.ensure_future(listener.listen(management, run)) for listener in listeners]
    await clock.advance(crons, seconds=20, finish_runs=False)
    assert 18 <= state.read <= 20
    assert {tuple(listener.lines) for listener in listeners} == {
        tuple((number + 1, f"step {number}") for number in range(4))
    }
    state.away = True
    await clock.advance(crons, seconds=5, finish_runs=False)
    state.away = False
    await clock.advance(crons, seconds=30)
    await asyncio.wait(tasks, timeout=5)
    assert all(len(listener.lines) == 6 and listener.end is not None for listener in listeners)
    read = state.read
    await clock.advance(crons, seconds=30)
    assert state.read == read, "nobody listens any more"


@pytest.mark.parametrize("most", [1, 2])
async def test_who_follows_a_log_counts_as_a_listener_and_is_left_at_a_stop(
    make_crons: MakeCrons, clock: VirtualClock, most: int
) -> None:
    crons = make_crons(max_event_streams=most, shutdown_timeout=1)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        await clock.sleep(600)

    await crons.start()
    management = Management(crons)
    await clock.advance(crons, seconds=60, finish_runs=False)
    (running,) = await runs_of(crons, "job")
    listeners = [Listener() for _ in range(most)]
    tasks = [asyncio.ensure_future(listener.listen(management, running)) for listener in listeners]
    await asyncio.sleep(0.01)
    with pytest.raises(TooManyListenersError, match="CRON_MAX_EVENT_STREAMS"), management.follow_log(running):
        pass
    with pytest.raises(TooManyListenersError, match="CRON_MAX_EVENT_STREAMS"), management.subscribe():
        pass
    stopping = asyncio.ensure_future(crons.stop())
    await until_async(lambda: all(listener.over for listener in listeners), 5)
    assert not any(listener.end for listener in listeners)
    await stopping
    await asyncio.wait(tasks)
    with pytest.raises(CronsError), management.follow_log(running):
        pass


async def test_a_run_that_is_deleted_ends_what_follows_it(make_crons: MakeCrons, clock: VirtualClock) -> None:
    state = State()
    crons = make_crons(state_backend=state)
    await crons.start()
    run = Run("01a22500-8dbd-7000-88ac-5cc15fcc6eb6", "job", 60, "schedule", 1, "gone", 1, "running", clock.now())
    await state.write([run])
    listener = Listener()
    following = asyncio.ensure_future(listener.listen(Management(crons), run))
    await clock.advance(crons, seconds=3)
    assert not listener.over
    await state.forget(["job"])
    await clock.advance(crons, seconds=3)
    await asyncio.wait({following}, timeout=5)
    assert (listener.over, listener.end, listener.lines) == (True, None, [])
