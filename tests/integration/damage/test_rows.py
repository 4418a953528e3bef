"""A row that is damaged costs itself, is named once, and costs nothing else: no page, no start, no run. SQLite."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.integration.damage.stores import LEFT, SCHEDULE, TAKEN_UP, TEXTS, VICTIM, check, elsewhere, leave_a_store
from tests.support import examples, nothing

TEMPLATE, PATH = Path("template.db"), Path("crons.db")
#: Endpoints are made for each damage, and half of them would be the dashboard's.
NO_PAGES = CronConfig(disabled_plugins=frozenset({"dashboard"}))


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


OTHERS = ["NULL", "x'00ff'", "CAST(x'61ff62' AS TEXT)", "zeroblob(3)", "printf('%.*c', 70000, 'x')"]
damages = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])


async def check_on_sqlite() -> None:
    """A scheduler starts on the damaged file; all its jobs go on, and all pages can be had."""
    clock = VirtualClock(TAKEN_UP)
    crons = Crons(state_backend=SQLiteStateBackend(PATH), config=NO_PAGES, clock=clock)
    await check(crons, SCHEDULE, lambda ran: clock.advance(crons, minutes=3))


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
    ("job_missed", "job", VICTIM, "reason", "'Tired.'", "missed ticks 019"),
    ("job_backfill", "job", VICTIM, "record", "'{}'", "backfill 019"),
    ("job_backfill", "job", VICTIM, "record", "x'00ff'", "backfill 019"),
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
