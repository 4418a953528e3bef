"""The decorators of a scheduler: `cron` registers a job, `add_…_hook` adds a hook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from enum import Enum
from typing import TYPE_CHECKING, TypedDict, TypeVar, overload

from fastapi_crons.errors import ConfigurationError
from fastapi_crons.job import CronJob, JobFunc, Overlap, check_expression
from fastapi_crons.plugins.added import HookFunc
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.registry import JobRegistry
from fastapi_crons.schedule.cron import Schedule

if TYPE_CHECKING:
    from typing_extensions import Unpack

FuncT = TypeVar("FuncT", bound=JobFunc)
HookT = TypeVar("HookT", bound=HookFunc)


class _Missing(Enum):
    """Stands for a hook that the decorator is still to be given; None would hide a mistake."""

    MISSING = "the decorated function"


class JobOptions(TypedDict, total=False):
    """The arguments of `cron()` besides expression, name and tags; see `CronJob`."""

    timezone: str | tzinfo | None
    coalesce: bool | None
    misfire_grace_time: float | None
    overlap: Overlap
    max_retries: int | None
    retry_delay: float | None
    retry_on: type[BaseException] | Iterable[type[BaseException]]
    timeout: float | None
    jitter: float
    enabled: bool
    store_result: bool
    kwargs: Mapping[str, object] | None


class Decorators(ABC):
    """Base class of `Crons`."""

    jobs: JobRegistry

    @property
    @abstractmethod
    def plugins(self) -> Plugins:
        """Takes the hooks."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """While it is running, a hook for an unknown job is refused at once, else at the start."""

    def cron(
        self,
        expr: str | Schedule,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[FuncT], FuncT]:
        """Decorator that registers a function as a job and returns it unchanged. Parameters as for `CronJob`."""

        check_expression(expr)

        def register(func: FuncT) -> FuncT:
            self.jobs.append(CronJob(func, expr, name, tags, **options))
            return func

        return register

    @overload
    def add_before_run_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_before_run_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_before_run_hook(
        self, hook: HookT | _Missing = _Missing.MISSING, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` before each run, of one job or of all. It may raise `SkipRun` to veto the run.

        Returns the hook, so that it is a decorator as well: `@crons.add_before_run_hook`, or for one job
        `@crons.add_before_run_hook(job_name="backup")`. Raises `PluginError` for what can't be called as a hook.
        """
        return self._add_hook("before_run", hook, job_name)

    @overload
    def add_after_run_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_after_run_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_after_run_hook(
        self, hook: HookT | _Missing = _Missing.MISSING, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` after each run that succeeded, of one job or of all. A decorator, too."""
        return self._add_hook("after_run", hook, job_name)

    @overload
    def add_on_error_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_on_error_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_on_error_hook(
        self, hook: HookT | _Missing = _Missing.MISSING, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` after each run that did not succeed, of one job or of all. A decorator, too."""
        return self._add_hook("on_error", hook, job_name)

    def _add_hook(self, kind: str, hook: HookT | _Missing, job_name: str | None) -> HookT | Callable[[HookT], HookT]:
        def add(hook: HookT) -> HookT:
            if self.running and isinstance(job_name, str):
                self.check_hook_names(frozenset({job_name}))
            self.plugins.add_function(kind, hook, job_name)
            return hook

        return add if isinstance(hook, _Missing) else add(hook)

    def check_hook_names(self, names: frozenset[str]) -> None:
        """Raises `ConfigurationError` for names that no job has."""
        unknown = names - self.jobs.names()
        if unknown:
            raise ConfigurationError(
                f"hooks were added for jobs that do not exist: {', '.join(map(repr, sorted(unknown)))}; "
                f"check job_name, or register the job"
            )
