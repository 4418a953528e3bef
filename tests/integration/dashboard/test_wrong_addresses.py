"""Addresses of no page: each answer says what is wrong, and leads on."""

from __future__ import annotations

import pytest

from fastapi_crons import Crons
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.page import Page
from tests.support import nothing

HOME = "/api/dashboard"


@pytest.mark.parametrize(
    "where", [path("job", "run"), path("job", "pause"), path("job", "runs", "x", "cancel"), "/many", "/logout"]
)
async def test_the_address_of_a_form_that_is_asked_for_changes_nothing_and_leads_on(
    crons: Crons, pages: Dashboard, where: str
) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    answer = await pages.ask("GET", where)
    page = Page(answer, 405)
    assert "Nothing was done: only the buttons of the pages lead here" in page.text
    assert answer.headers["allow"] == "POST"
    assert page.link("All jobs") == HOME
    assert where.startswith("/jobs/") == (f"{HOME}{path('job')}" in dict(page.links))


async def test_an_unknown_job_leads_to_all_jobs_and_an_unknown_run_to_its_job(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    gone = await pages.get(path("gone"), 404)
    assert "There is no job named 'gone'" in gone.text
    assert gone.link("All jobs") == HOME
    assert not any("gone" in href for href, _ in gone.links)
    page = await pages.get(path("job", "runs", "0190-nothing"), 404)
    assert "old history may have been deleted" in page.text
    assert page.link("Back to job") == f"{HOME}{path('job')}"


async def test_choices_that_make_no_sense_lead_to_the_page_without_them(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    for where in ("/plan?hours=0", "/timeline?zoom=9h", f"{path('job')}?days=-1", f"{path('job', 'why')}?at=noon"):
        page = await pages.get(where, 422)
        plain = page.link("The same page without these choices")
        assert plain == f"{HOME}{where.partition('?')[0]}"
        await pages.get(plain)


async def test_a_slash_too_many_leads_to_the_page(crons: Crons, pages: Dashboard) -> None:
    await crons.start()
    for where, to in (
        ("/", ""),
        ("/plan/", "/plan"),
        ("/plan//?hours=6", "/plan?hours=6"),
        ("/jobs", ""),
        ("/jobs/?q=a", "?q=a"),
    ):
        answer = await pages.ask("GET", where)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}{to}")
    assert "There is no page 'nope'" in (await pages.get("/nope", 404)).text


async def test_while_the_scheduler_is_not_running_pages_say_so_to_people_and_ask_again(
    crons: Crons, pages: Dashboard
) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.stop()
    page = await pages.get("", 503)
    assert "The scheduler of this process is not running: it has stopped, or has not started yet" in page.text
    assert [main["hx-get"] for main in page.all("main")] == [HOME]
    # What was done before is said nevertheless.
    assert "The run is being cancelled." in (await pages.get("?said=cancelling", 503)).text
    refused = await pages.post(path("job", "pause"))
    assert (refused.status_code, "crons.start()" in refused.text) == (409, False)
