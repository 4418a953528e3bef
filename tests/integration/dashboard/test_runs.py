"""The page of runs over all jobs, and of ticks that did not run."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of


def fail() -> None:
    raise ConnectionError("<b>no route")


async def test_what_did_not_succeed_and_did_not_run(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("*/10 * * * *", name=ODD, tags=["night"])(fail)
    crons.cron("*/20 * * * *", name="fine")(nothing)
    await crons.start()
    page = Page(await dashboard.get("/runs"))
    assert "Nothing ran in this time. Look further back, or at what is due" in page.text
    assert "None of this time is on record" in page.text
    page = Page(await dashboard.get("/runs?status=failed"))
    assert "No run of this time is like that" in page.text
    await clock.advance(crons, minutes=31)
    everything = Page(await dashboard.get(page.link("Show all runs").removeprefix("/api/dashboard")))
    assert {row[0] for row in everything.rows if len(row) > 7} == {"failed", "completed"}
    await crons.pause("fine")
    await clock.advance(crons, minutes=20)
    await crons.resume("fine")
    await clock.advance(crons, minutes=1)
    page = Page(await dashboard.get("/runs"))
    shown = [row for row in page.rows if row and row[0] == "failed"]
    assert [row[1] for row in shown] == [ODD] * 5
    assert "ConnectionError: <b>no route" in shown[0][-1]
    assert [row[1] for row in page.rows if "the job was paused" in " ".join(row)] == ["fine"]
    run = Page(await dashboard.get(page.href("/runs/0").removeprefix("/api/dashboard")))
    assert ODD in run.text


async def test_by_status_time_and_tag_page_by_page(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("* * * * *", name="bad", tags=["night"])(fail)
    crons.cron("* * * * *", name="fine")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=70)

    async def jobs(query: str) -> list[str]:
        page = Page(await dashboard.get(f"/runs?{query}"))
        return sorted(row[1] for row in page.rows if row and row[0] in ("failed", "completed"))

    assert await jobs("status=&hours=1") == ["bad"] * 25 + ["fine"] * 25
    assert await jobs("status=completed") == ["fine"] * 50
    assert await jobs("status=completed&tag=night") == []
    assert await jobs("tag=night") == ["bad"] * 50
    assert await jobs("status=any&q=FIN&hours=1") == ["fine"] * 50
    assert await jobs("status=any&q=nigh") == ["bad"] * 50
    assert await jobs("status=any&q=fine&tag=night") == await jobs("q=no+such+job") == []
    assert await jobs("status=raised") == ["bad"] * 50
    assert await jobs("status=timed_out") == await jobs("status=interrupted") == []
    first = Page(await dashboard.get("/runs?hours=1"))
    assert "The newest 50 of more than 50 runs (there are older ones)" in first.text
    older = Page(await dashboard.get(first.link("Older →").removeprefix("/api/dashboard")))
    assert len([row for row in older.rows if row and row[0] == "failed"]) == 11  # one each minute, both ends included
    assert "11 runs, newest first, older than those before" in older.text
    assert "older ones" not in older.text
    for wrong in ("status=gone", "hours=0", "hours=x", "before=x"):
        assert (await dashboard.get(f"/runs?{wrong}")).status_code == 422


async def test_what_failed_in_the_last_hour_may_have_begun_before_it(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 * * * *", name="long", overlap="allow")
    async def long() -> None:
        await clock.sleep(7_200)
        raise ConnectionError

    await crons.start()
    await clock.advance(crons, hours=3, minutes=30)
    shown = [row for row in Page(await dashboard.get("/runs?hours=1")).rows if row and row[0] == "failed"]
    assert len(shown) == 1
    everything = Page(await dashboard.get("/runs?hours=1&status=any"))
    assert [row[0] for row in everything.rows if len(row) > 7] == ["running", "running", "failed"]


async def test_times_of_each_job_are_on_its_own_clock(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("*/10 * * * *", name="afar", timezone="Asia/Kolkata")(fail)
    crons.cron("*/10 * * * *", name="here")(fail)
    await crons.start()
    await clock.advance(crons, minutes=10)
    await crons.pause("afar")
    await clock.advance(crons, minutes=10)
    await crons.resume("afar")
    page = Page(await dashboard.get("/runs"))
    assert {(row[1], row[2].rpartition(" ")[2]) for row in page.rows} == {("afar", "IST"), ("here", "UTC")}
    assert page.text.count("newest first, times in each job’s zone") == 2
    (run,) = await runs_of(crons, "afar")
    assert run.tick is not None
    in_kolkata = f"{run.tick.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S IST}"
    assert [row[2] for row in page.rows if row[:2] == ["failed", "afar"]] == [in_kolkata]


async def test_without_jobs_it_says_what_to_do(crons: Crons, dashboard: AsyncClient) -> None:
    await crons.start()
    assert "No jobs yet. Write @crons.cron" in Page(await dashboard.get("/runs")).text


async def test_where_nothing_failed_all_runs_are_shown(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("* * * * *", name="fine")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=60)
    page = Page(await dashboard.get("/runs"))
    assert "What ran Nothing failed since yesterday, this time: these are all runs." in page.text
    assert [row[0] for row in page.rows] == ["completed"] * 50
    older = Page(await dashboard.get(page.link("Older →").removeprefix("/api/dashboard")))
    assert [row[0] for row in older.rows] == ["completed"] * 10
    crons.cron("* * * * *", name="bad")(fail)
    await clock.advance(crons, minutes=1)
    page = Page(await dashboard.get("/runs"))
    assert [(row[0], row[1]) for row in page.rows] == [("failed", "bad")]
