"""Events of several namespaces in one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import asyncpg

from fastapi_crons.state import HistoryLimits
from fastapi_crons.state.base import Signal
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.support import until_async

#: Transactions that tell of the job `slow` wait for this advisory lock when they are committed.
_LOCK = 4_711
_SLOW_COMMITS = f"""
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock({_LOCK}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON crons_event DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.signal LIKE '%"slow"%') EXECUTE FUNCTION wait();
"""


@asynccontextmanager
async def opened(url: str, namespace: str, instance: int) -> AsyncIterator[PostgresStateBackend]:
    # Each has a connection of its own.
    state = PostgresStateBackend(f"{url}?application_name=instance-{instance}")
    try:
        await state.open(namespace, HistoryLimits(100, 30))
        yield state
    finally:
        await state.close()


async def test_an_event_is_told_though_another_namespace_commits_a_later_one_first(postgres: PostgresServer) -> None:
    name = f"events_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {name}")
    url = postgres.url_of(name)
    in_the_way = await asyncpg.connect(url)
    async with (
        opened(url, "production", 1) as ours,
        opened(url, "production", 2) as of_a_peer,
        opened(url, "staging", 3) as theirs,
    ):
        postgres.psql(_SLOW_COMMITS, name)
        events = ours.events(records=False)
        assert events is not None
        async with aclosing(events):
            first = asyncio.ensure_future(anext(events))
            while not first.done():  # what is told before the subscription has begun is not heard
                await ours.publish(Signal("resume", "first"))
                await asyncio.wait({first}, timeout=0.2)
            await in_the_way.execute(f"SELECT pg_advisory_lock({_LOCK})")
            await ours.publish(Signal("resume", "second"))
            slow = asyncio.create_task(of_a_peer.publish(Signal("cancel", "slow", "run")))
            await until_async(lambda: postgres.psql(_WAITING) == "1")
            await theirs.publish(Signal("resume", "of another namespace"))
            while (await anext(events)).job != "second":
                pass
            await in_the_way.execute(f"SELECT pg_advisory_unlock({_LOCK})")
            await slow
            await ours.publish(Signal("resume", "last"))
            assert (await anext(events)).job == "slow"
    await in_the_way.close()


_WAITING = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {_LOCK} AND NOT granted"
