"""Forms: what a browser without script sends. No other library is needed to read them."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from starlette.datastructures import ImmutableMultiDict

from fastapi_crons.api.access import FORM, media_type
from fastapi_crons.api.problems import within_limit

#: The key of a form that was read, in the scope of its request.
_READ = "fastapi_crons.form"
_MOST_FIELDS = 1_000


async def form(request: Request) -> ImmutableMultiDict[str, str]:
    """The fields of a form (`application/x-www-form-urlencoded`): a dependency of endpoints, or to be awaited.

    Raises a 413 for one of more than 64 KiB, a 415 for a body of another kind, and a 422 where it can't be read.
    """
    if _READ not in request.scope:
        request.scope[_READ] = ImmutableMultiDict(await _pairs(request))
    found: ImmutableMultiDict[str, str] = request.scope[_READ]
    return found


async def _pairs(request: Request) -> list[tuple[str, str]]:
    kind = media_type(request)
    if kind not in ("", FORM):
        raise HTTPException(415, f"the body must be a form, with Content-Type: {FORM}")
    body = b"".join([chunk async for chunk in Request(request.scope, within_limit(request)).stream()])
    if body and not kind:
        raise HTTPException(415, f"the body must be a form, with Content-Type: {FORM}")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(422, f"the form is not UTF-8, or has more than {_MOST_FIELDS} fields") from None
