"""A fleet moves from store to store while copies are killed and servers restarted: each tick still has one fate."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fastapi_crons.state import HistoryLimits, SQLiteStateBackend
from fastapi_crons.testing._state_questions import runs_at
from tests.faults.conftest import Place, Report, history
from tests.faults.fleet import long_job
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.redis_server import RedisServer, needs_redis
from tests.faults.test_store_copy import copying, result_of

pytestmark = [pytest.mark.full, needs_redis, needs_postgres]

Fault = Callable[["subprocess.Popen[str]"], None]
#: How many runs of a job that is gone there are to copy, so that a copy takes some time.
_BALLAST = 3_000


@dataclass(frozen=True)
class Stores:
    """Where a fleet can be."""

    url: str
    settings: dict[str, str]
    restart: Callable[[], None] = lambda: None


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def restarting(stores: Stores) -> Fault:
    return lambda _: stores.restart()


def add_ballast() -> None:
    async def write() -> None:
        state = SQLiteStateBackend("crons.db")
        await state.open("default", HistoryLimits(10_000, 30))
        await state.write(runs_at(time.time() - 7_200, _BALLAST, job="long gone"))
        await state.close()

    asyncio.run(write())


def move(old: Stores, new: Stores, faults: list[Fault], dice: random.Random) -> list[str]:
    """Copy until it is done, each time with another fault in the middle, and the last time with none; returns what was said."""
    said = []
    for fault in [*faults, None]:
        with copying(old.url, new.url) as process:
            if fault is not None:
                time.sleep(dice.uniform(1, 6))
                fault(process)
            code, text = result_of(process, 240)
        said.append(f"{code}: {text}")
        # One that was killed after its last step has done it.
        if code == 0 or "already" in text:
            return said
        assert code in (1, 130, -signal.SIGKILL), said
        assert "Traceback" not in text, said
    raise AssertionError(said)


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_moves_through_all_stores_while_copies_and_servers_are_killed(
    seed: int, own_redis: RedisServer, report: Report
) -> None:
    dice = random.Random(seed)
    with PostgresServer() as server, Place("SQLite").fleet(jobs=5, seconds=0.2) as fleet:

        def restart_redis() -> None:
            own_redis.kill()
            own_redis.start()

        sqlite = Stores("sqlite:crons.db", {})
        postgres = Stores(server.url, {"CRON_POSTGRES_URL": server.url}, lambda: server.restart("immediate"))
        redis = Stores(own_redis.url, {"CRON_REDIS_URL": own_redis.url}, restart_redis)
        back = Stores("sqlite:back.db", {"CRON_SQLITE_PATH": "back.db"})
        add_ballast()
        living = fleet.start(2, **sqlite.settings)
        fleet.wait_for("job-0")
        since = time.time() + 1
        time.sleep(2)
        for old, new in ((sqlite, postgres), (postgres, redis), (redis, back)):
            faults = [kill, interrupt, restarting(old), restarting(new)]
            dice.shuffle(faults)
            # What one that dies was at work on is run again in the new store.
            fleet.kill(living.pop())
            move(old, new, faults, dice)
            moved = time.time()
            started = fleet.start(1, **new.settings)
            fleet.wait_for("job-0", since=moved, pid=started[0].pid)
            time.sleep(1)
            for process in living:
                process.terminate()
                assert process.wait(30) == 0
            living = [*started, *fleet.start(1, **new.settings)]
            time.sleep(3)
        seen_until = time.time() - 1
        fleet.stop()
        found = history(fleet, SQLiteStateBackend("back.db"))
        sums = fleet.sums(since, seen_until, found)
        report(f"fleet moved through all stores, seed {seed}", sums)


def test_one_that_was_suspended_over_a_move_does_not_go_on(own_redis: RedisServer) -> None:
    with Place("Redis", own_redis, elsewhere=True).fleet(jobs=1, extra=long_job("*/20", 60)) as fleet:
        (suspended,) = fleet.start(1)
        began = fleet.wait_for("long")
        suspended.send_signal(signal.SIGSTOP)
        time.sleep(7)  # longer than the time after which it counts as dead
        with copying(own_redis.url, "sqlite:new.db") as process:
            code, said = result_of(process)
        assert code == 0, said
        fleet.start(1, CRON_STATE_BACKEND="sqlite", CRON_LOCK_BACKEND="sqlite", CRON_SQLITE_PATH="new.db")
        fleet.wait_for("long", tick=began.tick, attempt=2)
        suspended.send_signal(signal.SIGCONT)
        fleet.wait_for("long", "cancelled", tick=began.tick, pid=suspended.pid)
