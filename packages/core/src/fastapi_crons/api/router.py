"""The endpoints of the management API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as DependsParameter
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from fastapi_crons.api.access import Access
from fastapi_crons.api.models import HealthModel, JobModel, Problem, RunAnswer, RunModel, RunPage, RunRequest
from fastapi_crons.errors import CronsError, JobLockedError, StoreError, UnknownJobError
from fastapi_crons.lifespan import scheduler_of
from fastapi_crons.outcome import one_line
from fastapi_crons.run import RunStatus
from fastapi_crons.scheduler import Crons
from fastapi_crons.service import Service

logger = logging.getLogger(__name__)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": HTTPStatus(code).phrase} for code in (401, 403, 404, 422, 503)
}


def get_cron_router(crons: Crons | None = None, *, dependencies: Sequence[DependsParameter] | None = None) -> APIRouter:
    """The management endpoints, to be included in an app under a prefix of its choice.

    `crons` defaults to the scheduler of the app that serves the request, else of the process. `dependencies` guard every
    endpoint; without them and without `CRON_API_TOKEN`, changes are accepted from local clients only.
    """
    guarded = bool(dependencies)

    def asked(request: Request) -> tuple[Service, Access]:
        scheduler = crons or scheduler_of(request.app) or Crons()
        return Service(scheduler), Access(scheduler.config, guarded=guarded)

    def may_read(request: Request) -> None:
        asked(request)[1].check_read(request)

    def may_change(request: Request) -> None:
        asked(request)[1].check_change(request)

    router = APIRouter(
        tags=["crons"],
        dependencies=[*(dependencies or ()), Depends(may_read)],
        route_class=_ProblemRoute,
        responses=_PROBLEMS,
    )
    if Access((crons or Crons()).config, guarded=guarded).unguarded:
        logger.warning(
            "the management API has neither CRON_API_TOKEN nor dependencies: everybody may read lists and states; "
            "changes, results and error texts are for local clients only"
        )

    @router.get("/crons")
    async def list_jobs(request: Request, tag: str | None = None) -> list[JobModel]:
        """All jobs with their latest state."""
        service, _ = asked(request)
        return [JobModel.of(view) for view in await service.jobs(tag=tag)]

    @router.get("/crons/{name}")
    async def one_job(request: Request, name: str) -> JobModel:
        """One job with its latest state."""
        service, _ = asked(request)
        return JobModel.of(await service.job(name))

    @router.get("/crons/{name}/runs")
    async def job_runs(
        request: Request,
        name: str,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[str | None, Query(max_length=100)] = None,
        status: RunStatus | None = None,
    ) -> RunPage:
        """A job's runs, newest first."""
        service, access = asked(request)
        runs = await service.runs(name, limit=limit, before=before, status=status)
        details = access.sees_details(request)
        return RunPage(
            runs=[RunModel.of(run, details=details) for run in runs], next=runs[-1].id if len(runs) == limit else None
        )

    @router.get("/crons/{name}/runs/{run_id}")
    async def one_run(request: Request, name: str, run_id: str) -> RunModel:
        """One run of a job."""
        service, access = asked(request)
        run = await service.run(name, run_id)
        if run is None:
            raise HTTPException(404, "this job has no such run")
        return RunModel.of(run, details=access.sees_details(request))

    @router.post(
        "/crons/{name}/run",
        dependencies=[Depends(may_change)],
        responses={202: {"model": RunAnswer}, 409: {"model": Problem}, 500: {"model": RunAnswer}},
    )
    async def run_job(request: Request, response: Response, name: str, body: RunRequest | None = None) -> RunAnswer:
        """Run a job now and wait for its end. A client that goes away cancels nothing.

        Without `wait`, or when the scheduler stops in the meantime, the answer is 202 with the id of the run.
        """
        service, _ = asked(request)
        wanted = body or RunRequest()
        run = await service.run_job(
            name,
            force=wanted.force,
            timeout=wanted.timeout,
            wait=wanted.wait,
            triggered_by="api",
            note=wanted.note,
        )
        response.status_code = {"completed": 200, "running": 202}.get(run.status, 500)
        return RunAnswer.of(run, datetime.now(timezone.utc).replace(microsecond=0))

    @router.get("/scheduler/health", responses={503: {"model": HealthModel}})
    async def health(request: Request, response: Response) -> HealthModel:
        """Whether the scheduler does its work: 200, or 503 where it does not."""
        service, _ = asked(request)
        found = service.crons.health()
        response.status_code = 503 if found.status == "unhealthy" else 200
        return HealthModel(status=found.status, findings=list(found.findings))

    for call in (crons or Crons()).plugins.calls("routes"):
        try:
            call.here(router=router, crons=crons)
        except Exception as error:
            logger.error("hook routes of plugin %r failed: %s", call.plugin_name, one_line(error))
    return router


class _ProblemRoute(APIRoute):
    """Answers our own errors as problem details (RFC 9457)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return _problem(error.status_code, str(error.detail), error.headers)
            except RequestValidationError as error:
                return _problem(422, _what_is_wrong(error))
            except UnknownJobError as error:
                return _problem(404, str(error)[:300])
            except JobLockedError as error:
                return _problem(409, str(error)[:300])
            except StoreError:
                logger.exception("the management API could not reach a store")
                return _problem(503, "the store does not answer; the log says why")
            except CronsError as error:
                return _problem(503, str(error)[:300])

        return handled


def _what_is_wrong(error: RequestValidationError) -> str:
    """Which parts of a request can't be used, and why; without the values, which may be anything."""
    faults = ("{}: {}".format(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors())
    return ascii("; ".join(faults)[:1_000])[1:-1]


def _problem(status: int, detail: str, headers: Any = None) -> JSONResponse:
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return JSONResponse(content, status, headers, media_type="application/problem+json")
