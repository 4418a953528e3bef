"""The endpoint about what is due next, over all jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from fastapi_crons.api.endpoints.parts import Asking, Endpoints, Instant, SomeJobs, SomeTags
from fastapi_crons.api.endpoints.plan_models import PlanModel
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.management.plan.plan import MAX_HOURS

endpoint = Endpoints()


@endpoint("GET", "/plan")
async def plan(
    asked: Asking,
    hours: Annotated[
        float | None,
        Query(gt=0, le=MAX_HOURS, description="What is due in so many hours, by default 6; at most 31 days"),
    ] = None,
    until: Annotated[Instant | None, Query(description="Instead: what is due up to then; ISO 8601 with offset")] = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
) -> PlanModel:
    """What is due in the next hours, over all jobs, and what stands against it: pauses, late ticks, collisions and the like."""
    if hours is not None and until is not None:
        raise InvalidArgumentError("hours and until can't both be given: each says when the plan ends")
    found = await asked.management.plan(hours=hours or 6, until=until, jobs=job or (), tags=tag or ())
    return PlanModel.of(found, details=asked.details)
