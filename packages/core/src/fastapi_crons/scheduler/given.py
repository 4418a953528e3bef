"""What `Crons(…)` was given, and which scheduler of this process a call of it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from fastapi_crons.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi_crons._util.executions import Caller
    from fastapi_crons.clock import Clock
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.scheduler.crons import Crons
    from fastapi_crons.state.base import StateBackend


class Given(NamedTuple):
    """The arguments of `Crons(…)` besides the app; None for what was left out."""

    state_backend: StateBackend | None = None
    lock_manager: DistributedLockManager | None = None
    config: CronConfig | None = None
    clock: Clock | None = None

    @property
    def anything(self) -> bool:
        return any(value is not None for value in self)

    @property
    def settings(self) -> CronConfig | None:
        """The settings that follow from it."""
        return self.config or (self.lock_manager.config if self.lock_manager else None)

    def with_newer(self, newer: Given) -> Given:
        """Both together; where both have a value, the newer one's."""
        return self._replace(**{name: new for name, new in newer._asdict().items() if new is not None})

    def check_same(self, newer: Given, what: str) -> None:
        """Raises `ConfigurationError` where the newer one has another value of what this one has."""
        for name, old, new in zip(self._fields, self, newer, strict=True):
            if old is not None and new is not None and old is not new and not (name == "config" and old == new):
                raise ConfigurationError(
                    f"{what} was given a {name} already ({type(old).__name__}), and this call has another "
                    f"({type(new).__name__}): give it once"
                )

    def check_holds(self, newer: Given) -> None:
        """Raises `ConfigurationError` where the newer one has anything that this one has not."""
        if any(new is not None and old is not new for old, new in zip(self, newer, strict=True)):
            raise ConfigurationError("this app has a scheduler already; give its stores and settings to the first")


class Schedulers:
    """The schedulers of this process that somebody still holds, in the order they were made."""

    def __init__(self) -> None:
        self._all: list[ref[Crons]] = []

    def add(self, crons: Crons) -> None:
        self._all = [each for each in self._all if each() is not None]
        self._all.append(ref(crons))

    def clear(self) -> None:
        self._all.clear()

    def __iter__(self) -> Iterator[Crons]:
        return iter([crons for each in list(self._all) if (crons := each()) is not None])

    def made_before(self, place: Caller) -> Crons | None:
        """The scheduler that was made at this very place, before its module was executed again; None once it has started."""
        for crons in self:
            here = [made for made in crons.made_at if (made.file, made.line) == (place.file, place.line)]
            if here and not crons.running and all(place.is_later_execution_than(made) for made in here):
                return crons
        return None

    def another_with_jobs(self, crons: Crons) -> Crons | None:
        """Another scheduler that has jobs, of those made last."""
        return next((other for other in reversed(list(self)) if other is not crons and len(other.jobs)), None)
