"""What can be called as a hook: functions with fewer arguments, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Depends

from fastapi_crons import PluginError, hookimpl
from tests.conftest import MakeCrons
from tests.virtual_time.hooks.functions import Context, ok


@pytest.mark.parametrize("kind", ["before_run", "after_run", "on_error"])
@pytest.mark.parametrize("mistake", [None, "job", 5])
def test_what_can_not_be_called_is_no_hook_and_no_decorator(make_crons: MakeCrons, kind: str, mistake: object) -> None:
    add = getattr(make_crons(), f"add_{kind}_hook")
    with pytest.raises(PluginError, match=f"{kind} hook must be callable, not {mistake!r}"):
        add(mistake)
    with pytest.raises(PluginError, match="must be callable"):
        add(job_name="job")(mistake)


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
    crons.cron("0 0 1 1 *", name="job")(ok)
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
    assert crons.plugins.calls[kind] == ()
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
