"""The overview: what it says of jobs, and how it is filtered, sorted and cut into pages."""

from __future__ import annotations

import asyncio

from fastapi_crons import Crons
from fastapi_crons.schedules import Every
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.conftest import ODD
from tests.support import nothing


async def failing() -> None:
    raise ValueError("no such table: <b>orders</b>")


async def test_each_job_is_shown_with_its_schedule_latest_run_and_next_run(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("*/5 * * * *", name="often", timezone="Europe/Berlin", tags=["sync"])(nothing)
    await crons.start()
    await clock.advance(crons, seconds=360)
    page = await pages.get("")
    (row,) = [row for row in page.rows if row[1].startswith("often")]
    assert row[1:] == [
        "often sync",
        "Every 5 minutes Europe/Berlin",
        "Last tick: 1 completed",
        "completed",
        "1 min ago",
        "0 s",
        "in 4 min",
        "Run Pause",
    ]
    assert page.href("/runs/").startswith("/api/dashboard/jobs/often/runs/")


async def test_the_latest_run_of_a_job_is_known_however_often_others_failed_since(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    @crons.cron("0 0 1 1 *", name="rare")
    async def rare() -> None:
        await clock.sleep(7)
        await failing()

    crons.cron(Every(seconds=1), name="often")(failing)
    await crons.start()
    run = asyncio.create_task(crons.run_job("rare"))
    await clock.advance(crons, seconds=300)
    page = await pages.get("")
    (row,) = [row for row in page.rows if row[1].startswith("rare")]
    assert row[6] == "7.0 s"
    assert page.href(f"jobs/rare/runs/{(await run).id}")


async def test_tiles_count_jobs_by_their_states_and_lead_to_them(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("* * * * *", name="failing")(failing)
    ends = asyncio.Event()

    @crons.cron("* * * * *", name="running")
    async def running() -> None:
        await ends.wait()

    crons.cron("0 0 1 1 *", name="paused")(nothing)
    crons.cron("0 0 1 1 *", name="never", enabled=False)(nothing)
    await crons.start()
    await crons.pause("paused", actor="ops", note="the other side is down")
    await clock.advance(crons, seconds=120, finish_runs=False)
    page = await pages.get("")
    assert "The scheduler works 1 running 1 failing 0 late 1 paused 2 due within the hour" in page.text
    assert "2 in a row" in page.text
    for state in ("running", "failing", "paused"):
        found = await pages.get(page.href(f"state={state}"))
        assert [row[1] for row in found.rows] == [state]
        assert "1 job of 4" in found.text
    assert "the other side is down" in page.text
    ends.set()


async def test_a_job_is_not_late_for_ticks_that_its_pause_swallows(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("* * * * *", name="paused")(nothing)
    await crons.start()
    await crons.pause("paused")
    await clock.advance(crons, minutes=10)
    page = await pages.get("")
    assert "0 late 1 paused" in page.text
    assert "No job is like that" in (await pages.get("?state=late")).text


async def test_jobs_are_found_by_a_part_of_their_name_by_tag_and_by_state(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 0 1 1 *", name="Backup", tags=["a/b & c"])(nothing)
    crons.cron("0 0 1 1 *", name="report")(nothing)
    await crons.start()
    assert [row[1] for row in (await pages.get("?q=back")).rows] == ["Backup a/b & c"]
    assert [row[1] for row in (await pages.get("?q=B+%26+c")).rows] == ["Backup a/b & c"]
    page = await pages.get("")
    assert [row[1] for row in (await pages.get(page.href("tag="))).rows] == ["Backup a/b & c"]
    nothing_found = await pages.get("?q=nope&state=failing")
    assert "No job is like that. Show all jobs" in nothing_found.text
    assert [row[1] for row in (await pages.get("?state=never")).rows] == ["Backup a/b & c", "report"]
    await pages.get("?state=none-of-these", status=422)


async def test_jobs_are_sorted_both_ways_and_those_without_a_value_come_last(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 3 * * *", name="later")(nothing)
    crons.cron("0 2 * * *", name="sooner")(nothing)
    crons.cron("0 1 * * *", name="disabled", enabled=False)(nothing)
    await crons.start()
    page = await pages.get("")
    assert [row[1] for row in page.rows] == ["disabled", "later", "sooner"]
    by_next = await pages.get(page.href("sort=next"))
    assert [row[1] for row in by_next.rows] == ["sooner", "later", "disabled"]
    assert any(th.get("aria-sort") == "ascending" for th in by_next.all("th"))
    backwards = await pages.get(by_next.href("backwards=1"))
    assert [row[1] for row in backwards.rows] == ["later", "sooner", "disabled"]


async def test_fifty_jobs_are_on_a_page(crons: Crons, pages: Dashboard) -> None:
    for number in range(120):
        crons.cron("0 0 1 1 *", name=f"job-{number:03}")(nothing)
    await crons.start()
    page = await pages.get("")
    assert [row[1] for row in page.rows] == [f"job-{number:03}" for number in range(50)]
    assert "120 jobs, page 1 of 3" in page.text
    last = await pages.get((await pages.get(page.href("page=2"))).href("page=3"))
    assert [row[1] for row in last.rows] == [f"job-{number:03}" for number in range(100, 120)]
    assert "page 3 of 3" in (await pages.get("?page=99")).text


async def test_without_jobs_it_says_what_to_do(crons: Crons, pages: Dashboard) -> None:
    await crons.start()
    assert 'No jobs yet. Write @crons.cron("*/5 * * * *") over a function' in (await pages.get("")).text


async def test_names_and_tags_with_markup_are_text(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 0 1 1 *", name=ODD, tags=["<i>tag</i>"])(nothing)
    await crons.start()
    page = await pages.get("")
    assert page.rows[0][1] == f"{ODD} <i>tag</i>"
    assert not list(page.all("i"))
    assert [str(found["src"]).rpartition("/")[2] for found in page.all("script")] == [
        "htmx.min.js",
        "hx-sse.min.js",
        "dashboard.js",
    ]
    assert [box["value"] for box in page.all("input", name="job")] == [ODD]
    assert path(ODD) in page.href("/jobs/")
    assert ODD in (await pages.get(page.href("/jobs/"))).text


async def test_those_who_may_only_look_see_why_and_no_buttons(crons: Crons) -> None:
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    await crons.pause("job", note="a secret note")
    async with Dashboard(crons, viewer=True) as pages:
        page = await pages.get("")
        assert "You may only look: only operators may change things." in page.text
        assert page.actions == []
        assert "a secret note" in page.text
    async with Dashboard(crons, stranger=True) as pages:
        page = await pages.get("")
        assert "You may only look: without CRON_API_TOKEN" in page.text
        assert page.actions == []
        assert "a secret note" not in page.text


async def test_it_says_where_jobs_are_run_that_are_not_run_here(make_crons: MakeCrons) -> None:
    here, other = (
        make_crons(instance_id=f"worker-{enabled}", enabled=enabled, state_backend=SQLiteStateBackend("jobs.db"))
        for enabled in (False, True)
    )
    await here.start()
    async with Dashboard(here) as pages:
        text = (await pages.get("")).text
        assert "No jobs are run: this instance is told not to (CRON_ENABLED=false), and no other is there" in text
        assert "The scheduler works" not in text
        await other.start()
        text = (await pages.get("")).text
        assert "Other instances run the jobs; this one does not (CRON_ENABLED=false)" in text
        assert "The scheduler works" not in text


async def test_findings_of_health_are_shown(make_crons: MakeCrons) -> None:
    crons = make_crons()
    await crons.start("operator")
    async with Dashboard(crons) as pages:
        assert crons.health().findings[0] in (await pages.get("")).text
