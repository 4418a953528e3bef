"""Posts to the webhook, again and again for as long as there is time. The URL is a secret: nothing here says it."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError

#: The wait (seconds) before the second try; doubled for each further one.
_PAUSE = 0.5
_TOO_MANY, _NO_TIME = 429, 408


class AlertNotSent(Exception):  # noqa: N818 - what happened, as in `SkipRun`
    """The webhook did not take an alert; the message says why, without the URL."""


class _Refusal(NamedTuple):
    why: str
    again: bool
    """Whether a second try makes sense."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the alert."""

    def redirect_request(self, *_: object) -> None:
        return None


async def post(url: str, message: Mapping[str, object], *, timeout: float, deadline: float) -> None:
    """Post a message as JSON. `timeout` (seconds) is for one try, `deadline` (on the loop's clock) for all of them.

    Raises `AlertNotSent`.
    """
    loop, pause, tries = asyncio.get_running_loop(), _PAUSE, 0
    body = json.dumps(message).encode()
    while True:
        tries += 1
        left = max(0.1, min(timeout, deadline - loop.time()))
        refusal = await asyncio.to_thread(_post_once, url, body, left)
        if refusal is None:
            return
        wait = pause * random.uniform(0.75, 1.25)  # not all instances at the same moment
        if not refusal.again or loop.time() + wait >= deadline:
            raise AlertNotSent(f"the webhook did not take alert {message['id']} ({refusal.why}); tries: {tries}")
        await asyncio.sleep(wait)
        pause *= 2


def _post_once(url: str, body: bytes, timeout: float) -> _Refusal | None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout):
            return None
    except HTTPError as error:
        with error:
            return _Refusal(f"HTTP {error.code}", error.code >= 500 or error.code in (_TOO_MANY, _NO_TIME))
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return _Refusal(type(reason).__name__, True)
