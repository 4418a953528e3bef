"""`plan --deploy` and `plan --against`: what a deploy of an app would do to the jobs that a store knows."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import RedisStateBackend
from fastapi_crons.testing import reset
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer
from tests.integration.cli.commands import Cli, refused

HEAD = """
from fastapi import FastAPI
from fastapi_crons import Crons
from fastapi_crons.schedules import AtStart

app = FastAPI()
crons = Crons(app)
"""
OLD = """

@crons.cron("0 2 * * *", name="backup")
def backup(): ...


@crons.cron("*/15 * * * *", name="reports", timezone="Europe/Berlin")
def reports(): ...


@crons.cron("0 5 1 1 *", name="clean")
def clean(): ...


@crons.cron("0 4 * * *", name="send", kwargs={"region": "eu"})
def send(region: str): ...
"""


def deployed(code: str, backend: str = "SQLiteStateBackend('jobs.db')") -> None:
    """Start the code once and stop it again, so that the store knows its jobs, and no instance lives."""
    reset()
    names: dict[str, Any] = {"__name__": "main"}
    exec(
        HEAD.replace("Crons(app)", f"Crons(app, state_backend={backend})").replace(
            "from fastapi_crons.schedules",
            "from fastapi_crons.state import PostgresStateBackend, SQLiteStateBackend\nfrom fastapi_crons.schedules",
        )
        + code,
        names,
    )

    async def once() -> None:
        await names["crons"].start()
        await names["crons"].stop()

    asyncio.run(once())


def new(code: str) -> None:
    Path("main.py").write_text(HEAD + code)


def test_the_same_code_changes_nothing(fastapi_crons: Cli) -> None:
    deployed(OLD)
    new(OLD)
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "4 jobs of this code, against jobs.db: no instance runs jobs there",
        "Nothing is lost or in doubt.",
    ]


def test_one_tick_goes_and_one_comes(fastapi_crons: Cli) -> None:
    deployed(OLD)
    new(OLD.replace('"0 2 * * *"', '"0 3 * * *"'))
    (backup,) = (line for line in fastapi_crons("plan", "--against", "jobs.db").stdout.splitlines() if "backup" in line)
    assert "; 1 tick goes (the first at " in backup
    assert " and 1 comes (the first at " in backup


def test_what_is_new_gone_changed_and_perhaps_renamed(fastapi_crons: Cli) -> None:
    deployed(OLD)
    code = OLD.replace('name="backup"', 'name="nightly_backup"').replace('"*/15 * * * *"', '"*/10 * * * *"')
    code = code.replace('"eu"', '"us"') + '\n@crons.cron("0 6 * * *", name="fresh")\ndef fresh(): ...\n'
    code = code.replace('\n@crons.cron("0 5 1 1 *", name="clean")\ndef clean(): ...\n', "")
    new(code)
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert result.exit_code == 3, result.output
    lines = result.stdout.splitlines()
    assert (
        "✗ perhaps renamed: backup to nightly_backup (the same function): its history and its last handled tick stay behind; "
        "to keep the job, write name='backup'"
    ) in lines
    assert "✗ gone: clean, 0 5 1 1 *" in lines
    assert any(line.startswith("+ new: fresh, 0 6 * * * in UTC, first at ") for line in lines)
    (reports,) = (line for line in lines if "changed: reports" in line)
    assert "schedule */15 * * * * becomes */10 * * * *; 48 ticks go (the first at " in reports
    assert "96 come (the first at " in reports
    assert "~ changed: send, arguments differ" in lines
    assert "us" not in result.stdout.replace("becomes", "")
    assert lines[-1] == "To be looked at: 1 job goes; 1 job perhaps renamed."
    found = fastapi_crons("plan", "--against", "jobs.db", "--json")
    assert found.exit_code == 3
    plan = json.loads(found.stdout)
    assert (plan["safe"], plan["renamed"]) == (
        False,
        [{"from": "backup", "to": "nightly_backup", "common": "function", "paused": False}],
    )
    assert [job["job_name"] for job in plan["gone"]] == ["backup", "clean"]
    assert [job["job_name"] for job in plan["new"]] == ["nightly_backup", "fresh"]
    changed = {job["job_name"]: job for job in plan["changed"]}
    assert changed["send"]["changes"] == [{"part": "arguments", "before": None, "after": None}]
    assert (changed["reports"]["ticks"]["removed"], changed["reports"]["ticks"]["added"]) == (48, 96)
    again = fastapi_crons("plan", "--against", "jobs.db", "--json", "--hours", "1")
    assert json.loads(again.stdout)["changed"][0]["ticks"]["added"] == 4


def test_a_pause_stays_with_its_name_only(fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(OLD)
    monkeypatch.setenv("CRON_SQLITE_PATH", "jobs.db")
    new(OLD)
    for job in ("backup", "reports"):
        assert fastapi_crons("pause", job, "--note", "the disk is full").exit_code == 0
    new(OLD.replace('name="backup"', 'name="save"'))
    result = fastapi_crons("plan", "--deploy")
    assert result.exit_code == 3
    assert (
        "perhaps renamed: backup to save (the same function): the pause of backup does not go with it, so it will run"
        in (result.stdout)
    )
    assert "(the disk is full): reports" in result.stdout


def test_a_job_that_the_last_instances_had_not_any_more_is_former(fastapi_crons: Cli) -> None:
    deployed(OLD)
    less = OLD.replace('\n@crons.cron("0 5 1 1 *", name="clean")\ndef clean(): ...\n', "")
    deployed(less)
    new(less)
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert (result.exit_code, "1 former job on record that no instance has any more: clean" in result.stdout) == (
        0,
        True,
    )


def stopped_hours_ago(code: str, hours: int) -> None:
    """As if the instances had handled their last ticks so many hours ago."""
    deployed(code)
    with sqlite3.connect("jobs.db") as database:
        database.execute("UPDATE lock_job SET mark = mark - ?, since = since - ?", (hours * 3_600, hours * 3_600))
    database.close()


def test_what_is_caught_up_with_is_counted(fastapi_crons: Cli) -> None:
    # Once a year, so that the number of late runs is the same at each hour of the day.
    often = re.sub(r'"0 [24] \* \*', '"0 5 1 1', OLD).replace('name="reports"', 'name="reports", coalesce=False')
    stopped_hours_ago(often, 1)
    new(often)
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert result.exit_code == 0, result.output
    assert "! caught up with: reports, 4 runs for 4 late ticks since " in result.stdout
    stopped_hours_ago(often, 3)
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert result.exit_code == 3
    # A quarter of an hour may begin in between.
    assert re.search(r"^To be looked at: 1[1-7] late runs at the start, more than 10\.\Z", result.stdout.strip(), re.M)


def test_late_ticks_of_a_schedule_that_is_changed_are_lost(fastapi_crons: Cli) -> None:
    stopped_hours_ago(OLD, 1)
    new(OLD.replace('"*/15 * * * *"', '"*/10 * * * *"'))
    result = fastapi_crons("plan", "--against", "jobs.db")
    assert result.exit_code == 3
    assert "4 late ticks since " in result.stdout
    assert " will be recorded as missed; 48 ticks go" in result.stdout
    assert result.stdout.splitlines()[-1] == "To be looked at: late ticks of 1 job are lost."


def test_it_only_reads_and_does_not_start_the_app(fastapi_crons: Cli) -> None:
    deployed(OLD)
    new(
        OLD.replace('name="backup"', 'name="other"')
        + "\nfrom contextlib import asynccontextmanager\n\n@asynccontextmanager\nasync def lifespan(app):\n"
        + '    open("started", "w").close()\n    yield\n\napp.router.lifespan_context = lifespan\n'
    )
    before = sorted(os.listdir()), Path("jobs.db").read_bytes()
    fastapi_crons("plan", "--against", "jobs.db")
    after = sorted(name for name in os.listdir() if name != "__pycache__"), Path("jobs.db").read_bytes()
    assert after == before


def test_what_can_not_be_asked_is_an_error(fastapi_crons: Cli) -> None:
    new(OLD)
    assert "'typo.db' is no file that is there" in refused(fastapi_crons("plan", "--against", "typo.db"))
    assert "typo.db', and there is no such file" in refused(fastapi_crons("plan", "--against", "sqlite:typo.db"))
    assert not Path("typo.db").exists()
    wrong = fastapi_crons("plan", "--against", "redis://ops:hush-hush@127.0.0.1:1/0")
    assert "hush-hush" not in refused(wrong) + wrong.output
    wrong = fastapi_crons("plan", "--against", "http://ops:hush-hush@example.com")
    assert "no installed plugin brings a state store at such a place" in refused(wrong)
    assert "hush-hush" not in wrong.output
    for options in (["--csv"], ["--job", "backup"], ["--until", "now"]):
        assert fastapi_crons("plan", "--deploy", *options).exit_code == 2
    Path("main.py").write_text("1 / 0")
    assert "main can't be imported" in refused(fastapi_crons("plan", "--deploy"))


@pytest.mark.parametrize("prefix", ["", "sqlite:", "sqlite:///"])
@pytest.mark.parametrize("folder", ["", "{here}/"])
def test_each_spelling_of_a_file_is_the_same_store(fastapi_crons: Cli, prefix: str, folder: str) -> None:
    deployed(OLD)
    new(OLD)
    place = f"{prefix}{folder.format(here=Path.cwd())}jobs.db"
    result = fastapi_crons("plan", "--against", place)
    assert f"4 jobs of this code, against {place}: no instance runs jobs there" in result.stdout
    assert "Nothing is lost or in doubt." in result.stdout


@needs_postgres
def test_against_postgresql_named_and_by_the_settings(fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer() as server:
        url = server.url_of("shop")
        server.psql("CREATE DATABASE shop")
        backend = f"PostgresStateBackend({url!r})"
        deployed(OLD, backend)
        new(OLD.replace('name="backup"', 'name="save"'))
        by_hand = fastapi_crons("plan", "--against", url)
        assert by_hand.exit_code == 3, by_hand.output
        assert "/shop: no instance runs jobs there" in by_hand.stdout
        assert "✗ perhaps renamed: backup to save (the same function)" in by_hand.stdout
        monkeypatch.setenv("CRON_POSTGRES_URL", url)
        by_settings = fastapi_crons("plan", "--deploy")
        assert by_settings.exit_code == 3, by_settings.output
        assert by_settings.stdout.splitlines()[1:] == by_hand.stdout.splitlines()[1:]
        only_named = fastapi_crons("plan", "--against", "postgres")
        assert only_named.stdout.splitlines()[1:] == by_hand.stdout.splitlines()[1:]
        new(OLD)
        assert fastapi_crons("plan", "--against", url).exit_code == 0


def test_against_redis_with_instances_that_live(fastapi_crons: Cli, redis_server: RedisServer) -> None:
    config = CronConfig(namespace="plan-deploy")
    url = redis_server.url
    new((OLD + '\ncrons.cron(AtStart(), name="start")(backup)\n').replace('"backup"', '"save"'))
    text = Path("main.py").read_text()
    Path("main.py").write_text(
        text.replace("import Crons\n", "import CronConfig, Crons\n").replace(
            "Crons(app)", 'Crons(app, config=CronConfig(namespace="plan-deploy"))'
        )
    )

    def backup() -> None: ...

    async def check() -> None:
        crons = Crons(state_backend=RedisStateBackend(url), config=config)
        crons.cron("0 2 * * *", name="backup")(backup)
        await crons.start()
        try:
            result = await asyncio.to_thread(fastapi_crons, "plan", "--against", url)
        finally:
            await crons.stop()
        assert result.exit_code == 3, result.output
        assert f"5 jobs of this code, against {url}: 1 instance runs jobs there" in result.stdout
        assert "✗ gone: backup, 0 2 * * *; it has 1 tick in the next hours" in result.stdout
        assert "! run at the start: start, AtStart()" in result.stdout

    asyncio.run(check())
