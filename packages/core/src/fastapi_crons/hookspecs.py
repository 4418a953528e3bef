"""The hook specifications: what a plugin can implement.

A plugin is a module or an object with functions marked `@fastapi_crons.hookimpl`, registered through an entry point in
group `fastapi_crons` or with `crons.plugins.register(plugin)`. An implementation may take fewer arguments than its
specification. Unless said otherwise it may be a coroutine function, which is awaited, or a plain function, which is
called in a thread. An implementation that raises or exceeds `CRON_HOOK_TIMEOUT` is logged with its plugin's name; it
stops neither the others nor the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fastapi import APIRouter
    from pydantic_settings import BaseSettings

    from fastapi_crons.job import CronJob
    from fastapi_crons.plugins import LockBackendSpec, StateBackendSpec
    from fastapi_crons.scheduler import Crons

PROJECT = "fastapi_crons"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: What hooks are told of a run: JSON-serialisable values. Each implementation gets a copy of its own.
HookContext = dict[str, Any]


@hookspec
def state_backends() -> Mapping[str, StateBackendSpec]:  # type: ignore[empty-body]
    """State stores that this plugin brings, by the name used in `CRON_STATE_BACKEND`.

    Plain function, called once when plugins are loaded; it must import nothing heavy. Two plugins that bring the same
    name stop start-up.
    """


@hookspec
def lock_backends() -> Mapping[str, LockBackendSpec]:  # type: ignore[empty-body]
    """Lock stores that this plugin brings, by the name used in `CRON_LOCK_BACKEND`; else as `state_backends`."""


@hookspec
def settings() -> Sequence[type[BaseSettings]]:  # type: ignore[empty-body]
    """Settings classes that this plugin brings besides those of its backends: `config-show` lists them.

    Plain function; its plugin must import nothing heavy before it is called. One that fails is a `PluginError`.
    """


@hookspec
def before_run(job_name: str, context: HookContext) -> None:
    """Called before a job's function. Raise `SkipRun(reason)` to veto the run: its tick is then recorded as missed."""


@hookspec
def after_run(job_name: str, context: HookContext) -> None:
    """Called after a job's function has succeeded."""


@hookspec
def on_error(job_name: str, context: HookContext) -> None:
    """Called after a run has failed, timed out, been cancelled or been cut off; `context["error"]` says by what."""


@hookspec
def run_scope(  # type: ignore[empty-body]
    job_name: str, context: HookContext
) -> AbstractContextManager[object] | AbstractAsyncContextManager[object]:
    """Returns a context manager that is held around the job's function, in its task: for tracing and context variables.

    Plain function, called on the event loop. An exception raised on entering or leaving is logged and changes nothing.
    """


@hookspec
def redact(job_name: str, field: str, value: str) -> str | None:
    """Called with each text that is about to be kept of a run, before hooks and logs see it; returns what to keep instead.

    `field` is `result` (JSON text), `error`, `traceback`, `log` or `reason`. None leaves the text as it is. Plain function,
    called on the event loop for every run: it must be quick. Plugins are called one after another, each with what the one
    before made of it. Where one raises, the text is not kept.
    """


@hookspec
def tick_missed(job_name: str, context: HookContext) -> None:
    """Called when ticks were let go: `context` has `first`, `last`, `count`, `more` and `reason`."""


@hookspec
def run_skipped(job_name: str, context: HookContext) -> None:
    """Called when a tick was not run because the job was still running or a hook vetoed it; `context` as `tick_missed`."""


@hookspec
def scheduler_started(crons: Crons) -> None:
    """Called when the scheduler has started; not for those who only steer one, as `fastapi-crons pause` does."""


@hookspec
def scheduler_stopped(crons: Crons) -> None:
    """Called when the scheduler has stopped; its stores are closed."""


@hookspec
def job_registered(crons: Crons, job: CronJob) -> None:
    """Called for each job when the scheduler takes it up: at start, or when it is registered later."""


@hookspec
def routes(router: APIRouter, crons: Crons | None) -> None:
    """Adds endpoints to the management router. Plain function, called on the thread that makes the router."""


@hookspec
def cli_commands(cli: Any) -> None:
    """Adds commands to the command line. `cli` is its `typer.Typer` application. Plain function."""
