"""Plain dependencies with `yield` of runs that are cut off: each version of FastAPI has them closed, and told of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from fastapi import Depends, FastAPI

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of, until_async

ROLLED_BACK = ["opened", "rolled back by a thread", "closed"]


class Database:
    """`db()`, `db.session()`, `partial(db.session, …)`: all of them are dependencies."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def session(self, name: str = "session") -> Iterator[str]:
        self.log.append("opened")
        try:
            yield name
        except asyncio.CancelledError:
            main = threading.current_thread() is threading.main_thread()
            self.log.append(f"rolled back by {'the loop' if main else 'a thread'}")
            raise
        finally:
            self.log.append("closed")

    def __call__(self) -> Iterator[str]:
        yield from self.session()


@pytest.mark.parametrize("plain_job", [False, True])
@pytest.mark.parametrize("cut_while", ["another opens", "it runs", "another closes"])
async def test_a_plain_dependency_is_rolled_back(
    make_crons: MakeCrons, clock: VirtualClock, cut_while: str, plain_job: bool
) -> None:
    crons, db = make_crons(), Database()
    session = Depends(db.session)
    waits: list[str] = []

    async def wait(where: str) -> None:
        if where == cut_while:
            waits.append(where)
            await clock.sleep(1000)

    async def another(of: str = session) -> AsyncIterator[str]:
        await wait("another opens")
        yield of
        await wait("another closes")

    async def job(of: str = Depends(another)) -> None:
        await wait("it runs")

    def plain(of: str = Depends(another)) -> object:
        return job()

    crons.cron("0 * * * *", name="job", timeout=60)(plain if plain_job else job)
    await crons.start()
    await clock.advance(crons, hours=1, minutes=2)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.duration) == ("timed_out", 60)
    assert db.log == ROLLED_BACK
    begun = asyncio.create_task(crons.run_job("job"))
    await until_async(lambda: len(waits) == 2)
    assert await crons.cancel_run((await runs_of(crons, "job"))[-1].id)
    assert (await begun).status == "cancelled"
    assert db.log == ROLLED_BACK * 2


@pytest.mark.parametrize("made", [lambda db: db, lambda db: partial(db.session, name="other")])
async def test_so_is_one_that_is_no_function_or_overrides_another(
    clock: VirtualClock, made: Callable[[Database], Callable[..., Iterator[str]]]
) -> None:
    app, db, other = FastAPI(), Database(), Database()
    crons = Crons(app, clock=clock)
    session = made(db)

    @crons.cron("0 * * * *", name="job", timeout=60)
    async def job(of: str = Depends(session)) -> None:
        await clock.sleep(1000)

    async with app.router.lifespan_context(app):
        await clock.advance(crons, hours=1, minutes=2)
        assert db.log == ROLLED_BACK
        app.dependency_overrides[session] = other.session
        await clock.advance(crons, hours=1)
        assert (db.log, other.log) == (ROLLED_BACK, ROLLED_BACK)


async def test_one_that_keeps_the_cut_to_itself_changes_nothing(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    def keeping() -> Iterator[None]:
        with suppress(BaseException):
            yield

    @crons.cron("0 * * * *", name="job", timeout=60)
    async def job(_: None = Depends(keeping)) -> None:
        await clock.sleep(1000)

    await crons.start()
    await clock.advance(crons, hours=1, minutes=2)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.duration) == ("timed_out", 60)
