"""An app on disk, and the command line called on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.programs import run
from tests.support import without_progress

APP = """
import asyncio, subprocess
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)


@crons.cron("* * * * * *", name="tick")
async def tick():
    pass


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    open("started.txt", "w").close()
    await asyncio.sleep(3600)


@crons.cron("0 0 1 1 *", name="loud", max_retries=0)
def loud():
    print("printed")
    subprocess.run(["echo", "printed by a child"])
    return "result"
"""


MODULE = [sys.executable, "-m", "fastapi_crons"]
Start = Callable[..., "subprocess.Popen[str]"]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    answer = run([*MODULE, *arguments], encoding="utf-8", env={**os.environ, **environment})
    answer.stderr = without_progress(answer.stderr)
    return answer


def runs(job: str) -> list[dict[str, Any]]:
    answer = call("logs", "--job", job, "--json")
    found: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return found


#: A lifespan as most are written, and jobs that are hard to end.
HARD = """
import asyncio, logging, os, sys, time
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons


@asynccontextmanager
async def lifespan(app):
    if os.environ.get("LEAVES"):
        sys.exit(0)
    open("pool", "w").close()
    yield
    os.remove("pool")
    if os.environ.get("BREAKS"):
        raise RuntimeError("the pool does not close")


app = FastAPI(lifespan=lifespan)
crons = Crons(app)


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    open("started.txt", "w").close()
    await asyncio.sleep(3600)


@crons.cron("0 0 1 1 *", name="deaf")
async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@crons.cron("0 0 1 1 *", name="thread")
def thread():
    time.sleep(1.5)
    open("written.txt", "w").close()


@crons.cron("0 0 1 1 *", name="forges")
async def forges():
    logging.getLogger("x").warning("said\\n2026-11-25 20:00:00 ERROR root: FORGED")
"""
