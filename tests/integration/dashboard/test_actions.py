"""What forms do, and what is said then."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from fastapi_crons import Crons
from fastapi_crons.management.management import Management
from fastapi_crons.testing import VirtualClock
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of


async def test_a_job_is_paused_with_a_note_and_resumed(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name=ODD)(nothing)
    await crons.start()
    page = await pages.send(path(ODD, "pause"), note="  <b>db-3</b> is down ")
    assert "Paused on all instances, until it is resumed." in page.text
    assert "<b>db-3</b> is down . None of its ticks is run until it is resumed." in page.text
    assert (await crons.pauses())[ODD].note == "<b>db-3</b> is down"
    page = await pages.send(path(ODD, "resume"))
    assert "Resumed with its next tick." in page.text
    assert await crons.pauses() == {}
    assert "It was not paused." in (await pages.send(path(ODD, "resume"), catch_up="1")).text


async def test_a_job_is_resumed_with_the_ticks_of_the_pause(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name="job", coalesce=False)(nothing)
    await crons.start()
    await crons.pause("job")
    await clock.advance(crons, hours=2, minutes=30)
    assert "run as late ones" in (await pages.send(path("job", "resume"), catch_up="1")).text
    await clock.advance(crons, seconds=5)
    assert [run.trigger for run in await runs_of(crons, "job")] == ["catch_up", "catch_up"]


async def test_a_run_is_started_with_its_note_and_shown(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    ends = asyncio.Event()

    @crons.cron("0 0 1 1 *", name=ODD)
    async def job() -> None:
        await ends.wait()

    await crons.start()
    page = await pages.send(path(ODD, "run"), note="after the repair", timeout="7.5")
    assert "The run has started." in page.text
    (run,) = await Management(crons).runs(ODD)
    assert (run.note, run.trigger, run.status) == ("after the repair", "api", "running")
    assert f"Run {run.id[-8:]} running" in page.text
    refused = Page(await pages.post(path(ODD, "run"), form="1"), 409)
    assert f"is already running (run {run.id}); the box “Force” below runs it anyway." in refused.text
    assert run.id in (await pages.get(refused.link("The run that is in the way"))).text
    without_form = Page(await pages.post(path(ODD, "run")), 409)
    assert "the box “Force” on its page runs it anyway." in without_form.text
    assert without_form.link("The run that is in the way") == refused.link("The run that is in the way")
    forced = await pages.send(path(ODD, "run"), force="1")
    assert "Forced beside" in forced.text
    ends.set()


async def test_a_run_is_cancelled_once(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None:
        await asyncio.Event().wait()

    await crons.start()
    page = await pages.send(path("job", "run"))
    cancel = next(action for action in page.actions if action.endswith("/cancel"))
    assert "The run is being cancelled." in (await pages.send(cancel)).text
    await clock.advance(crons, seconds=1)
    assert [run.status for run in await runs_of(crons, "job")] == ["cancelled"]
    said = Page(await pages.post(cancel), 409)
    assert "can't cancel run" in said.text.lower()
    assert path("job") in said.href("/jobs/")


async def test_a_tick_that_failed_is_run_again(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    fails = [True, False]

    @crons.cron("0 * * * *", name="job")
    async def job() -> None:
        if fails.pop(0):
            raise ValueError("not yet")

    await crons.start()
    await clock.advance(crons, minutes=61)
    (failed,) = await runs_of(crons, "job")
    page = await pages.get(path("job", "runs", failed.id))
    (tick,) = [field["value"] for field in page.all("input", name="tick")]
    await pages.send(path("job", "run"), tick=tick, note="the data is there now")
    await clock.advance(crons, seconds=1)
    again = (await runs_of(crons, "job"))[-1]
    assert (again.tick, again.trigger, again.status) == (failed.tick, "again", "completed")
    refused = Page(await pages.post(path("job", "run"), tick=tick, note="once more"), 409)
    assert "the tick of 2026-03-01 01:00:00 UTC of job 'job' ran already" in refused.text
    assert "the box “Force” below runs it again" in refused.text
    kept = {field["name"]: field.get("value") for field in refused.all("input") if "name" in field}
    assert kept == {"tick": tick, "note": "once more", "force": "1"}
    assert "Runs of this tick" in (await pages.get(path("job", "runs", again.id))).text
    # That is also asked for on the page of its run that failed.
    for run in (failed, again):
        page = await pages.get(path("job", "runs", run.id))
        assert "Force: run it although it ran already" in page.text
        assert "required" in next(page.all("input", name="force"))


async def test_a_tick_is_not_run_again_while_the_job_runs_and_what_was_typed_stays(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    ends, fails = asyncio.Event(), [True, False]

    @crons.cron("0 * * * *", name="job")
    async def job() -> None:
        if fails.pop(0):
            raise ValueError("not yet")
        await ends.wait()

    await crons.start()
    await clock.advance(crons, minutes=61)
    (failed,) = await runs_of(crons, "job")
    page = await pages.get(path("job", "runs", failed.id))
    (tick,) = [field["value"] for field in page.all("input", name="tick")]
    # It did not run to its end: there is nothing to insist on.
    assert "Force" not in page.text
    running = await pages.send(path("job", "run"))
    refused = Page(await pages.post(path("job", "run"), tick=tick, note="now it works"), 409)
    assert "ask again when it has ended" in refused.text
    assert "Force" not in refused.text
    assert refused.link("The run that is in the way") in running.href("/runs/")
    assert [field["value"] for field in refused.all("input", name="note")] == ["now it works"]
    assert [field["value"] for field in refused.all("input", name="tick")] == [tick]
    ends.set()


async def test_many_jobs_are_paused_and_resumed_at_once(crons: Crons, pages: Dashboard) -> None:
    for name in ("a", "b", ODD):
        crons.cron("0 * * * *", name=name)(nothing)
    await crons.start()
    page = await pages.send(
        "/many", job=["a", ODD], do="pause", note="maintenance", back="/api/dashboard?q=B&sort=next"
    )
    assert "2 jobs paused on all instances" in page.text
    assert {name: pause.note for name, pause in (await crons.pauses()).items()} == {
        "a": "maintenance",
        ODD: "maintenance",
    }
    assert [row[1] for row in page.rows] == ["b", ODD], "the filter is kept"
    assert "1 job resumed" in (await pages.send("/many", job=["a"], do="resume")).text
    assert "1 job started" in (await pages.send("/many", job=["b"], do="run")).text


async def test_what_some_of_many_refuse_is_said_and_the_others_are_done(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    ends = asyncio.Event()

    @crons.cron("0 0 1 1 *", name="busy")
    async def busy() -> None:
        await ends.wait()

    crons.cron("0 * * * *", name="idle")(nothing)
    await crons.start()
    await pages.send(path("busy", "run"))
    said = Page(await pages.post("/many", job=["busy", "gone", "idle"], do="run"), 409).text
    assert "1 of 3 jobs was run; refused: busy: job 'busy' is already running" in said
    assert "gone: there is no job named 'gone'" in said
    await clock.advance(crons, seconds=1, finish_runs=False)
    assert len(await runs_of(crons, "idle")) == 1
    ends.set()


async def test_forms_that_make_no_sense_are_refused_in_words(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for where, fields, words in (
        (path("job", "run"), {"timeout": "<b>"}, "The time limit can't be '<b>'; give seconds, more than 0"),
        (path("job", "run"), {"timeout": "nan"}, "The time limit can't be 'nan'"),
        (path("job", "run"), {"tick": "1e9"}, "Tick can't be '1e9'; give Unix seconds"),
        (path("job", "pause"), {"note": "x" * 1_001}, "A note has at most 1000 characters, not 1001"),
        ("/many", {"do": "pause"}, "No job is chosen: tick the box of each that this is for"),
        ("/many", {"do": "pause", "job": list(map(str, range(51)))}, "Choose at most 50 jobs at a time; 51 are chosen"),
        ("/many", {"do": "delete", "job": ["job"]}, "Choose what to do with the jobs"),
    ):
        assert words in Page(await pages.post(where, **fields), 422).text
    assert "there is no job named 'gone'" in Page(await pages.post(path("gone", "pause")), 404).text.lower()
    assert await runs_of(crons, "job") == []
    assert await crons.pauses() == {}


async def test_a_form_leads_back_only_to_this_site_and_a_link_brings_in_no_text(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for back in ("https://evil.example/", "//evil.example/x", "javascript:alert(1)"):
        answer = await pages.post(path("job", "resume"), back=back)
        assert answer.headers["location"] == f"/api/dashboard{path('job')}?said=not-paused"
    answer = await pages.post(path("job", "resume"), back="/api/dashboard?q=a%26b&said=started&n=3")
    assert parse_qs(urlsplit(answer.headers["location"]).query) == {"q": ["a&b"], "said": ["not-paused"]}
    for query in ("?said=You+lose", "?said=paused-many&n=<b>", "?said=paused-many", "?said=paused-many&n=²"):
        page = await pages.get(query)
        assert "You lose" not in page.text
        assert "paused on all" not in page.text
    page = await pages.get("?said=paused-many&n=3&q=jo")
    assert "3 jobs paused on all instances" in page.text
    assert not any("said=" in href for href, _ in page.links)
    assert all("said=" not in str(field["value"]) for field in page.all("input", name="back"))


async def test_those_who_may_only_look_change_nothing(crons: Crons) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for options in ({"viewer": True}, {"stranger": True}):
        async with Dashboard(crons, **options) as pages:
            for where in (path("job", "run"), path("job", "pause"), path("job", "resume"), "/many"):
                assert (await pages.post(where, job="job", do="pause")).status_code == 403
    assert await runs_of(crons, "job") == []
    assert await crons.pauses() == {}


async def test_who_may_only_look_is_told_so_on_a_page(crons: Crons) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for options, why in (
        ({"viewer": True}, "Only operators may change"),
        ({"stranger": True}, "Without CRON_API_TOKEN"),
    ):
        async with Dashboard(crons, **options) as pages:
            headers = {"sec-fetch-site": "same-origin", "accept": "text/html,*/*;q=0.8"}
            answer = await pages.ask("POST", path("job", "pause"), data={}, headers=headers)
            page = Page(answer, 403)
            assert f"Refused: {why}" in page.text
            assert page.href("/jobs/job") == "/api/dashboard/jobs/job"
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_forms_of_other_sites_change_nothing(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for site in ("cross-site", "same-site"):
        answer = await pages.ask("POST", path("job", "pause"), data={}, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
    assert await crons.pauses() == {}
