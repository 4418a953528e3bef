"""Which run a log line is about: in plain lines, in JSON, and in the scheduler's own records."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_crons.logs import JsonFormatter, RunFilter
from fastapi_crons.run import short_id
from tests.conftest import MakeCrons

PACKAGES = Path(__file__).parents[3] / "packages"
shop = logging.getLogger("shop")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a handler writes that shows job and run."""
    yield from _written(
        logging.Formatter("%(levelname)s %(name)s %(job)s %(run_id)s %(attempt)s %(message)s%(of_run)s")
    )


@pytest.fixture
def json_lines() -> Iterator[io.StringIO]:
    yield from _written(JsonFormatter())


def _written(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(RunFilter())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("kept_chars", [16_384, 0])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_line_of_any_logger_names_the_run_that_it_was_made_in(
    lines: io.StringIO, make_crons: MakeCrons, in_thread: bool, kept_chars: int
) -> None:
    crons = make_crons(max_log_chars=kept_chars)

    async def on_loop() -> None:
        shop.info("selling")

    def threaded() -> None:
        shop.info("selling")

    crons.cron("0 0 1 1 *", name="sell")(threaded if in_thread else on_loop)
    await crons.start()
    run = await crons.run_job("sell")
    assert run.status == "completed"
    shop.info("closed")
    written = lines.getvalue().splitlines()
    assert f"INFO shop sell {run.id} 1 selling [sell {short_id(run.id)}]" in written
    assert "INFO shop - - - closed" in written
    (ended,) = (line for line in written if "completed in" in line)
    assert ended.startswith(f"INFO fastapi_crons.runner sell {run.id} 1 job 'sell' completed")


async def test_two_runs_at_a_time_are_told_apart(lines: io.StringIO, make_crons: MakeCrons) -> None:
    crons = make_crons()
    barrier = threading.Barrier(2)

    def job() -> None:
        barrier.wait(10)
        shop.info("both")

    crons.cron("0 0 1 1 *", name="a")(job)
    crons.cron("0 0 1 1 *", name="b")(job)
    await crons.start()
    a, b = await asyncio.gather(crons.run_job("a"), crons.run_job("b"))
    both = sorted(line for line in lines.getvalue().splitlines() if " both " in line)
    assert both == [
        f"INFO shop a {a.id} 1 both [a {short_id(a.id)}]",
        f"INFO shop b {b.id} 1 both [b {short_id(b.id)}]",
    ]


async def test_json_lines_carry_the_run_and_what_else_they_were_given(
    json_lines: io.StringIO, make_crons: MakeCrons
) -> None:
    crons = make_crons()

    @crons.cron("0 0 1 1 *", name="sell")
    async def sell(context: Any) -> None:
        context.logger.info("order\n%s", "ü \u2028", extra={"order": 7, "of": Path("x")})
        raise ValueError("sold out")

    await crons.start()
    run = await crons.run_job("sell")
    try:
        raise KeyError("elsewhere")
    except KeyError:
        shop.exception("a fault")
    found = [json.loads(line) for line in json_lines.getvalue().splitlines()]
    of_run = {"job": "sell", "run_id": run.id}
    (first,) = (line for line in found if line["message"].startswith("order"))
    assert first == of_run | {
        "time": first["time"],
        "level": "INFO",
        "logger": "fastapi_crons.job",
        "message": "order\nü \u2028",
        "attempt": 1,
        "order": 7,
        "of": "x",
    }
    assert first["time"].endswith("Z")
    (failed,) = (line for line in found if line["level"] == "ERROR" and line["logger"] == "fastapi_crons.runner")
    assert failed.items() >= of_run.items()
    assert failed["status"] == "failed"
    (fault,) = (line for line in found if line["message"] == "a fault")
    assert "job" not in fault
    assert "KeyError: 'elsewhere'" in fault["exception"]


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
                yield f"{path.relative_to(PACKAGES)}:{node.lineno}", node


def test_a_record_of_the_scheduler_about_one_job_carries_its_name() -> None:
    about_jobs = [(where, call) for where, call in _calls() if "job %r" in ast.unparse(call.args[0])]
    assert len(about_jobs) > 15
    without = [where for where, call in about_jobs if all(keyword.arg != "extra" for keyword in call.keywords)]
    assert not without
