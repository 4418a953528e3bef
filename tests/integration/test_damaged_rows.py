"""A row that is damaged costs itself, is named once, and costs nothing else: no page, no start, no other job.

A store with a bit of everything is made once; each example damages one value in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons, MissedTicks, Run
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.job import CronJob
from fastapi_crons.locking import Definition, LeaseTerms, LockBackend, PauseRequest
from fastapi_crons.locking.base import ClaimRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import LogLine, RunError, RunIds
from fastapi_crons.state import SQLiteStateBackend, StateBackend
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.api import client_of, path
from tests.support import examples, nothing

TEMPLATE, PATH = Path("template.db"), Path("crons.db")
#: When the store was left, and when a scheduler takes it up again.
LEFT, TAKEN_UP = "2026-03-01T00:00:00Z", "2026-03-01T00:05:00Z"
LIMITS = HistoryLimits(100, 30)
#: A job whose rows are damaged, one that must not mind, and one that is paused.
VICTIM, OTHER, PAUSED = "victim", "other", "paused"
SCHEDULE = "* * * * *"


def definition(job: str, schedule: str) -> Definition:
    made = CronJob(nothing, schedule, job)
    return Definition(job, made.schedule.text, made.schedule_zone, made.function_name)


def runs_of_job(job: str, new_id: RunIds, now: float) -> list[Run | MissedTicks]:
    error = RunError("ValueError", "no reports", "Traceback …")
    log = (LogLine(now, "INFO", "reports", "half done"),)
    begun = Run(new_id(), job, int(now), "schedule", 1, "gone", 5, "running", now)
    return [
        Run(
            new_id(),
            job,
            int(now),
            "schedule",
            1,
            "gone",
            1,
            "completed",
            now,
            now + 1,
            result_json='{"files": 3}',
            log=log,
        ),
        Run(new_id(), job, None, "cli", 1, "gone", 2, "failed", now, now + 1, error, actor="ops", note="by hand"),
        Run(
            new_id(), job, int(now), "catch_up", 2, "gone", 3, "completed", now, now + 1, None, None, 4, int(now) - 240
        ),
        replace(begun, delay="it was late"),
        MissedTicks(
            new_id(), job, int(now) - 600, int(now) - 60, 10, "overlap", now, "gone", False, "run 1 held the job"
        ),
    ]


async def leave_a_store(
    state: StateBackend, locks: LockBackend, clock: Clock, instance: Instance, schedule: str = SCHEDULE
) -> None:
    """Write a bit of everything, and die without having said so."""
    now, new_id = clock.now(), RunIds(clock.now)
    terms = LeaseTerms(300, 30)
    for namespace in ("default", "elsewhere"):
        await state.open(namespace, LIMITS)
        await locks.open(replace(instance, owner=f"gone~{namespace}"), namespace, terms, clock)
        await locks.register([definition(job, schedule) for job in (VICTIM, OTHER, PAUSED)])
        await locks.beat(1, "digest", 0)
        await locks.pause([PauseRequest(PAUSED, "ops", "the other side is down")])
        zone = definition(VICTIM, schedule).timezone
        tick = int(now) + 1
        ids = [new_id() for _ in range(4)]
        claims = [ClaimRequest(job, ids[index], tick, schedule, zone) for index, job in enumerate((VICTIM, OTHER))]
        claims += [ClaimRequest(VICTIM, ids[2], tick + 1, schedule, zone, missed="max_catch_up")]
        await locks.claim(claims)
        await locks.cancel([ids[0]], "ops")
        records = [record for job in (VICTIM, OTHER, PAUSED) for record in runs_of_job(job, new_id, now)]
        records += [Run(ids[0], VICTIM, tick, "schedule", 1, instance.id, 1, "running", now)]
        await state.write(records)
        await locks.close()
        await state.close()


def elsewhere(now: float) -> Instance:
    """An instance on another host, which is judged by its heartbeat."""
    here = Instance.of_this_process("gone")
    return replace(here, owner="gone~1", host="elsewhere", boot="", started_ts=now)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a bit of everything."""
    found = tmp_path_factory.mktemp("damaged") / TEMPLATE
    clock = VirtualClock(LEFT)
    state, locks = SQLiteStateBackend(found), SQLiteLockBackend(found)
    asyncio.run(leave_a_store(state, locks, clock, elsewhere(clock.now())))
    with closing(sqlite3.connect(found)) as db, db:
        db.execute("INSERT INTO job_listener VALUES ('listens', 'default', ?)", [time.time() + 20])
        db.execute("INSERT INTO job_event (namespace, record_id, told_ts) SELECT 'default', id, 1e9 FROM job_run")
    return found


def values_of(db: sqlite3.Connection) -> Iterator[tuple[str, str, list[str]]]:
    """Every table with its key, and its columns."""
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
        about = db.execute(f"PRAGMA table_info({table})").fetchall()
        yield table, next((row[1] for row in about if row[5]), "rowid"), [row[1] for row in about]


NUMBERS = [
    "9e999",
    "-9e999",
    "1e300",
    "-1",
    "-1e18",
    "9223372036854775807",
    "-9223372036854775808",
    "0.5",
    "253402300800",
]
TEXTS = [
    "''",
    "'zzz'",
    "'[1'",
    "'{}'",
    "'9999-12-31T23:59:59'",
    "'null'",
    "'[[1,2],[3]]'",
    "'[[1e999,\"\\ud800\",3,4]]'",
]
OTHERS = ["NULL", "x'00ff'", "CAST(x'61ff62' AS TEXT)", "zeroblob(3)", "printf('%.*c', 70000, 'x')"]
damages = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])


class Caught(logging.Handler):
    """What is logged of errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> Caught:
        logging.getLogger("fastapi_crons").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("fastapi_crons").removeHandler(self)

    @property
    def failures(self) -> list[str]:
        """What must not happen."""
        return [
            record.getMessage()
            for record in self.records
            if record.exc_info or "does not answer" in record.getMessage() or "failed" in record.getMessage()
        ]

    @property
    def named(self) -> list[str]:
        return [message for record in self.records if "is damaged" in (message := record.getMessage())]


async def check_pages(crons: Crons) -> None:
    """Whatever is asked, there is an answer."""
    runs = [run for job in (VICTIM, OTHER, PAUSED) for run in await crons.runs(job)]
    assert any(run.result == {"files": 3} for run in runs)
    pages = ["/crons", "/scheduler", "/scheduler/health"]
    for job in (VICTIM, OTHER, PAUSED):
        pages += [path(job), f"{path(job)}/runs", f"{path(job)}/runs?status=running"]
        pages += [f"{path(job)}/ticks/{time}" for time in ("2026-02-28T23:55:00Z", "2026-03-01T00:00:00Z", TAKEN_UP)]
    pages += [path(run.job, "runs", run.id) for run in runs]
    async with client_of(crons) as client:
        for page in pages:
            answer = await client.get(page)
            assert answer.status_code == 200, (page, answer.text)


async def check_on_sqlite() -> None:
    """A scheduler starts on the damaged file; all its jobs go on, and all pages can be had."""
    clock = VirtualClock(TAKEN_UP)
    crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(), clock=clock)
    await check(crons, SCHEDULE, lambda ran: clock.advance(crons, minutes=3))


async def check(crons: Crons, schedule: str, let_time_pass: Callable[[list[str]], Awaitable[None]]) -> None:
    ran: list[str] = []
    for name in (VICTIM, OTHER, PAUSED):
        crons.cron(schedule, name=name)(nothing)
    crons.add_after_run_hook(lambda name, context: ran.append(name))
    with Caught() as caught:
        await crons.start()
        try:
            await check_pages(crons)
            await let_time_pass(ran)
            await check_pages(crons)
            assert (await crons.run_job(OTHER, force=True)).status == "completed"
            assert crons.engine is not None
            paused = {known.job for known in await crons.engine.locks.known() if known.pause is not None}
            for name in {OTHER, VICTIM} - paused:  # one that is paused by the damage stays so
                assert ran.count(name) >= 2, ran
            health = crons.health()
            assert health.status != "unhealthy", health
            if caught.named:
                assert any("damaged" in finding for finding in health.findings)
            assert len(set(caught.named)) == len(caught.named), caught.named
        finally:
            await crons.stop()
    assert caught.failures == []


def store_with(template: Path, table: str, key: str, row: object, column: str, damage: str) -> bool:
    """Make a store with one damaged value; False where SQLite itself does not let that happen."""
    reset()
    for old in Path().glob("crons.db*"):
        old.unlink()
    shutil.copy(template, PATH)
    with closing(sqlite3.connect(PATH)) as db, db:
        try:
            return db.execute(f"UPDATE {table} SET {column} = {damage} WHERE {key} = ?", [row]).rowcount > 0
        except sqlite3.IntegrityError:
            return False


@settings(
    max_examples=examples(30),
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.timeout(300)
@given(data=st.data())
def test_a_damaged_value_in_a_sqlite_store_costs_its_row(template: Path, data: st.DataObject) -> None:
    with closing(sqlite3.connect(template)) as db:
        table, key, columns = data.draw(st.sampled_from(list(values_of(db))), "table")
        keys = [row[0] for row in db.execute(f"SELECT {key} FROM {table}")]
    row, column = data.draw(st.sampled_from(keys), "row"), data.draw(st.sampled_from(columns), "column")
    if store_with(template, table, key, row, column, data.draw(damages, "damage")):
        asyncio.run(check_on_sqlite())


NAMED = [
    ("lock_lease", "job", VICTIM, "run_id", "-9e999", None),
    ("job_run", "job", VICTIM, "status", "'exploded'", "run 019"),
    ("job_run", "job", VICTIM, "started_ts", "9e999", "run 019"),
    ("job_run", "job", VICTIM, "log", "'[[1'", "log of run 019"),
    ("job_run", "job", VICTIM, "result", "'{'", None),
    ("job_run", "job", VICTIM, "result", "'[1e999, NaN]'", None),
    ("job_run", "job", VICTIM, "result", "x'00ff'", "run 019"),
    ("job_run", "job", VICTIM, "job", "x'00ff'", None),
    ("job_run", "job", f"elsewhere/{VICTIM}", "started_ts", "x'00ff'", None),
    ("job_missed", "job", VICTIM, "reason", "'tired'", "missed ticks 019"),
    ("job_status", "name", VICTIM, "status", "'exploded'", None),
    ("job_status", "name", VICTIM, "started_at", "x'00ff'", None),
    ("job_status", "name", f"elsewhere/{VICTIM}", "status", "x'00ff'", None),
    ("lock_job", "name", VICTIM, "mark", "253402300800", f"'{VICTIM}'"),
    ("lock_job", "name", VICTIM, "mark", "'zzz'", f"record of job '{VICTIM}'"),
    ("lock_job", "name", VICTIM, "schedule", "x'00ff'", f"record of job '{VICTIM}'"),
    ("lock_job", "name", VICTIM, "settled_at", "1e300", None),
    ("lock_job", "name", VICTIM, "token", "9223372036854775807", f"record of job '{VICTIM}'"),
    ("lock_job", "name", f"elsewhere/{VICTIM}", "schedule", "x'00ff'", None),
    ("lock_lease", "job", VICTIM, "expires", "1e300", "lease '019"),
    ("lock_lease", "job", VICTIM, "expires", "9e999", "lease '019"),
    ("lock_lease", "job", VICTIM, "tick", "'zzz'", "lease '019"),
    ("lock_lease", "namespace", "elsewhere", "job", "x'00ff'", None),
    ("lock_instance", "namespace", "default", "heartbeat_ts", "1e300", "instance 'gone~default'"),
    ("lock_instance", "namespace", "default", "started_ts", "9e999", "instance 'gone~default'"),
    ("job_event", "seq", 1, "seq", "9223372036854775807", None),
    ("crons_layout", "rowid", 1, "version", "'zzz'", None),
]


@pytest.mark.parametrize("damage", NAMED, ids=lambda damage: f"{damage[0]} {damage[2]} {damage[3]} {damage[4]}")
def test_damage_is_named_once_and_in_health(
    template: Path, caplog: pytest.LogCaptureFixture, damage: tuple[str, str, object, str, str, str | None]
) -> None:
    table, key, row, column, value, named = damage
    assert store_with(template, table, key, row, column, value)
    caplog.set_level(logging.WARNING, "fastapi_crons")
    asyncio.run(check_on_sqlite())
    assert named is None or named in caplog.text


def test_a_job_whose_state_was_damaged_has_one_again_after_its_next_run(template: Path) -> None:
    assert store_with(template, "job_status", "name", VICTIM, "started_at", "'9999-12-31T00:00:00'")

    async def state_after_a_run() -> str:
        crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(), clock=VirtualClock(TAKEN_UP))
        crons.cron("0 0 1 1 *", name=VICTIM)(nothing)
        await crons.start()
        run = await crons.run_job(VICTIM)
        assert crons.engine is not None
        states = await crons.engine.state.states([VICTIM])
        await crons.stop()
        return "as it is" if states[VICTIM].last_run_ts == pytest.approx(run.started_ts, abs=0.01) else "as it was"

    assert asyncio.run(state_after_a_run()) == "as it is"


class Damager:
    """A Redis database with a bit of everything, in which one value at a time is damaged."""

    VALUES: tuple[object, ...] = (
        None,
        -1,
        0.5,
        1e300,
        10**25,
        "",
        "zzz",
        [],
        {},
        [[1]],
        True,
        "\ud800",
        -(10**18),
        9e15,
    )
    TEXTS = (
        b"",
        b"zzz",
        b"\xff\x00",
        b"[1",
        b"null",
        b"{}",
        b"1e999",
        b"inf",
        b"-1",
        b"1e300",
        b'[["x","y"],[1e999]]',
        b"[" * 2000,
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.dumps: dict[bytes, bytes] = {}

    async def make(self) -> None:
        client = redis.asyncio.from_url(self.url)
        await client.flushdb()
        state, locks = RedisStateBackend(client), RedisLockBackend(client)
        await leave_a_store(state, locks, SystemClock(), elsewhere(time.time()), EACH_SECOND)
        for key in await client.keys("*:beats"):
            for owner in await client.hkeys(key):
                await client.hset(key, owner, str(time.time() - 100))
        self.dumps = {key: await client.dump(key) for key in sorted(await client.keys("*"))}  # type: ignore[misc]
        await client.aclose()

    async def damage(self, draw: random.Random) -> str:
        """Put everything back, and damage one value; returns what was done."""
        client = redis.asyncio.from_url(self.url)
        await client.flushdb()
        for key, dump in self.dumps.items():
            await client.restore(key, 0, dump)
        # Most keys are runs: each kind is to be damaged as often.
        kind = draw.choice(sorted({key.split(b":")[3] for key in self.dumps}))
        key = draw.choice([key for key in self.dumps if key.split(b":")[3] == kind])
        done = await self._damage(client, key, draw)
        await client.aclose()
        return f"{key.decode()}: {done}"

    async def _damage(self, client: Any, key: bytes, draw: random.Random) -> str:
        kind = (await client.type(key)).decode()
        if draw.random() < 0.1:
            await client.delete(key)
            await client.lpush(key, "zzz")
            return "a list"
        if kind == "hash":
            field = draw.choice(sorted(await client.hkeys(key)))
            value = self._damaged(await client.hget(key, field), draw)
            await client.hset(key, field, value)
            return f"{field!r} {value!r}"
        if kind == "string":
            value = self._damaged(await client.get(key), draw)
            await client.set(key, value)
            return repr(value)
        value = draw.choice(self.TEXTS)
        if kind == "zset":
            member = draw.choice([value, *(await client.zrange(key, 0, -1))])
            score = draw.choice([0, 1e300, -5, float("inf")])
            await client.zadd(key, {member: score})
            return f"{member!r} {score}"
        await client.sadd(key, value)
        return repr(value)

    def _damaged(self, text: bytes, draw: random.Random) -> bytes:
        """Something else in its place, or one value in it that is something else."""
        try:
            value = json.loads(text)
        except ValueError:
            return draw.choice(self.TEXTS)
        if not isinstance(value, list) or draw.random() < 0.3:
            return draw.choice(self.TEXTS)
        place: Any = value
        while True:
            index = draw.randrange(len(place))
            if not (isinstance(place[index], list) and place[index] and draw.random() < 0.8):
                break
            place = place[index]
        place[index] = draw.choice(self.VALUES)
        return json.dumps(value).encode()


EACH_SECOND = "* * * * * *"


async def check_on_redis(url: str) -> None:
    """A scheduler starts on the damaged database; all its jobs go on, and all pages can be had."""
    client = redis.asyncio.from_url(url, decode_responses=True)
    crons = Crons(
        state_backend=RedisStateBackend(client), config=CronConfig(heartbeat_interval=0.5, instance_timeout=5)
    )

    async def until_they_ran(ran: list[str]) -> None:
        for _ in range(200):
            if {OTHER, VICTIM} <= {name for name in ran if ran.count(name) >= 2}:
                return
            await asyncio.sleep(0.05)

    await check(crons, EACH_SECOND, until_they_ran)
    await client.aclose()


@needs_redis
@pytest.mark.timeout(300)
def test_a_damaged_value_in_a_redis_store_costs_itself(redis_server: RedisServer) -> None:
    damager, draw = Damager(redis_server.url + "/9"), random.Random()
    for _ in range(12):
        reset()
        asyncio.run(damager.make())
        done = asyncio.run(damager.damage(draw))
        try:
            asyncio.run(check_on_redis(damager.url))
        except BaseException as error:
            raise AssertionError(f"this was damaged: {done}") from error
