"""`store copy`: jobs and their history come to other stores as they were, or everything stays as it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from fastapi_crons.locking import ClaimRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.testing._state_backfills import a_backfill
from fastapi_crons_cli.commands.store.marks import ACTOR
from tests.faults.postgres_server import PostgresServer, needs_postgres, postgres_programs
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.cli.commands import Cli, json_of, refused
from tests.integration.cli.copies import fill, holds, place

pytestmark = pytest.mark.leaves("lease", "an instance that is made up leaves what it was at work on")
KINDS = [
    "sqlite",
    pytest.param("redis", marks=needs_redis),
    pytest.param("postgres", marks=needs_postgres),
]


@pytest.fixture(autouse=True)
def namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"copy-{secrets.token_hex(6)}"
    monkeypatch.setenv("CRON_NAMESPACE", name)
    monkeypatch.setenv("CRON_HISTORY_KEEP_ALWAYS", "0")
    return name


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    if not postgres_programs():
        pytest.skip(needs_postgres.kwargs["reason"])
    with PostgresServer() as server:
        server.psql("CREATE DATABASE other")
        yield server


@pytest.fixture
def places(request: pytest.FixtureRequest) -> Callable[[str, str], tuple[str, str]]:
    """Two places for two kinds of stores."""

    def name(kind: str, number: int) -> str:
        if kind == "sqlite":
            return f"sqlite:{'ab'[number]}.db"
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            return f"{server.url.rpartition('/')[0]}/{number}"
        database: PostgresServer = request.getfixturevalue("postgres")
        return database.url_of(["postgres", "other"][number])

    return lambda source, target: (name(source, 0), name(target, 1))


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_all_that_is_on_record_comes_to_another_store(
    source: str, target: str, places: Callable[[str, str], tuple[str, str]], fastapi_crons: Cli
) -> None:
    old, new = places(source, target)
    asyncio.run(fill(old))
    before = asyncio.run(holds(old))
    assert len(before["runs"]) == 34  # type: ignore[arg-type]
    result = fastapi_crons("store", "copy", old.replace("postgresql:", "postgresql+psycopg2:"), new)
    assert result.exit_code == 0, result.output
    assert ": 4 jobs, 34 runs, 1 record of missed ticks, 1 backfill\n" in result.stdout
    assert asyncio.run(holds(new)) == before
    assert asyncio.run(holds(old)) == before
    assert "already" in refused(fastapi_crons("store", "copy", old, new)), "it is not empty any more"
    assert asyncio.run(holds(new)) == before


async def jobs_in(name: str) -> int:
    async with place(name) as (_, _, lock):
        return len(await lock.known())


def test_nothing_is_copied_while_an_instance_lives_on_either_side(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def while_one_lives(name: str) -> str:
        me = replace(Instance.of_this_process("pod-1"), host="elsewhere", boot="")
        async with place(name, instance=me) as (_, _, lock):
            result = await asyncio.to_thread(fastapi_crons, "store", "copy", "sqlite:a.db", "sqlite:b.db")
            await lock.leave()
            me.lives_here(alive=False)
            return refused(result)

    assert "'pod-1' is alive in sqlite:a.db; stop what uses it, or add --live" in asyncio.run(
        while_one_lives("sqlite:a.db")
    )
    assert "'pod-1' is alive in sqlite:b.db" in asyncio.run(while_one_lives("sqlite:b.db"))
    assert asyncio.run(jobs_in("sqlite:b.db")) == 0


def test_what_was_copied_is_said_in_json(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))
    assert json_of(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db", "--json")) == {
        "from": "sqlite:a.db",
        "to": "sqlite:b.db",
        "live": False,
        "jobs": 4,
        "runs": 34,
        "missed": 1,
        "backfills": 1,
    }


def test_what_can_not_be_copied_is_refused_with_what_to_do(fastapi_crons: Cli) -> None:
    assert "knows no jobs in this namespace" in refused(fastapi_crons("store", "copy", "sqlite:no.db", "sqlite:x.db"))
    asyncio.run(fill("sqlite:a.db"))
    assert "already" in refused(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:a.db"))
    for given in ("mysql://me:secret@host/db", "b.db"):
        sentence = refused(fastapi_crons("store", "copy", "sqlite:a.db", given))
        assert "no installed plugin brings" in sentence
        assert "secret" not in sentence
    assert not Path("b.db").exists()

    me = Instance.of_this_process()

    async def while_one_goes_on() -> str:
        async with place("sqlite:a.db", instance=me) as (_, state, lock):
            await state.begin_backfill(a_backfill("a")._replace(owner=me.owner))
            result = await asyncio.to_thread(fastapi_crons, "store", "copy", "sqlite:a.db", "sqlite:b.db", "--live")
            await lock.leave()
            me.lives_here(alive=False)
            return refused(result)

    assert "a backfill of job 'a' is running" in asyncio.run(while_one_goes_on())
    assert not Path("b.db").exists()


def test_what_is_refused_makes_no_file(fastapi_crons: Cli) -> None:
    for more in ([], ["--live"]):
        sentence = refused(fastapi_crons("store", "copy", "sqlite:typo.db", "sqlite:new.db", *more))
        assert "sqlite:typo.db knows no jobs" in sentence
    assert not list(Path().glob("*.db*"))


@needs_redis
def test_what_is_refused_makes_no_keys(redis_server: RedisServer, namespace: str, fastapi_crons: Cli) -> None:
    refused(fastapi_crons("store", "copy", "sqlite:typo.db", redis_server.url))
    with Redis.from_url(redis_server.url) as client:
        assert client.keys(f"*{namespace}*") == []


@needs_postgres
def test_what_is_refused_makes_no_tables(postgres: PostgresServer, fastapi_crons: Cli) -> None:
    postgres.psql("CREATE DATABASE untouched")
    refused(fastapi_crons("store", "copy", "sqlite:typo.db", postgres.url_of("untouched")))
    assert postgres.psql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'crons%'", "untouched") == "0"


def test_a_copy_from_a_running_fleet_leaves_the_jobs_paused_where_they_were(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))
    before = asyncio.run(holds("sqlite:a.db"))

    async def copied() -> str:
        me = Instance.of_this_process()
        async with place("sqlite:a.db", instance=me) as (_, _, lock):
            result = await asyncio.to_thread(fastapi_crons, "store", "copy", "sqlite:a.db", "sqlite:b.db", "--live")
            assert result.exit_code == 0, result.output
            (last,) = await lock.last_handled(["ö"])
            assert last is not None
            (answer,) = await lock.claim([ClaimRequest("ö", "r", last + 1, "* * * * *", "UTC", arguments="0a")])
            assert answer.outcome == "paused"
            await lock.leave()
            me.lives_here(alive=False)
            return result.stdout

    said = asyncio.run(copied())
    assert "All jobs stay paused in sqlite:a.db" in said
    assert asyncio.run(holds("sqlite:b.db")) == before
    for more in ([], ["--live"]):
        sentence = refused(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:c.db", *more))
        assert "moved to sqlite:b.db" in sentence
        assert "already" in refused(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db", *more))

    async def pauses() -> set[str | None]:
        async with place("sqlite:a.db") as (_, _, lock):
            return {pause.actor for pause in (await lock.pauses()).values()}

    assert asyncio.run(pauses()) == {ACTOR, "ops"}, "what is refused resumes nothing"
