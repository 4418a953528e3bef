"""Drains: has instances claim nothing more, and says what still runs there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from platform import node
from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons._util.text import printable
from fastapi_crons.engine.drain import RunLeft, run_left
from fastapi_crons.errors import DrainError, NotRunningError, UnknownInstanceError
from fastapi_crons.locking.base import LiveInstance
from fastapi_crons.run import Run
from fastapi_crons.scheduler.crons import Crons
from fastapi_crons.state.base import RunQuery
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

#: How many runs of all instances are looked at.
_MOST_RUNS = 1_000
#: How often (seconds) to look whether an instance has heard of a request, and how many of its heartbeats that may take.
LOOK_AGAIN = 0.5
_HEARTBEATS = 3


class DrainView(NamedTuple):
    """An instance that was asked to drain, and what still runs there."""

    instance: LiveInstance
    runs: tuple[RunLeft, ...]
    """Those on record, oldest first."""

    @property
    def draining(self) -> bool:
        """Whether it claims nothing more. Until then it has not heard of the request."""
        return self.instance.is_draining

    @property
    def left(self) -> int:
        """How many runs hold a lease, by its last heartbeat."""
        return self.instance.running

    @property
    def done(self) -> bool:
        return self.draining and not self.left


class Drains:
    """What is asked of instances that are to be stopped gently. See `Management`."""

    def __init__(self, crons: Crons, living: Callable[[], Awaitable[list[LiveInstance]]]) -> None:
        """`living` finds the running instances."""
        self._crons = crons
        self._living = living

    async def instances(self, name: str | None) -> list[LiveInstance]:
        """The living instances of this name, or with None those of this host that run ticks.

        Raises `UnknownInstanceError` where there is none, with those that there are.
        """
        engine = self._engine()
        # A command may have the name of the instance that it means.
        own = None if engine.role == "scheduler" else engine.instance.owner
        living = [each for each in await self._living() if each.instance.owner != own]
        here = (each for each in living if each.instance.host == (node() or "localhost") and each.jobs)
        found = [each for each in living if each.instance.id == name] if name is not None else list(here)
        if not found:
            names = ", ".join(sorted({printable(each.instance.id) for each in living if each.jobs})) or "none"
            what = (
                "no instance of this host runs ticks" if name is None else f"no instance {printable(name)!r} is running"
            )
            raise UnknownInstanceError(f"can't drain: {what}; there are: {names}")
        return found

    async def drain(self, name: str | None = None) -> list[DrainView]:
        """Have the instances of this name, or this one, claim nothing more until their processes end, and say what runs there.

        Their ticks go to the other instances at once, and what runs goes on. Another instance hears of it at once, or with its
        next heartbeat; until then `draining` is False. There is no way back but a restart.
        """
        engine = self._engine()
        if name is None or name == engine.instance.id:
            await engine.drain()
            if name is None:
                return await self.look([engine.instance.owner])
        return await self.ask(await self.instances(name))

    async def ask(self, instances: Collection[LiveInstance]) -> list[DrainView]:
        """The same for instances that were found before."""
        engine = self._engine()
        requests = engine.requests_for("drain an instance")
        owners = [each.instance.owner for each in instances]
        await asyncio.gather(*(requests.drain_other(owner) for owner in owners if owner != engine.instance.owner))
        return await self.look(owners)

    async def until_heard(self, views: list[DrainView]) -> list[DrainView]:
        """The same once all claim nothing more, or are gone. Raises `DrainError` where one does not do as it was asked."""
        config, clock = self._crons.config, self._crons.clock
        asked = {view.instance.instance.owner: view.instance.heartbeat_ts for view in views}
        patience = clock.monotonic() + _HEARTBEATS * config.heartbeat_interval + config.store_timeout
        while waiting := [view.instance for view in views if not view.draining]:
            # A version that knows no drains overwrites the request with its next heartbeat.
            deaf = [each for each in waiting if not each.is_to_drain and each.heartbeat_ts > asked[each.instance.owner]]
            if deaf:
                raise DrainError(
                    f"can't drain {_named(deaf)}: it goes on as before, so its version is too old for that, or its lock store "
                    "passes no requests on; send it SIGTERM, which gives its runs CRON_SHUTDOWN_TIMEOUT seconds"
                )
            if clock.monotonic() > patience:
                raise DrainError(
                    f"can't drain {_named(waiting)}: no answer for {_HEARTBEATS} heartbeats, so its event loop is blocked; it "
                    "drains once that turns again, or send it SIGTERM"
                )
            await clock.sleep(LOOK_AGAIN)
            views = await self.look(asked)
        return views

    async def look(self, owners: Collection[str]) -> list[DrainView]:
        """How far these instances are. Those that are gone are left out. One query to each store, and one for leases."""
        engine, timeout = self._engine(), self._crons.config.store_timeout
        query = RunQuery(statuses=["running"], limit=_MOST_RUNS)
        living, on_record = await asyncio.gather(self._living(), answer_of(engine.state.find_runs(query), timeout))
        found = [each for each in living if each.instance.owner in owners]
        names = {each.instance.id for each in found}
        runs = {run.id: run for run in on_record[::-1] if run.instance in names}
        known = await answer_of(engine.locks.known(sorted({run.job for run in runs.values()})), timeout) if runs else []
        holders = {lease.run_id: lease.instance for job in known for lease in job.leases}
        return [
            DrainView(
                each, self._runs_left(engine, each, [run for run in runs.values() if holders.get(run.id) == owner])
            )
            for each, owner in ((each, each.instance.owner) for each in found)
        ]

    def _runs_left(self, engine: Engine, live: LiveInstance, on_record: list[Run]) -> tuple[RunLeft, ...]:
        if live.instance.owner == engine.instance.owner:
            return engine.runs_left()
        config, jobs = self._crons.config, self._crons.jobs
        return tuple(
            run_left(run, job := jobs.get(run.job), None if job is None else job.timeout, config) for run in on_record
        )

    def _engine(self) -> Engine:
        if self._crons.engine is None:
            raise NotRunningError(
                "can't drain an instance: the scheduler is not running; it runs between crons.start() and crons.stop()"
            )
        return self._crons.engine


def _named(instances: list[LiveInstance]) -> str:
    return ", ".join(
        f"{printable(each.instance.id)} (fastapi-crons {printable(each.instance.version)})" for each in instances
    )
