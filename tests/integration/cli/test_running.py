"""Commands that run a job: what they show, how they end, and which hooks they call."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from tests.integration.cli.commands import APP, Cli, json_of, refused

STARTED = """
from fastapi import FastAPI
from fastapi_crons import Crons
from fastapi_crons.schedules import AtStart

app = FastAPI()
crons = Crons(app)


@crons.cron(AtStart(), name="warm")
async def warm(): ...
"""


def test_run_job_says_what_is_documented(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "backup_database")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == ["imported", "🚀 Running job 'backup_database' manually...", "at work"]
    assert re.fullmatch(r"📊 Job 'backup_database' completed successfully in \d+\.\d\ds", lines[3])
    assert lines[4:] == ["✅ Manual execution completed"]


def test_run_job_that_fails(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "send_reports")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"❌ Job 'send_reports' failed in \d+\.\d\ds \(run [0-9a-f]{8}\): ValueError: no reports\n", result.stderr
    )
    verbose = fastapi_crons("run-job", "send_reports", "--verbose")
    assert 'raise ValueError("no reports")' in verbose.stderr


def test_run_job_shows_log_and_result_where_that_is_wanted(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "backup_database", "--verbose", "--note", "before the deploy")
    assert "WARNING backup: half done" in result.stdout
    assert 'Result: {"files": 3}' in result.stdout
    (entry,) = json_of(fastapi_crons("logs", "--json"))
    assert (entry["trigger"], entry["note"]) == ("cli", "before the deploy")
    assert entry["actor"]


def test_run_job_runs_a_tick_again_that_did_not_run(fastapi_crons: Cli, project: Path) -> None:
    # Nothing has ever run this job, so no tick of the past did.
    result = fastapi_crons("run-job", "backup_database", "--tick", "2026-03-01T02:00", "--note", "by hand", "--json")
    run = json_of(result)
    assert (run["trigger"], run["scheduled_time"], run["note"]) == ("again", "2026-03-01T02:00:00Z", "by hand")
    again = fastapi_crons("run-job", "backup_database", "--tick", "2026-03-01T02:00")
    message = refused(again)
    assert "Running job" not in again.stdout
    assert "ran already" in message
    assert message.endswith("--force runs it again")
    forced = fastapi_crons("run-job", "backup_database", "--tick", "2026-03-01T02:00", "--force")
    assert forced.exit_code == 0
    assert "It was run again at" in fastapi_crons("why", "backup_database", "2026-03-01T02:00").stdout


def test_run_job_asks_which_of_two_ticks_is_meant(fastapi_crons: Cli, project: Path) -> None:
    twice = fastapi_crons("run-job", "send_reports", "--tick", "2025-10-26T02:30")
    assert twice.exit_code == 2
    words = " ".join(twice.stderr.replace("│", " ").split())
    assert "2025-10-26 02:30:00 is there twice in Europe/Berlin, where clocks go back" in words
    assert "2025-10-26T02:30:00+02:00 or 2025-10-26T02:30:00+01:00" in words
    skipped = fastapi_crons("run-job", "send_reports", "--tick", "2026-03-29T02:30")
    assert "does not exist in Europe/Berlin" in " ".join(skipped.stderr.replace("│", " ").split())
    no_tick = refused(fastapi_crons("run-job", "send_reports", "--tick", "2026-03-01T02:10:00"))
    assert "the one before is 2026-03-01 02:00:00 CET, the next one is 2026-03-01 02:15:00 CET" in no_tick


def test_why_asks_which_of_two_ticks_is_meant(fastapi_crons: Cli, project: Path) -> None:
    twice = fastapi_crons("why", "send_reports", "2025-10-26 02:30")
    assert twice.exit_code == 2
    assert "2025-10-26T02:30:00+02:00 or 2025-10-26T02:30:00+01:00" in " ".join(twice.stderr.replace("│", " ").split())


def test_run_job_that_takes_too_long(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "endless", "--timeout", "0.05")
    assert result.exit_code == 1
    assert "❌ Job 'endless' timed out after 0.0" in result.stderr


def test_run_job_enters_the_lifespan_of_the_app(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from fastapi import FastAPI\n"
        "from fastapi_crons import Crons\n"
        "pools = []\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    pools.append('open')\n"
        "    yield\n"
        "    pools.clear()\n"
        "app = FastAPI(lifespan=lifespan)\n"
        "@Crons(app).cron('0 0 1 1 *')\n"
        "def job(): return pools[0]\n"
    )
    assert json_of(fastapi_crons("run-job", "job", "--json"))["result"] == "open"


HOOKED = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons, hookimpl

pool = None


@asynccontextmanager
async def lifespan(app):
    global pool
    print("opened")
    pool = []
    yield
    print("closed with", pool)


app = FastAPI(lifespan=lifespan)
crons = Crons(app)


@crons.cron("* * * * * *", name="often")
async def often(): ...


class Plugin:
    @hookimpl
    def tick_missed(self, job_name, context):
        FAIL
        pool.append(context["reason"])


crons.plugins.register(Plugin())
"""


def test_hooks_that_a_command_calls_find_the_app_open(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(HOOKED.replace("FAIL", ""))
    assert "opened" not in fastapi_crons("pause", "often").stdout
    time.sleep(1.1)
    resumed = fastapi_crons("resume", "often")
    assert resumed.exit_code == 0
    said = [line for line in resumed.stdout.splitlines() if not line.startswith("Resumed")]
    assert said[0] == "opened"
    # One for each second that the two commands took.
    assert re.fullmatch(r"closed with \['paused'(, 'paused')*\]", said[1])
    assert len(said) == 2
    assert resumed.stderr == ""


def test_a_job_that_is_resumed_says_what_makes_its_next_tick(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(STARTED)
    fastapi_crons("pause", "warm")
    time.sleep(2.1)
    assert fastapi_crons("resume", "warm").stdout == "Resumed 'warm'; it is due at the next start\n"
    (missed,) = json_of(fastapi_crons("missed", "--json"))["missed"]
    assert (missed["job_name"], missed["reason"]) == ("warm", "paused")


def test_hooks_that_fail_in_a_command_are_shown(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(HOOKED.replace("FAIL", "raise ConnectionError('no pager')"))
    fastapi_crons("pause", "often")
    time.sleep(1.1)
    resumed = fastapi_crons("resume", "often")
    assert resumed.exit_code == 0
    assert "Resumed 'often'" in resumed.stdout
    assert (
        "Warning: hook tick_missed of plugin 'main:Plugin' about job 'often' failed: ConnectionError: no pager"
        in resumed.stderr
    )


def test_hooks_of_a_run_by_hand_that_fail_are_shown(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(f"{APP}\ncrons.add_after_run_hook(lambda job, context: 1 / 0)\n")
    result = fastapi_crons("run-job", "backup_database")
    assert result.exit_code == 0
    assert "Warning: hook after_run main:<lambda> about job 'backup_database'" in result.stderr
    assert "ZeroDivisionError: division by zero (" in result.stderr


def test_what_a_command_failed_with_is_not_hidden_by_the_end_of_the_app(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(
        """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons

@asynccontextmanager
async def lifespan(app):
    yield
    raise RuntimeError("the pool did not close")

app = FastAPI(lifespan=lifespan)
crons = Crons(app)
crons.cron("0 0 1 1 *", name="job", overlap="skip")(lambda: None)
"""
    )

    async def hold() -> None:
        crons = Crons(state_backend=SQLiteStateBackend("crons.db"), config=CronConfig())
        started, done = asyncio.Event(), asyncio.Event()

        async def job() -> None:
            started.set()
            await done.wait()

        crons.cron("0 0 1 1 *", name="job")(job)
        await crons.start()
        running = asyncio.ensure_future(crons.run_job("job"))
        await started.wait()
        result = await asyncio.to_thread(fastapi_crons, "run-job", "job")
        assert "is already running" in refused(result)
        assert "the pool did not close" in result.stderr
        done.set()
        await running
        await crons.stop()

    asyncio.run(hold())


def test_a_run_by_hand_may_have_other_arguments(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(
        f"""{APP}
@crons.cron("0 0 1 1 *", name="report", kwargs={{"regions": ["eu"], "limit": 5}})
async def report(regions: list[str], limit: int, title: str = "none"):
    return [regions, limit, title]
"""
    )
    ended = json_of(
        fastapi_crons(
            "run-job", "report", "--set", 'regions=["us"]', "--set", "limit=7", "--set", "title=5 = V", "--json"
        )
    )
    assert ended["result"] == [["us"], 7, "5 = V"]
    assert ended["kwargs"] == {"regions": ["us"], "limit": 7, "title": "5 = V"}
    assert 'with {"regions": ["us"], "limit": 7' in fastapi_crons("logs", "--job", "report").stdout
    assert "argument 'limit' can't be 'many'" in refused(fastapi_crons("run-job", "report", "--set", "limit=many"))
    assert "did you mean 'limit'?" in refused(fastapi_crons("run-job", "report", "--set", "limits=1"))
    assert "as NAME=VALUE" in fastapi_crons("run-job", "report", "--set", "limit").stderr


def test_a_value_given_by_hand_is_validated_once(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(
        f"""{APP}
from typing import Annotated
from pydantic import AfterValidator

@crons.cron("0 0 1 1 *", name="report")
async def report(pages: Annotated[int, AfterValidator(lambda pages: pages * 2)] = 1):
    return pages
"""
    )
    assert json_of(fastapi_crons("run-job", "report", "--set", "pages=3", "--json"))["result"] == 6


def test_pauses_are_answered_in_json_as_their_endpoints_do(fastapi_crons: Cli, project: Path) -> None:
    paused = json_of(fastapi_crons("pause", "backup_database", "--note", "the disk is full", "--json"))
    assert (paused["name"], paused["next_run"]) == ("backup_database", None)
    assert paused["paused"]["note"] == "the disk is full"
    resumed = json_of(fastapi_crons("resume", "backup_database", "--json"))
    assert (resumed["name"], resumed["paused"]) == ("backup_database", None)
    assert resumed["next_run"] is not None
    assert json_of(fastapi_crons("resume", "backup_database", "--json")) == resumed
