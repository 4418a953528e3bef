"""`missed`: which ticks did not run, over all jobs."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.integration.cli.commands import Cli, json_of
from tests.support import nothing


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day in March with a pause, after which no instance was started again."""
    store = tmp_path_factory.mktemp("a-day") / "crons.db"

    async def pass_by() -> None:
        clock = VirtualClock("2026-03-01T00:00:00Z")
        crons = Crons(
            state_backend=SQLiteStateBackend(str(store)),
            config=CronConfig(instance_id="worker-1", heartbeat_interval=300, instance_timeout=900),
            clock=clock,
        )
        crons.cron("0 2 * * *", name="backup_database")(nothing)
        crons.cron("*/15 * * * *", name="send_reports", timezone="Europe/Berlin")(nothing)
        await crons.start()
        await crons.pause("send_reports", note="a deploy")
        await clock.advance(crons, hours=1)
        await crons.resume("send_reports")
        await clock.advance(crons, hours=23)
        await crons.stop()

    reset()
    asyncio.run(pass_by())
    reset()
    return store


@pytest.fixture
def a_day(project: Path, store: Path) -> None:
    shutil.copy(store, "crons.db")


@pytest.mark.usefixtures("a_day")
def test_what_was_missed_and_what_no_instance_has_handled(fastapi_crons: Cli) -> None:
    result = fastapi_crons("missed", "--until", "2026-03-03 00:00", "-z", "Europe/Berlin")
    lines = result.stdout.splitlines()[1:]
    assert lines[0].startswith(
        "2026-03-01 01:15:00 to 2026-03-01 02:00:00  4 ticks  send_reports  not run: the job was paused"
    )
    assert ": since 2026-03-01 01:00:00 CET: a deploy (" in lines[0]
    assert lines[0].endswith("(recorded by worker-1 at 2026-03-01 02:00:00)")
    nobody = r"It was due \d+ days.* ago, and no instance has claimed it: no instance that runs jobs is running\..*"
    reports, backup = lines[1:3]
    span = "2026-03-02 01:15:00 to 2026-03-02 23:45:00  91 ticks  send_reports  not handled so far. The oldest: "
    assert re.fullmatch(re.escape(span) + nobody, reports)
    assert re.fullmatch(r"2026-03-02 03:00:00  1 tick  backup_database  not handled so far\. " + nobody, backup)
    assert lines[3] == (
        "1 record of missed ticks; 2 jobs with ticks that no instance has handled; times in Europe/Berlin; more about a tick: "
        "fastapi-crons why NAME TIME"
    )


@pytest.mark.usefixtures("a_day")
def test_exit_codes_and_json(fastapi_crons: Cli) -> None:
    during = ("--since", "2026-03-01", "--until", "2026-03-01T12:00")
    page = json_of(fastapi_crons("missed", *during, "--json"))
    assert [(each["job_name"], each["count"]) for each in page["missed"]] == [("send_reports", 4)]
    assert (page["unhandled"], page["unhandled_jobs"], page["next"]) == ([], 0, None)
    assert fastapi_crons("missed", *during, "--exit-code").exit_code == 3
    assert fastapi_crons("missed", *during).exit_code == 0
    quiet = fastapi_crons("missed", *during, "--job", "backup_database", "--exit-code")
    assert (quiet.exit_code, "no tick was missed, and none is overdue" in quiet.stderr) == (0, True)
    overdue = fastapi_crons("missed", "--since", "2026-03-02", "--limit", "1", "--exit-code")
    assert overdue.exit_code == 3
    assert "2 jobs with ticks that no instance has handled (1 shown); times in UTC" in overdue.stdout


@pytest.mark.usefixtures("a_day")
def test_what_was_made_up_for_is_marked_and_left_out_of_what_is_open(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(project.read_text().replace('raise ValueError("no reports")', "return"))
    during = ("--since", "2026-03-01", "--until", "2026-03-01T12:00")
    assert fastapi_crons("run-job", "send_reports", "--tick", "2026-03-01T00:45Z").exit_code == 0
    result = fastapi_crons("missed", *during, "--open", "--exit-code")
    assert (result.exit_code, result.stdout.splitlines()[1].split("; ")[-1]) == (3, "1 of 4 made up for")
    assert json_of(fastapi_crons("missed", *during, "--json"))["missed"][0]["made_up"] == 1
    span = ("2026-03-01T00:00Z", "2026-03-01T01:00Z")
    assert fastapi_crons("backfill", "send_reports", *span, "--one-by-one").exit_code == 0
    result = fastapi_crons("missed", *during, "--exit-code")
    assert (result.exit_code, result.stdout.splitlines()[1].split("; ")[-1]) == (3, "made up for")
    result = fastapi_crons("missed", *during, "--open", "--exit-code")
    assert (result.exit_code, "no tick is left to be made up for" in result.stderr) == (0, True)


@pytest.mark.usefixtures("a_day")
def test_without_the_app_the_jobs_are_those_that_the_store_knows(fastapi_crons: Cli, project: Path) -> None:
    project.unlink()
    page = json_of(fastapi_crons("missed", "--json"))
    assert [each["job_name"] for each in page["unhandled"]] == ["send_reports", "backup_database"]


async def _two_pauses() -> None:
    clock = VirtualClock("2026-03-01T00:00:00Z")
    config = CronConfig(instance_id="worker-1", heartbeat_interval=300)
    crons = Crons(state_backend=SQLiteStateBackend("crons.db"), config=config, clock=clock)
    crons.cron("*/15 * * * *", name="send_reports", timezone="Europe/Berlin")(nothing)
    await crons.start()
    for _ in range(2):
        await crons.pause("send_reports")
        await clock.advance(crons, minutes=20)
        await crons.resume("send_reports")
    await crons.stop()


def test_records_are_paged_by_the_id_that_the_last_line_says(fastapi_crons: Cli, project: Path) -> None:
    reset()
    asyncio.run(_two_pauses())
    newest = fastapi_crons("missed", "--limit", "1", "--until", "2026-03-01 01:00")
    assert "2026-03-01 00:30:00" in newest.stdout
    before = re.search(r"1 record of missed ticks; those before: --before (\S+);", newest.stdout)
    assert before is not None
    page = json_of(fastapi_crons("missed", "--json", "--limit", "1", "--before", before[1]))
    assert [record["first"] for record in page["missed"]] == ["2026-03-01T00:15:00Z"]
    assert (page["next"], page["unhandled"]) == (None, [])
    wrong = fastapi_crons("missed", "--before", "yesterday")
    assert (wrong.exit_code, "'yesterday' is not the id of a record" in wrong.stderr) == (2, True)
