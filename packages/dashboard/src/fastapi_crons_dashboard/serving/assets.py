"""The files that pages load, all of them ours to serve."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from fastapi import Response
from starlette.exceptions import HTTPException

from fastapi_crons.api import open_route

if TYPE_CHECKING:
    from fastapi_crons_dashboard.serving.page import Pages

_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_NAMES = ("pico.min.css", "dashboard.css", "htmx.min.js", "hx-sse.min.js", "dashboard.js", "icon.svg")


class Asset(NamedTuple):
    """A file, and the address part that changes with its content."""

    content: bytes
    kind: str
    version: str


def _read(name: str) -> Asset:
    content = files("fastapi_crons_dashboard").joinpath("static").joinpath(name).read_bytes()
    return Asset(content, _KINDS[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest()[:12])


ASSETS: dict[str, Asset] = {name: _read(name) for name in _NAMES}


def add_assets(pages: Pages) -> None:
    # A plain route with a fixed list: a mount is not found behind a proxy that strips a prefix.
    @pages.get("/static/{version}/{file}", "asset", response_class=Response)
    @open_route
    async def asset(version: str, file: str) -> Response:
        found = ASSETS.get(file)
        if found is None:
            raise HTTPException(404, f"there is no file {file!r}")
        # A page of another version of this package may ask for another content.
        cached = "public, max-age=31536000, immutable" if version == found.version else "no-store"
        return Response(found.content, media_type=found.kind, headers={"Cache-Control": cached})
