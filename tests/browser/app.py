"""The app that the pages are tried on: operators, people who may only look, and a prefix."""

from __future__ import annotations

import asyncio

from fastapi import Depends, FastAPI, HTTPException

from fastapi_crons import Crons, get_cron_router
from tests.browser.jobs import define

app = FastAPI()
crons = Crons(app)
define(crons, asyncio.sleep)


def only_look() -> None:
    raise HTTPException(403, "only people on call may change jobs")


app.include_router(get_cron_router(), prefix="/api")
app.include_router(get_cron_router(change_dependencies=[Depends(only_look)]), prefix="/readers")
app.include_router(get_cron_router(), prefix="/a/deep/prefix")
