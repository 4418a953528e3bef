"""`stats`: how often jobs ran and failed; and what `list-jobs` says of failures in a row."""

from __future__ import annotations

import asyncio
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.integration.cli.commands import Cli, json_of

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three days before today: one job that takes its time, and one that fails."""
    store = tmp_path_factory.mktemp("three-days") / "crons.db"

    async def pass_by() -> None:
        clock = VirtualClock((TODAY - timedelta(days=3)).isoformat())
        crons = Crons(
            state_backend=SQLiteStateBackend(str(store)), config=CronConfig(heartbeat_interval=300), clock=clock
        )

        @crons.cron("0 */6 * * *", name="send_reports")
        async def send_reports() -> None:
            await clock.sleep(90)

        @crons.cron("30 12 * * *", name="backup_database")
        async def backup_database() -> None:
            raise OSError("disk full")

        await crons.start()
        await clock.advance(crons, days=2, hours=23)
        await crons.stop()

    reset()
    asyncio.run(pass_by())
    reset()
    return store


@pytest.fixture
def three_days(project: Path, store: Path) -> None:
    shutil.copy(store, "crons.db")


@pytest.mark.usefixtures("three_days")
def test_what_failed_most_comes_first_and_a_job_is_shown_by_day(fastapi_crons: Cli) -> None:
    lines = fastapi_crons("stats").stdout.splitlines()
    rows = [line.strip("│").replace("│", " ").split() for line in lines if " - " in line or "1m 3" in line]
    assert rows[0][:4] == ["backup_database", "3", "3", "0"]
    assert rows[1][:4] == ["send_reports", "11", "0", "0"]
    assert "durations are those of runs that completed" in " ".join(" ".join(lines).split())
    found = json_of(fastapi_crons("stats", "send_reports", "--days", "4", "--json"))
    (job,) = found["jobs"]
    whole = json_of(fastapi_crons("stats", "--days", "4", "--json"))["jobs"]
    assert {each["job_name"]: (each["runs"], each["days"]) for each in whole} == {
        "endless": (0, []),
        "send_reports": (11, []),
        "backup_database": (3, []),
    }, "days only of jobs that are named, as in the table"
    assert [day["runs"] for day in job["days"]] == [3, 4, 4, 0]
    assert job["longest"] == 90
    shown = fastapi_crons("stats", "send_reports", "--days", "2").stdout
    assert str(TODAY.date()) in shown
    assert "all days" in shown


@pytest.mark.usefixtures("three_days")
def test_a_listing_shows_how_often_a_job_has_failed_in_a_row(fastapi_crons: Cli) -> None:
    assert "failed, 3 in a row" in " ".join(fastapi_crons("list-jobs").stdout.split())
    jobs = {job["name"]: job for job in json_of(fastapi_crons("list-jobs", "--json"))}
    assert (jobs["backup_database"]["failures"], jobs["backup_database"]["last_success"]) == (3, None)
    assert jobs["send_reports"]["last_success_duration"] == 90


@pytest.mark.usefixtures("three_days")
def test_names_that_are_unknown_are_refused(fastapi_crons: Cli) -> None:
    assert "there is no job named 'nightly'" in fastapi_crons("stats", "nightly").stderr
