"""Why: what became of any instant of a job."""

from __future__ import annotations

from urllib.parse import quote

from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.schedules import Every
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import STRANGER
from tests.integration.dashboard.browsing import Dashboard
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of


async def why(dashboard: AsyncClient, job: str, at: str = "", **options: object) -> Page:
    query = f"?at={quote(at)}" if at else ""
    return Page(await dashboard.get(f"/jobs/{quote(job, safe='')}/why{query}", **options))  # type: ignore[arg-type]


async def test_a_tick_that_ran_is_told_with_its_run_and_its_neighbours(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name=ODD)(nothing)
    await crons.start()
    await clock.advance(crons, hours=2, minutes=5)
    page = await why(dashboard, ODD, "2026-03-01T01:00")
    assert f"What became of {ODD} at 2026-03-01 01:00:00 UTC ?" in page.text
    assert "It started at 2026-03-01 01:00:00 UTC on worker-001" in page.text
    (first, _) = await runs_of(crons, ODD)
    assert page.link(first.id[-8:]).endswith(f"/jobs/{quote(ODD, safe='')}/runs/{first.id}")
    assert "The tick before : 2026-03-01 00:00:00 UTC" in page.text
    after = page.link("The tick after")
    following = Page(await dashboard.get(after.partition("/dashboard")[2]))
    assert "at 2026-03-01 02:00:00 UTC" in following.text
    # Without an instant, the newest tick is told.
    assert "at 2026-03-01 02:00:00 UTC" in (await why(dashboard, ODD)).text
    assert (await why(dashboard, ODD, "2026-03-01T01:30")).text.count("not due") == 2


async def test_a_missed_tick_is_told_with_its_record_and_can_be_run_again(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("*/10 * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(15 * 60)

    await crons.start()
    await clock.advance(crons, minutes=35)
    page = await why(dashboard, "slow", "2026-03-01T00:20:00Z")
    assert "Because the job was still running" in page.text
    assert "Not run 1 tick" in page.text
    assert "2026-03-01 00:20:00 UTC by worker-001" in page.text
    assert [field["value"] for field in page.all("input", name="tick")] == ["1772324400"]
    running = await why(dashboard, "slow", "2026-03-01T00:30:00Z")
    assert list(running.all("input", name="tick")) == []
    assert list((await why(dashboard, "slow", "2026-03-01T00:40Z")).all("input", name="tick")) == []


async def test_the_record_of_a_missed_tick_is_told_in_the_jobs_zone(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("0 1 * * *", name="nightly", timezone="Europe/Berlin", misfire_grace_time=60)(nothing)
    await crons.start()
    await crons.stop()
    await clock.advance(hours=30)
    await crons.start()
    await clock.advance(crons, seconds=5)
    page = await why(dashboard, "nightly")
    assert "Because it was later than its misfire grace time allows" in page.text
    assert "+00:00" not in page.text


async def test_a_tick_is_run_again_with_a_note(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    fails = True

    @crons.cron("0 * * * *", name=ODD)
    async def job() -> None:
        if fails:
            raise ValueError("no")

    await crons.start()
    await clock.advance(crons, hours=1)
    fails = False
    page = await pages.get(f"/jobs/{quote(ODD, safe='')}/why")
    (form,) = page.all("form", method="post")
    (tick,) = page.all("input", name="tick")
    run = await pages.send(str(form["action"]), tick=tick["value"], note="by <hand>")
    await clock.advance(crons, seconds=1)
    assert "tick run again" in run.text
    told = await pages.get(f"/jobs/{quote(ODD, safe='')}/why?at=2026-03-01T01:00Z")
    assert "completed" in told.text
    assert [run.note for run in await runs_of(crons, ODD)] == [None, "by <hand>"]
    # It ran, so that it is not offered again.
    assert list(told.all("input", name="tick")) == []


async def test_a_tick_of_a_pause_is_run_by_force_where_it_is_asked_for(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.pause("job")
    await clock.advance(crons, hours=1, minutes=5)
    page = await pages.get("/jobs/job/why")
    assert "Force: run it although the job is paused" in page.text
    (box,) = page.all("input", name="force")
    assert "required" in box
    (form,) = page.all("form", method="post")
    (tick,) = page.all("input", name="tick")
    # As by a page that is older than the pause.
    refused = Page(await pages.post(str(form["action"]), tick=tick["value"], note="the data is there"), 409)
    assert "the job is paused; resume it first" in refused.text
    assert "the box “Force” below runs it now all the same" in refused.text
    (again,) = refused.all("form", method="post")
    fields = {str(field["name"]): field["value"] for field in refused.all("input") if "name" in field}
    assert fields == {"tick": tick["value"], "note": "the data is there", "force": "1"}
    run = await pages.send(str(again["action"]), **fields)
    await clock.advance(crons, seconds=1)
    assert "Tick 2026-03-01 01:00:00 UTC" in run.text
    assert "completed" in (await pages.get("/jobs/job/why?at=2026-03-01T01:00Z")).text
    # A tick that is on record as paused takes no force.
    await clock.advance(crons, hours=1)
    await crons.resume("job")
    await clock.advance(crons, seconds=5)
    assert "Force" not in (await pages.get("/jobs/job/why?at=2026-03-01T02:00Z")).text


async def test_a_tick_of_which_nothing_is_known_is_run_by_force(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name="job", enabled=False)(nothing)
    await crons.start()
    await clock.advance(crons, hours=1)
    page = await pages.get("/jobs/job/why")
    assert "Force: run it although nothing on record says that it did not run" in page.text
    assert "required" in next(page.all("input", name="force"))


async def test_the_run_that_was_in_the_way_is_linked(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    @crons.cron("*/10 * * * *", name=ODD)
    async def slow() -> None:
        await clock.sleep(15 * 60)

    await crons.start()
    await clock.advance(crons, minutes=26)
    (run, *_) = await runs_of(crons, ODD)
    page = await pages.get(f"/jobs/{quote(ODD, safe='')}/why?at=2026-03-01T00:20:00Z")
    named = [href for href, words in page.links if words == run.id[-8:]]
    assert named == [f"/api/dashboard/jobs/{quote(ODD, safe='')}/runs/{run.id}"] * 2
    assert f"Because the job was still running: run {run.id[-8:]} held the job" in page.text
    for other in ("/runs", f"/jobs/{quote(ODD, safe='')}"):
        assert named[0] in [href for href, words in (await pages.get(other)).links if words == run.id[-8:]]


async def test_a_run_that_failed_is_shown_as_such_and_its_error_only_to_those_who_may_see_it(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 * * * *", name="job")
    async def job() -> None:
        raise ValueError("a <b>secret</b> error")

    await crons.start()
    await clock.advance(crons, hours=1)
    answer = await dashboard.get("/jobs/job/why")
    page = Page(answer)
    assert list(page.all("article", class_="bad"))
    assert "ValueError: a <b>secret</b> error" in page.text
    assert "<b>secret" not in answer.text
    stranger = await why(dashboard, "job", headers=STRANGER)
    assert "secret" not in stranger.text
    assert "which you are not shown" in stranger.text
    assert "You may only look: without CRON_API_TOKEN" in stranger.text
    assert list(stranger.all("input", name="tick")) == []


async def test_instants_are_read_on_the_wall_clock_of_the_job(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("30 2 * * *", name="berlin", timezone="Europe/Berlin")(nothing)
    await crons.start()
    assert "at 2026-03-02 02:30:00 CET" in (await why(dashboard, "berlin", "2026-03-02T02:30")).text
    (field,) = (await why(dashboard, "berlin", "2026-03-02T01:30:00Z")).all("input", name="at")
    assert field["value"] == "2026-03-02T02:30:00"
    skipped = await why(dashboard, "berlin", "2026-03-29T02:30")
    assert "2026-03-29T02:30 did not come in Europe/Berlin" in skipped.text
    assert "at 2026-03-29 03:00:00 CEST" in skipped.text
    twice = await why(dashboard, "berlin", "2026-10-25T02:30")
    assert "at 2026-10-25 02:30:00 CEST" in twice.text
    second = Page(await dashboard.get(twice.link("the second").partition("/dashboard")[2]))
    assert "at 2026-10-25 02:30:00 CET" in second.text


async def test_what_can_not_be_an_instant_or_a_job_is_refused(crons: Crons, dashboard: AsyncClient) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for wrong in ("<script>", "2026-13-01", "12345", "0001-01-01T00:00", "x" * 61):
        refused = await dashboard.get(f"/jobs/job/why?at={quote(wrong)}")
        assert "Not understood The time" in Page(refused, 422).text
        assert "<script>" not in refused.text
    assert "nope" in Page(await dashboard.get("/jobs/nope/why"), 404).text


async def test_a_job_whose_ticks_are_made_by_its_runs_has_no_neighbours(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron(Every(minutes=5, after="end"), name="after")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=12)
    page = await why(dashboard, "after")
    assert "not known from the clock" in page.text
    assert len(list(Page(await dashboard.get("/timeline?zoom=1h")).all("rect", class_="planned"))) == 2


async def test_instants_in_sentences_are_such_that_can_be_shown_in_another_zone(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("*/30 * * * *", name="slow", timezone="Europe/Berlin")
    async def slow() -> None:
        await clock.sleep(40 * 60)

    # The hour from 02:00 to 03:00 comes twice: 00:30 and 01:30 UTC are both 02:30 on the clock of the job.
    clock.step(238 * 86_400)
    await crons.start()
    await clock.advance(crons, hours=2)
    for at, told in (("00:30", "2026-10-25 02:30:00 CEST"), ("01:30", "2026-10-25 02:30:00 CET")):
        page = await why(dashboard, "slow", f"2026-10-25T{at}:00Z")
        times = [each for each in page.all("time", class_="exact") if each["datetime"] == f"2026-10-25T{at}:00Z"]
        assert page.text.count(told) == len(times) > 1
