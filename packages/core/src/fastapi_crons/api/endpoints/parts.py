"""What endpoints share: how they are listed, and parameters that several of them have."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from fastapi.params import Depends as DependsParameter
from pydantic import AwareDatetime, BeforeValidator, Field

from fastapi_crons.api.access import READS
from fastapi_crons.api.guard import Asked, asked

EndpointT = TypeVar("EndpointT", bound=Callable[..., object])


class Endpoints:
    """A list of endpoints, which are added to each router as routes of its own class."""

    def __init__(self) -> None:
        self._added: list[Callable[[APIRouter, Sequence[DependsParameter]], None]] = []

    def __call__(self, method: str, path: str, **options: Any) -> Callable[[EndpointT], EndpointT]:
        """Decorates an endpoint; `options` are those of a route."""

        def decorated(endpoint: EndpointT) -> EndpointT:
            def add(router: APIRouter, changes: Sequence[DependsParameter]) -> None:
                extra = changes if method not in READS else ()
                router.add_api_route(path, endpoint, methods=[method], dependencies=extra, **options)

            self._added.append(add)
            return endpoint

        return decorated

    def add_to(self, router: APIRouter, changes: Sequence[DependsParameter]) -> None:
        """Add a route for each endpoint; those that change something get the dependencies `changes`."""
        for add in self._added:
            add(router, changes)


#: The space that a query has in place of the `+` of an offset, where that is not percent-encoded.
_LOST_PLUS = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) (?=[0-9]{2}:?[0-9]{2}$)")


def _as_iso(time: object) -> object:
    """Refuse numbers, which pydantic would take for seconds since 1970, and mend offsets."""
    try:
        float(str(time))
    except ValueError:
        return _LOST_PLUS.sub(r"\1+", time) if isinstance(time, str) else time
    raise ValueError("must be ISO 8601 with offset, not a number")


#: The ids of runs and records are UUIDs.
_RECORD_ID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

Asking = Annotated[Asked, Depends(asked)]
Name = Annotated[
    str, Path(min_length=1, description="The job's name, percent-encoded", examples=["cleanup", "a:b *%ü"])
]
RunId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=100,
        description="The run's id, or its first or last characters, as the log shows them",
        examples=["019ca8c1-6c00-7000-8000-0123456789ab"],
    ),
]
Instant = Annotated[AwareDatetime, BeforeValidator(_as_iso)]
Since = Annotated[Instant | None, Query(description="ISO 8601 with offset; this time is included")]
Until = Annotated[Instant | None, Query(description="ISO 8601 with offset; this time is not included")]
RunsSince = Annotated[
    Instant | None,
    Query(description="Only runs that ended at this time or later, or have not ended; ISO 8601 with offset"),
]
RunsUntil = Annotated[Instant | None, Query(description="Only runs that began before this time; ISO 8601 with offset")]
SomeJobs = Annotated[
    list[Annotated[str, Field(max_length=200)]] | None,
    Query(max_length=100, description="Only this job; may be repeated"),
]
SomeTags = Annotated[
    list[Annotated[str, Field(max_length=1000)]] | None,
    Query(max_length=100, description="Only jobs with this tag; with several, those that have all of them"),
]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most")]
Before = Annotated[str | None, Query(pattern=_RECORD_ID, description="`next` of the page before")]
