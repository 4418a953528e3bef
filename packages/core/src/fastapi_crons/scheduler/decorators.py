"""The decorators of schedulers and groups: `cron` takes a job, `add_…_hook` a hook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, TypedDict, TypeVar, overload

from fastapi_crons.job import JobFunc, Overlap, Place, check_expression
from fastapi_crons.plugins.added import HookFunc
from fastapi_crons.schedule.base import Schedule

if TYPE_CHECKING:
    from typing_extensions import Unpack

FuncT = TypeVar("FuncT", bound=JobFunc)
HookT = TypeVar("HookT", bound=HookFunc)


#: What `include_router` of FastAPI's newer and older versions asks a router for first.
_OF_ROUTERS = ("_contains_router", "routes", "prefix")


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
    run_in: Place | None


class Decorators(ABC):
    """Base class of `Crons` and `JobGroup`."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Nothing: `app.include_router(crons)` would otherwise end in a private name of FastAPI's routers."""
            kind, advice = type(self).__name__, ""
            if name in _OF_ROUTERS:
                advice = f"; a {kind} is no router; include its endpoints: app.include_router(get_cron_router())"
            raise AttributeError(f"{kind!r} object has no attribute {name!r}{advice}", name=name, obj=self)

    @abstractmethod
    def _declare(self, func: JobFunc, expr: str | Schedule, name: str | None, options: Mapping[str, object]) -> None:
        """Take a job; `options` are those of `CronJob`, its tags included."""

    @abstractmethod
    def _take_hook(self, kind: str, hook: HookFunc, job_name: str | None) -> None:
        """Take a hook, for one job or for all."""

    def cron(
        self,
        expr: str | Schedule,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[FuncT], FuncT]:
        """Decorator that makes a function a job, here or in this group, and returns it unchanged.

        Parameters, and what is raised, as for `CronJob`; and `DuplicateJobError` where the name is taken.
        """

        check_expression(expr)

        def register(func: FuncT) -> FuncT:
            self._declare(func, expr, name, {"tags": tags, **options})
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
            self._take_hook(kind, hook, job_name)
            return hook

        return add if isinstance(hook, _Missing) else add(hook)
