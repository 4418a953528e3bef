"""Hooks: what they are told, and that none of them can hurt."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from fastapi import Depends
from typing_extensions import assert_type

from fastapi_crons import ConfigurationError, CronJob, Crons, JobDefinitionError, PluginError, SkipRun, hookimpl
from fastapi_crons.run import short_id
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of, runs_of

Context = dict[str, Any]
DOCUMENTED = {
    "job_name": str,
    "tags": list,
    "expr": str,
    "instance_id": str,
    "manual_trigger": bool,
    "triggered_by": str,
    "start_time": str,
    "end_time": str,
    "duration": float,
    "success": bool,
}


async def _ok() -> dict[str, int]:
    return {"rows": 3}


async def _broken() -> None:
    raise ValueError("no rows")


async def test_hooks_are_told_what_is_documented(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    seen: dict[str, Context] = {}
    crons.cron("0 * * * *", name="ok", tags=["a", "b"])(_ok)
    crons.cron("0 * * * *", name="broken")(_broken)
    crons.add_before_run_hook(lambda job, context: seen.setdefault(f"before {job}", context))
    crons.add_after_run_hook(lambda job, context: seen.setdefault(f"after {job}", context))
    crons.add_on_error_hook(lambda job, context: seen.setdefault(f"error {job}", context))
    await crons.start()
    await clock.advance(crons, hours=1)
    assert set(seen) == {"before ok", "before broken", "after ok", "error broken"}
    for context in seen.values():
        json.dumps(context)
        assert set(context) == set(seen["after ok"])
    after, error, before = seen["after ok"], seen["error broken"], seen["before ok"]
    for key, kind in DOCUMENTED.items():
        assert isinstance(after[key], kind), key
    assert (after["result"], after["error"], after["success"]) == ({"rows": 3}, None, True)
    assert (error["result"], error["error"], error["success"]) == (None, "no rows", False)
    assert (before["end_time"], before["duration"], before["success"]) == (None, None, None)
    assert (after["manual_trigger"], after["triggered_by"], after["trigger_time"]) == (False, "schedule", None)
    assert after["scheduled_time"] == "2026-03-01T01:00:00+00:00"
    assert (after["tags"], after["expr"]) == (["a", "b"], "0 * * * *")


async def test_every_kind_of_hook_is_called(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []

    class Hooks:
        def method(self, job: str, context: Context) -> None:
            called.append("method")

        async def __call__(self, job: str, context: Context) -> None:
            called.append("callable object")

    async def coroutine(label: str, job: str, context: Context) -> None:
        called.append(label)

    crons.cron("0 0 1 1 *", name="job")(_ok)
    crons.add_after_run_hook(Hooks().method)
    crons.add_after_run_hook(Hooks())
    crons.add_after_run_hook(functools.partial(coroutine, "partial"))
    crons.add_after_run_hook(lambda job, context: coroutine("lambda", job, context))
    crons.add_after_run_hook(Hooks().method)
    await crons.start()
    await crons.run_job("job")
    assert called == ["method", "callable object", "partial", "lambda", "method"]


async def test_a_hook_can_be_for_one_job(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []
    crons.add_before_run_hook(lambda job, context: called.append(job), job_name="one")
    for name in ("one", "two"):
        crons.cron("0 0 1 1 *", name=name)(_ok)
    await crons.start()
    for name in ("one", "two"):
        await crons.run_job(name)
    assert called == ["one"]


async def test_hooks_are_added_by_decorator_for_all_jobs_or_for_one(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []

    @crons.add_before_run_hook
    def before(job: str, context: Context) -> None:
        called.append(f"before {job}")

    @crons.add_after_run_hook(job_name="one")
    async def after(job: str, context: Context) -> None:
        called.append(f"after {job}")

    @crons.add_after_run_hook()
    @crons.add_on_error_hook(job_name="broken")
    async def ended(job: str, context: Context) -> None:
        called.append(f"ended {job}")

    # They are what they were, for mypy too.
    assert_type(before("x", {}), None)
    assert_type(ended("y", {}), Coroutine[Any, Any, None]).close()
    assert crons.add_on_error_hook(before, "one") is before
    called.clear()
    crons.cron("0 0 1 1 *", name="one")(_ok)
    crons.cron("0 0 1 1 *", name="broken")(_broken)
    await crons.start()
    await crons.run_job("one")
    await crons.run_job("broken")
    assert called == ["before one", "after one", "ended one", "before broken", "ended broken"]


@pytest.mark.parametrize("kind", ["before_run", "after_run", "on_error"])
@pytest.mark.parametrize("mistake", [None, "job", 5])
def test_what_can_not_be_called_is_no_hook_and_no_decorator(make_crons: MakeCrons, kind: str, mistake: object) -> None:
    add = getattr(make_crons(), f"add_{kind}_hook")
    with pytest.raises(PluginError, match=f"{kind} hook must be callable, not {mistake!r}"):
        add(mistake)
    with pytest.raises(PluginError, match="must be callable"):
        add(job_name="job")(mistake)


async def test_a_hook_for_a_job_that_does_not_exist_stops_the_start(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.add_before_run_hook(lambda job, context: None, job_name="tyop")
    with pytest.raises(ConfigurationError, match="'tyop'"):
        await crons.start()
    assert not crons.running


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("sync", [True, False])
async def test_a_hook_that_raises_stops_neither_the_job_nor_other_hooks(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture, error: BaseException, sync: bool
) -> None:
    crons = make_crons()
    called: list[str] = []

    def bad(job: str, context: Context) -> None:
        raise error

    async def bad_coroutine(job: str, context: Context) -> None:
        raise error

    crons.cron("0 0 1 1 *", name="job")(_ok)
    for add in (crons.add_before_run_hook, crons.add_after_run_hook):
        add(bad if sync else bad_coroutine)
        add(lambda job, context: called.append(job))
    await crons.start()
    with caplog.at_level(logging.ERROR, "fastapi_crons"):
        assert (await crons.run_job("job")).status == "completed"
    assert called == ["job", "job"]
    assert "bad" in caplog.text


async def test_a_hook_that_hangs_is_left_behind(make_crons: MakeCrons, caplog: pytest.LogCaptureFixture) -> None:
    crons = make_crons(hook_timeout=0.05)
    let_go = threading.Event()

    async def stubborn(job: str, context: Context) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    crons.cron("0 0 1 1 *", name="job")(_ok)
    crons.add_before_run_hook(lambda job, context: let_go.wait())
    crons.add_before_run_hook(stubborn)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    let_go.set()
    assert caplog.text.count("did not end within 0.05 s") == 2
    await asyncio.sleep(0.25)


async def test_each_hook_gets_a_context_of_its_own(make_crons: MakeCrons) -> None:
    crons = make_crons()
    sizes: list[tuple[int, int]] = []

    def spoil(job: str, context: Context) -> str:
        sizes.append((len(context), len(context["tags"])))
        context["tags"].clear()
        context.clear()
        return "junk"

    crons.cron("0 0 1 1 *", name="job", tags=["a"])(_ok)
    crons.add_before_run_hook(spoil)
    crons.add_before_run_hook(spoil)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    assert sizes[0] == sizes[1]


async def test_a_before_hook_can_veto_a_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    ran, skipped = [], []

    class Plugin:
        @hookimpl
        def run_skipped(self, context: Context) -> None:
            skipped.append((context["reason"], context["detail"]))

    async def veto(job: str, context: Context) -> None:
        raise SkipRun("maintenance window")

    crons.plugins.register(Plugin())
    crons.cron("0 * * * *", name="job")(lambda: ran.append(1))
    crons.add_before_run_hook(veto)
    await crons.start()
    await clock.advance(crons, hours=1)
    assert ran == []
    assert [run.status for run in await runs_of(crons, "job")] == ["cancelled"]
    (missed,) = await missed_of(crons, "job")
    assert (missed.reason, missed.detail) == ("vetoed", "maintenance window")
    await clock.settle(crons)
    assert skipped == [("vetoed", "maintenance window")]


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
    crons.cron("0 0 1 1 *", name="job")(_ok)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"


async def test_hooks_that_hang_starve_no_other_and_are_not_called_for_ever(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons(hook_timeout=0.02)
    let_go, called, healthy = threading.Event(), [], []

    def hangs(job: str, context: Context) -> None:
        called.append(job)
        let_go.wait()

    crons.cron("* * * * *", name="job")(_ok)
    crons.add_after_run_hook(hangs)
    crons.add_after_run_hook(lambda job, context: healthy.append(job))
    await crons.start()
    await clock.advance(crons, minutes=12)
    let_go.set()
    assert len(healthy) == 12
    assert len(called) == 4
    assert "is not called: 4 of its calls hang" in caplog.text


async def test_the_time_limit_of_a_hook_begins_when_it_is_called_and_health_names_a_full_pool(
    make_crons: MakeCrons,
) -> None:
    crons = make_crons(hook_timeout=1)
    let_go, ended = threading.Event(), []

    def waits(job: str) -> None:
        let_go.wait(0.6)
        ended.append(job)

    crons.add_after_run_hook(waits)
    for number in range(12):
        crons.cron("0 0 1 1 *", name=f"job {number}")(_ok)
    await crons.start()
    engine = crons.engine
    assert engine is not None
    asked = [asyncio.create_task(crons.run_job(job.name)) for job in crons.get_jobs()]
    full = ("the pool of threads for hooks is full, and 4 calls wait: all 8 are taken",)
    while crons.health().findings != full:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    assert (len(ended), engine.hooks.failures) == (12, 0), "none was given up before it was called"


@pytest.mark.parametrize(
    "hook",
    [
        lambda: SEEN.append("nothing"),
        lambda job: SEEN.append(job),
        lambda context: SEEN.append(context["job_name"]),
        lambda name, details: SEEN.append(details["job_name"]),
        lambda *arguments: SEEN.append(arguments[0]),
        lambda job_name, **rest: SEEN.append(job_name),
        lambda **everything: SEEN.append(everything["context"]["job_name"]),
        lambda context, job_name: SEEN.append(job_name),
        lambda context=None: SEEN.append(context["job_name"]),
        lambda *, context: SEEN.append(context["job_name"]),
        lambda name, *, context: SEEN.append(name),
        lambda name, /: SEEN.append(name),
    ],
)
async def test_a_function_may_take_fewer_arguments(make_crons: MakeCrons, hook: Any) -> None:
    SEEN.clear()
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(_ok)
    crons.add_before_run_hook(hook)
    await crons.start()
    await crons.run_job("job")
    assert SEEN in (["job"], ["nothing"])
    assert crons.engine is not None
    assert crons.engine.hooks.failures == 0


SEEN: list[str] = []


def _logged(hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs)

    return wrapper


def _with_channel(hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return hook("channel", *args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "hook",
    [
        _logged(lambda job, context: SEEN.append(context["job_name"])),
        _logged(lambda context: SEEN.append(context["job_name"])),
        _with_channel(lambda channel, job, context: SEEN.append(context["job_name"])),
        functools.partial(lambda channel, job, context: SEEN.append(context["job_name"]), "channel"),
        functools.partial(lambda job, context, channel: SEEN.append(job), channel="channel"),
        lambda *args, **kwargs: SEEN.append(args[0]),
        lambda job, **rest: SEEN.append(rest["context"]["job_name"]),
        lambda job, context, channel="alerts": SEEN.append(job),
    ],
)
async def test_a_hook_is_called_as_what_is_called_takes_it(make_crons: MakeCrons, hook: Any) -> None:
    await test_a_function_may_take_fewer_arguments(make_crons, hook)


def _asks(job: str, context: Any, channel: str = Depends(lambda: "channel")) -> None: ...


@pytest.mark.parametrize("kind", ["before_run", "after_run", "on_error"])
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (lambda job, context, channel, text: None, "'channel' and 'text' of '.*<lambda>' would get no value"),
        (lambda job, context, *, channel: None, "'channel'"),
        (lambda a, b, c, /: None, "'c'"),
        (functools.partial(lambda job, context, channel, text: None, "a"), "'text'"),
        (functools.partial(lambda job: None, "a", "b"), "does not take"),  # type: ignore[call-arg]
        (_asks, "Depends"),
    ],
)
def test_a_hook_that_can_not_be_called_is_refused_when_it_is_added(
    make_crons: MakeCrons, kind: str, hook: Any, said: str
) -> None:
    crons = make_crons()
    with pytest.raises(PluginError, match=said):
        getattr(crons, f"add_{kind}_hook")(hook)
    assert crons.plugins.calls(kind) == ()
    for name in (["job"], 3):
        with pytest.raises(PluginError, match="job_name"):
            getattr(crons, f"add_{kind}_hook")(lambda job, context: None, name)


def _hides_all(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(self: object) -> Any:
        return function(self, "job", {})

    return wrapper


def test_an_implementation_of_a_plugin_that_can_not_be_called_is_refused(make_crons: MakeCrons) -> None:
    class Hiding:
        @hookimpl
        @_hides_all
        def on_error(self, job_name: str, context: Context) -> None: ...

    class Asking:
        @hookimpl
        def on_error(self, job_name: str, context: Context = Depends(dict)) -> None: ...  # noqa: B008

    crons = make_crons()
    with pytest.raises(PluginError, match="on_error can't be called with job_name, context"):
        crons.plugins.register(Hiding())
    with pytest.raises(PluginError, match="Depends"):
        crons.plugins.register(Asking())


async def test_a_hook_for_a_job_that_does_not_exist_is_refused_while_running(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(_ok)
    await crons.start()
    for add in (crons.add_before_run_hook, crons.add_after_run_hook, crons.add_on_error_hook):
        add(lambda job, context: None, "job")
        with pytest.raises(ConfigurationError, match="'jbo'"):
            add(lambda job, context: None, "jbo")
    assert {added.job_name for added in crons.plugins.added()} == {"job"}


async def test_hooks_share_nothing_of_a_result(make_crons: MakeCrons) -> None:
    crons = make_crons()
    seen: list[Any] = []

    def spoils(job: str, context: Context) -> None:
        seen.append(context["result"]["rows"].copy())
        context["result"]["rows"].clear()

    crons.cron("0 0 1 1 *", name="job")(lambda: {"rows": [1, 2]})
    crons.add_after_run_hook(spoils)
    crons.add_after_run_hook(spoils)
    await crons.start()
    await crons.run_job("job")
    assert seen == [[1, 2], [1, 2]]


async def test_an_error_class_of_the_apps_own_that_is_named_like_a_veto_is_an_error(make_crons: MakeCrons) -> None:
    crons, heard = make_crons(), []
    mine = type("SkipRun", (Exception,), {})

    async def job() -> None:
        raise mine

    crons.cron("0 0 1 1 *", name="job")(job)
    crons.add_on_error_hook(lambda job, context: heard.append(context["error_type"]))
    await crons.start()
    assert (await crons.run_job("job")).status == "failed"
    assert heard == ["SkipRun"]


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
    crons.cron("0 0 1 1 *", name="job")(_ok)
    await crons.start()
    await crons.run_job("job")
    assert called == ["job"]


async def test_a_complaint_about_a_hook_names_job_and_run(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()

    def fails(job: str, context: Context) -> None:
        raise ValueError("two\nlines")

    crons.cron("0 0 1 1 *", name="job")(_ok)
    crons.add_after_run_hook(fails)
    await crons.start()
    run = await crons.run_job("job")
    (record,) = [record for record in caplog.records if "hook after_run" in record.getMessage()]
    assert f"about job 'job' (run {short_id(run.id)}) failed: ValueError: two\\nlines" in record.getMessage()
    assert (vars(record)["job"], vars(record)["run_id"]) == ("job", run.id)


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
