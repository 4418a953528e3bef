"""An app for commands, and how their answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

APP = """
import logging
from fastapi import FastAPI
from fastapi_crons import Crons

print("imported")
app = FastAPI()
crons = Crons(app)


@crons.cron("0 2 * * *", name="backup_database", tags=["backup"])
async def backup_database():
    print("at work")
    logging.getLogger("backup").warning("half done")
    return {"files": 3}


@crons.cron("*/15 * * * *", name="send_reports", timezone="Europe/Berlin")
def send_reports():
    raise ValueError("no reports")


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    import asyncio
    await asyncio.sleep(3600)
"""


Cli = Callable[..., Result]


def refused(result: Result) -> str:
    """The one sentence that says what was wrong."""
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1, result.stderr
    return sentences[0]


def json_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(result: Result) -> list[list[str]]:
    """The cells of a table, without its head."""
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[1:]]
