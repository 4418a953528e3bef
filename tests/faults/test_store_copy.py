"""A running fleet moves to another store: each tick has one fate over both of them, wherever the copy breaks off."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fastapi_crons.state import SQLiteStateBackend
from tests.faults.conftest import Place, Report, history, redis_history
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer, needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: One that is at work until the test has seen enough.
LONG = """
@crons.cron("* * * * * *", name="long")
async def long(context: JobContext):
    note("start", context)
    while not os.path.exists("enough"):
        await asyncio.sleep(0.05)
    note("end", context)
"""


@contextmanager
def copying(source: str, target: str) -> Iterator[subprocess.Popen[str]]:
    """A copy in a process of its own."""
    command = [sys.executable, "-m", "fastapi_crons_cli", "store", "copy", source, target, "--live"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def result_of(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out + err


def paused() -> int:
    """How many jobs are paused in the file of the fleet."""
    with closing(sqlite3.connect("crons.db", timeout=5)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM lock_job WHERE paused_since IS NOT NULL").fetchone()
    return int(found)


@pytest.fixture(params=["Redis", pytest.param("PostgreSQL", marks=needs_postgres)])
def other(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Another store: the setting that names it, and its URL."""
    if request.param == "Redis":
        yield "CRON_REDIS_URL", request.getfixturevalue("own_redis").url
        return
    with PostgresServer() as server:
        yield "CRON_POSTGRES_URL", server.url


def test_a_fleet_moves_to_another_store_and_back_and_no_tick_is_doubled_or_lost(
    other: tuple[str, str], report: Report
) -> None:
    setting, url = other
    with Place("SQLite").fleet(jobs=5, seconds=0.3) as fleet:
        old = fleet.start(2)
        fleet.wait_for("job-0")
        since = time.time() + 1
        time.sleep(2)
        with copying("sqlite:crons.db", url) as process:
            code, said = result_of(process)
        assert code == 0, said
        moved = time.time()
        # One of the old ones is still there when the first new one claims what was due meanwhile.
        (new,) = fleet.start(1, **{setting: url})
        fleet.wait_for("job-0", since=moved, pid=new.pid)
        for process_of_old in old:
            process_of_old.terminate()
            assert process_of_old.wait(30) == 0
        fleet.start(1, **{setting: url})
        time.sleep(3)
        with copying(url, "sqlite:back.db") as process:
            code, said = result_of(process)
        assert code == 0, said
        moved = time.time()
        fleet.start(1, CRON_SQLITE_PATH="back.db")
        fleet.wait_for("job-0", since=moved)
        time.sleep(2)
        seen_until = fleet.decided_until()
        fleet.stop()
        sums = fleet.sums(since, seen_until, history(fleet, SQLiteStateBackend("back.db")))
        report(f"fleet moved to {setting.split('_')[1].title()}, and to SQLite again", sums)
        assert sums.expected > 5 * 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_copy_that_is_ended_while_it_waits_for_runs_loses_nothing(
    number: signal.Signals, own_redis: RedisServer, report: Report
) -> None:
    with Place("SQLite").fleet(jobs=4, extra=LONG) as fleet:
        fleet.start(2)
        fleet.wait_for("long")
        since = time.time() + 1
        time.sleep(1.2)
        with copying("sqlite:crons.db", own_redis.url) as process:
            until(lambda: paused() == 5, what="pauses of all jobs")
            time.sleep(2)
            assert process.poll() is None, "it waits for the long run"
            process.send_signal(number)
            code, said = result_of(process)
        ended = time.time()
        Path("enough").touch()
        if number == signal.SIGINT:
            assert code == 130, said
            assert paused() == 0
            # What was due meanwhile is late, and the jobs go on by themselves.
            fleet.wait_for("job-0", since=ended)
            place = Place("SQLite")
        else:
            with copying("sqlite:crons.db", own_redis.url) as process:
                code, said = result_of(process)
            assert code == 0, said
            fleet.start(1, CRON_REDIS_URL=own_redis.url)
            fleet.wait_for("job-0", since=ended)
            place = Place("Redis", own_redis)
        time.sleep(2)
        seen_until = fleet.decided_until()
        fleet.stop()
        found = place.history(fleet) if place.redis is None else redis_history(fleet, own_redis.url)
        report(f"copy to another store, ended by {number.name}", fleet.sums(since, seen_until, found))
