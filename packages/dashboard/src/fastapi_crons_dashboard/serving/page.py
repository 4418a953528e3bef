"""A page: how it is asked for, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, tzinfo
from http import HTTPStatus
from math import ceil
from time import perf_counter
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from fastapi_crons.api import Asked, asked, refusal_page
from fastapi_crons.clock import UTC
from fastapi_crons.errors import (
    CronsError,
    InvalidArgumentError,
    JobLockedError,
    NotRunningError,
    StoreError,
    UnknownInstanceError,
    UnknownJobError,
    UnknownRunError,
)
from fastapi_crons_dashboard.serving.links import Links
from fastapi_crons_dashboard.serving.rendering import render
from fastapi_crons_dashboard.words import said
from fastapi_crons_dashboard.words.refusals import of_form, on_a_page, sentence
from fastapi_crons_dashboard.words.times import zone

#: Nothing but our own files, no script or style within a page, and no page of others around ours.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: The status of what can't be shown or done. Of what is not listed, a change is refused (409), and a page is unavailable (503).
_STATUSES: Mapping[type[CronsError], int] = {
    UnknownJobError: 404,
    UnknownRunError: 404,
    UnknownInstanceError: 404,
    InvalidArgumentError: 422,
}

#: For so many times as long as it takes to find what a live page shows, it is not asked for again.
_REST = 20

EndpointT = TypeVar("EndpointT", bound=Callable[..., object])


class ChangesRefusedError(CronsError):
    """Some of what was asked for is refused, by these jobs."""

    def __init__(self, words: str, jobs: tuple[str, ...]) -> None:
        super().__init__(words)
        self.jobs = jobs


class Shown:
    """A request for a page: who asks, and what all pages show."""

    def __init__(self, request: Request, asked: Asked, why_read_only: str | None, signed_in: bool) -> None:
        self.request = request
        self.asked = asked
        self.management = asked.management
        self.links = Links(request)
        self.why_read_only = why_read_only
        """Why this client may only look; None for one that may change things."""
        self.signed_in = signed_in
        """Whether this client has a session that it can end."""
        self.now = datetime.fromtimestamp(self.management.crons.clock.now(), UTC)
        self._began = perf_counter()

    @classmethod
    async def by(cls, request: Request, asked: Annotated[Asked, Depends(asked)]) -> Shown:
        return cls(request, asked, await asked.why_read_only(), await asked.signed_in())

    @property
    def has_started_a_run(self) -> bool:
        """Whether this is the page that a run leads to when it is started."""
        return self.request.query_params.get("said") == "started"

    @property
    def tags(self) -> list[str]:
        """The tags of all jobs."""
        return sorted({tag for job in self.management.crons.get_jobs() for tag in job.tags})

    def zone_of(self, job: str) -> tzinfo:
        """The zone that a job's ticks are on the clock of; UTC for one that the app has no more."""
        found = self.management.crons.get_job(job)
        return UTC if found is None else zone(found.schedule_zone)

    def pace(self) -> int:
        """For how long (seconds) a live page, whose values are found by now, is not asked for again."""
        return max(1, ceil(_REST * (perf_counter() - self._began)))

    def page(self, template: str, /, status: int = 200, **values: object) -> HTMLResponse:
        """The page that a template makes of these values."""
        said_once = said.sentence(self.request.query_params)
        given = {"shown": self, "links": self.links, "now": self.now, "said": said_once, **values}
        return HTMLResponse(render(template, given), status)


Showing = Annotated[Shown, Depends(Shown.by)]


class PageRoute(APIRoute):
    """Says on a page what can't be shown, and why."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except HTTPException as error:
                response = _problem(request, error.status_code, str(error.detail), error.headers)
            except RequestValidationError as error:
                response = _problem(
                    request, 422, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
                )
            except CronsError as error:
                known = not isinstance(error, UnknownJobError)
                other = run_in_the_way(error, request)
                by = error.jobs if isinstance(error, ChangesRefusedError) else None
                response = _problem(
                    request,
                    status_of(error, request),
                    words_of(error),
                    job_is_known=known,
                    other_run=other,
                    refused_by=by,
                )
            return _guarded(response)

        return handled


def _guarded(response: Response) -> Response:
    """The same response with the headers of all pages."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refused(request: Request, refusal: HTTPException) -> Response:
    """The page for who may not see a page or make a change, before either is looked at."""
    status, detail = refusal.status_code, str(refusal.detail)
    words = detail if request.method == "GET" else of_form(status, detail)
    return _guarded(_problem(request, status, words, refusal.headers))


def status_of(error: CronsError, request: Request) -> int:
    """The status of the answer to what can't be shown or done."""
    if isinstance(error, StoreError):
        return 503
    return _STATUSES.get(type(error), 503 if request.method == "GET" else 409)


def words_of(error: CronsError, form: str = "on its page") -> str:
    """What is said of an error to people at a browser. Those of stores may have addresses in them.

    `form`: where the form is that it advises.
    """
    if isinstance(error, NotRunningError):
        return "the scheduler of this process is not running: it has stopped, or has not started yet"
    return (
        "the store does not answer; the log says why" if isinstance(error, StoreError) else on_a_page(str(error), form)
    )


def run_in_the_way(error: CronsError, request: Request) -> str | None:
    """The path of the run because of which a job is not run."""
    job = request.path_params.get("job_name")
    if not isinstance(error, JobLockedError) or error.run_id is None or job is None:
        return None
    return Links(request).to("run", job_name=job, run_id=error.run_id)


def _problem(
    request: Request,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    job_is_known: bool = True,
    other_run: str | None = None,
    refused_by: tuple[str, ...] | None = None,
) -> Response:
    """A page that says what was wrong, and leads on."""
    links, reads = Links(request), request.method == "GET"
    values = {
        "links": links,
        "title": _title(status) if reads else "Refused",
        "detail": sentence(detail),
        "job_name": request.path_params.get("job_name") if job_is_known else None,
        "other_run": other_run,
        # Where it is the query that makes no sense.
        "plain": links.to(links.page, **request.path_params) if reads and status == 422 else None,
        "refused": not reads,
        # A change was made, although its page can't be shown.
        "said": said.sentence(request.query_params) if reads else None,
        "refused_by": refused_by,
        "problem": True,
        # What may be gone in a moment is asked for until it is.
        "live": reads and status == 503,
        "pace": 1,
    }
    return HTMLResponse(render("problem.html", values), status, headers)


def _title(status: int) -> str:
    if status == 422:
        return "Not understood"
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # an app may refuse with any
        return "Not shown"


async def _only_forms() -> None:
    raise HTTPException(405, "nothing was done: only the buttons of the pages lead here", {"Allow": "POST"})


class Pages:
    """The pages of one dashboard, with names of routes that no other dashboard has."""

    def __init__(self, name: str, router: APIRouter, prefix: str) -> None:
        self._name = name
        self._router = router
        self._prefix = prefix

    def get(self, path: str, name: str, **options: Any) -> Callable[[EndpointT], EndpointT]:
        return self._route("GET", path, name, options)

    def post(self, path: str, name: str, **options: Any) -> Callable[[EndpointT], EndpointT]:
        def decorated(endpoint: EndpointT) -> EndpointT:
            # Who asks for the address of a form, as of a page that said what was refused, is led on.
            self._route("GET", path, f"{name}-form", {})(_only_forms)
            return self._route("POST", path, name, options)(endpoint)

        return decorated

    def _route(self, method: str, path: str, name: str, options: dict[str, Any]) -> Callable[[EndpointT], EndpointT]:
        def decorated(endpoint: EndpointT) -> EndpointT:
            self._router.add_api_route(
                f"{self._prefix}{path}",
                refusal_page(_refused)(endpoint),
                methods=[method],
                name=f"{self._name}:{name}",
                include_in_schema=False,
                route_class_override=PageRoute,
                **{"response_class": HTMLResponse, "response_model": None, **options},
            )
            return endpoint

        return decorated
