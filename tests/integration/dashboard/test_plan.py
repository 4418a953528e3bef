"""The plan: what is due in the next hours, over all jobs, and what stands against it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection

import pytest
from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.state.figures import Figures
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER
from tests.integration.dashboard.browsing import Dashboard
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing


async def test_what_is_due_and_what_a_pause_swallows(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("*/5 * * * *", name=ODD, tags=["<i>"])(nothing)
    crons.cron("30 2 * * *", name="nightly", timezone="Europe/Berlin")(nothing)
    crons.cron("0 0 1 1 *", name="yearly")(nothing)
    await crons.start()
    await crons.pause("nightly", actor="ops", note="the <b>disk</b> is full")
    answer = await dashboard.get("/plan")
    page = Page(answer)
    assert "2 of 3 jobs are due until 2026-03-02 00:00:00 UTC" in page.text
    assert "every 5 minutes, 288 times" in page.text
    assert "1 paused job: nightly (one tick)" in page.text
    assert "2026-03-01 02:30:00 CET" in page.text
    assert "(the <b>disk</b> is full)" in page.text
    assert "<b>disk" not in answer.text
    stranger = Page(await dashboard.get("/plan", headers=STRANGER))
    assert "disk" not in stranger.text
    assert "1 paused job: nightly" in stranger.text
    assert "1 of 3 jobs is due until 2026-03-01 01:00:00 UTC" in Page(await dashboard.get("/plan?hours=1")).text
    assert "1 of 1 jobs is due" in Page(await dashboard.get("/plan?tag=%3Ci%3E")).text
    assert "None of these jobs is due" in Page(await dashboard.get("/plan?q=yearly")).text
    assert Page(await dashboard.get("/plan?hours=0"), 422).text
    assert Page(await dashboard.get("/plan?hours=745"), 422).text


async def test_clock_changes_collisions_and_crowds(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    clock.step(27.5 * 86_400)
    crons.cron("30 2 * * *", name="berlin", timezone="Europe/Berlin")(nothing)
    for number in range(50):
        crons.cron("0 4 * * *", name=f"at four {number}", run_in="thread")(lambda: None)
    await crons.start()
    page = Page(await dashboard.get("/plan"))
    assert "on 2026-03-29 the time from 02:00 to 03:00 does not come in Europe/Berlin" in page.text
    assert "50 jobs are due, and 40 can run in threads at a time" in page.text
    assert "50 ticks in the hour from Sun 29 Mar 04:00 , far more than in others" in page.text


async def test_a_crowd_is_seen_among_the_hours(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    for number in range(30):
        crons.cron("0 2 * * *", name=f"at two {number}", tags=["night"])(nothing)
    crons.cron("*/20 * * * *", name="often")(nothing)
    crons.cron("0 5 * * *", name="disabled", enabled=False)(nothing)
    await crons.start()
    answer = await dashboard.get("/plan")
    page = Page(answer)
    titles = re.findall("<title>(... .. ... [^<]*)</title>", answer.text)
    assert titles[:3] == [
        "Sun 01 Mar 00:00 UTC, for an hour: 2 ticks",
        "Sun 01 Mar 01:00 UTC, for an hour: 3 ticks",
        "Sun 01 Mar 02:00 UTC, for an hour: 33 ticks, far more than in others",
    ]
    assert len(titles) == 25, "the last tick is at the end of the span"
    heights = [float(bar["height"] or 0) for kind in ("ahead", "held") for bar in page.all("rect", class_=kind)]
    assert max(heights[:-1]) < heights[-1], "the crowd is the only one of its colour, and the highest"
    (drawing,) = page.all("svg", class_="hours")
    assert drawing["aria-label"] == "Ticks by hour: 102 ticks, 33 at most in an hour"
    assert "zoom=1h" in page.href("at=2026-03-01T02%3A30")
    assert "of all jobs" in Page(await dashboard.get("/plan?q=often")).text
    only = Page(await dashboard.get("/plan?hours=168&tag=night"))
    assert len(list(only.all("rect", class_="held"))) == 7
    assert "of all jobs" not in only.text
    assert list(Page(await dashboard.get("/plan?hours=1&tag=night")).all("svg", class_="hours")) == []


async def test_how_long_jobs_take_and_meet_their_next_tick_on_whichever_page_they_are(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    async def takes_90_seconds() -> None:
        await clock.sleep(90)

    for number in range(60):
        crons.cron("* * * * *", name=f"job {number:02}")(takes_90_seconds if number == 55 else nothing)
    await crons.start()
    await clock.advance(crons, minutes=4)
    first, second = [Page(await dashboard.get(f"/plan?page={number}")) for number in (1, 2)]
    assert "It usually takes" not in first.text
    assert "It usually takes up to" in second.text
    assert "is due again before that" in second.text


class WithoutFigures(MemoryStateBackend):
    """A state store that does not get to its figures in time."""

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        raise StoreUnavailableError("too slow")


@pytest.mark.parametrize(("store", "is_said"), [(MemoryStateBackend, False), (WithoutFigures, True)])
async def test_without_figures_it_says_that_durations_are_not_known(
    make_crons: MakeCrons, store: type[MemoryStateBackend], is_said: bool
) -> None:
    crons = make_crons(state_backend=store())
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    async with Dashboard(crons) as pages:
        page = await pages.get("/plan")
    assert "1 of 1 jobs is due" in page.text
    assert ("The state store does not answer, so that it is not known how long jobs" in page.text) is is_said


async def test_pages_of_fifty_jobs(crons: Crons, dashboard: AsyncClient) -> None:
    for number in range(120):
        crons.cron(f"{number % 60} * * * *", name=f"job {number:03}")(nothing)
    await crons.start()
    first = Page(await dashboard.get("/plan"))
    assert "Page 1 of 3" in first.text
    assert len(list(first.all("th", scope="row"))) == 50
    last = Page(await dashboard.get(first.link("After →").partition("/dashboard")[2].replace("page=2", "page=3")))
    assert len(list(last.all("th", scope="row"))) == 20


async def test_the_same_as_csv_and_json(crons: Crons, dashboard: AsyncClient) -> None:
    crons.cron("0 */6 * * *", name="=1+1", tags=["a"])(nothing)
    crons.cron("0 0 * * *", name="daily", timezone="Asia/Kolkata")(nothing)
    await crons.start()
    await crons.pause("daily", note="a secret note")
    page = Page(await dashboard.get("/plan?hours=48"))
    table = await dashboard.get(page.link("CSV").partition("/dashboard")[2])
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["content-disposition"] == 'attachment; filename="plan.csv"'
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["job"], row["first"], row["ticks"], row["standing"]) for row in rows] == [
        ("'=1+1", "2026-03-01T06:00:00Z", "8", "runs"),  # no formula for spreadsheets
        ("daily", "2026-03-01T18:30:00Z", "2", "paused"),
    ]
    found = (await dashboard.get(page.link("JSON").partition("/dashboard")[2])).json()
    assert [job["job_name"] for job in found["jobs"]] == ["=1+1", "daily"]
    assert [job["job_name"] for job in (await dashboard.get("/plan.json?tag=a")).json()["jobs"]] == ["=1+1"]
    for path in ("/plan.csv", "/plan.json"):
        assert "secret" in (await dashboard.get(path)).text
        assert "secret" not in (await dashboard.get(path, headers=STRANGER)).text


async def test_without_jobs_it_says_what_to_do(crons: Crons, dashboard: AsyncClient) -> None:
    await crons.start()
    assert "No jobs yet" in Page(await dashboard.get("/plan")).text


async def test_it_counts_down_and_follows_what_happens(crons: Crons, dashboard: AsyncClient) -> None:
    crons.cron("30 2 * * *", name="nightly", timezone="Europe/Berlin")(nothing)
    await crons.start()
    page = Page(await dashboard.get("/plan"))
    (due,) = (each for each in page.all("time") if each["title"] == "2026-03-01 02:30:00 CET")
    assert due["datetime"] == "2026-03-01T01:30:00Z"
    assert list(page.all("div", id="live"))
