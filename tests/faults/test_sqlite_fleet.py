"""What breaks under a SQLite file that several processes share, and files of older layouts."""

from __future__ import annotations

import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import RunIds
from fastapi_crons_sqlite._schema import VERSION
from tests.faults.conftest import Place, Report
from tests.faults.fleet import Fleet, Line, long_job
from tests.support import until

pytestmark = pytest.mark.slow

PLACE = Place("SQLite")
PATH = Path("crons.db")


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's, which commits each statement."""
    with closing(sqlite3.connect(PATH, isolation_level=None, timeout=5)) as connection:
        yield connection


def starts(fleet: Fleet, since: float = 0) -> list[Line]:
    return [line for line in fleet.lines() if line.event == "start" and line.at > since]


@pytest.mark.full
def test_a_file_that_another_process_locks_stops_the_fleet_for_so_long_and_no_longer(report: Report) -> None:
    with PLACE.fleet(jobs=10) as fleet:
        fleet.start(2)
        since = time.time() + 1
        time.sleep(2.5)
        with database() as other:
            other.execute("BEGIN IMMEDIATE")
            locked = time.time()
            time.sleep(12)
            assert starts(fleet, locked + 0.1) == []
            other.execute("COMMIT")
        unlocked = time.time()
        time.sleep(8)
        seen_until = fleet.decided_until()
        fleet.stop()
        first = min(line.at for line in starts(fleet, unlocked))
        assert first - unlocked < 5
        log = fleet.log.read_text()
        assert log.count("the lock store does not answer") >= 2
        assert "the lock store answers again" in log
        recovered = fleet.recovered_at(unlocked, until=seen_until)
        report(
            "SQLite file locked for 12 s",
            fleet.sums(since, seen_until, PLACE.history(fleet)),
            recovered,
            because="database is locked",
        )
        assert recovered < 5


@pytest.mark.full
@pytest.mark.parametrize("seconds", [0.0, 2.6], ids=["short jobs", "long jobs"])
def test_a_file_that_is_deleted_under_a_fleet_is_made_anew_and_nothing_runs_twice(
    seconds: float, report: Report
) -> None:
    with PLACE.fleet(jobs=8, seconds=seconds) as fleet:
        fleet.start(2)
        for process in fleet.processes:
            fleet.wait_for("job-0", pid=process.pid)
        # In the middle of a run, where they take long.
        time.sleep(0.5)
        for path in Path().glob("crons.db*"):
            path.unlink(missing_ok=True)
        deleted = time.time()
        until(PATH.exists, what="a new file")
        time.sleep(8)
        seen_until = fleet.decided_until()
        fleet.stop()
        assert "was deleted or replaced while in use" in fleet.log.read_text()
        # What was on record of the time before is gone with the file.
        sums = fleet.sums(deleted + 2, seen_until - seconds, PLACE.history(fleet))
        whole = fleet.sums(deleted - 3, seen_until, {})
        assert whole.doubled == []
        report(
            f"SQLite file deleted, jobs of {seconds:g} s",
            sums,
            fleet.recovered_at(deleted, lateness=1.2),
            because="the lock store had lost its records",
        )


@pytest.mark.full
def test_a_run_keeps_its_job_while_another_process_makes_the_deleted_file_anew() -> None:
    # The first knows that job only, and so has nothing to ask of the store while the run goes on.
    with PLACE.fleet(jobs=0, extra=long_job(seconds=12)) as one, PLACE.fleet(jobs=3, extra=long_job()) as other:
        (first,) = one.start()
        began = one.wait_for("long")
        assert began.pid == first.pid
        other.start()
        time.sleep(max(0.0, began.tick + 4.5 - time.time()))
        for path in Path().glob("crons.db*"):
            path.unlink(missing_ok=True)
        ended = one.wait_for("long", "end", tick=began.tick)
        overlapping = [line for line in starts(one, began.at) if line.job == "long" and line.at < ended.at]
        assert overlapping == []


TALKS = """
@crons.cron("* * * * * *", name="talk")
async def talk():
    return "x" * 60_000
"""


@pytest.mark.full
def test_a_full_disk_stops_the_fleet_and_it_goes_on_by_itself_when_there_is_room(report: Report) -> None:
    with PLACE.fleet(jobs=5, extra=TALKS) as fleet:
        fleet.start(2)
        since = time.time() + 1
        time.sleep(2.5)
        for process in fleet.processes:
            # What the jobs write down themselves, and the log, stay below that.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        time.sleep(2)
        full = time.time()
        time.sleep(2)
        assert starts(fleet, full) == [], "ticks were claimed on a full disk"
        for process in fleet.processes:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        room = time.time()
        time.sleep(7)
        seen_until = fleet.decided_until()
        fleet.stop()
        recovered = fleet.recovered_at(room, until=seen_until)
        report(
            "disk full for 4 s, SQLite",
            fleet.sums(since, seen_until, PLACE.history(fleet)),
            recovered,
            because="the lock store did not answer",
        )
        assert recovered < 5
        with database() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


#: A file as layout 1 had it.
LAYOUT_1 = """
CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT, updated_at TEXT);
CREATE TABLE job_status (name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT);
CREATE TABLE job_run (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, tick_ts INTEGER, trigger TEXT NOT NULL, attempt INTEGER NOT NULL,
    instance TEXT NOT NULL, token INTEGER NOT NULL, status TEXT NOT NULL, started_ts REAL NOT NULL, ended_ts REAL,
    error_type TEXT, error_message TEXT, error_traceback TEXT, result TEXT, missed_ticks INTEGER NOT NULL,
    missed_since_ts INTEGER, actor TEXT, note TEXT, beside TEXT, log TEXT, log_dropped INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX job_run_by_job ON job_run (job, id);
CREATE INDEX job_run_unfinished ON job_run (job) WHERE status = 'running';
CREATE TABLE job_missed (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL, count INTEGER NOT NULL,
    reason TEXT NOT NULL, recorded_ts REAL NOT NULL, instance TEXT NOT NULL, more INTEGER NOT NULL, detail TEXT)
    WITHOUT ROWID;
CREATE INDEX job_missed_by_job ON job_missed (job, id);
CREATE TABLE lock_job (
    name TEXT PRIMARY KEY, schedule TEXT NOT NULL, timezone TEXT NOT NULL, function TEXT NOT NULL,
    enabled INTEGER NOT NULL, registrars TEXT NOT NULL, mark INTEGER NOT NULL, since REAL NOT NULL,
    token INTEGER NOT NULL, paused_since REAL, paused_by TEXT, paused_note TEXT) WITHOUT ROWID;
CREATE INDEX lock_job_paused ON lock_job (name) WHERE paused_since IS NOT NULL;
CREATE TABLE lock_lease (
    run_id TEXT PRIMARY KEY, job TEXT NOT NULL, tick INTEGER, instance TEXT NOT NULL, token INTEGER NOT NULL,
    attempt INTEGER NOT NULL, expires REAL NOT NULL, after INTEGER NOT NULL, let_go TEXT, schedule TEXT NOT NULL,
    timezone TEXT NOT NULL, namespace TEXT NOT NULL, cancel INTEGER NOT NULL DEFAULT 0, cancelled_by TEXT) WITHOUT ROWID;
CREATE INDEX lock_lease_by_job ON lock_lease (job);
CREATE TABLE lock_instance (
    owner TEXT PRIMARY KEY, id TEXT NOT NULL, namespace TEXT NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL,
    pid INTEGER NOT NULL, pid_started TEXT NOT NULL, started_ts REAL NOT NULL, heartbeat_ts REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE crons_layout (version INTEGER NOT NULL, compatible_from INTEGER NOT NULL);
INSERT INTO crons_layout VALUES (1, 1);
PRAGMA user_version = 1;
"""
#: The statement of layout 1 by which an instance said that it lives.
SAY_ALIVE = """INSERT OR REPLACE INTO lock_instance
    (id, owner, host, boot, pid, pid_started, started_ts, namespace, heartbeat_ts) VALUES (?,?,?,?,?,?,?,?,?)"""
ADD_JOB = """INSERT INTO lock_job VALUES
    (?, '* * * * * *', 'UTC', '__main__:add.<locals>.job', 1, ?, ?, ?, ?, NULL, NULL, NULL)"""
ADD_LEASE = "INSERT INTO lock_lease VALUES (?, ?, ?, ?, ?, 1, ?, ?, NULL, '* * * * * *', 'UTC', 'default', 0, NULL)"
ADD_RUN = """INSERT INTO job_run VALUES
    (?, ?, ?, 'schedule', 1, 'old', ?, ?, ?, ?, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0)"""


def row_of(instance: Instance) -> tuple[object, ...]:
    return (
        instance.id,
        instance.owner,
        instance.host,
        instance.boot,
        instance.pid,
        instance.pid_started,
        instance.started_ts,
        "default",
        time.time(),
    )


def test_a_file_of_layout_1_is_migrated_with_all_that_is_in_it(report: Report) -> None:
    dead = Instance.of_this_process("old")
    now = int(time.time())
    ended, cut_off = RunIds(lambda: now - 5)(), RunIds(lambda: now - 4)()
    with database() as old:
        old.executescript(LAYOUT_1)
        for number in range(3):
            old.execute(ADD_JOB, (f"job-{number}", dead.owner, now - 4, now - 100, (now - 4) * 1000))
        old.execute(SAY_ALIVE, (*row_of(dead)[:4], 2**22, "0", *row_of(dead)[6:]))
        old.execute(ADD_RUN, (ended, "job-1", now - 5, 1, "completed", now - 5, now - 5))
        # It died in the middle of a run.
        old.execute(ADD_RUN, (cut_off, "job-1", now - 4, 2, "running", now - 4, None))
        old.execute(ADD_LEASE, (cut_off, "job-1", now - 4, dead.owner, (now - 4) * 1000, now + 290, now - 5))
        old.execute("UPDATE lock_job SET paused_since = 1.0, paused_by = 'somebody' WHERE name = 'job-2'")
    with PLACE.fleet(jobs=3) as fleet:
        fleet.start(2)
        since = time.time() + 1
        again = fleet.wait_for("job-1", tick=now - 4, attempt=2)
        assert again.token > (now - 4) * 1000
        time.sleep(3.5)
        seen_until = fleet.decided_until()
        fleet.stop()
        history = PLACE.history(fleet)
        late = next(run for run in reversed(history["job-0"][0]) if run.missed_ticks)
        assert late.missed_since_ts == now - 3, "ticks are counted from the old mark on"
        runs = history["job-1"][0][::-1]
        assert [(run.tick_ts, run.status) for run in runs[:2]] == [(now - 5, "completed"), (now - 4, "interrupted")]
        assert starts(fleet) != []
        assert not any(line.job == "job-2" for line in fleet.lines()), "a pause is a pause"
        fleet.jobs = 2
        report("SQLite file of layout 1", fleet.sums(since, seen_until, history), fleet.recovered_at(since))
    with database() as new:
        assert new.execute("SELECT version, compatible_from FROM crons_layout").fetchall() == [(VERSION, 1)]
        assert new.execute("PRAGMA user_version").fetchall() == [(VERSION,)]


@pytest.mark.full
def test_a_process_of_layout_1_and_new_ones_live_together_on_a_migrated_file(report: Report) -> None:
    old, run_id = Instance.of_this_process("old"), RunIds(time.time)()
    with PLACE.fleet(jobs=5, extra=long_job()) as fleet:
        fleet.start(2)
        since = time.time() + 1
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(0.5):
                with database() as connection:
                    connection.execute(SAY_ALIVE, row_of(old))

        beating = threading.Thread(target=beat)
        beating.start()
        try:
            time.sleep(1)
            # The old one runs a tick of job-0, by the statements of its time.
            with database() as connection:
                connection.execute("BEGIN IMMEDIATE")
                found = connection.execute("SELECT mark, token FROM lock_job WHERE name = 'job-0'")
                (mark, token), tick = found.fetchone(), int(time.time())
                connection.execute("UPDATE lock_job SET mark = ?, token = ? WHERE name = 'job-0'", (tick, token + 1))
                connection.execute(ADD_LEASE, (run_id, "job-0", tick, old.owner, token + 1, time.time() + 300, mark))
                connection.execute("COMMIT")
            claimed = time.time()
            time.sleep(4)
            assert [line for line in starts(fleet, claimed + 0.1) if line.job == "job-0"] == [], "its lease counts"
            with database() as connection:
                connection.execute("DELETE FROM lock_lease WHERE run_id = ?", (run_id,))
            given_back = time.time()
            following = fleet.wait_for("job-0", since=given_back)
            assert following.at - given_back < 2
            time.sleep(2)
            seen_until = time.time() - 1
            with database() as connection:
                assert connection.execute("SELECT count(*) FROM lock_instance").fetchone() == (3,)
        finally:
            stop.set()
            beating.join()
        fleet.stop()
        sums = fleet.sums(since, seen_until, PLACE.history(fleet))
        sums.missed = [missed for missed in sums.missed if missed != ("job-0", tick)]
        report("a process of layout 1 beside new ones", sums, fleet.recovered_at(since))
