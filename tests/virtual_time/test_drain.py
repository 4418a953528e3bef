"""Drain: an instance claims nothing more, others take its ticks, and what it runs comes to an end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone

import pytest

from fastapi_crons import Crons, CronsError
from fastapi_crons.errors import UnknownInstanceError
from fastapi_crons.management.drains import DrainView
from fastapi_crons.management.management import Management
from fastapi_crons.state import MissedQuery
from fastapi_crons.testing import VirtualClock
from tests.support import missed_of, nothing, runs_of
from tests.virtual_time.ticks.servers import Servers


@pytest.fixture(params=["memory", "sqlite"])
async def servers(
    request: pytest.FixtureRequest, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Servers]:
    monkeypatch.chdir(str(tmp_path))
    found = Servers(VirtualClock("2026-03-01T12:00:00Z"), request.param)
    yield found
    for crons in found.started[:]:
        await found.stop(crons)


def name_of(crons: Crons) -> str:
    assert crons.engine is not None
    return crons.engine.instance.id


async def ticks_by_instance(crons: Crons) -> tuple[Counter[str], Counter[int | None]]:
    """How many runs each instance had, and how many each tick."""
    runs = await runs_of(crons, "job")
    return Counter(run.instance for run in runs), Counter(run.tick_ts for run in runs)


async def looked(
    servers: Servers, crons: Crons, name: str, fits: Callable[[DrainView], bool], *, step: float
) -> DrainView:
    """An instance as another one sees it, once that fits."""
    drains = Management(crons).drains
    owners = [each.instance.owner for each in await drains.instances(name)]
    for _ in range(500):
        (view,) = await drains.look(owners)
        if fits(view):
            return view
        await servers.advance(seconds=step)
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain for the instance")


@pytest.mark.parametrize("asked", ["itself", "by the other"])
async def test_the_ticks_of_an_instance_that_drains_run_on_the_other_one(servers: Servers, asked: str) -> None:
    first, second = [await servers.start("* * * * * */10", nothing) for _ in range(2)]
    await servers.advance(minutes=10)
    before, _ = await ticks_by_instance(first)
    assert before[name_of(first)] > 10 < before[name_of(second)], "they share the ticks"
    if asked == "itself":
        assert await first.drain() == ()
    else:
        (view,) = await Management(second).drains.drain(name_of(first))
        assert view.instance.instance.id == name_of(first)
        await looked(servers, second, name_of(first), lambda view: view.draining, step=0.05)
    before, _ = await ticks_by_instance(first)
    await servers.advance(minutes=10)
    after, ticks = await ticks_by_instance(first)
    assert after[name_of(first)] == before[name_of(first)], "it claims nothing more"
    assert after[name_of(second)] - before[name_of(second)] >= 59
    assert set(ticks.values()) == {1}
    assert len(ticks) >= 119
    assert await missed_of(first, "job") == []
    late = [run for run in await runs_of(first, "job") if run.started_ts - (run.tick_ts or 0) > 0.5]
    assert late == [] or asked == "by the other", "the other takes the ticks at once, and not after a turn"
    (seen,) = [each for each in await Management(second).instances() if each.instance.id == name_of(first)]
    assert not seen.runs_ticks


async def test_what_runs_comes_to_its_end_and_is_shown_until_then(servers: Servers) -> None:
    async def long() -> None:
        await servers.clock.sleep(100)

    first = await servers.start("0 * * * *", long, timeout=500, max_retries=1, retry_delay=8)
    await servers.advance(minutes=60, seconds=5)
    second = await servers.start("0 * * * *", long, timeout=500, max_retries=1, retry_delay=8)
    (run,) = await runs_of(first, "job")
    for asker in (first, second):
        (view,) = await Management(asker).drains.drain(name_of(first))
        (left,) = view.runs
        assert (left.job, left.id, left.limit, view.done) == ("job", run.id, "limited", False)
        assert left.ends is not None
        assert (left.ends - left.started).total_seconds() == 500 * 2 + 8 * 1.25
        await servers.advance(seconds=2)
    # Heartbeats go by the clock, but SQLite answers in time of its own.
    heard = await looked(servers, second, name_of(first), lambda view: view.draining, step=0.05)
    assert heard.left == 1
    done = await looked(servers, second, name_of(first), lambda view: view.done, step=1)
    assert done.runs == ()
    assert (await runs_of(first, "job"))[0].status == "completed"


async def test_an_instance_that_drains_says_so_and_begins_no_run_by_hand(servers: Servers) -> None:
    crons = await servers.start("0 * * * *", nothing)
    waited_for = asyncio.create_task(crons.run_job("job"))
    await servers.advance(seconds=1)
    assert (await waited_for).status == "completed"
    for _ in range(2):
        (view,) = await Management(crons).drains.drain()
        assert view.done
    await servers.advance(minutes=30)
    health = crons.health()
    assert health.status == "degraded"
    assert "this instance is draining: it claims nothing more, until its process ends" in health.findings
    with pytest.raises(CronsError, match="this instance is draining, and begins no run until its process ends"):
        await crons.run_job("job")
    with pytest.raises(UnknownInstanceError, match=f"no instance 'nope' is running; there are: {name_of(crons)}"):
        await Management(crons).drains.drain("nope")


async def test_when_the_last_one_drains_it_says_itself_that_nothing_runs(servers: Servers) -> None:
    crons = await servers.start("* * * * *", nothing)
    management = Management(crons)
    await servers.advance(minutes=1)
    assert (await management.plan()).instances == 1
    await management.drains.drain()
    await servers.advance(minutes=10)
    assert (await management.plan()).instances == 0
    ((waiting,), _) = await management.unhandled(MissedQuery())
    fate = await management.explain_tick("job", datetime.fromtimestamp(waiting.ticks.first, timezone.utc))
    assert "no instance that runs jobs is running" in fate.text
    assert waiting.fate.text == fate.text


async def test_a_run_by_hand_that_is_waited_for_goes_on(servers: Servers) -> None:
    async def long() -> None:
        await servers.clock.sleep(100)

    crons = await servers.start("0 0 1 1 *", long)
    waits = asyncio.create_task(crons.run_job("job"))
    await servers.advance(seconds=1)
    (view,) = await Management(crons).drains.drain()
    assert [left.limit for left in view.runs] == ["unlimited"]
    assert await crons.drain() == view.runs
    await servers.advance(seconds=50)
    assert not waits.done()
    await servers.advance(seconds=51)
    assert (await waits).status == "completed"
    assert await crons.drain() == ()
    await servers.stop(crons)
    with pytest.raises(CronsError, match="can't drain this instance: the scheduler is not running"):
        await crons.drain()


async def test_an_older_definition_is_in_force_again_when_the_newer_one_drains(servers: Servers) -> None:
    older = await servers.start("* * * * * */10", nothing)
    newer = await servers.start("* * * * * */20", nothing)
    await servers.advance(minutes=2)
    assert {run.instance for run in (await runs_of(older, "job"))[-3:]} == {name_of(newer)}
    await Management(newer).drains.drain()
    await servers.advance(minutes=2)
    ticks = [run.tick_ts for run in await runs_of(older, "job") if run.instance == name_of(older)]
    assert len([tick for tick in ticks if tick is not None and tick > servers.clock.now() - 100]) >= 10
