"""Planning: asks the stores what a plan is made from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, TypeVar

from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.job import CronJob
from fastapi_crons.management.plan.deploy import Deploy, deploy_of
from fastapi_crons.management.plan.plan import FIGURES_DAYS, Plan, PlanRecords, end_of_span, plan_of
from fastapi_crons.state.client import answer_of
from fastapi_crons.state.figures import Figures, day_of

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.engine import Engine

T = TypeVar("T")


class Planning:
    """Plans for jobs, from what an engine's stores know. One query to each store for each kind of record."""

    def __init__(self, engine: Engine, config: CronConfig) -> None:
        self._engine = engine
        self._config = config

    async def plan(self, jobs: Collection[CronJob], until: int, *, of_all: bool, durations: bool) -> Plan:
        """What of these jobs is due until then (Unix seconds). `of_all`: they are all jobs of the scheduler."""
        records, _ = await self._records(jobs, until, None if of_all else [job.name for job in jobs], durations)
        return await plan_of(records)

    async def deploy(self, jobs: Collection[CronJob], hours: float) -> Deploy:
        """What a deploy of these jobs would do to what the stores know, in so many hours."""
        now = self._engine.clock.now()
        records, living = await self._records(jobs, end_of_span(now, hours, None), None, durations=True)
        return await deploy_of(records, living)

    async def _records(
        self, jobs: Collection[CronJob], until: int, names: Collection[str] | None, durations: bool
    ) -> tuple[PlanRecords, set[str]]:
        """What is on record of these names, or of all, and the owners of the running instances that run jobs."""
        now = self._engine.clock.now()
        known, instances, figures = await asyncio.gather(
            self._answer(self._engine.locks.known(None if names is None else list(names))),
            self._answer(self._engine.locks.instances()),
            self._figures(names, durations),
        )
        living = self._engine.owners_running(instances)
        by_name = {each.job: each for each in known}
        return PlanRecords(now, until, jobs, by_name, len(living), figures, self._config), living

    async def _figures(self, names: Collection[str] | None, durations: bool) -> dict[str, Figures] | None:
        """The figures of the last days; None where the state store does not answer: what is due is known without them."""
        if not durations:
            return {}
        since = day_of(self._engine.clock.now()) - FIGURES_DAYS
        try:
            return await self._answer(self._engine.state.sums(names, since=since))
        except StoreUnavailableError:
            return None

    async def _answer(self, call: Awaitable[T]) -> T:
        return await answer_of(call, self._config.store_timeout, "the store")
