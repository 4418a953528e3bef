"""Notices: what a scheduler logs about its start, and that nothing starts it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from fastapi_crons import logs
from fastapi_crons._util.part import listed
from fastapi_crons._util.text import counted
from fastapi_crons.clock import Clock, SystemClock, Timer
from fastapi_crons.config import CronConfig
from fastapi_crons.scheduler.groups import included_nowhere
from fastapi_crons.scheduler.schedulers import Scheduler
from fastapi_crons.scheduler.serving import in_tests, when_serving
from fastapi_crons.scheduler.variables import warn_of_variables

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)


class Startable(Scheduler, Protocol):
    """What this module asks of a `Crons`."""

    app: FastAPI | None
    config: CronConfig
    clock: Clock
    notices: Notices

    @property
    def plugins(self) -> Plugins: ...


class Notices:
    """About one scheduler; `schedulers` are all of this process, in the order they were made."""

    def __init__(self, scheduler: Startable, schedulers: Iterable[Startable]) -> None:
        self._scheduler = scheduler
        self._schedulers = schedulers
        self.has_started = self._has_warned = False
        self._watch: Timer | None = None
        self._at_start: list[Callable[[], None]] = []

    @property
    def is_unattached(self) -> bool:
        """Whether the scheduler has jobs, but no app, and nothing has started it."""
        scheduler = self._scheduler
        return scheduler.app is None and len(scheduler.jobs) > 0 and not (self.has_started or scheduler.running)

    def watch(self) -> None:
        """Warn if the scheduler is still unattached when the process has served for a while."""
        if self._watch is None and self.is_unattached and isinstance(self._scheduler.clock, SystemClock):
            held = ref(self)
            self._watch = when_serving(lambda: _warn(held))

    def stop_watch(self) -> None:
        """End the watch: something starts the scheduler."""
        if self._watch is not None:
            self._watch.cancel()

    def warn_of_unattached(self) -> None:
        """Log once that the scheduler has jobs and that nothing starts it."""
        scheduler = self._scheduler
        if self._has_warned or not self.is_unattached or not scheduler.config.enabled or in_tests():
            return
        self._has_warned = True
        logs.adopt_server_handlers()
        logger.error(
            "the scheduler made at %s has %s, but nothing starts it, so no job runs: attach it with Crons(app), or "
            "start it in a lifespan with 'async with crons'",
            scheduler.made_at[0],
            counted(len(scheduler.jobs), "job"),
        )

    def when_started(self, log: Callable[[], None]) -> None:
        """Call `log` at each start, and now where the scheduler is running."""
        self._at_start.append(log)
        if self._scheduler.running:
            log()

    def started(self, *, waits_for_stores: bool) -> None:
        """Log that the scheduler has started."""
        self.has_started = True
        self.stop_watch()
        for other in self._schedulers:
            other.notices.watch()
        logs.adopt_server_handlers()
        warn_of_variables(self._scheduler.plugins)
        jobs = counted(len(self._scheduler.jobs), "job")
        if waits_for_stores:
            logger.warning("Cron scheduler waits for its stores: %s will run when it has them", jobs)
        elif not self._scheduler.config.enabled:
            logger.warning("Cron scheduler is disabled (CRON_ENABLED=false): %s will not run here", jobs)
        elif not (self._warned_of_jobs_elsewhere() or self._warned_of_groups()):
            logger.info("Cron scheduler started with %s", jobs)
        for log in self._at_start:
            log()

    def _warned_of_jobs_elsewhere(self) -> bool:
        """Warn where this scheduler has no jobs and another one has: the other one was probably meant."""
        scheduler = self._scheduler
        others = [other for other in self._schedulers if other is not scheduler and len(other.jobs)]
        if len(scheduler.jobs) or not others:
            return False
        other = others[-1]
        names = [job.name for job in other.jobs]
        logger.warning(
            "Cron scheduler made at %s started with 0 jobs, while the one made at %s has %d (%s)%s: use one scheduler, with "
            "Crons() where the jobs are and Crons(app) where the app is",
            scheduler.made_at[0],
            other.made_at[0],
            len(names),
            listed(names),
            "" if other.running else " and is not running",
        )
        return True

    def _warned_of_groups(self) -> bool:
        """Warn where this scheduler has no jobs, and there is a group of jobs that nothing includes."""
        scheduler = self._scheduler
        groups = [] if len(scheduler.jobs) else included_nowhere()
        if not groups:
            return False
        group = groups[0]
        logger.warning(
            "Cron scheduler made at %s started with 0 jobs, while the JobGroup made at %s has %d (%s), and is included "
            "nowhere: write crons.include(…) where the app is",
            scheduler.made_at[0],
            group.made_at,
            len(group.jobs),
            listed([job.name for job in group.jobs]),
        )
        return True


def _warn(notices: ref[Notices]) -> None:
    held = notices()
    if held is not None:
        held.warn_of_unattached()
