"""`store copy`: jobs and their history come to other stores as they were, or everything stays as it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from fastapi_crons import CronConfig, LogLine, MissedTicks
from fastapi_crons.clock import SystemClock
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import ClaimRequest, Definition, LeaseTerms, PauseRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.plugins import Plugins
from fastapi_crons.state import MissedQuery
from fastapi_crons.testing._state_backfills import a_backfill
from fastapi_crons.testing._state_questions import NOW, a_run, new_id, runs_at
from fastapi_crons_cli.commands.store.copying import ACTOR, Copy
from fastapi_crons_cli.commands.store.places import Place, opened, place_of
from tests.faults.postgres_server import PostgresServer, needs_postgres, postgres_programs
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.cli.commands import Cli, refused

T = TypeVar("T")

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


@asynccontextmanager
async def place(name: str, *, instance: Instance | None = None) -> AsyncIterator[Place]:
    """The stores at a place; as this instance has them open, which is then alive there."""
    config = CronConfig()
    made = place_of(name, Plugins(), config)
    async with opened(made, config, to_read=False):
        if instance is not None:
            await made.lock.close()
            instance.lives_here(alive=True)
            await made.lock.open(instance, config.namespace, LeaseTerms(300, 30), SystemClock())
            await made.lock.beat()
        yield made


async def fill(name: str) -> None:
    """Some jobs, one of them paused, one at work when its instance died; and what became of them, most of it deleted."""
    me = Instance.of_this_process()
    async with place(name, instance=me) as (_, state, lock):
        await lock.register(
            [Definition(job, "* * * * *", "UTC", f"m:{job}", arguments="0a") for job in ("a", "b", "ö")]
        )
        await lock.register([Definition("off", "0 * * * *", "", "m:off", enabled=False)])
        await lock.pause([PauseRequest("b", "ops", "until monday")])
        (last,) = await lock.last_handled(["a"])
        assert last is not None
        running = a_run("a")
        await lock.claim([ClaimRequest("a", running.id, last + 1, "* * * * *", "UTC")])
        log = (LogLine(NOW, "INFO", "app", "a line"), LogLine(NOW, "ERROR", "app", "änother\nline"))
        logged = [replace(run, log=log) for run in runs_at(NOW - 3_600, 30, every=100, job="ö")]
        failed = runs_at(NOW - 400, 3, job="b", status="failed")
        await state.write([*logged, *failed])
        await state.write([running, MissedTicks(new_id(), "a", int(NOW) - 90, int(NOW) - 60, 2, "paused", NOW, "here")])
        # Counted, and not on record any more.
        gone = runs_at(NOW - 40 * 86_400, 7, job="long gone")
        await state.write(gone)
        await state.prune(NOW)
        await state.begin_backfill(a_backfill("b")._replace(status="completed", revision=3, ended_ts=NOW))
        me.lives_here(alive=False)


async def holds(name: str) -> dict[str, object]:
    """All that is on record at a place."""
    async with place(name) as (_, state, lock):
        runs = await state.runs(None, limit=1_000)
        whole = await state.runs_by_id([run.id for run in runs])
        jobs = ["a", "b", "ö", "off", "long gone"]
        known = await lock.known()
        return {
            # As far as all stores keep fractions of seconds.
            "jobs": {
                each.job: each._replace(
                    since=round(each.since, 2),
                    leases=tuple(lease._replace(expires=0) for lease in each.leases),
                    pause=each.pause and each.pause._replace(since=round(each.pause.since, 2)),
                )
                for each in known
            },
            "runs": [whole[run.id] for run in runs],
            "missed": await state.find_missed(MissedQuery(jobs, limit=1_000)),
            "states": {
                job: each._replace(
                    last_run_ts=0,
                    last_success_ts=each.last_success_ts and round(each.last_success_ts, 3),
                    last_success_took=each.last_success_took and round(each.last_success_took, 3),
                )
                for job, each in (await state.states()).items()
            },
            "figures": sorted(
                (
                    each._replace(longest=0, durations=tuple(sorted(each.durations.items())))  # type: ignore[arg-type]
                    for each in await state.figures(None, since=0)
                ),
                key=str,
            ),
            "backfills": await state.backfills(),
        }


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_all_that_is_on_record_comes_to_another_store(
    source: str, target: str, places: Callable[[str, str], tuple[str, str]], fastapi_crons: Cli
) -> None:
    old, new = places(source, target)
    asyncio.run(fill(old))
    before = asyncio.run(holds(old))
    assert len(before["runs"]) == 34  # type: ignore[arg-type]
    result = fastapi_crons("store", "copy", old, new)
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


def test_what_can_not_be_copied_is_refused_with_what_to_do(fastapi_crons: Cli) -> None:
    assert "knows no jobs in this namespace" in refused(fastapi_crons("store", "copy", "sqlite:no.db", "sqlite:x.db"))
    asyncio.run(fill("sqlite:a.db"))
    assert "already" in refused(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:a.db"))
    for given in ("mysql://me:secret@host/db", "b.db"):
        sentence = refused(fastapi_crons("store", "copy", "sqlite:a.db", given))
        assert "no installed plugin brings" in sentence
        assert "secret" not in sentence
    assert not Path("b.db").exists()

    async def begin() -> None:
        async with place("sqlite:a.db") as (_, state, _):
            await state.begin_backfill(a_backfill("a"))

    asyncio.run(begin())
    assert "a backfill of job 'a' is running" in refused(fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db"))
    assert asyncio.run(jobs_in("sqlite:b.db")) == 0


def test_a_copy_that_breaks_off_leaves_jobs_that_nobody_runs_until_it_is_made_again(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))
    before = asyncio.run(holds("sqlite:a.db"))

    async def breaks_off() -> None:
        async with place("sqlite:a.db") as source, place("sqlite:b.db") as target:

            class Full(type(target.state)):  # type: ignore[misc]
                """A store that has no room for backfills."""

                async def begin_backfill(self, record: object) -> None:
                    raise StoreUnavailableError("the disk is full")

            full = Full("b.db")
            async with opened(target._replace(state=full), CronConfig(), to_read=False) as broken:
                with pytest.raises(StoreUnavailableError):
                    await Copy(source, broken, True, lambda _: None).make()

    asyncio.run(breaks_off())
    assert asyncio.run(holds("sqlite:a.db")) == before, "its jobs were resumed"

    async def notes() -> set[tuple[str | None, str | None]]:
        async with place("sqlite:b.db") as (_, _, lock):
            return {pause[1:] for pause in (await lock.pauses()).values()}

    assert asyncio.run(notes()) == {(ACTOR, "the copy from sqlite:a.db is not finished; make it again")}
    assert fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db").exit_code == 0
    assert asyncio.run(holds("sqlite:b.db")) == before


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
