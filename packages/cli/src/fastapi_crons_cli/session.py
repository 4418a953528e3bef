"""Session: imports the app of a command, opens and closes the stores around it, and handles signals."""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from fastapi_crons_cli.apps import AppError, FoundApp, NoAppError, find_app
from fastapi_crons_cli.output import Progress, said, show_cursor, shown, warn

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.engine.engine import Role
    from fastapi_crons.job import CronJob
    from fastapi_crons.locking.base import KnownJob
    from fastapi_crons.management.management import Management
    from fastapi_crons.scheduler import Crons

T = TypeVar("T")


class ToBeDone(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a command that has only read so far, where it has something to do."""


@dataclass(frozen=True, slots=True)
class Session:
    """A scheduler whose stores are open, for one command."""

    crons: Crons
    management: Management
    progress: Progress
    has_app: bool
    """False where there is no app, and the jobs are those that the lock store knows."""

    @property
    def zone(self) -> str:
        """The time zone that people are shown."""
        return self.crons.config.timezone


def load_app(option: str | None) -> FoundApp:
    """Import the app, with progress where that takes long."""
    # The command prints itself what matters. An app that has set up logging still gets the records.
    package = logging.getLogger("fastapi_crons")
    if not package.handlers:
        package.addHandler(logging.NullHandler())
    with Progress() as progress:
        progress.begin("importing the app")
        return find_app(option)


def in_app(command: Callable[[Session], Awaitable[T]], *, app: str | None, job: str) -> T:
    """Run a command about a job inside the lifespan of the app, as an operator."""
    found = load_app(app)
    check_name(found.crons, job)  # before opening a store, which may create it
    return run(_opened(found, None, command, "operator", job, lifespan=True))


def with_stores(
    command: Callable[[Session], Awaitable[T]],
    *,
    app: str | None,
    job: str | None = None,
    act: Callable[[Session], Awaitable[T]] | None = None,
    hooks: Sequence[str] = (),
) -> T:
    """Run a command that needs only the stores; without an app, on the jobs that the lock store knows.

    It reads, and creates no store. Where it raises `ToBeDone`, `act` is run with stores that are open for writing, and inside
    the lifespan of the app if that has one of `hooks` for the job. Raises `UnknownJobError` for an unknown job.
    """
    try:
        found, why_not = load_app(app), None
    except NoAppError as error:
        from fastapi_crons.config import CronConfig
        from fastapi_crons.scheduler import Crons

        found, why_not = FoundApp("", Crons(config=CronConfig()), None), error
    if act is None:
        return run(_opened(found, why_not, command, "observer", job, lifespan=False))
    try:
        return run(_opened(found, why_not, command, "observer", job, lifespan=False, steers=True))
    except ToBeDone:
        lifespan = any(call.concerns(job or "") for hook in hooks for call in found.crons.plugins.calls[hook])
        return run(_opened(found, why_not, act, "operator", job, lifespan=lifespan, steers=True))


def with_stores_of(crons: Crons, command: Callable[[Session], Awaitable[T]]) -> T:
    """Run a command that reads the stores of this scheduler."""
    return run(_opened(FoundApp("", crons, None), None, command, "observer", None, lifespan=False))


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command. A signal to end the process cancels it, and the exit code names the signal."""
    return asyncio.run(_until_signal(command))


def actor() -> str | None:
    """The user of this command line, by the name in the system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, in a container
        return None


async def _until_signal(command: Coroutine[Any, Any, T]) -> T:
    from fastapi_crons_cli.commands.end_signals import EndSignals

    received: list[int] = []
    task = asyncio.get_running_loop().create_task(command)

    def end(number: int) -> None:
        received.append(number)
        show_cursor()
        task.cancel()

    signals = EndSignals(end)
    signals.start()
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise typer.Exit(128 + received[0]) from None
        raise
    finally:
        signals.stop()


async def _opened(
    found: FoundApp,
    why_no_app: NoAppError | None,
    command: Callable[[Session], Awaitable[T]],
    role: Role,
    job: str | None,
    *,
    lifespan: bool,
    steers: bool = False,
) -> T:
    from fastapi_crons.management.management import Management

    crons = found.crons
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress())
        progress.begin("opening the stores")
        if role == "operator":
            stack.enter_context(_failing_hooks_shown())
        await crons.start(role)
        stack.push_async_callback(crons.stop)
        management = Management(crons)
        if not management.has_durable_history:
            warn("each process keeps its history in memory, so the history of other processes is not shown")
        if steers:
            check_lock_is_shared(management)
        if why_no_app is not None and not await _register_known_jobs(management):
            raise why_no_app
        if job is not None:
            check_name(crons, job)
        if lifespan and found.app is not None:
            progress.begin("starting the app")
            await stack.enter_async_context(served(found.app))
            # Hooks that are still running end before the app closes what they use.
            stack.push_async_callback(crons.stop)
        progress.begin("asking the stores")
        try:
            return await command(Session(crons, management, progress, has_app=why_no_app is None))
        finally:
            if crons.running:
                for name in management.damaged():
                    warn(f"damaged, and ignored: {shown(name)}")


class _Warnings(logging.Handler):
    """Shows records as warnings of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(f"Warning: {shown(record.getMessage())}")


@contextmanager
def _failing_hooks_shown() -> Iterator[None]:
    """Show the failures of hooks in this process, whose log is not shown."""
    handler = _Warnings(logging.ERROR)
    hooks = logging.getLogger("fastapi_crons.hooks")
    hooks.addHandler(handler)
    try:
        yield
    finally:
        hooks.removeHandler(handler)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of an app, as in a server: an error inside the block does not reach it."""
    context = app.router.lifespan_context(app)
    try:
        await context.__aenter__()
    except SystemExit as error:
        raise AppError(f"the app ended the process while it started (SystemExit: {error.code})") from error
    try:
        yield
    except BaseException:
        try:
            await context.__aexit__(None, None, None)
        except Exception as error:
            # The error of the command matters more than this one.
            warn(f"the app's lifespan failed at its end, too: {type(error).__name__}: {said(error)}")
        raise
    await context.__aexit__(None, None, None)


def check_lock_is_shared(management: Management) -> None:
    """Raises `CronsError` where a request would reach this process alone."""
    from fastapi_crons.errors import CronsError

    unshared = management.unshared_lock()
    if unshared is not None:
        raise CronsError(
            f"each process has a {unshared} of its own, so this would not reach the running app; use its management API, or "
            "a shared lock store (fastapi-crons-sqlite)"
        )


def check_name(crons: Crons, name: str) -> None:
    """Raises `UnknownJobError`, with similar names."""
    from difflib import get_close_matches

    from fastapi_crons.errors import UnknownJobError

    if crons.get_job(name) is None:
        near = get_close_matches(name, crons.jobs.names())
        hint = f"did you mean {_either(near)}?" if near else "fastapi-crons list-jobs shows all jobs"
        raise UnknownJobError(f"there is no job named {name!r}; {hint}")


def check_names(session: Session, jobs: Sequence[str] | None, tags: Sequence[str] | None) -> list[str] | None:
    """The names of those of these jobs that have all of these tags; None where all jobs are meant.

    Raises `UnknownJobError` for an unknown name, and as `check_tags`.
    """
    for name in jobs or ():
        check_name(session.crons, name)
    check_tags(session, tags)
    return session.management.names_of(jobs or (), tags or ())


def check_tags(session: Session, tags: Sequence[str] | None) -> None:
    """Raises `NoAppError` where tags are given, and there is no app, and `InvalidArgumentError` for one that no job has."""
    from difflib import get_close_matches

    from fastapi_crons.errors import InvalidArgumentError

    if tags and not session.has_app:
        raise NoAppError("only the app knows tags, and no app was found here; name it with --app module:attribute")
    known = sorted({tag for job in session.crons.get_jobs() for tag in job.tags})
    for tag in tags or ():
        if tag not in known:
            near = get_close_matches(tag, known)
            hint = f"did you mean {_either(near)}?" if near else f"there are: {', '.join(map(repr, known)) or 'none'}"
            raise InvalidArgumentError(f"no job has the tag {tag!r}; {hint}")


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


async def _register_known_jobs(management: Management) -> bool:
    """Register the jobs that the lock store knows; False where there are none."""
    from fastapi_crons.errors import CronsError

    jobs = management.crons.jobs
    for known in await management.known_jobs():
        try:
            if jobs.get(known.job) is None:  # registered when the command looked, before it acted
                jobs.append(_stand_in(known))
        except CronsError:
            warn(f"job {shown(known.job)!r} is left out: only its app knows its schedule {shown(known.schedule)!r}")
    return len(jobs) > 0


def _stand_in(known: KnownJob) -> CronJob:
    from fastapi_crons.job import CronJob

    def refuse() -> None:
        raise RuntimeError(f"job {known.job!r} stands in for one whose app is not here")

    # Named like the job's own function, so that this does not count as another definition.
    refuse.__module__, _, refuse.__qualname__ = known.function.partition(":")
    return CronJob(refuse, known.schedule, known.job, timezone=known.timezone or None, enabled=known.enabled)
