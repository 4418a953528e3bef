"""The hook specifications: what a plugin can implement.

A plugin is a module or an object with functions marked `@fastapi_crons.hookimpl`, named by an entry point in group
`fastapi_crons` or given to `crons.plugins.register(plugin)`. What holds for every hook, unless it says otherwise:

- An implementation may take fewer arguments than its specification, by the same names.
- It is a coroutine function, which is awaited on the scheduler's event loop, or a plain function, which is called in a
  thread.
- Implementations are called one after another: those with `@hookimpl(tryfirst=True)`, the others, those with
  `@hookimpl(trylast=True)`; among equals the one registered last comes first. Functions that were added through
  `crons.add_before_run_hook` and its siblings come after the plugins that were registered before, in the order they were added.
- Its return value is ignored.
- One that raises, or takes longer than `CRON_HOOK_TIMEOUT`, is logged as an error with its plugin's name; it stops neither
  the others nor the job. One of which four calls hang is not called until one of them ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

from fastapi_crons.plugins.markers import HookContext, hookspec

if TYPE_CHECKING:
    from fastapi import APIRouter
    from pydantic_settings import BaseSettings

    from fastapi_crons.job import CronJob
    from fastapi_crons.plugins.backends import LockBackendSpec, StateBackendSpec
    from fastapi_crons.scheduler.crons import Crons


@hookspec
def state_backends() -> Mapping[str, StateBackendSpec]:  # type: ignore[empty-body]
    """State stores that this plugin brings, by the names used in `CRON_STATE_BACKEND`.

    Called once, when plugins are loaded, in any thread; plain function. It imports nothing heavy: a spec says where the
    class is, and the class is imported where the store is used. One that fails, returns something else, or brings a name
    that another plugin brings is a `PluginError`, which stops the start.
    """


@hookspec
def lock_backends() -> Mapping[str, LockBackendSpec]:  # type: ignore[empty-body]
    """Lock stores that this plugin brings, by the names used in `CRON_LOCK_BACKEND`.

    Called like `state_backends`; failures are treated alike.
    """


@hookspec
def settings() -> Sequence[type[BaseSettings]]:  # type: ignore[empty-body]
    """Settings classes that this plugin brings besides those of its backends.

    Called when settings are listed or changed (`config-show`, `config-set`, `check`), and at a start where a variable
    `CRON_…` is set that core does not know, to tell whether it is misspelt; plain function. The plugin imports them inside
    it. One that fails or returns something else is a `PluginError`, which ends that command, but no start.
    """


@hookspec
def before_run(job_name: str, context: HookContext, crons: Crons) -> None:
    """Called before a job's function, once per run: its retries are part of the run.

    Raise `SkipRun(reason)` to veto the run: later hooks are not called, the function does not run, the run is recorded as
    cancelled, and its tick, where it has one, as missed with reason `vetoed`. The job waits for these hooks: its lease is
    held, and its `timeout` has not begun.
    """


@hookspec
def after_run(job_name: str, context: HookContext, crons: Crons) -> None:
    """Called after a job's function has succeeded: `context["status"]` is `completed`, `result` is what it returned.

    The outcome is final, and is being written to the state store. The job's lease is held until these hooks have ended, so
    its next run waits for them.
    """


@hookspec
def on_error(job_name: str, context: HookContext, crons: Crons) -> None:
    """Called after a run that did not succeed: `context["status"]` is `failed`, `timed_out`, `cancelled` or `interrupted`.

    Once per run, when its retries are used up; not for a run that was vetoed. `context["error_type"]` and `error` say what
    went wrong. For a run whose process died it is called on the instance that recovers the run, else on the one that ran
    it. The lease is held as with `after_run`.
    """


@hookspec
def run_scope(
    job_name: str, context: HookContext, crons: Crons
) -> AbstractContextManager[object] | AbstractAsyncContextManager[object] | None:
    """Returns a context manager that is held around each attempt of a job's function: for tracing and context variables.

    Plain function, called on the event loop. The manager is entered and left in the run's own task, so that context
    variables set in it reach the function, in its thread too; the first one is outermost. None means no manager. A manager
    gets the exception that its function raised, and can't suppress it. A failure on entering or leaving is logged, and
    changes nothing for the run. Entering and leaving an async manager count against `CRON_HOOK_TIMEOUT`; a plain one blocks
    the event loop.
    """


@hookspec
def redact(job_name: str, field: str, value: str) -> str | None:
    """Returns the text to keep instead of this one; None leaves it as it is.

    Called with each text of a run that is about to be kept, before the store, other hooks and the scheduler's log see it,
    and before it is cut. `field` is `result`, `error`, `traceback`, `log`, `reason` (of a veto) or `note` (of a manual run,
    or a pause). A result that is a text comes as it is; any other result as JSON, in which letters are not escaped, and
    before that each text in it which JSON has to escape comes by itself. Plain function, called on the event loop for every
    run, so it must be quick. Each implementation is given what the one before returned. Where one raises, or returns
    something else, the text is not kept.
    """


@hookspec
def tick_missed(job_name: str, context: HookContext, crons: Crons) -> None:
    """Called when ticks were missed: too late, too many at a time, or because of a pause or a changed definition of the job.

    `context["reason"]` is `misfire_grace_time`, `max_catch_up`, `paused`, `disabled` or `schedule_changed`; `first`,
    `last`, `count` and `more` say which ticks. Called in the background: only a stop waits for it, up to
    `CRON_HOOK_TIMEOUT`.
    """


@hookspec
def run_skipped(job_name: str, context: HookContext, crons: Crons) -> None:
    """Called when a tick was not run because the job was still running, or because a hook vetoed it.

    `context` has the keys of `tick_missed`, with `reason` `overlap` or `vetoed`; `detail` names the run that held the job,
    or gives the reason of the veto. One record covers all ticks that one run was in the way of; this is called for each of
    them as it comes. Called in the background, like `tick_missed`.
    """


@hookspec
def scheduler_started(crons: Crons) -> None:
    """Called when the scheduler has started, before `crons.start()` returns; with `CRON_ENABLED=false` too.

    Its jobs are registered, and `job_registered` has been called for each. Not called where a scheduler only reads or
    steers, as in `fastapi-crons pause` and `run-job`. One that fails does not stop the start.
    """


@hookspec
def scheduler_stopped(crons: Crons) -> None:
    """Called when the scheduler has stopped and its stores are closed, before `crons.stop()` returns.

    Called where `scheduler_started` was called, also when that failed.
    """


@hookspec
def job_registered(crons: Crons, job: CronJob) -> None:
    """Called for each job when the scheduler registers it: at the start, or later.

    Called in the background, and not where a scheduler only reads or steers. A job is frozen: to change it, define it
    otherwise.
    """


@hookspec
def routes(router: APIRouter, crons: Crons | None) -> None:
    """Adds endpoints to the management router, by `router.get(…)` and its siblings. They are guarded like ours.

    Plain function, called by `get_cron_router()` in its thread, with a router of its own. `crons` is the scheduler that the
    router was made for; None stands for the app's scheduler. Routes of FastAPI and Starlette are taken, websockets, mounts
    and included routers among them, as they are when it returns; what can't be guarded, or is added later, is left out. One
    that raises is logged, and the router is made without what it had not added yet.
    """


@hookspec
def cli_commands(cli: Any) -> None:
    """Adds commands to the command line; `cli` is its `typer.Typer` application.

    Plain function, called for help, and for a command that is not one of ours. A failure is shown as a warning. A
    command finds the app by `fastapi_crons_cli.apps.find_app`.
    """
