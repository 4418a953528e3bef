"""Plain functions with dependencies that are cut off: the thread goes on, and so do its dependencies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fastapi import Depends

from fastapi_crons import CronsError, JobLockedError
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of, until_async


class Session:
    """As a session of SQLAlchemy's, which must not be used after its end."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.began, self.goes_on, self.closed = threading.Event(), threading.Event(), threading.Event()

    def execute(self) -> None:
        self.log.append("used after it was closed" if self.closed.is_set() else "used")

    def opened(self) -> Iterator[Session]:
        self.log.append("opened")
        try:
            yield self
        except BaseException as error:
            self.log.append(f"rolled back: {type(error).__name__}")
            raise
        finally:
            self.closed.set()

    def work(self) -> None:
        self.execute()
        self.began.set()
        assert self.goes_on.wait(30)
        self.execute()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("cut", ["timed_out", "cancelled", "interrupted"])
async def test_dependencies_stay_open_until_a_function_that_was_cut_off_has_returned(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture, cut: str, fails: bool
) -> None:
    crons, db = make_crons(shutdown_timeout=0.05), Session()
    opened = Depends(db.opened)

    def closing(inner: Session = opened) -> Iterator[Session]:
        try:
            yield inner
        except asyncio.CancelledError:
            if fails:
                raise ConnectionError("the database is gone") from None
            raise

    session = Depends(closing)

    @crons.cron("0 0 1 1 *", name="job", timeout=60 if cut == "timed_out" else None)
    def job(of: Session = session) -> None:
        of.work()

    await crons.start()
    begun = asyncio.create_task(crons.run_job("job"))
    await until_async(db.began.is_set)
    if cut == "timed_out":
        await clock.advance(crons, seconds=61, finish_runs=False)
    elif cut == "cancelled":
        assert await crons.cancel_run((await runs_of(crons, "job"))[0].id)
    else:
        await asyncio.wait_for(crons.stop(), 5)
    with suppress(CronsError):  # who waits for a run at a stop may be told that it has not ended
        assert (await begun).status == cut
    assert (db.log, db.closed.is_set()) == (["opened", "used"], False)
    if cut != "interrupted":
        with pytest.raises(JobLockedError):
            await crons.run_job("job")
    db.goes_on.set()
    await until_async(db.closed.is_set)
    assert db.log == ["opened", "used", "used", f"rolled back: {'ConnectionError' if fails else 'CancelledError'}"]
    await until_async(lambda: fails is ("could not be closed" in caplog.text))
    await crons.stop()


async def test_what_is_cut_off_before_its_thread_begins_has_nothing_to_wait_for(make_crons: MakeCrons) -> None:
    crons, held, db = make_crons(max_threads=1), Session(), Session()
    crons.cron("0 0 1 1 *", name="holds")(held.work)
    opened = Depends(db.opened)

    @crons.cron("0 0 1 1 *", name="job")
    def job(of: Session = opened) -> None:
        of.execute()

    await crons.start()
    holding = asyncio.create_task(crons.run_job("holds"))
    await until_async(held.began.is_set)
    begun = asyncio.create_task(crons.run_job("job"))
    await until_async(lambda: "opened" in db.log)
    await until_async(
        lambda: crons.engine is not None and any(run.waits for run in crons.engine.runner.active.values())
    )
    assert await crons.cancel_run((await runs_of(crons, "job"))[0].id)
    assert (await begun).status == "cancelled"
    assert db.log == ["opened", "rolled back: CancelledError"]
    held.goes_on.set()
    await holding
    await crons.stop()
