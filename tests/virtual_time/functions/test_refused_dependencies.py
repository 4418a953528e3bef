"""Dependencies that no run could be given: refused by name, when the job is defined or when an override brings them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, FastAPI, Query, Security, WebSocket, params

from fastapi_crons import CronJob, Crons, JobContext, JobDefinitionError
from fastapi_crons.testing import VirtualClock
from tests.support import runs_of
from tests.virtual_time.functions.test_dependencies import hiding


def test_an_annotation_that_can_not_be_evaluated_is_named() -> None:
    def local() -> int:
        return 1

    async def job(number: Annotated[int, Depends(local)]) -> None: ...

    with pytest.raises(JobDefinitionError, match=r"number.* there is no .local. in its module when"):
        CronJob(job, "0 * * * *", "job")


def of_query(limit: int) -> int:
    return limit


def of_body(text: Annotated[str, Body()]) -> str:
    return text


def of_something(value: Callable[[], None]) -> None: ...


async def wants_query(limit: Annotated[int, Depends(of_query)]) -> None: ...


async def wants_body(text: Annotated[str, Depends(of_body)]) -> None: ...


async def wants_something(value: Annotated[None, Depends(of_something)]) -> None: ...


def of_context(context: JobContext) -> str:
    return context.job


async def wants_context(job: Annotated[str, Depends(of_context)]) -> None: ...


def of_socket(socket: WebSocket) -> str:
    return str(socket.url)


def of_another(url: Annotated[str, Depends(of_socket)]) -> str:
    return url


async def wants_socket(url: Annotated[str, Depends(of_another)]) -> None: ...


def of_context_by_name(context: Any) -> str:
    return str(context)


async def wants_context_by_name(of: Annotated[str, Depends(of_context_by_name)]) -> None: ...


async def has_query(limit: Annotated[int, Query()]) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (wants_query, "they ask for limit, which only a client's request has"),
        (wants_body, "they ask for a body, which only a client's request has"),
        (wants_socket, "they ask for socket, which only a client's request has"),
        (wants_context_by_name, "a dependency can't be given the JobContext; ask for it in the job"),
        (wants_something, "FastAPI can't resolve them: "),
        (has_query, "parameter 'limit' is a Query"),
        (wants_context, "a dependency can't be given the JobContext"),
        (functools.partial(wants_query, limit=Depends(of_query)), "parameter 'limit' is a Depends"),
    ],
)
def test_what_no_run_could_be_given_is_refused_when_the_job_is_defined(
    function: Callable[..., object], said: str
) -> None:
    with pytest.raises(JobDefinitionError, match="job 'job'") as refused:
        CronJob(function, "0 * * * *", "job")
    assert said in str(refused.value)


async def test_what_an_override_asks_of_a_client_fails_the_run_by_name(clock: VirtualClock) -> None:
    app = FastAPI()
    crons = Crons(app, clock=clock)
    crons.cron("0 * * * *", name="job")(hiding(wants_default))
    app.dependency_overrides[default] = of_query
    async with app.router.lifespan_context(app):
        await clock.advance(crons, hours=1)
        (run,) = await runs_of(crons, "job")
    assert run.error is not None
    assert run.error.type.endswith("DependencyError")
    assert "a dependency asks for query.limit, which only a client's request has" in run.error.message


def default() -> int:
    return 5


async def wants_default(limit: Annotated[int, Depends(default)]) -> int:
    return limit


@pytest.mark.parametrize("marker", [Depends, Security, params.Depends])
def test_a_marker_that_is_not_called_is_refused_with_what_to_write(marker: Any) -> None:
    def by_default(session: Any = marker) -> None: ...

    async def annotated(session: Any) -> None: ...

    annotated.__annotations__["session"] = Annotated[Any, marker]  # no name that is looked up in this module
    for func in (by_default, annotated):
        with pytest.raises(JobDefinitionError) as caught:
            CronJob(func, "* * * * *", "job")
        assert f"parameter 'session'): {marker.__name__} is not called; write {marker.__name__}(…)" in str(caught.value)
