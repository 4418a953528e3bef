"""Arguments that are edited, deployed instance by instance, rolled back, and brought to records of earlier versions."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fastapi_crons import CronJob, Crons
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.testing import VirtualClock
from tests.support import missed_of, runs_of
from tests.virtual_time.ticks.servers import Servers

SUPERSEDED = ("another instance has registered a newer definition, so this one does not run 'job'",)


class Reports:
    """Instances with one job, whose argument each deploy chooses."""

    def __init__(self, servers: Servers) -> None:
        self.servers, self.ran = servers, list[str]()

    async def deploy(self, region: str | None, expr: object = "*/10 * * * *") -> Crons:
        kwargs = None if region is None else {"region": region}
        return await self.servers.start(expr, self.report, kwargs=kwargs)

    def report(self, region: str = "all") -> None:
        self.ran.append(f"{self.servers.clock.datetime:%H:%M} {region}")


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def reports(clock: VirtualClock, request: pytest.FixtureRequest) -> AsyncIterator[Reports]:
    servers = Servers(clock, request.param)
    yield Reports(servers)
    for crons in servers.started:
        await crons.stop()


async def test_the_last_deploy_is_in_force_and_each_tick_runs_once(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    servers = reports.servers
    old = [await reports.deploy("eu") for _ in range(2)]
    await servers.advance(minutes=25)
    new = await reports.deploy("us")
    assert reports.ran == ["00:10 eu", "00:20 eu"], "an edit runs nothing at once"
    assert "its arguments were others until now" in caplog.text
    await servers.advance(minutes=10)
    assert SUPERSEDED in [crons.health().findings for crons in old], "of those that share the ticks, one had this one"
    assert new.health().findings == ()
    for crons in old:
        await servers.stop(crons)
    await servers.advance(minutes=10)
    await reports.deploy("eu")
    await servers.stop(new)
    await servers.advance(minutes=10)
    assert reports.ran[2:] == ["00:30 us", "00:40 us", "00:50 eu"]
    assert await missed_of(servers.started[0], "job") == []


async def test_an_instance_that_lived_through_a_rollback_runs_the_job_again(reports: Reports) -> None:
    old, new = await reports.deploy("eu"), await reports.deploy("us")
    await reports.servers.advance(minutes=15)
    await reports.servers.stop(new)
    await reports.servers.advance(minutes=15)
    assert old.health().findings == ()
    assert reports.ran == ["00:10 us", "00:20 eu", "00:30 eu"]


async def test_a_tick_that_fell_into_the_deploy_is_late_and_not_lost(reports: Reports) -> None:
    await reports.servers.stop(await reports.deploy("eu"))
    await reports.servers.clock.advance(minutes=12)
    new = await reports.deploy("us")
    await reports.servers.advance(minutes=5)
    assert reports.ran == ["00:12 us"]
    assert await missed_of(new, "job") == []


@pytest.mark.parametrize(("before", "after"), [(None, "eu"), ("eu", None)])
async def test_arguments_that_are_added_or_removed_are_an_edit(
    reports: Reports, before: str | None, after: str | None
) -> None:
    old, new = await reports.deploy(before), await reports.deploy(after)
    await reports.servers.advance(minutes=12)
    assert (old.health().findings, new.health().findings) == (SUPERSEDED, ())
    assert reports.ran == [f"00:10 {after or 'all'}"]


async def test_the_same_arguments_are_no_edit_in_whatever_order_they_are_given(reports: Reports) -> None:
    def job(limit: int, regions: set[str]) -> None:
        reports.ran.append("ran")

    for kwargs in ({"limit": "3", "regions": ["eu", "us"]}, {"regions": {"us", "eu"}, "limit": 3}):
        await reports.servers.start("*/10 * * * *", job, kwargs=kwargs)
    await reports.servers.advance(minutes=12)
    assert [crons.health().findings for crons in reports.servers.started] == [(), ()]
    assert reports.ran == ["ran"]


@pytest.mark.parametrize("expr", [AtStart(), AtStart(version="1.4.2"), Every(hours=1, after="end")])
async def test_what_starts_and_ends_of_runs_make_due_stays_as_it_was(reports: Reports, expr: object) -> None:
    await reports.deploy("eu", expr)
    await reports.servers.advance(minutes=65)
    ran = list(reports.ran)
    assert len(ran) == 1
    await reports.deploy("us", expr)
    await reports.servers.advance(minutes=50)
    assert reports.ran == ran


async def test_a_job_is_replaced_by_one_with_other_arguments(reports: Reports) -> None:
    crons, other = await reports.deploy("eu"), await reports.deploy("eu")
    await reports.servers.advance(minutes=12)
    crons.jobs.replace(CronJob(reports.report, "*/10 * * * *", "job", kwargs={"region": "us"}))
    await reports.servers.advance(minutes=20)
    assert reports.ran == ["00:10 eu", "00:20 us", "00:30 us"]
    assert other.health().findings == SUPERSEDED


async def test_a_manual_run_needs_the_arguments_in_force_only_where_an_instance_has_them(reports: Reports) -> None:
    old, new = await reports.deploy("eu"), await reports.deploy("us")
    await reports.servers.stop(new)
    assert (await old.run_job("job")).status == "completed"
    assert reports.ran == ["00:00 eu"]


@pytest.mark.parametrize("region", ["eu", "us"])
async def test_a_record_that_an_earlier_version_wrote_is_no_edit(clock: VirtualClock, region: str) -> None:
    reports = Reports(Servers(clock, "sqlite"))
    old = await reports.deploy("eu")
    await reports.servers.advance(minutes=15)
    with sqlite3.connect("jobs.db") as file:
        assert file.execute("UPDATE lock_job SET arguments = NULL").rowcount == 1
    file.close()
    new = await reports.deploy(region)
    await reports.servers.advance(minutes=20)
    assert [run.split()[0] for run in reports.ran] == ["00:10", "00:20", "00:30"]
    assert await missed_of(new, "job") == []
    assert len(await runs_of(new, "job")) == 3
    assert old.health().findings == (() if region == "eu" else SUPERSEDED)
    for crons in (old, new):
        await crons.stop()
