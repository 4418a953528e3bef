"""`store copy` while something else goes on: the copy waits, or is refused and the fleet goes on as before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import pytest

from fastapi_crons import CronConfig
from fastapi_crons.errors import CronsError, StoreUnavailableError
from fastapi_crons.locking import ClaimRequest, Definition, KnownJob, LeaseRef, ResumeRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.state import Figures, JobState
from fastapi_crons.testing._state_backfills import a_backfill
from fastapi_crons.testing._state_questions import NOW, a_run
from fastapi_crons_cli.commands.store.copying import Copy
from fastapi_crons_cli.commands.store.marks import ACTOR
from fastapi_crons_cli.commands.store.places import Place, opened
from fastapi_crons_cli.output import Progress
from tests.integration.cli.commands import Cli
from tests.integration.cli.copies import fill, holds, place

pytestmark = pytest.mark.leaves("lease", "an instance that is made up leaves what it was at work on")


@pytest.fixture(autouse=True)
def _namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_NAMESPACE", f"copy-{secrets.token_hex(6)}")
    monkeypatch.setenv("CRON_HISTORY_KEEP_ALWAYS", "0")


class Between(NamedTuple):
    """A running fleet, and the copy that is made of it."""

    source: Place
    copy: Copy
    during: list[Callable[[], Awaitable[object]]]
    """What happens after the runs were copied, and before the copy is whole."""


@asynccontextmanager
async def a_live_copy() -> AsyncIterator[Between]:
    """A copy of a fleet in a.db, one instance of which is alive, to b.db."""
    during: list[Callable[[], Awaitable[object]]] = []
    me = Instance.of_this_process()
    async with place("sqlite:a.db", instance=me) as source, place("sqlite:b.db") as target:

        class Meanwhile(type(target.state)):  # type: ignore[misc]
            async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:
                await super().restore(states, figures)
                while during:
                    await during.pop()()

        disturbed = target._replace(state=Meanwhile("b.db"))
        async with opened(disturbed, CronConfig(), to_read=False):
            with Progress() as progress:
                yield Between(source, Copy(source, disturbed, True, progress), during)
        await source.lock.leave()
        me.lives_here(alive=False)


async def marks(name: str) -> set[tuple[str | None, str | None]]:
    async with place(name) as (_, _, lock):
        return {pause[1:] for pause in (await lock.pauses()).values()}


def test_a_copy_that_breaks_off_leaves_jobs_that_nobody_runs_until_it_is_made_again(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))
    before = asyncio.run(holds("sqlite:a.db"))

    async def disk_full() -> None:
        raise StoreUnavailableError("the disk is full")

    async def breaks_off() -> None:
        async with a_live_copy() as between:
            between.during.append(disk_full)
            with pytest.raises(StoreUnavailableError, match="disk is full"):
                await between.copy.make()

    asyncio.run(breaks_off())
    assert asyncio.run(holds("sqlite:a.db")) == before, "its jobs were resumed"
    unfinished = {(ACTOR, "the copy from sqlite:a.db is not finished; make it again")}
    assert asyncio.run(marks("sqlite:b.db")) == unfinished

    async def breaks_off_as_it_begins() -> None:
        async with a_live_copy() as between:

            class Stuck(type(between.copy.target.lock)):  # type: ignore[misc]
                async def restore(self, jobs: Sequence[KnownJob]) -> None:
                    raise StoreUnavailableError("it does not answer")

            between.copy.target.lock.__class__ = Stuck
            with pytest.raises(StoreUnavailableError):
                await between.copy.make()

    asyncio.run(breaks_off_as_it_begins())
    assert fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db").exit_code == 0
    assert asyncio.run(holds("sqlite:b.db")) == before


async def a_run_by_hand(between: Between) -> None:
    answers = await between.source.lock.claim([ClaimRequest("ö", "by hand", None, "* * * * *", "UTC")])
    assert answers[0].outcome == "granted"


async def an_outcome_is_written(between: Between) -> None:
    await between.source.state.write([a_run("ö", "failed", started=NOW - 7_200)])


async def a_job_is_resumed(between: Between) -> None:
    await between.source.lock.resume([ResumeRequest("off", "n")])


async def a_new_job(between: Between) -> None:
    await between.source.lock.register([Definition("new", "* * * * *", "UTC", "m:new")])


@pytest.mark.parametrize("change", [a_run_by_hand, an_outcome_is_written, a_job_is_resumed, a_new_job])
def test_a_source_that_changes_while_it_is_copied_is_not_copied(change: Callable[[Between], Awaitable[None]]) -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            between.during.append(lambda: change(between))
            with pytest.raises(CronsError, match="has changed while it was copied"):
                await between.copy.make()
            paused = await between.source.lock.pauses()
            assert {job: pause.actor for job, pause in paused.items()} == {"b": "ops"}

    asyncio.run(copied())
    assert {actor for actor, _ in asyncio.run(marks("sqlite:b.db"))} == {ACTOR}


async def loses_all(target: Place) -> None:
    await target.lock.forget(-1)


async def is_copied_to_by_another(target: Place) -> None:
    known = await target.lock.known()
    assert known[0].pause is not None
    later = known[0].pause._replace(since=known[0].pause.since + 5)
    await target.lock.restore([each._replace(pause=later) for each in known])


async def has_an_instance(target: Place) -> None:
    pod = replace(Instance.of_this_process("pod-1"), host="elsewhere", boot="")
    async with place(target.name, instance=pod):
        pod.lives_here(alive=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (loses_all, "does not have what was copied any more"),
        (is_copied_to_by_another, "does not have what was copied any more"),
        (has_an_instance, "'pod-1' is alive in sqlite:b.db; stop what uses it, and try again"),
    ],
)
def test_a_copy_is_not_whole_where_the_target_is_not_what_was_written(
    change: Callable[[Place], Awaitable[None]], says: str
) -> None:
    asyncio.run(fill("sqlite:a.db"))
    before = asyncio.run(holds("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            between.during.append(lambda: change(between.copy.target))
            with pytest.raises(CronsError, match=says):
                await between.copy.make()
            assert not between.copy.is_whole

    asyncio.run(copied())
    assert asyncio.run(holds("sqlite:a.db")) == before, "its jobs were resumed"


def test_what_living_instances_are_at_work_on_comes_with_its_outcome() -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            lock, state = between.source.lock, between.source.state
            (living,) = await lock.instances()
            run = replace(a_run("ö"), instance=living.instance.id)
            (granted,) = await lock.claim([ClaimRequest("ö", run.id, None, "* * * * *", "UTC")])
            await state.write([run])
            copy = asyncio.ensure_future(between.copy.make())
            # A job that was registered after the pauses is paused, too.
            await asyncio.sleep(0.5)
            await lock.register([Definition("new", "* * * * *", "UTC", "m:new")])
            await asyncio.sleep(0.5)
            assert {pause.actor for pause in (await lock.pauses()).values()} == {ACTOR, "ops"}
            assert "new" in await lock.pauses()
            # A slow state store: the lease is released before the outcome is written.
            await lock.release([LeaseRef("ö", run.id, granted.token)])
            await asyncio.sleep(0.5)
            assert not copy.done()
            await state.write([replace(run, status="completed", ended_ts=run.started_ts + 2)])
            assert (await copy).jobs == 5
            found = await between.copy.target.state.run(run.id)
            assert found is not None
            assert found.status == "completed"

    asyncio.run(copied())


def test_leases_of_the_dead_are_only_in_the_new_store() -> None:
    """One that was only suspended asks for its lease before it goes on."""
    asyncio.run(fill("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            leases = [lease for each in await between.source.lock.known() for lease in each.leases]
            assert len(leases) == 1
            await between.copy.make()
            found = [lease for each in await between.copy.target.lock.known() for lease in each.leases]
            assert [lease.run_id for lease in found] == [lease.run_id for lease in leases]
            assert await between.source.lock.leased([leases[0].run_id]) == set()

    asyncio.run(copied())


def test_a_backfill_of_an_instance_that_is_gone_does_not_stand_in_the_way(fastapi_crons: Cli) -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def begin(owner: str) -> None:
        async with place("sqlite:a.db") as (_, state, _):
            assert await state.begin_backfill(a_backfill("a")._replace(owner=owner)) is None

    asyncio.run(begin("gone"))
    before = asyncio.run(holds("sqlite:a.db"))
    assert fastapi_crons("store", "copy", "sqlite:a.db", "sqlite:b.db").exit_code == 0
    assert asyncio.run(holds("sqlite:b.db")) == before


def test_a_backfill_that_began_after_the_check_stands_in_the_way() -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            (living,) = await between.source.lock.instances()
            await between.source.state.begin_backfill(a_backfill("a")._replace(owner=living.instance.owner))
            with pytest.raises(CronsError, match="a backfill of job 'a' is running"):
                await between.copy.make()

    asyncio.run(copied())


def test_jobs_are_resumed_when_their_store_answers_again() -> None:
    asyncio.run(fill("sqlite:a.db"))

    async def copied() -> None:
        async with a_live_copy() as between:
            answers = 2

            class Away(type(between.source.lock)):  # type: ignore[misc]
                async def pauses(self) -> object:
                    nonlocal answers
                    answers -= 1
                    if answers > 0:
                        raise StoreUnavailableError("it is being restarted")
                    return await super().pauses()

            async def goes_away() -> None:
                between.source.lock.__class__ = Away
                raise StoreUnavailableError("it went away")

            between.during.append(goes_away)
            with pytest.raises(StoreUnavailableError, match="went away"):
                await between.copy.make()
            assert not between.copy.is_at_rest
            assert {pause.actor for pause in (await between.source.lock.pauses()).values()} == {"ops"}

    asyncio.run(copied())
