"""Schedulers: those of this process, and which of them a call of `Crons(…)` means."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from fastapi_crons._util.executions import Caller, caller
from fastapi_crons._util.text import brief
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.registry import JobRegistry
from fastapi_crons.scheduler.lifespan import refuse_inside_lifespan

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.clock import Clock
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.state.base import StateBackend


class Arguments(NamedTuple):
    """The arguments of `Crons(…)` besides the app; None stands for what was left out."""

    state_backend: StateBackend | None = None
    lock_manager: DistributedLockManager | None = None
    config: CronConfig | None = None
    clock: Clock | None = None

    @property
    def anything(self) -> bool:
        return any(value is not None for value in self)

    @property
    def settings(self) -> CronConfig | None:
        """The given settings; else those of the given lock manager."""
        return self.config or (self.lock_manager.config if self.lock_manager else None)

    def with_newer(self, newer: Arguments) -> Arguments:
        """Both together; a newer value replaces an older one."""
        return self._replace(**{name: new for name, new in newer._asdict().items() if new is not None})

    def check_same(self, newer: Arguments, scheduler: str) -> None:
        """Raises `ConfigurationError` where a newer value differs from one that was given before."""
        for name, old, new in zip(self._fields, self, newer, strict=True):
            if old is not None and new is not None and old is not new and not (name == "config" and old == new):
                raise ConfigurationError(
                    f"{scheduler} was given a {name} already ({type(old).__name__}), and this call has another "
                    f"({type(new).__name__}); give it once"
                )

    def check_includes(self, newer: Arguments) -> None:
        """Raises `ConfigurationError` where the newer one has a value that this one does not have."""
        if any(new is not None and old is not new for old, new in zip(self, newer, strict=True)):
            raise ConfigurationError(
                "this app has a scheduler already; give stores and settings to its first Crons(app, …)"
            )


class Scheduler(Protocol):
    """What this module asks of a `Crons`."""

    jobs: JobRegistry
    given: Arguments
    """What it was given so far."""
    adoptable: Arguments | None
    """What it was made with, where it was made without an app: then an app may adopt it."""
    made_at: list[Caller]
    """Where in the app's code it was made, and attached to apps."""

    @property
    def running(self) -> bool: ...

    @property
    def started_alone(self) -> bool:
        """Whether it has started without an app, so that no app adopts it any more."""


SchedulerT = TypeVar("SchedulerT", bound=Scheduler)


class Schedulers(Generic[SchedulerT]):
    """Iterates over the schedulers that are still in use, in the order they were made."""

    def __init__(self) -> None:
        #: Held while a scheduler is looked up or made.
        self.lock = threading.RLock()
        #: The one made last: what `Crons()` without arguments means.
        self.newest: SchedulerT | None = None
        self._all: list[ref[SchedulerT]] = []
        self._of_apps: WeakKeyDictionary[FastAPI, SchedulerT] = WeakKeyDictionary()

    def __iter__(self) -> Iterator[SchedulerT]:
        return iter([scheduler for each in list(self._all) if (scheduler := each()) is not None])

    def add(self, scheduler: SchedulerT) -> None:
        self._all = [each for each in self._all if each() is not None]
        self._all.append(ref(scheduler))

    def attach(self, app: FastAPI, scheduler: SchedulerT) -> None:
        self._of_apps[app] = scheduler

    def clear(self) -> None:
        """Forget the schedulers, but for those of apps."""
        self.newest = None
        self._all.clear()

    def of_app(self, app: FastAPI) -> SchedulerT | None:
        return self._of_apps.get(app)

    def meant_by(self, app: FastAPI | None, given: Arguments) -> SchedulerT | None:
        """The scheduler that `Crons(app, …)` with these arguments means; None for a new one.

        Raises `ConfigurationError` where that one was given something else, and inside the running lifespan of the app.
        """
        newest = self.newest
        if app is not None:
            _check_app(app)
            own = self.of_app(app)
            if own is not None:
                own.given.check_includes(given)
                return own
            refuse_inside_lifespan(app)
        elif not given.anything:
            return newest
        former = self._made_before(caller())
        if former is not None:
            return former
        may_adopt = newest is not None and not (newest.running or newest.started_alone)
        if app is not None and may_adopt and newest is not None and newest.adoptable is not None:
            newest.adoptable.check_same(given, f"the scheduler that was made without an app ({newest.made_at[0]})")
            return newest
        return None

    def _made_before(self, place: Caller) -> SchedulerT | None:
        """The scheduler made at this place before its module was executed again; None once it has started."""
        for scheduler in self:
            here = [made for made in scheduler.made_at if (made.file, made.line) == (place.file, place.line)]
            if here and not scheduler.running and all(place.is_later_execution_than(made) for made in here):
                return scheduler
        return None


def _check_app(app: object) -> None:
    """Raises `ConfigurationError` for what can't be an app: a router, a store, the class of an app."""
    if isinstance(app, type) or not hasattr(app, "router"):
        raise ConfigurationError(f"Crons takes the FastAPI app, not {brief(app)}; give it like Crons(app)")
