"""What stands between schedulers and a PostgreSQL server breaks: what becomes of ticks."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Report, on_time
from tests.faults.fleet import Fleet
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres.conftest import through
from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.proxy import Proxy
from tests.faults.redis_server import HOST
from tests.faults.watch import (
    RECOVERS_IN,
    Watch,
    assert_no_body_twice,
    assert_quiet,
    assert_tokens_grow,
    setting_of,
    state_at,
    watched,
)
from tests.support import until

pytestmark = [pytest.mark.slow, needs_postgres]


@on_time
@needs_pgbouncer
def test_a_pooler_that_is_killed_and_comes_back_costs_no_tick(own_postgres: PostgresServer, report: Report) -> None:
    with PgBouncer(own_postgres) as pooler, watched(pooler.url, history_url=own_postgres.url) as watch:
        time.sleep(1)
        pooler.kill()
        time.sleep(2)
        pooler.start()
        sums, recovery = watch.ended(time.time())
        report("kill -9 of the pooler, restart", sums, recovery, because="the lock store did not answer")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@pytest.mark.full
def test_connections_that_went_silent_are_not_used_again(
    own_postgres: PostgresServer, proxy: Proxy, report: Report
) -> None:
    with watched(through(proxy, own_postgres), history_url=own_postgres.url, CRON_INSTANCE_TIMEOUT="14") as watch:
        proxy.silent = True
        time.sleep(1.5)
        # What is open now stays silent for good; new connections work.
        proxy.silent = False
        sums, recovery = watch.ended(time.time())
        report("half-open sockets", sums, recovery, because="the lock store")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@on_time
@pytest.mark.full
def test_connections_that_are_reset_each_second_cost_no_tick(
    own_postgres: PostgresServer, proxy: Proxy, report: Report
) -> None:
    with watched(through(proxy, own_postgres), history_url=own_postgres.url) as watch:
        proxy.reset_every(1)
        time.sleep(8)
        proxy.reset_every(None)
        time.sleep(2)
        sums, _ = watch.ended()
        report("RST of all connections each second", sums)
        assert sums.on_record == 0
        assert watch.latest() < 1
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_commit_whose_answer_is_lost_loses_and_doubles_no_tick(
    own_postgres: PostgresServer, proxy: Proxy, report: Report
) -> None:
    with watched(through(proxy, own_postgres), history_url=own_postgres.url) as watch:
        proxy.drop_replies(6, to="COMMIT")
        until(lambda: proxy.dropped == 6, what="answers that are lost")
        time.sleep(3)
        sums, _ = watch.ended()
        report("answers to COMMIT lost", sums)
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@on_time
@pytest.mark.full
@pytest.mark.parametrize(("delay", "every", "latest"), [(10, 1, 1.0), (50, 3, 2.0)])
def test_ticks_start_in_time_over_a_way_that_takes(
    own_postgres: PostgresServer, proxy: Proxy, report: Report, delay: int, every: int, latest: float
) -> None:
    proxy.delay = delay / 1000
    url = through(proxy, own_postgres)
    # Heartbeats come as often as by default: they take the lock, too.
    settings = {"CRON_HEARTBEAT_INTERVAL": "5", "CRON_INSTANCE_TIMEOUT": "30"}
    with Fleet({**setting_of(url), **settings}, every=every) as fleet:
        fleet.start(2)
        watch = Watch(fleet, lambda: state_at(own_postgres.url))
        time.sleep(8)  # what a start asks for is more
        watch.since = time.time()
        time.sleep(6 + 3 * every)
        sums, _ = watch.ended()
        report(f"{delay} ms each way, due every {every} s", sums)
        assert sums.on_record == 0
        assert watch.latest() < latest
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_failover_to_a_replica_that_is_behind_doubles_no_tick_of_another_time(
    record_property: object, own_postgres: PostgresServer, proxy: Proxy
) -> None:
    assert callable(record_property)
    with PostgresServer(own_postgres.programs, replica_of=own_postgres) as replica:
        with watched(through(proxy, own_postgres), jobs=5, history_url=replica.url) as watch:
            time.sleep(1)
            replica.psql("ALTER SYSTEM SET primary_conninfo = ''")
            replica.psql("SELECT pg_reload_conf()")
            behind_since = time.time()
            time.sleep(1.5)
            own_postgres.kill()
            replica.promote()
            proxy.target = (HOST, replica.port)
            proxy.reset_all()
            returned = time.time()
            sums, recovery = watch.ended(returned)
            record_property("fault", sums.row("failover, replica 1.5 s behind", recovery))
            assert [tick for _, tick in sums.doubled if not behind_since - 1 <= tick <= returned] == []
            assert sums.missed == []
            assert sums.overlapped == []
            assert recovery is not None
            assert recovery <= RECOVERS_IN + 1
            assert_tokens_grow(watch)
            assert_quiet(watch.log())


@pytest.mark.full
def test_a_failover_to_a_replica_that_has_everything_costs_no_tick(
    own_postgres: PostgresServer, proxy: Proxy, report: Report
) -> None:
    with PostgresServer(own_postgres.programs, replica_of=own_postgres) as replica:
        own_postgres.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        own_postgres.psql("SELECT pg_reload_conf()")
        with watched(through(proxy, own_postgres), jobs=5, history_url=replica.url) as watch:
            time.sleep(1)
            own_postgres.kill()
            # Where it is asked before its promotion, it says that it takes no writes.
            proxy.target = (HOST, replica.port)
            proxy.reset_all()
            time.sleep(2.5)
            replica.promote()
            sums, recovery = watch.ended(time.time())
            report("failover, synchronous replica", sums, recovery, because="the lock store did not answer")
            assert recovery is not None
            assert recovery <= RECOVERS_IN + 1
            assert_no_body_twice(watch)
            assert_quiet(watch.log())
