"""Instances: who is running, what runs there, and on what."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

import fastapi_crons_dashboard
from fastapi_crons import Crons, get_cron_router
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_cli.main import app as command_line
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER
from tests.integration.dashboard.browsing import Dashboard
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


async def test_an_instance_with_what_runs_there(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    @crons.cron("*/10 * * * *", name=ODD, timeout=1_800)
    async def slow() -> None:
        await clock.sleep(900)

    await crons.start()
    await clock.advance(crons, minutes=12)
    page = Page(await dashboard.get("/instances"))
    assert "worker-001 this one runs jobs" in page.text
    assert f"{ODD} 2 min ago , over by in 28 min at the latest" in page.text
    assert "1 instance." in page.text
    assert "This process (Local)" in page.text
    assert "gone when the process ends; to keep it, choose a store: CRON_STATE_BACKEND=sqlite" in page.text
    assert "fastapi-crons-dashboard" in page.text


async def test_settings_without_secrets_and_only_for_those_who_see_details(
    make_crons: MakeCrons, dashboard: AsyncClient, crons: Crons
) -> None:
    await crons.start()
    page = Page(await dashboard.get("/instances"))
    assert "CRON_INSTANCE_ID worker-001" in page.text
    assert "CRON_MAX_THREADS 40 default" in page.text
    stranger = Page(await dashboard.get("/instances", headers=STRANGER))
    assert "CRON_MAX_THREADS" not in stranger.text
    assert "You are not shown the settings" in stranger.text
    assert list(stranger.all("form", method="post")) == []


async def test_an_instance_is_drained(crons: Crons, dashboard: AsyncClient) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    answer = await dashboard.post("/instances/drain", data={"instance": "worker-001"}, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    page = Page(await dashboard.get(answer.headers["location"].partition("/dashboard")[2]))
    assert "It claims nothing more from now on" in page.text
    assert "drained: it can be stopped" in page.text
    assert list(page.all("input", name="instance")) == []
    unknown = await dashboard.post("/instances/drain", data={"instance": "<b>"}, headers=SAME_ORIGIN)
    assert (unknown.status_code, "no instance '<b>' is running" in Page(unknown, unknown.status_code).text) == (
        404,
        True,
    )


async def test_instances_that_do_not_share_their_definitions_are_told_apart(make_crons: MakeCrons) -> None:
    fleet = [make_crons(instance_id=f"worker-{name}", state_backend=SQLiteStateBackend("jobs.db")) for name in "abc"]
    for number, crons in enumerate(fleet):
        crons.cron("0 * * * *" if number < 2 else "1 * * * *", name="job")(nothing)
        await crons.start()
    app = FastAPI()
    app.include_router(get_cron_router(fleet[0]), prefix="/api")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost:8000/api/dashboard") as browser:
        page = Page(await browser.get("/instances"))
    assert "The instances don't have the same jobs , as A, B show" in page.text
    assert "worker-b runs jobs A" in page.text
    assert "worker-c runs jobs B" in page.text
    assert "This host (SQLite)" in page.text


class Damaged(MemoryStateBackend):
    """A store with a record that can't be read."""

    def damaged(self) -> list[str]:
        return ["run 7 in /srv/crons.db"]


async def test_strangers_are_not_shown_where_records_are_damaged(make_crons: MakeCrons) -> None:
    crons = make_crons(state_backend=Damaged())
    await crons.start()
    async with Dashboard(crons) as pages:
        assert "run 7 in /srv/crons.db" in (await pages.get("/instances")).text
    async with Dashboard(crons, stranger=True) as pages:
        page = await pages.get("/instances")
    assert "damaged records are skipped" in page.text
    assert "/srv/crons.db" not in page.text


def test_commands_that_pages_name_exist() -> None:
    named = {
        command
        for template in Path(fastapi_crons_dashboard.__file__).parent.rglob("*.html")
        for command in re.findall(r"fastapi-crons ([a-z-]+)", template.read_text())
    }
    assert named <= {command.name for command in command_line.registered_commands}
    assert named


async def test_where_no_instance_runs_jobs_it_says_what_to_start(make_crons: MakeCrons) -> None:
    crons = make_crons(enabled=False)
    await crons.start()
    async with Dashboard(crons) as pages:
        text = (await pages.get("/instances")).text
    assert "No instance runs jobs. Start the app, or a worker with fastapi-crons start-scheduler ." in text
