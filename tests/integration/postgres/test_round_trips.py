"""How often an instance waits for the server: a claim is as late as its round trips take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import ClaimRequest, ClaimResult, Definition, LeaseRef, LeaseTerms
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresLockBackend, PostgresStateBackend
from tests import seam
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer
from tests.faults.proxy import Proxy

#: The begin with the lock, one question, all that is written, and the commit. What only reads writes nothing.
COSTS = {
    "claim": 4,
    "record of its start": 4,
    "record of its end": 4,
    "renewal": 4,
    "release": 4,
    "heartbeat": 4,
    "question": 3,
}


class Stores:
    """Both stores of a scheduler, behind a proxy that counts; each call has been made before."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.lock, self.state, self.proxy = PostgresLockBackend(url), PostgresStateBackend(url), proxy

    async def open(self) -> None:
        namespace = f"trips-{uuid4()}"
        await self.lock.open(Instance.of_this_process(), namespace, LeaseTerms(300, 30), SystemClock())
        await self.state.open(namespace, HistoryLimits(100, 30))

    async def close(self) -> None:
        await self.lock.close()
        await self.state.close()

    async def run(self, job: str) -> dict[str, int]:
        """What each call of a run of a new job costs."""
        run_id, results = str(uuid4()), list[ClaimResult]()
        (registered,) = await self.lock.register([Definition(job, "* * * * *", "UTC", "f")])
        claim = ClaimRequest(job, run_id, registered.last_handled + 1, "* * * * *", "UTC")
        running = Run(run_id, job, claim.tick, "schedule", 1, "here", 1, "running", 60.0)

        async def claimed() -> None:
            results.extend(await self.lock.claim([claim]))

        def lease() -> LeaseRef:
            return LeaseRef(job, run_id, results[0].token)

        costs = {
            "claim": await self._cost(claimed),
            "record of its start": await self._cost(lambda: self.state.write([running])),
            "record of its end": await self._cost(
                lambda: self.state.write([replace(running, status="completed", ended_ts=61.0)])
            ),
            "renewal": await self._cost(lambda: self.lock.renew([lease()])),
            "release": await self._cost(lambda: self.lock.release([lease()])),
            "heartbeat": await self._cost(self.lock.beat),
            "question": await self._cost(lambda: self.state.runs(job)),
        }
        assert results[0].outcome == "granted"
        return costs

    async def _cost(self, call: Callable[[], Awaitable[object]]) -> int:
        before = self.proxy.answered
        await call()
        return self.proxy.answered - before


@asynccontextmanager
async def stores_at(url: str, port: int) -> AsyncIterator[Stores]:
    with Proxy(port) as proxy:
        stores = Stores(url.replace(f":{port}/", f":{proxy.port}/"), proxy)
        await stores.open()
        try:
            yield stores
        finally:
            await stores.close()


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is far away, however busy the machine is: each one that is costs a second connection."""
    seam.POSTGRES_FAR.replace(monkeypatch, 60.0)


@pytest.mark.usefixtures("near")
async def test_what_the_calls_of_a_run_cost(postgres: PostgresServer) -> None:
    async with stores_at(postgres.url, postgres.port) as stores:
        await stores.run("first")  # from then on the types of all statements are known
        assert await stores.run("second") == COSTS


async def test_a_transaction_holds_no_lock_while_the_driver_asks_how_types_are_made() -> None:
    with PostgresServer(log_statement="all") as server:
        async with stores_at(server.url, server.port) as stores:
            await stores.run("first")
            missed = MissedTicks("0195d0c0-0000-7000-8000-000000000000", "first", 60, 120, 2, "paused", 200.0, "here")
            for count in (2, 1):
                await stores.state.write([replace(missed, count=count)])
        assert "crons_figures" in server.log()
        assert "typeinfo" not in server.log()


@needs_pgbouncer
@pytest.mark.usefixtures("near")
async def test_they_cost_the_same_behind_a_pooler(pooler: PgBouncer) -> None:
    async with stores_at(pooler.url, pooler.port) as stores:
        await stores.run("first")
        assert await stores.run("second") == COSTS


@pytest.mark.parametrize(("delay", "far", "connections"), [(0.0, 60.0, 1), (0.05, 0.03, 2)])
async def test_over_a_long_way_claims_do_not_wait_for_records(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, delay: float, far: float, connections: int
) -> None:
    seam.POSTGRES_FAR.replace(monkeypatch, far)
    run = Run("0195d0c0-0000-7000-8000-000000000000", "job", 60, "schedule", 1, "here", 7, "completed", 60.0, 61.0)
    async with stores_at(postgres.url, postgres.port) as stores:
        stores.proxy.delay = delay
        for _ in range(6):
            await stores.state.write([run])
        assert stores.proxy.connections == connections
