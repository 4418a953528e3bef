"""What a job's function may take: what will really be called decides, and what only FastAPI could fill in is refused."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, File, Header, Query, Request, Security, UploadFile, WebSocket
from pydantic import Field

from fastapi_crons import CronJob, JobContext, JobDefinitionError


def hiding(func: Callable[..., Any]) -> Callable[..., Any]:
    """Fills in the context by itself, and takes nothing."""

    @functools.wraps(func)
    def wrapper() -> Any:
        return func(context="its own")

    return wrapper


def passing_on(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


def asking(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wants more than what it wraps."""

    @functools.wraps(func)
    def wrapper(tenant: str) -> Any:
        return func()

    return wrapper


class Traced:
    """A decorator that is a class."""

    def __init__(self, func: Callable[..., Any]) -> None:
        functools.update_wrapper(self, func)
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)


def wants_session(session: str) -> str:
    return session


def wants_both(session: str, context: JobContext) -> str:
    return f"{session} {context.job}"


def says_less(session: str) -> None: ...


says_less.__signature__ = inspect.Signature()  # type: ignore[attr-defined]


def says_more(*args: Any, **kwargs: Any) -> None: ...


says_more.__signature__ = inspect.signature(wants_session)  # type: ignore[attr-defined]


def by_socket(socket: WebSocket) -> None: ...


def by_upload(file: Annotated[UploadFile, "a report"]) -> None: ...


def mixed(request: Request, other: int, context: Any) -> None: ...


@pytest.mark.parametrize(
    ("func", "named"),
    [
        (wants_session, "no value is given for parameter 'session'; give kwargs=…"),
        (asking(lambda: None), "no value is given for parameter 'tenant'"),
        (Traced(asking(lambda: None)).func, "'tenant'"),
        (functools.partial(asking(lambda: None)), "'tenant'"),
        (functools.cache(wants_session), "'session'"),
        (says_less, "'session'"),
        (says_more, "'session'"),
        (mixed, "'other'"),
        (lambda context, /: None, "parameter 'context' can be passed by position only, .*; take the '/' out of"),
        (
            by_socket,
            "parameter 'socket' is a WebSocket, which only comes from a client; take it out, or give it a default",
        ),
        (by_upload, "parameter 'file' is an UploadFile, which only comes from a client"),
        (functools.partial(wants_session, "a", "b"), "does not take"),  # type: ignore[call-arg]
        (functools.partial(wants_session, nothing=1), "does not take"),  # type: ignore[call-arg]
    ],
)
def test_what_can_not_be_called_is_refused_with_the_parameter(func: Callable[..., Any], named: str) -> None:
    with pytest.raises(JobDefinitionError, match=named) as caught:
        CronJob(func, "* * * * *", "job")
    assert "'job'" in str(caught.value)
    assert "0x" not in str(caught.value) or "partial" in str(caught.value)


def session() -> str:
    return "session"


SessionDep = Annotated[str, Depends(session)]


def by_default(session: str = Depends(session)) -> None: ...
def by_security(user: str = Security(session)) -> None: ...
def by_annotation(session: Annotated[str, Depends(session)]) -> None: ...
def by_alias(session: SessionDep) -> None: ...
def by_annotation_and_default(session: Annotated[str, Depends(session)] = "none") -> None: ...
def by_name_only(*, context: Any, session: SessionDep) -> None: ...
def of_query(limit: int = Query(10)) -> None: ...
def of_header(agent: str = Header("")) -> None: ...
def of_body(text: str = Body("")) -> None: ...
def of_file(text: bytes = File(b"")) -> None: ...
def of_field(limit: int = Field(10)) -> None: ...
def of_annotated_query(limit: Annotated[int, Query(le=10)]) -> None: ...


def of_here() -> Callable[..., None]:
    local = Annotated[str, Depends(session)]

    def inner(value: local) -> None:
        assert local is not None  # else it is not known in here

    return inner


class Method:
    def run(self, session: SessionDep) -> None: ...


@pytest.mark.parametrize(
    ("func", "parameter", "marker"),
    [
        (of_query, "limit", "Query"),
        (of_header, "agent", "Header"),
        (of_body, "text", "Body"),
        (of_file, "text", "File"),
        (of_field, "limit", "FieldInfo"),
        (of_annotated_query, "limit", "Query"),
        (functools.partial(wants_session, session=Depends(session)), "session", "Depends"),
        (functools.partial(wants_both, Depends(session)), "1.", "Depends"),
    ],
)
def test_what_only_fastapi_fills_in_is_refused_with_a_sentence(
    func: Callable[..., Any], parameter: str, marker: str
) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        CronJob(func, "* * * * *", "job")
    assert f"parameter {parameter!r} is a {marker}(…), which FastAPI resolves only in endpoints" in str(caught.value)


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (by_default, "session"),
        (by_security, "user"),
        (by_annotation, "session"),
        (by_alias, "session"),
        (by_annotation_and_default, "session"),
        (by_name_only, "session"),
        (of_here(), "value"),
        (Method().run, "session"),
        (functools.partial(by_default), "session"),
        (passing_on(by_default), "session"),
        (passing_on(passing_on(by_alias)), "session"),
        (Traced(by_default), "session"),
    ],
)
def test_dependencies_are_found_however_they_are_written(func: Callable[..., Any], name: str) -> None:
    assert list(CronJob(func, "* * * * *", "job").parameters.dependencies) == [name]


def limited(limit: Annotated[int, Query(le=10)] = 5) -> int:
    return limit


@pytest.mark.parametrize("func", [limited, functools.partial(by_default, session="mine"), hiding(by_default)])
def test_what_a_plain_call_fills_in_is_fine(func: Callable[..., Any]) -> None:
    CronJob(func, "* * * * *", "job")
