"""Exceptions that do something when they are looked at: a run fails by them like by any other, and so do hooks."""

from __future__ import annotations

import builtins
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from fastapi_crons import SkipRun, hookimpl
from fastapi_crons._util.exceptions import formatted
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of, state_of

_LOOKED_AT = (
    "__notes__",
    "__traceback__",
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__class__",
    "__dict__",
    "args",
    "reason",
    "exceptions",
)
_CALLED = ("__str__", "__repr__", "__eq__", "__hash__", "__bool__", "__reduce__", "__format__")


def _exits(*_: object) -> Any:
    raise SystemExit("looked at")


_Meta = type(
    "_Meta",
    (type,),
    {name: property(_exits) for name in ("__name__", "__module__", "__mro__")}
    | dict.fromkeys(("__instancecheck__", "__getattr__", "__repr__", "__str__", "__hash__", "__eq__"), _exits),
)


class _Text(str):
    """What `str()` hands out as it is."""

    __len__ = __contains__ = __getitem__ = encode = isprintable = replace = __iter__ = _exits  # type: ignore[assignment]


def _classes() -> Iterator[type[BaseException]]:
    for name in _LOOKED_AT:
        yield type(f"Property{name.strip('_').title()}", (ValueError,), {name: property(_exits)})
    for name in _CALLED:
        yield type(f"Method{name.strip('_').title()}", (ValueError,), {name: _exits})
    everything: dict[str, Any] = {name: property(_exits) for name in _LOOKED_AT} | dict.fromkeys(_CALLED, _exits)
    everything["__getattribute__"] = everything["__getattr__"] = _exits
    yield type("Everything", (ValueError,), everything)
    yield type("EverythingOfAnExit", (SystemExit,), everything)
    yield type("EverythingOfAVeto", (SkipRun,), {"__init__": lambda *_: None, **everything})
    yield type("TextOfItsOwn", (ValueError,), {"__str__": lambda self: _Text("text")})
    yield _Meta("ByItsClass", (ValueError,), {})


# By name, for pytest would look at the classes.
KINDS = {type.__dict__["__name__"].__get__(kind): kind for kind in _classes()}
HOSTILE = pytest.mark.parametrize("name", KINDS)


def _raise(kind: type[BaseException]) -> None:
    raise kind("wrong")


@HOSTILE
@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_job_that_raises_one_fails_like_any_other(
    make_crons: MakeCrons, clock: VirtualClock, name: str, where: str, retries: int
) -> None:
    crons, kind = make_crons(), KINDS[name]

    async def on_the_loop() -> None:
        _raise(kind)

    func: Callable[[], object] = on_the_loop if where == "on the loop" else lambda: _raise(kind)
    told: list[str] = []
    crons.add_on_error_hook(lambda job_name, context: told.append(context["error_type"]))
    crons.cron("0 * * * *", name="bad", max_retries=retries, retry_on=(BaseException,))(func)
    crons.cron("0 * * * *", name="good")(nothing)
    await crons.start()
    await clock.advance(crons, hours=2, minutes=30)
    bad = await runs_of(crons, "bad")
    assert [run.status for run in bad] == ["failed", "failed"], "and the lease went back for the second tick"
    assert [run.status for run in await runs_of(crons, "good")] == ["completed", "completed"]
    assert [run.error.type for run in bad if run.error is not None] == [name, name]
    assert told == [name, name]
    assert bad[0].error is not None
    assert "in _raise" in bad[0].error.traceback, "where it was raised is Python's to say"
    assert crons.health().status == "ok"


class _Plugin:
    """Fails everywhere."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    @hookimpl
    def before_run(self) -> None:
        _raise(self.kind)

    @hookimpl
    async def after_run(self) -> None:
        _raise(self.kind)

    @hookimpl
    def scheduler_started(self) -> None:
        _raise(self.kind)

    @hookimpl
    def job_registered(self) -> None:
        _raise(self.kind)

    @hookimpl
    def redact(self) -> None:
        _raise(self.kind)

    @hookimpl
    @contextmanager
    def run_scope(self) -> Iterator[None]:
        yield
        _raise(self.kind)


class _AsyncScope:
    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    @hookimpl
    @asynccontextmanager
    async def run_scope(self) -> AsyncIterator[None]:
        _raise(self.kind)
        yield


@HOSTILE
async def test_hooks_scopes_and_plugins_that_raise_one_do_not_stop_a_job(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    crons, kind = make_crons(), KINDS[name]
    crons.plugins.register(_Plugin(kind))
    crons.plugins.register(_AsyncScope(kind))
    crons.cron("0 0 1 1 *", name="job")(lambda: "done")
    await crons.start()
    run = await crons.run_job("job")
    if issubclass(kind, SkipRun):
        assert run.status == "cancelled", "a veto is a veto, whatever its object does"
    else:
        assert run.status == "completed"
    for hook in ("before_run", "run_scope", "redact", "scheduler_started", "job_registered"):
        complained = any(f"hook {hook} of plugin" in record.getMessage() for record in caplog.records)
        assert complained or issubclass(kind, SkipRun), hook


@HOSTILE
async def test_a_job_that_logs_one_and_goes_on_is_completed(make_crons: MakeCrons, name: str) -> None:
    crons, kind = make_crons(), KINDS[name]

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> str:
        try:
            _raise(kind)
        except BaseException as error:
            # What handlers of the app do with such a record is theirs; what is kept of it must do no harm.
            logging.getLogger("shop").makeRecord(
                "shop", logging.ERROR, __file__, 1, "%s %s", (error, 1), (type(error), error, None)
            )
        return "went on"

    await crons.start()
    run = await crons.run_job("job")
    assert run.status == "completed"
    kept = await state_of(crons).run(run.id)
    assert kept is not None
    assert [line.logger for line in kept.log] == ["shop"]


class _Proxy:
    """A stand-in for an object that is not there."""

    __class__ = property(_exits)


@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
async def test_a_result_that_does_something_when_it_is_looked_at_is_none_that_can_be_kept(
    make_crons: MakeCrons, where: str
) -> None:
    crons = make_crons()

    async def on_the_loop() -> object:
        return _Proxy()

    crons.cron("0 0 1 1 *", name="job")(on_the_loop if where == "on the loop" else _Proxy)
    await crons.start()
    run = await crons.run_job("job")
    assert run.status == "completed"
    assert run.result == {"type": "_Proxy", "stored": False, "reason": "looked at"}
    assert (await crons.run_job("job")).status == "completed", "the lease went back"


async def test_a_run_that_is_cut_off_before_its_task_begins_ends_all_the_same(make_crons: MakeCrons) -> None:
    crons = make_crons()
    ran: list[int] = []
    crons.cron("0 0 1 1 *", name="job")(lambda: ran.append(1))
    await crons.start()
    engine = crons.engine
    assert engine is not None
    start = engine.runner.start

    def start_and_cut_off(run: Any, on_end: Any) -> None:
        start(run, on_end)
        run.cut_off("cancelled", "somebody who was quick")

    engine.runner.start = start_and_cut_off  # type: ignore[method-assign]
    run = await crons.run_job("job")
    assert (run.status, ran) == ("cancelled", [])
    engine.runner.start = start  # type: ignore[method-assign]
    assert (await crons.run_job("job")).status == "completed"


GROUP: Any = getattr(builtins, "ExceptionGroup", None)
WITH_GROUPS = pytest.mark.skipif(GROUP is None, reason="Python 3.10 has no groups")


def _of_many(depth: int) -> ValueError:
    """An exception that holds so many others that nobody can go through them, although there are few objects."""
    error = ValueError("innermost")
    for _ in range(depth):
        outer = ValueError("outer")
        outer.exceptions = (error,) * 4  # type: ignore[attr-defined]
        error = outer
    return error


def _group_of_many(depth: int) -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = GROUP("outer", [error] * 4)
    return error


def _chain(length: int) -> BaseException:
    error = ValueError("the first")
    for number in range(length):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    return error


class _LongError(ValueError):
    def __str__(self) -> str:
        return "outer" + "\n" * 20_000_000


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: _group_of_many(40), marks=WITH_GROUPS, id="group"),
        pytest.param(lambda: _of_many(40), id="what looks like a group"),
    ],
)
async def test_an_exception_of_more_than_can_be_shown_is_shown_in_part(
    make_crons: MakeCrons, clock: VirtualClock, make: Callable[[], BaseException]
) -> None:
    crons = make_crons()

    async def bad() -> None:
        raise make()

    crons.cron("0 * * * *", name="bad")(bad)
    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, "bad")
    assert (run.status, run.error is not None and "in bad" in run.error.traceback) == ("failed", True)


@pytest.mark.parametrize("make", [lambda: _chain(20_000), _LongError], ids=["chain", "long text"])
def test_of_a_long_chain_or_text_a_part_is_shown(make: Callable[[], BaseException]) -> None:
    assert len(formatted(make())) < 200_000


@WITH_GROUPS
def test_of_a_group_with_many_members_the_first_are_shown() -> None:
    shown = formatted(GROUP("tasks failed", [ValueError(f"task {number}") for number in range(100_000)]))
    assert "ExceptionGroup: tasks failed (100000 sub-exceptions)" in shown
    assert "ValueError: task 0" in shown
    assert "ValueError: task 5" not in shown
    assert len(shown) < 2_000


@WITH_GROUPS
def test_a_group_of_an_ordinary_size_is_shown_as_python_does_it() -> None:
    group = GROUP("two", [ValueError("one"), _chain(50)])
    assert formatted(group) == "".join(traceback.format_exception(group)).rstrip()
