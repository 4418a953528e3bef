"""A PostgreSQL server that dies, stalls or refuses: what becomes of ticks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Report, on_time
from tests.faults.postgres_server import PostgresServer, needs_postgres, postgres_programs, server_account
from tests.faults.watch import (
    RECOVERS_IN,
    SECRET,
    Watch,
    assert_no_body_twice,
    assert_quiet,
    assert_tokens_grow,
    watched,
)
from tests.support import until

pytestmark = [pytest.mark.slow, needs_postgres]

#: Claims of the user `slow` stand still in the middle of their transaction.
_SLOW_CLAIMS = """
CREATE ROLE slow SUPERUSER LOGIN;
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF session_user = 'slow' THEN PERFORM pg_sleep(0.3); END IF; RETURN NULL; END $$;
"""
_LINGER = "CREATE TRIGGER linger AFTER INSERT ON crons_lease FOR EACH STATEMENT EXECUTE FUNCTION linger()"
#: What others than psql have open.
OTHERS = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
#: An instance whose claims were too early by the server's clock tries its own clock again after so many seconds.
ASKED_AGAIN = 10.0
_IN_A_CLAIM = "usename = 'slow' AND wait_event = 'PgSleep'"


def recovered(watch: Watch, report: Report, fault: str, returned: float, because: str | None = None) -> None:
    """What holds after every fault that ends: a row of the table, and the ticks in time soon after."""
    sums, recovery = watch.ended(returned)
    report(fault, sums, recovery, because)
    assert recovery is not None
    assert recovery <= RECOVERS_IN + 1
    assert_no_body_twice(watch)
    assert_tokens_grow(watch)
    assert_quiet(watch.log())


@pytest.mark.parametrize(
    "major", [pytest.param(major, marks=pytest.mark.full) for major in sorted(postgres_programs())[:-1]] + [0]
)
def test_a_server_that_is_killed_and_comes_back_costs_no_tick(report: Report, major: int) -> None:
    # A replacement for fsync=off is not needed: the kernel keeps what a killed process has written.
    with PostgresServer(postgres_programs().get(major)) as server, watched(server.url) as watch:
        time.sleep(1)
        server.kill()
        time.sleep(2)
        server.start()
        recovered(
            watch,
            report,
            f"kill -9 of the server, restart ({major or max(postgres_programs())})",
            time.time(),
            "the lock store did not answer",
        )


@pytest.mark.full
def test_a_server_that_is_restarted_by_its_administrator_costs_no_tick(
    own_postgres: PostgresServer, report: Report
) -> None:
    with watched(own_postgres.url) as watch:
        time.sleep(1)
        own_postgres.restart()
        recovered(watch, report, "restart of the server, fast", time.time())


@pytest.mark.full
def test_a_server_that_stalls_beyond_the_deadline_makes_no_run_of_ticks_out_of_grace(
    own_postgres: PostgresServer, report: Report
) -> None:
    with watched(own_postgres.url, CRON_INSTANCE_TIMEOUT="14", CRON_MISFIRE_GRACE_TIME="3") as watch:
        own_postgres.pause()
        time.sleep(7)
        own_postgres.resume()
        recovered(watch, report, "SIGSTOP of the server, 7 s", time.time(), "the lock store did not answer")
        assert watch.latest() <= 3 + 0.5


@on_time
def test_an_instance_that_is_stopped_inside_a_transaction_holds_others_up_for_5_s(
    own_postgres: PostgresServer, report: Report
) -> None:
    own_postgres.psql(_SLOW_CLAIMS)
    with watched(own_postgres.url, 1) as watch:
        own_postgres.psql(_LINGER)
        (slow,) = watch.fleet.start(1, CRON_POSTGRES_URL=own_postgres.url_of("postgres", "slow"))
        in_a_claim(own_postgres)
        slow.send_signal(signal.SIGSTOP)
        stopped = time.time()
        time.sleep(8)
        went_on = min(line.at for line in watch.lines("start") if line.at > stopped + 0.1)
        slow.send_signal(signal.SIGCONT)
        sums, recovery = watch.ended(time.time(), 6)
        report(f"holder stopped inside a transaction; others go on after {went_on - stopped:.1f} s", sums, recovery)
        assert went_on - stopped < RECOVERS_IN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@on_time
@pytest.mark.full
def test_a_claim_whose_backend_is_terminated_costs_no_tick(own_postgres: PostgresServer, report: Report) -> None:
    own_postgres.psql(_SLOW_CLAIMS)
    with watched(own_postgres.url_of("postgres", "slow")) as watch:
        own_postgres.psql(_LINGER)
        for _ in range(4):
            in_a_claim(own_postgres)
            assert own_postgres.terminate(_IN_A_CLAIM) >= 0
            time.sleep(0.5)
        own_postgres.psql("DROP TRIGGER linger ON crons_lease")
        recovered(watch, report, "backend terminated in the middle of a claim, four times", time.time())


@on_time
@pytest.mark.full
def test_backends_that_are_terminated_each_second_cost_no_tick(own_postgres: PostgresServer, report: Report) -> None:
    with watched(own_postgres.url) as watch:
        for _ in range(8):
            own_postgres.terminate(OTHERS)
            time.sleep(1)
        sums, _ = watch.ended()
        report("all backends terminated each second", sums)
        assert sums.on_record == 0
        assert watch.latest() < 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


def in_a_claim(server: PostgresServer) -> None:
    """Wait until the user `slow` is in the middle of one."""
    until(lambda: server.psql(f"SELECT 1 FROM pg_stat_activity WHERE {_IN_A_CLAIM} LIMIT 1"), what="a claim")


@pytest.mark.full
def test_a_server_that_takes_no_writes_for_a_while_starts_nothing_meanwhile(
    own_postgres: PostgresServer, report: Report
) -> None:
    with watched(own_postgres.url) as watch:
        own_postgres.psql("ALTER DATABASE postgres SET default_transaction_read_only = on")
        own_postgres.terminate(OTHERS)  # sessions keep what they began with
        time.sleep(3)
        own_postgres.psql("ALTER DATABASE postgres RESET default_transaction_read_only", "template1")
        recovered(watch, report, "read only for 3 s", time.time())


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_starts_nothing_or_keeps_what_came_of_it(own_postgres: PostgresServer, report: Report) -> None:
    with small_disk(own_postgres.folder / "small") as disk:
        own_postgres.psql(f"CREATE TABLESPACE small LOCATION '{disk}'")
        own_postgres.psql("CREATE DATABASE small TABLESPACE small")
        with watched(own_postgres.url_of("small")) as watch:
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(8192))
            until(lambda: "make room on its disk" in watch.log(), what="a disk that is full")
            time.sleep(3)
            filler.unlink()
            recovered(watch, report, "disk full for 3 s", time.time())
        own_postgres.stop()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of a few megabytes, which the server may write to."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        inside = folder / "data"
        inside.mkdir()
        account = server_account()
        if account is not None:
            shutil.chown(inside, account)
        yield inside
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.full
def test_a_server_without_a_free_connection_is_named_and_waited_for(report: Report) -> None:
    with PostgresServer(max_connections=12, superuser_reserved_connections=3) as server:
        server.psql("CREATE ROLE app LOGIN; GRANT ALL ON SCHEMA public TO app")
        url = server.url_of("postgres", "app")
        with watched(url) as watch:
            with all_connections(server) as others:
                for process in watch.fleet.processes:
                    process.send_signal(signal.SIGSTOP)
                server.terminate("usename = 'app' AND query NOT LIKE '%pg_sleep%'")
                others()
                for process in watch.fleet.processes:
                    process.send_signal(signal.SIGCONT)
                time.sleep(3)
                said = watch.fleet.refused()
                assert "raise max_connections, or put a pooler before it" in said
                assert "raise max_connections" in watch.log()
            recovered(watch, report, "max_connections reached for 3 s", time.time())


@contextmanager
def all_connections(server: PostgresServer) -> Iterator[Callable[[], None]]:
    """Sessions of others that take each connection as soon as it is free, once they are told to."""
    command = [str(server.programs / "psql"), "-X", "-c", "SELECT pg_sleep(600)", server.url_of("postgres", "app")]
    processes: list[subprocess.Popen[bytes]] = []

    def take() -> None:
        # More than there are: some are refused.
        for _ in range(12):
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until(lambda: sum(each.poll() is None for each in processes) >= 5, what="sessions of others")

    take()
    try:
        yield take
    finally:
        server.terminate("query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
        for process in processes:
            process.wait(10)


@pytest.mark.full
def test_a_password_that_is_rotated_is_named_and_waited_for(own_postgres: PostgresServer, report: Report) -> None:
    own_postgres.psql(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'; GRANT ALL ON SCHEMA public TO app")
    own_postgres.ask_password_of("app")
    with watched(own_postgres.url_of("postgres", "app", SECRET)) as watch:
        own_postgres.psql("ALTER ROLE app PASSWORD 'another'")
        time.sleep(2)
        assert "check user and password" not in watch.log()  # who is in stays in
        own_postgres.terminate("usename = 'app'")
        time.sleep(3)
        assert "check user and password in CRON_POSTGRES_URL" in watch.log()
        own_postgres.psql(f"ALTER ROLE app PASSWORD '{SECRET}'")
        recovered(watch, report, "password rotated, put back after 3 s", time.time())


@pytest.mark.full
@pytest.mark.parametrize("apart", [-2, 2])
def test_a_server_whose_clock_is_apart_runs_each_tick_once(
    own_postgres: PostgresServer, report: Report, apart: int
) -> None:
    set_clock_apart(own_postgres, apart)
    with watched(own_postgres.url_of("clock")) as watch:
        time.sleep(2)  # what was due up to the server's time is handled when a job is registered first
        watch.since = time.time()
        time.sleep(7)
        sums, _ = watch.ended()
        report(f"clock of the server {apart:+d} s apart", sums)
        # Nothing starts more than a second early by the server's clock.
        assert watch.latest() < max(0, -apart) + 1
        assert_no_body_twice(watch)
        assert_tokens_grow(watch)
        assert_quiet(watch.log())


@pytest.mark.full
@pytest.mark.parametrize("step", [3600, -40])
def test_a_server_whose_clock_steps_runs_no_tick_twice(own_postgres: PostgresServer, report: Report, step: int) -> None:
    set_clock_apart(own_postgres, 0)
    with watched(own_postgres.url_of("clock")) as watch:
        time.sleep(1)
        own_postgres.psql(f"UPDATE fake.apart SET seconds = {step}", "clock")
        time.sleep(8)
        own_postgres.psql("UPDATE fake.apart SET seconds = 0", "clock")
        sums, recovery = watch.ended(time.time(), 12)
        report(f"clock of the server stepped by {step:+d} s, and back", sums, recovery)
        assert recovery is not None
        assert recovery <= ASKED_AGAIN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


def set_clock_apart(server: PostgresServer, seconds: float) -> None:
    """A database `clock` whose server is so many seconds ahead."""
    server.psql("CREATE DATABASE clock")
    server.psql(
        f"CREATE SCHEMA fake; CREATE TABLE fake.apart (seconds float8); INSERT INTO fake.apart VALUES ({seconds}); "
        "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        "'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 s'' FROM fake.apart'; "
        "ALTER DATABASE clock SET search_path = fake, pg_catalog",
        "clock",
    )
