"""Jobs with dependencies: what FastAPI resolves for them, and what these see of a run's end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.security import HTTPBearer

from fastapi_crons import Crons, JobContext
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of

happened: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    happened.clear()


async def session() -> AsyncIterator[str]:
    """As a database session: commits after success, rolls back after a failure."""
    happened.append("opened")
    try:
        yield "session"
    except BaseException as error:
        happened.append(f"rolled back: {type(error).__name__}")
        raise
    else:
        happened.append("committed")
    finally:
        happened.append("closed")


Session = Annotated[str, Depends(session)]


async def _run(crons: Crons, clock: VirtualClock) -> None:
    await crons.start()
    await clock.advance(crons, hours=1, seconds=30)


async def test_a_dependency_is_open_while_the_function_runs(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job")
    async def job(db: Session, context: JobContext) -> str:
        happened.append(f"ran in {db} as {context.job}")
        return db

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.result) == ("completed", "session")
    assert happened == ["opened", "ran in session as job", "committed", "closed"]


async def test_a_plain_function_gets_them_in_its_thread(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    def settings() -> Iterator[str]:
        yield "settings"
        happened.append("settings put away")

    @crons.cron("0 * * * *", name="job")
    def job(db: Session, of: str = Depends(settings)) -> list[str]:
        happened.append("ran")
        return [db, of]

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert run.result == ["session", "settings"]
    assert happened == ["opened", "ran", "settings put away", "committed", "closed"]


async def test_a_failure_is_seen_and_each_attempt_has_its_own(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", max_retries=1, retry_delay=1)
    async def job(db: Session, context: JobContext) -> None:
        if context.attempt == 1:
            raise ValueError("not yet")

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.attempt) == ("completed", 2)
    assert happened == ["opened", "rolled back: ValueError", "closed", "opened", "committed", "closed"]


async def test_a_commit_that_fails_fails_the_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    async def failing() -> AsyncIterator[None]:
        yield
        raise ConnectionError("lost while committing")

    @crons.cron("0 * * * *", name="job")
    async def job(db: None = Depends(failing)) -> str:
        return "done"

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert run.status == "failed"
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("ConnectionError", "lost while committing")


async def test_a_time_limit_and_a_cancellation_are_seen(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", timeout=60)
    async def job(db: Session) -> None:
        await clock.sleep(1000)

    await crons.start()
    await clock.advance(crons, hours=1, minutes=2)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.duration) == ("timed_out", 60)
    assert happened.count("rolled back: CancelledError") == 1
    begun = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, seconds=1, finish_runs=False)
    running = (await runs_of(crons, "job"))[-1]
    assert await crons.cancel_run(running.id)
    assert (await begun).status == "cancelled"
    assert happened.count("rolled back: CancelledError") == 2


async def test_the_time_limit_covers_what_is_opened_and_closed(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    async def slow_to_open() -> None:
        await clock.sleep(40)

    async def slow_to_close() -> AsyncIterator[None]:
        yield
        await clock.sleep(1000)

    @crons.cron("0 * * * *", name="opens", timeout=60)
    async def opens(_: None = Depends(slow_to_open)) -> None:
        await clock.sleep(30)

    @crons.cron("0 * * * *", name="closes", timeout=60)
    def closes(_: None = Depends(slow_to_close)) -> None: ...

    await crons.start()
    await clock.advance(crons, hours=1, minutes=5)
    for name in ("opens", "closes"):
        (run,) = await runs_of(crons, name)
        assert (run.status, run.duration) == ("timed_out", 60)


async def test_a_failure_that_a_dependency_keeps_to_itself_is_the_runs_failure(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()

    async def swallowing() -> AsyncIterator[None]:
        try:
            yield
        except ValueError:
            happened.append("swallowed")

    @crons.cron("0 * * * *", name="job")
    async def job(_: None = Depends(swallowing)) -> None:
        raise ValueError("the cause")

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert happened == ["swallowed"]
    assert run.error is not None
    assert (run.status, run.error.type, run.error.message) == ("failed", "ValueError", "the cause")


class Paging:
    def __init__(self, size: int = 100) -> None:
        self.size = size


calls: list[str] = []


def once() -> int:
    calls.append("once")
    return len(calls)


def nested(number: Annotated[int, Depends(once)]) -> int:
    return number * 10


def fresh() -> int:
    calls.append("fresh")
    return len(calls)


def optional_user(token: Annotated[object, Security(HTTPBearer(auto_error=False))]) -> str:
    return "nobody" if token is None else "somebody"


def told_later(tasks: BackgroundTasks) -> None:
    tasks.add_task(happened.append, "told")


async def test_all_that_fastapi_resolves_for_endpoints_is_resolved(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    calls.clear()

    @crons.cron("0 * * * *", name="job")
    async def job(
        number: Annotated[int, Depends(once)],
        ten: Annotated[int, Depends(nested)],
        first: Annotated[int, Depends(fresh, use_cache=False)],
        second: Annotated[int, Depends(fresh, use_cache=False)],
        user: Annotated[str, Depends(optional_user)],
        paging: Annotated[Paging, Depends()],
        tasks: Annotated[None, Depends(told_later)],
    ) -> list[object]:
        return [number, ten, second - first, user, paging.size]

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert run.result == [1, 10, 1, "nobody", 100]
    assert calls == ["once", "fresh", "fresh"]
    assert happened == ["told"]


async def test_the_request_has_the_app_and_what_its_lifespan_yielded(clock: VirtualClock) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        yield {"pool": "the pool"}

    app = FastAPI(lifespan=lifespan)
    crons = Crons(app, clock=clock)

    def pool(request: Request) -> str:
        return f"{request.state.pool} of {request.app.title}"

    @crons.cron("0 * * * *", name="job")
    async def job(request: Request, of: str = Depends(pool)) -> list[str]:
        return [request.url.path, of]

    async with app.router.lifespan_context(app):
        await clock.advance(crons, hours=1)
        (run,) = await runs_of(crons, "job")
        assert run.result == ["/", "the pool of FastAPI"]
        app.dependency_overrides[pool] = lambda: "another pool"
        await clock.advance(crons, hours=1)
        assert (await runs_of(crons, "job"))[-1].result == ["/", "another pool"]
        app.dependency_overrides.clear()
        await clock.advance(crons, hours=1)
        assert (await runs_of(crons, "job"))[-1].result == ["/", "the pool of FastAPI"]


async def test_a_dependency_that_fails_fails_the_run_before_the_function(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()

    def refusing() -> None:
        raise HTTPException(403, "not you")

    async def job(_: None = Depends(refusing), db: str = Depends(session)) -> None:
        happened.append("ran")

    crons.cron("0 * * * *", name="job")(job)
    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "HTTPException")
    assert "not you" in run.error.message
    assert "ran" not in happened


def hiding(function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> object:
        return await function(*args, **kwargs)

    return call


def silent(function: Callable[..., Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    @functools.wraps(function)
    async def call() -> object:
        return await function("given by the wrapper")

    return call


async def test_what_is_really_called_says_what_it_depends_on(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    async def job(db: Session) -> str:
        return db

    crons.cron("0 * * * *", name="passing on")(hiding(job))
    crons.cron("0 * * * *", name="filled in")(silent(job))
    crons.cron("0 * * * *", name="partial")(functools.partial(job, db="given"))
    await _run(crons, clock)
    results = {name: (await runs_of(crons, name))[0].result for name in ("passing on", "filled in", "partial")}
    assert results == {"passing on": "session", "filled in": "given by the wrapper", "partial": "given"}
    assert happened == ["opened", "committed", "closed"]


async def test_a_scheduler_without_an_app_says_so(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    def title(request: Request) -> str:
        return str(request.app.title)

    @crons.cron("0 * * * *", name="job")
    async def job(of: str = Depends(title)) -> None: ...

    @crons.cron("0 * * * *", name="itself")
    async def itself(request: Request) -> str:
        return str(request.app.title)

    @crons.cron("0 * * * *", name="own")
    async def own(number: int = Depends(once)) -> None:
        raise KeyError("app")

    await _run(crons, clock)
    for name in ("job", "itself"):
        (run,) = await runs_of(crons, name)
        assert run.error is not None
        assert run.error.message == (
            "request.app is asked for, and this scheduler has no app; attach it to one: Crons(app)"
        )
    (failed,) = await runs_of(crons, "own")
    assert failed.error is not None
    assert failed.error.type == "KeyError"


async def test_background_tasks_and_a_response_are_given_to_a_job(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job")
    async def job(tasks: BackgroundTasks, response: Response) -> None:
        tasks.add_task(happened.append, "told later")
        response.headers["x-seen"] = "by nobody"

    await _run(crons, clock)
    assert [run.status for run in await runs_of(crons, "job")] == ["completed"]
    assert happened == ["told later"]


async def test_a_context_and_a_request_may_be_optional(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job")
    async def job(
        ctx: JobContext | None = None,
        again: Annotated[JobContext, "said"] | None = None,
        request: Request | None = None,
    ) -> list[bool]:
        return [ctx is not None, again is not None, request is not None]

    await _run(crons, clock)
    (run,) = await runs_of(crons, "job")
    assert run.result == [True, True, True]
