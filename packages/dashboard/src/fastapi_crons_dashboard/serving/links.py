"""Links from a page to the others of its dashboard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from fastapi import Request

from fastapi_crons.api import path_of
from fastapi_crons_dashboard.serving.assets import ASSETS
from fastapi_crons_dashboard.words import said

_PLACE = re.compile(r"--(\w+)--")


def _place(parameter: str) -> str:
    """What stands for a parameter in the pattern of a path; nothing else in a path is like it."""
    return f"--{parameter}--"


class Links:
    """Links to the pages of the dashboard that a request is for. They hold under any prefix, and behind proxies."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._dashboard = str(request.scope["route"].name).partition(":")[0]
        self._patterns: dict[str, str] = {}

    def to(self, page: str, /, query: Mapping[str, object] | None = None, **parameters: str) -> str:
        """The path of a page, with a query. A proxy may have changed the host, so that the link has none."""
        pattern = self._pattern(page, tuple(parameters))
        path = _PLACE.sub(lambda found: quote(parameters.get(found[1], found[0]), safe=""), pattern)
        given = {name: value for name, value in (query or {}).items() if value not in (None, "", ())}
        return f"{path}?{urlencode(given, doseq=True)}" if given else path

    def _pattern(self, page: str, parameters: tuple[str, ...]) -> str:
        """The path of a page with the places of its parameters: a page has hundreds of links to few others."""
        if page not in self._patterns:
            places = {name: _place(name) for name in parameters}
            self._patterns[page] = path_of(self._request, f"{self._dashboard}:{page}", **places)
        return self._patterns[page]

    def here(self, **changes: object) -> str:
        """This page, with some of its query changed; None takes a parameter out. What it says once is left out."""
        query: dict[str, object] = {}
        for name in self._request.query_params:
            if name not in said.PARAMETERS:
                query[name] = self._request.query_params.getlist(name)
        return self.to(self.page, {**query, **changes}, **self._request.path_params)

    def asset(self, name: str) -> str:
        """The path of a file, which changes with its content."""
        return self.to("asset", version=ASSETS[name].version, file=name)

    @property
    def page(self) -> str:
        """The name of this page."""
        return str(self._request.scope["route"].name).partition(":")[2]
