"""A row that is damaged costs itself, is named once, and costs nothing else: no page, no start, no other job.

A store with a bit of everything is made once; each example damages one value in it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons, MissedTicks, Run
from fastapi_crons.instance import Instance
from fastapi_crons.job import CronJob
from fastapi_crons.locking import Definition, LeaseTerms, PauseRequest
from fastapi_crons.locking.base import ClaimRequest
from fastapi_crons.run import LogLine, RunError, RunIds
from fastapi_crons.state import SQLiteStateBackend, StateBackend
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.integration.api import client_of, path
from tests.support import nothing

TEMPLATE, PATH = Path("template.db"), Path("crons.db")
#: When the store was left, and when a scheduler takes it up again.
LEFT, TAKEN_UP = "2026-03-01T00:00:00Z", "2026-03-01T00:05:00Z"
LIMITS = HistoryLimits(100, 30)
#: A job whose rows are damaged, one that must not mind, and one that is paused.
VICTIM, OTHER, PAUSED = "victim", "other", "paused"
SCHEDULE = "* * * * *"


def definition(job: str) -> Definition:
    made = CronJob(nothing, SCHEDULE, job)
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


async def leave_a_store(state: StateBackend, locks: Any, clock: Any, instance: Instance) -> None:
    """Write a bit of everything, and die without having said so."""
    now, new_id = clock.now(), RunIds(clock.now)
    terms = LeaseTerms(300, 30)
    for namespace in ("default", "elsewhere"):
        await state.open(namespace, LIMITS)
        await locks.open(replace(instance, owner=f"gone~{namespace}"), namespace, terms, clock)
        await locks.enrol([definition(job) for job in (VICTIM, OTHER, PAUSED)])
        await locks.beat(1, "digest", 0)
        await locks.pause([PauseRequest(PAUSED, "ops", "the other side is down")])
        zone = definition(VICTIM).timezone
        tick = int(now) + 1
        ids = [new_id() for _ in range(4)]
        claims = [ClaimRequest(job, ids[index], tick, SCHEDULE, zone) for index, job in enumerate((VICTIM, OTHER))]
        claims += [ClaimRequest(VICTIM, ids[2], tick + 1, SCHEDULE, zone, let_go="max_catch_up")]
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


async def check_scheduler(column: str) -> None:
    """A scheduler starts on the damaged store; all its jobs go on, and all pages can be had."""
    clock = VirtualClock(TAKEN_UP)
    ran: list[str] = []
    crons = Crons(state_backend=SQLiteStateBackend(PATH), config=CronConfig(), clock=clock)
    for name in (VICTIM, OTHER, PAUSED):
        crons.cron(SCHEDULE, name=name)(nothing)
    crons.add_after_run_hook(lambda name, context: ran.append(name))
    with Caught() as caught:
        await crons.start()
        await check_pages(crons)
        await clock.advance(crons, minutes=3)
        await check_pages(crons)
        assert (await crons.run_job(OTHER)).status == "completed"
        assert ran.count(OTHER) >= 3, ran
        if not column.startswith("paused"):
            assert ran.count(VICTIM) >= 2, ran
        health = crons.health()
        assert health.status != "unhealthy", health
        if caught.named:
            assert any("damaged" in finding for finding in health.findings)
        assert len(set(caught.named)) == len(caught.named), caught.named
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
    max_examples=30,
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
        asyncio.run(check_scheduler(column))


NAMED = [
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
    ("crons_layout", "rowid", 1, "version", "'zzz'", None),
]


@pytest.mark.parametrize("damage", NAMED, ids=lambda damage: f"{damage[0]} {damage[2]} {damage[3]} {damage[4]}")
def test_damage_is_named_once_and_in_health(
    template: Path, caplog: pytest.LogCaptureFixture, damage: tuple[str, str, object, str, str, str | None]
) -> None:
    table, key, row, column, value, named = damage
    assert store_with(template, table, key, row, column, value)
    caplog.set_level(logging.WARNING, "fastapi_crons")
    asyncio.run(check_scheduler(column))
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
