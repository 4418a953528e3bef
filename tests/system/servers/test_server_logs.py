"""What stands in the log of a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import until
from tests.system.conftest import ROOT
from tests.system.pages.pages import blocks
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

APP = """
import logging

from fastapi import FastAPI
from fastapi_crons import Crons

crons = Crons(app := FastAPI())

@crons.cron("* * * * * *", name="sell")
def sell(): logging.getLogger("shop").info("selling")
"""


@pytest.fixture
def log_config() -> str:
    """The file of the page about logging."""
    (found,) = (block.text for block in blocks(ROOT / "docs/how-to/logging.md") if block.path == "log.yaml")
    return found


def _served(log_config: str, wanted: str) -> str:
    Path("app.py").write_text(APP)
    Path("log.yaml").write_text(log_config)
    server = Server("--log-config", "log.yaml")
    try:
        until(lambda: re.search(wanted, server.output()))
    finally:
        server.end()
    return server.output()


def test_every_line_of_uvicorn_s_log_names_the_run_that_it_was_made_in(log_config: str) -> None:
    log = _served(log_config, "completed in")
    (run_id, *_) = re.findall(r"^INFO:     selling \[sell (\S+)\]$", log, re.MULTILINE)
    assert re.search(rf"^INFO:     job 'sell' completed in .*\[sell {run_id}\]$", log, re.MULTILINE)
    assert re.search(r"^INFO:     Application startup complete\.$", log, re.MULTILINE)


def test_uvicorn_s_log_is_json_where_that_is_asked_for(log_config: str) -> None:
    to_json = log_config.replace("formatter: default", "formatter: json").replace(
        "formatter: access", "formatter: json"
    )
    to_json = to_json.replace("formatters:\n", "formatters:\n  json:\n    (): fastapi_crons.logs.JsonFormatter\n")
    log = _served(to_json, "completed in")
    lines = [json.loads(line) for line in log.splitlines()]
    (sold, *_) = (line for line in lines if line["message"] == "selling")
    assert (sold["job"], sold["logger"], sold["level"]) == ("sell", "shop", "INFO")
    assert any(line["message"] == "Application startup complete." and "job" not in line for line in lines)
