"""LockClient: whatever a lock store raises counts as no answer, and is asked again or told in one way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress

import pytest
import pytest_asyncio

from fastapi_crons import CronConfig
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import Definition, LeaseTerms, LocalLockBackend
from fastapi_crons.locking.base import Registered
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.testing import VirtualClock
from tests.seam import Unheard
from tests.support import until_async

JOB = Definition("job", "* * * * *", "UTC", "module:function")
ODD = [
    ConnectionError("no route"),
    Unheard("a driver's own"),
    pytest.param(
        asyncio.CancelledError("a driver's own"),
        marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="can't be told from a cancellation"),
    ),
]


class Locks(LocalLockBackend):
    """Raises what it is told to, once."""

    error: BaseException | None = None

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        self._fail()
        return await super().register(definitions)

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        self._fail()
        return await super().leased(run_ids)

    async def close(self) -> None:
        self._fail()
        await super().close()

    def _fail(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


class Fixture:
    def __init__(self) -> None:
        self.clock, self.backend = VirtualClock(), Locks()
        self.outages: list[str] = []
        self.client = LockClient(
            self.backend,
            CronConfig(),
            self.clock,
            LeaseBook("process", LeaseTerms(60, 15), 5, self.clock.monotonic),
            count_ticks=lambda seconds: (0, False),
            on_outage=lambda since, until, why: self.outages.append(why),
        )


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Fixture]:
    fixture = Fixture()
    await fixture.client.open(Instance.of_this_process())
    yield fixture
    await fixture.client.close()


@pytest.mark.parametrize("error", ODD, ids=repr)
async def test_a_call_that_waits_for_the_store_is_made_again_whatever_was_raised(
    made: Fixture, error: BaseException
) -> None:
    made.backend.error = error
    call = asyncio.ensure_future(made.client.register([JOB]))
    await until_async(lambda: made.client.fault is not None)
    why = f"StoreUnavailableError: {type(error).__name__}: {error}"
    assert made.client.fault == why
    await made.clock.advance(seconds=1)
    assert len(await asyncio.wait_for(call, 5)) == 1
    assert made.client.fault is None
    assert made.outages == [f"the lock store did not answer ({why})"]


@pytest.mark.parametrize("error", ODD, ids=repr)
async def test_a_call_of_one_attempt_raises_one_kind_of_error_whatever_was_raised(
    made: Fixture, error: BaseException
) -> None:
    made.backend.error = error
    with pytest.raises(StoreUnavailableError, match=f"{type(error).__name__}: {error}"):
        await made.client.leased({"run"})


@pytest.mark.parametrize("error", ODD, ids=repr)
async def test_a_store_that_does_not_close_cleanly_is_left_with_a_warning(
    made: Fixture, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    made.backend.error = error
    await made.client.close()
    assert (
        f"the lock store did not close cleanly: StoreUnavailableError: {type(error).__name__}: {error}" in caplog.text
    )


async def test_a_caller_that_is_cancelled_is_not_kept(made: Fixture) -> None:
    made.backend.error = ConnectionError("no route")
    call = asyncio.ensure_future(made.client.register([JOB]))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_of_a_call_that_is_cancelled_before_it_began_nothing_is_left(made: Fixture) -> None:
    before = asyncio.all_tasks()
    call = asyncio.ensure_future(made.client.register([JOB]))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:  # as `asyncio.run` does at its end
        task.cancel()
    # Python would warn of a coroutine that was never awaited. Where `wait_for` needs no task of its own, the call has ended.
    with suppress(asyncio.CancelledError):
        await call
