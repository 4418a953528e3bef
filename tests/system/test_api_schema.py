"""The management API against its own schema: schemathesis sends it what the schema allows, and what it does not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings

from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import reset


def _app() -> FastAPI:
    reset()
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(api_open=True))

    @crons.cron("* * * * *", name="quick", tags=["a"])
    async def quick() -> str:
        return "done"

    @crons.cron("0 0 1 1 *", name="fails: at / nothing?".replace("/", "%"), tags=["a", "b"], store_result=False)
    async def fails() -> None:
        raise ValueError("no")

    @crons.cron("0 0 29 2 *", name="slow")
    async def slow() -> None:
        await asyncio.sleep(3_600)

    app.include_router(get_cron_router(), prefix="/api")
    return app


app = _app()
schema = schemathesis.openapi.from_asgi("/openapi.json", app)


# The stream of events never ends by itself; test_api.py listens to it.
@schema.exclude(path_regex="/events$").parametrize()
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_schema_says(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate()


logging.getLogger("hypothesis").setLevel(logging.WARNING)
