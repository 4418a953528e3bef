"""Plugins as hooks: they hear of the life-cycle and hold scopes around runs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from fastapi_crons import CronJob, Crons, JobDefinitionError, PluginError, hookimpl
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.virtual_time.hooks.functions import Context, ok


async def test_plugins_hear_of_the_life_cycle_and_hold_scopes_around_runs(make_crons: MakeCrons) -> None:
    crons = make_crons()
    heard: list[str] = []
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    class Plugin:
        @hookimpl
        async def scheduler_started(self, crons: Crons) -> None:
            heard.append("started")

        @hookimpl
        def scheduler_stopped(self) -> None:
            heard.append("stopped")

        @hookimpl
        def job_registered(self, job: CronJob) -> None:
            heard.append(f"registered {job.name}")

        @hookimpl
        @contextmanager
        def run_scope(self, job_name: str) -> Iterator[None]:
            token = tenant.set("acme")
            yield
            tenant.reset(token)

    class AsyncScope:
        @hookimpl
        def run_scope(self, context: Context) -> Any:
            @asynccontextmanager
            async def scope() -> AsyncIterator[None]:
                heard.append(f"enter {context['job_name']}")
                yield
                heard.append("leave")

            return scope()

    crons.plugins.register(Plugin())
    crons.plugins.register(AsyncScope())
    crons.cron("0 0 1 1 *", name="job")(tenant.get)
    await crons.start()
    assert (await crons.run_job("job")).result == "acme"
    await crons.stop()
    assert heard == ["registered job", "started", "enter job", "leave", "stopped"]


async def test_a_plugin_that_does_not_fit_is_refused_and_named(make_crons: MakeCrons) -> None:
    crons = make_crons()

    class Misspelt:
        @hookimpl
        def befor_run(self, job_name: str) -> None: ...

    class WrongArgument:
        @hookimpl
        def before_run(self, jobname: str) -> None: ...

    with pytest.raises(PluginError, match="befor_run"):
        crons.plugins.register(Misspelt(), "misspelt")
    with pytest.raises(PluginError, match="jobname"):
        crons.plugins.register(WrongArgument(), "wrong")
    with pytest.raises(PluginError, match="must be callable"):
        crons.add_before_run_hook("nope")  # type: ignore[call-overload]
    crons.cron("0 0 1 1 *", name="job")(ok)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"


class Scope:
    """A plugin whose scope does one wrong thing."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    @hookimpl
    def run_scope(self, context: Context) -> Any:
        if self.wrong == "raises":
            raise ValueError("no scope")
        if self.wrong == "is junk":
            return "junk"
        return self._async() if self.wrong.startswith("async") else self._sync()

    @contextmanager
    def _sync(self) -> Iterator[None]:
        if self.wrong == "fails on entering":
            raise ValueError("closed")
        try:
            yield
        except Exception:
            if self.wrong != "swallows":
                raise
        if self.wrong == "fails on leaving":
            raise ValueError("open")

    @asynccontextmanager
    async def _async(self) -> AsyncIterator[None]:
        if self.wrong == "async, hangs on entering":
            await asyncio.Event().wait()
        try:
            yield
        finally:
            if self.wrong == "async, hangs on leaving":
                await asyncio.Event().wait()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        "raises",
        "is junk",
        "fails on entering",
        "fails on leaving",
        "swallows",
        "async, hangs on entering",
        "async, hangs on leaving",
    ],
)
async def test_a_scope_can_neither_fail_a_run_nor_save_it(make_crons: MakeCrons, wrong: str, fails: bool) -> None:
    crons = make_crons(hook_timeout=0.05)
    crons.plugins.register(Scope(wrong))

    async def job() -> str:
        if fails:
            raise KeyError("of the job")
        return "done"

    crons.cron("0 0 1 1 *", name="job")(job)
    await crons.start()
    run = await crons.run_job("job")
    if fails:
        assert run.error is not None
        assert (run.status, run.error.type) == ("failed", "KeyError")
    else:
        assert (run.status, run.result) == ("completed", "done")


class _Wrapper:
    @hookimpl(wrapper=True)
    def before_run(self) -> Any:
        yield


class _Generator:
    @hookimpl
    def before_run(self) -> Any:
        yield


class _KeywordOnly:
    @hookimpl
    def before_run(self, *, job_name: str) -> None: ...


@pytest.mark.parametrize("plugin", [_Wrapper(), _Generator(), _KeywordOnly()])
def test_what_would_never_run_is_refused(make_crons: MakeCrons, plugin: object) -> None:
    crons = Crons()
    with pytest.raises(PluginError) as caught:
        crons.plugins.register(plugin)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)

    def generator(job: str, context: Context) -> Any:
        yield

    async def async_generator() -> Any:
        yield

    with pytest.raises(PluginError, match="generator"):
        crons.add_before_run_hook(generator)
    with pytest.raises(JobDefinitionError, match="generator"):
        crons.cron("* * * * *")(async_generator)


async def test_a_plugin_that_is_registered_twice_stays(make_crons: MakeCrons) -> None:
    crons, called = make_crons(), []

    class Plugin:
        @hookimpl
        def before_run(self, job_name: str) -> None:
            called.append(job_name)

    plugin = Plugin()
    crons.plugins.register(plugin)
    with pytest.raises(PluginError, match="registered already"):
        crons.plugins.register(plugin)
    crons.cron("0 0 1 1 *", name="job")(ok)
    await crons.start()
    await crons.run_job("job")
    assert called == ["job"]


async def test_outer_scopes_are_left_where_an_inner_one_does_not_end_after_a_time_limit(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    seen: list[str] = []

    class Around:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None:
            seen.append("outer")

    class Outer:
        @hookimpl(tryfirst=True)
        def run_scope(self) -> AbstractAsyncContextManager[None]:
            return Around()

    class Inner:
        @hookimpl
        @asynccontextmanager
        async def run_scope(self) -> AsyncIterator[None]:
            yield
            seen.append("inner")
            await asyncio.Event().wait()

    crons = make_crons(hook_timeout=0.1)
    crons.plugins.register(Outer())
    crons.plugins.register(Inner())

    @crons.cron("0 0 1 1 *", name="job", timeout=5)
    async def job() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    await asyncio.sleep(0.05)
    await clock.advance(crons, seconds=6, finish_runs=False)
    assert (await running).status == "timed_out"
    assert seen == ["inner", "outer"]


async def test_a_scope_that_swallows_its_time_limit_leaves_no_cancellation_behind(make_crons: MakeCrons) -> None:
    class Swallows:
        @hookimpl
        @asynccontextmanager
        async def run_scope(self) -> AsyncIterator[None]:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            yield

    crons = make_crons(hook_timeout=0.05)
    crons.plugins.register(Swallows())

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None:
        raise asyncio.CancelledError

    await crons.start()
    run = await crons.run_job("job")
    assert run.status == "failed"
    assert run.error is not None
    assert "from outside" not in run.error.message
