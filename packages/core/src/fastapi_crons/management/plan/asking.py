"""Planning: asks the stores what a plan is made from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, TypeVar

from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LiveInstance
from fastapi_crons.management.plan.plan import FIGURES_DAYS, Plan, PlanRecords, plan_of
from fastapi_crons.state.client import answer_of
from fastapi_crons.state.figures import day_of

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.engine import Engine

T = TypeVar("T")


class Planning:
    """Plans for jobs, from what an engine's stores know. One query to each store for each kind of record."""

    def __init__(self, engine: Engine, config: CronConfig) -> None:
        self._engine = engine
        self._config = config

    async def plan(self, jobs: Collection[CronJob], until: int, *, of_all: bool) -> Plan:
        """What of these jobs is due until then (Unix seconds). `of_all`: they are all jobs of the scheduler."""
        names = None if of_all else [job.name for job in jobs]
        now = self._engine.clock.now()
        since = day_of(now) - FIGURES_DAYS
        known, instances, figures = await asyncio.gather(
            self._answer(self._engine.locks.known(names)),
            self._answer(self._engine.locks.instances()),
            self._answer(self._engine.state.figures(names, since=since)),
        )
        return await plan_of(
            PlanRecords(
                now,
                until,
                jobs,
                {each.job: each for each in known},
                len(self._that_run_jobs(instances)),
                figures,
                self._config,
            )
        )

    def _that_run_jobs(self, instances: Collection[LiveInstance]) -> list[LiveInstance]:
        found = [each for each in instances if each.jobs]
        own = self._engine.instance.owner
        if self._engine.runs_ticks and all(each.instance.owner != own for each in found):
            found.append(self._engine.membership.as_seen())
        return found

    async def _answer(self, call: Awaitable[T]) -> T:
        return await answer_of(call, self._config.store_timeout, "the store")
