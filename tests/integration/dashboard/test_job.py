"""The page of a job."""

from __future__ import annotations

import pytest

from fastapi_crons import Crons
from fastapi_crons.schedules import Every
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.conftest import ODD
from tests.support import nothing


async def failing() -> None:
    raise ValueError("no such table: <b>orders</b>")


async def test_its_schedule_options_and_next_ticks_are_shown(crons: Crons, pages: Dashboard) -> None:
    crons.cron(
        "30 2 * * *",
        name=ODD,
        timezone="Europe/Berlin",
        timeout=90,
        max_retries=2,
        retry_on=(OSError,),
        overlap="queue",
        misfire_grace_time=600,
        jitter=5,
        tags=["<i>nightly</i>"],
    )(nothing)
    await crons.start()
    page = await pages.get(path(ODD))
    assert f"{ODD} At 02:30, every day · Europe/Berlin <i>nightly</i>" in page.text
    for words in (
        "timeout 1 min 30 s",
        "max_retries up to 2, the first after 1.0 s, on OSError",
        "overlap one tick waits for the end of the run before",
        "misfire_grace_time missed when 10 min late",
        "jitter starts up to 5.0 s late",
        "run_in on the event loop",
        "function tests.support:nothing",
        "In force since now ; registered by worker-001",
        "It has not run yet.",
        "None on record. Ask what became of a tick",
        "No run has ended in these days. History",
    ):
        assert words in page.text
    exact = [time["datetime"] for time in page.all("time", class_="exact")]
    assert exact == [f"2026-03-{day:02}T01:30:00Z" for day in range(1, 11)]


async def test_what_clock_changes_do_to_its_next_ticks_is_said(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("30 2 * * *", name="job", timezone="Europe/Berlin")(nothing)
    await clock.advance(days=22)
    await crons.start()
    text = (await pages.get(path("job"))).text
    assert "2026-03-29 03:00:00 CEST in 6 d 1 h after the clocks go forward 1 h: CET → CEST" in text
    assert "On 2026-03-29 02:30 does not come: it runs once instead, at 03:00." in text


@pytest.mark.parametrize(
    ("expr", "shown"), [(Every(minutes=5, after="end"), 1), ("0 0 29 2 *", 10), ("0 0 1 1 * 0 2027", 1)]
)
async def test_other_schedules_show_the_ticks_that_are_known(
    crons: Crons, pages: Dashboard, clock: VirtualClock, expr: object, shown: int
) -> None:
    crons.cron(expr, name="job")(nothing)  # type: ignore[arg-type]
    await crons.start()
    page = await pages.get(path("job"))
    assert len(list(page.all("time", class_="exact"))) == shown


async def test_history_is_filtered_by_status_and_cut_into_pages(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    runs = [0]

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        runs[0] += 1
        if runs[0] % 10 == 0:
            raise ValueError("no such table: <b>orders</b>")

    await crons.start()
    await clock.advance(crons, minutes=60)
    page = await pages.get(path("job"))
    assert len(page.rows) == 25
    older = await pages.get(page.href("before="))
    oldest = await pages.get(next(href for href, words in older.links if words == "Older →"))
    assert [len(older.rows), len(oldest.rows)] == [25, 10]
    seen = {row[1] for each in (page, older, oldest) for row in each.rows}
    assert len(seen) == 60
    assert all(words != "Older →" for _, words in oldest.links)
    failed = await pages.get(path("job") + "?status=failed")
    assert len(failed.rows) == 6
    assert failed.rows[0][0] == "failed"
    assert failed.rows[0][6] == "ValueError: no such table: <b>orders</b>"
    assert "6 of 60 runs" in page.text
    assert "The latest run did not succeed; the last success was 1 min ago" in page.text
    (chart,) = (svg for svg in page.all("svg") if "by day" in str(svg.get("aria-label")))
    assert chart["aria-label"] == "Durations and failures by day, 30 days: 60 runs, 6 failed"


async def test_missed_ticks_are_shown_with_why(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.pause("job", actor="ops", note="<b>down</b>")
    await clock.advance(crons, hours=3)
    page = await pages.get(path("job"))
    assert "Paused 3 h ago by ops: <b>down</b> . None of its ticks is run until it is resumed." in page.text
    await pages.send(path("job", "resume"))
    page = await pages.get(path("job"))
    missed = page.rows[-1]
    assert missed[0] == "3"
    assert missed[1:3] == ["2026-03-01 01:00:00 UTC", "2026-03-01 03:00:00 UTC"]
    assert "the job was paused" in missed[3]


async def test_strangers_see_no_texts_of_errors_notes_or_arguments_and_nothing_of_the_code(
    crons: Crons, clock: VirtualClock
) -> None:
    async def a_secret_function(region: str) -> None:
        raise ValueError("a secret text")

    a_job = crons.cron(
        "* * * * *", name="job", kwargs={"region": "a secret region"}, max_retries=2, retry_on=(OSError,)
    )
    a_job(a_secret_function)
    await crons.start()
    await clock.advance(crons, minutes=1)
    await crons.pause("job", note="a secret note")
    async with Dashboard(crons, stranger=True) as pages:
        page = await pages.get(path("job"))
        assert "ValueError" in page.text
        assert not any(word in page.text + str(page.elements) for word in ("a secret", "a_secret", "OSError"))
        assert "up to 2, the first after 1.0 s overlap" in page.text
        assert page.actions == []
        assert "You may only look" in page.text
    async with Dashboard(crons, viewer=True) as pages:
        page = await pages.get(path("job"))
        assert page.text.count("a secret") == 3
        assert "a_secret_function" in page.text
        assert "on OSError" in page.text
        assert page.actions == []


async def test_a_job_that_does_not_exist_is_said_to_be_unknown(crons: Crons, pages: Dashboard) -> None:
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    for where in (path("<b>gone"), path("gone", "runs", "019ca8c1")):
        page = await pages.get(where, 404)
        assert "There is no job named" in page.text
        assert "All jobs" in page.text
    assert "There is no page 'jobs/x/y'" in (await pages.get(path("x/y"), 404)).text


async def test_other_values_of_a_query_are_refused_in_words(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    async with Dashboard(crons) as pages:
        assert "Before:" in (await pages.get(f"{path('job')}?before=<b>", 422)).text
        assert "Days:" in (await pages.get(f"{path('job')}?days=0", 422)).text


async def test_the_forms_to_pause_and_to_resume_are_told_apart(crons: Crons, pages: Dashboard) -> None:
    # A form that is open while the page is renewed stays open: a second press must not undo what the first has done.
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    before = {str(each["id"]) for each in (await pages.get("/jobs/job")).all("details")}
    await crons.pause("job")
    after = {str(each["id"]) for each in (await pages.get("/jobs/job")).all("details")}
    assert before & after == {"run-form"}
    assert len(before) == len(after) == 2


async def test_a_job_that_never_ran_leads_to_why_too(crons: Crons, pages: Dashboard) -> None:
    crons.cron("0 12 * * *", name="job")(nothing)
    await crons.start()
    page = await pages.get(path("job"))
    assert "None has fallen due since it was registered." in page.text
    assert page.link("On the timeline").endswith("/timeline?q=job")
    why = await pages.get(page.link("Why did a tick not run?"))
    assert "What became of job at 2026-02-28 12:00:00 UTC ? before this schedule" in why.text


async def test_a_paused_job_is_called_so_and_its_ticks_are_not_run(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=2)
    assert "State completed Last run" in (await pages.get(path("job"))).text
    await crons.pause("job")
    page = await pages.get(path("job"))
    assert "State paused Last run now completed Next run –" in page.text
    assert "Next ticks None of these is run while it is paused. 2026-03-01 03:00:00 UTC" in page.text
