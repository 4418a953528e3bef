"""Tells somebody that a job has failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from httpx2 import AsyncClient


def alert_to(url: str) -> Callable[[str, dict[str, Any]], Awaitable[None]]:
    """A hook that sends failures to a webhook."""

    async def alert(job_name: str, context: dict[str, Any]) -> None:
        async with AsyncClient(timeout=5) as client:
            await client.post(url, json={"text": f"{job_name} {context['status']}: {context['error']}"})

    return alert
