"""Functions of every kind get the arguments they ask for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from fastapi_crons import JobContext
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of
from tests.unit.app.test_job_functions import Traced, hiding, passing_on, wants_both, wants_session


def with_session(func: Callable[..., Any]) -> Callable[..., Any]:
    """Fills in an argument, whatever else it is given."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func("session", *args, **kwargs)

    return wrapper


class Bound:
    def plain(self) -> str:
        return "plain"

    def told(self, context: JobContext) -> str:
        return context.job

    def __call__(self, context: JobContext) -> str:
        return context.job

    @with_session
    def filled(self, context: JobContext) -> str:
        raise AssertionError("only looked at")


def wants_context(context: Any) -> str:
    return context if isinstance(context, str) else str(context.job)


def says_something_else(session: str = "default") -> str:
    return session


says_something_else.__signature__ = inspect.signature(wants_session)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("func", "result"),
    [
        (with_session(wants_session), "session"),
        (with_session(wants_both), "session job"),
        (passing_on(with_session(wants_both)), "session job"),
        (functools.partial(with_session(wants_both)), "session job"),
        (hiding(wants_context), "its own"),
        (passing_on(wants_context), "job"),
        (Traced(wants_context), "job"),
        (Traced(hiding(wants_context)), "its own"),
        (functools.partial(wants_both, "mine"), "mine job"),
        (functools.partial(wants_both, session="mine"), "mine job"),
        (Bound().plain, "plain"),
        (Bound().told, "job"),
        (Bound(), "job"),
        (functools.cache(lambda: "kept"), "kept"),
        (says_something_else, "default"),
        (lambda *, context: context.job, "job"),
        (lambda context=None: context.job, "job"),
        (dict, {}),
    ],
)
async def test_what_will_be_called_is_given_what_it_takes(
    func: Callable[..., Any], result: object, make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(func)
    await crons.start()
    await clock.advance(crons, minutes=1)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.result) == ("completed", result), run.error
