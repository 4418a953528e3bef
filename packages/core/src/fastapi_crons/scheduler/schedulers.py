"""Schedulers: those of this process, and which of them a call of `Crons(…)` means."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from fastapi_crons._util.executions import Caller, caller
from fastapi_crons.registry import JobRegistry
from fastapi_crons.scheduler.arguments import Arguments
from fastapi_crons.scheduler.lifespan import refuse_inside_lifespan

if TYPE_CHECKING:
    from fastapi import FastAPI


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
        """Add a new scheduler."""
        self._all = [each for each in self._all if each() is not None]
        self._all.append(ref(scheduler))

    def attach(self, app: FastAPI, scheduler: SchedulerT) -> None:
        """Make this the scheduler of an app."""
        self._of_apps[app] = scheduler

    def clear(self) -> None:
        """Forget the schedulers, but for those of apps."""
        self.newest = None
        self._all.clear()

    def of_app(self, app: FastAPI) -> SchedulerT | None:
        """The scheduler that starts and stops with an app."""
        return self._of_apps.get(app)

    def meant_by(self, app: FastAPI | None, given: Arguments) -> SchedulerT | None:
        """The scheduler that `Crons(app, …)` with these arguments means; None for a new one.

        Raises `ConfigurationError` where that one was given something else, and inside the running lifespan of the app.
        """
        newest = self.newest
        if app is not None:
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
