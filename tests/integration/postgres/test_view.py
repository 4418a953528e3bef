"""The view `crons_runs`, which people and Grafana read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastapi_crons.run import Run, RunError, RunIds
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer

AT = 1_772_366_400  # 2026-03-01 12:00 UTC
RUN = Run(RunIds(lambda: AT)(), "job", AT, "schedule", 1, "here", 1, "completed", AT + 0.25, AT + 2.75)


async def written(postgres: PostgresServer, *runs: Run) -> None:
    store = PostgresStateBackend(postgres.url)
    await store.open("view", HistoryLimits(1000, 30))
    try:
        await store.forget(["job"])
        await store.write(runs)
    finally:
        await store.close()


def shown(postgres: PostgresServer, columns: str) -> str:
    return postgres.psql(f"SET timezone = 'UTC'; SELECT {columns} FROM crons_runs WHERE namespace = 'view'").partition(
        "\n"
    )[2]


async def test_a_run_is_shown_with_times_and_its_duration_in_seconds(postgres: PostgresServer) -> None:
    await written(postgres, RUN)
    assert (
        shown(postgres, "job, scheduled_at, started_at, ended_at, duration, status, error")
        == "job|2026-03-01 12:00:00+00|2026-03-01 12:00:00.25+00|2026-03-01 12:00:02.75+00|2.5|completed|"
    )


async def test_a_run_that_is_not_over_has_no_end_and_no_duration(postgres: PostgresServer) -> None:
    await written(postgres, replace(RUN, status="running", ended_ts=None))
    assert shown(postgres, "status, ended_at, duration") == "running||"


@pytest.mark.parametrize(
    ("error", "text"),
    [(RunError("ValueError", "no rows", "…"), "ValueError: no rows"), (RunError("KeyError", "", "…"), "KeyError")],
)
async def test_an_error_is_its_type_and_its_message(postgres: PostgresServer, error: RunError, text: str) -> None:
    await written(postgres, replace(RUN, status="failed", error=error))
    assert shown(postgres, "status, error") == f"failed|{text}"


async def test_a_damaged_row_costs_no_other(postgres: PostgresServer) -> None:
    await written(postgres, RUN, replace(RUN, id=RunIds(lambda: AT + 60)(), started_ts=AT + 60.0, ended_ts=AT + 61.0))
    postgres.psql(
        f"UPDATE crons_run SET started_ts = 'NaN', ended_ts = 1e300, tick_ts = -1 WHERE namespace = 'view' AND id = '{RUN.id}'"
    )
    assert shown(postgres, "scheduled_at, started_at, ended_at").splitlines().count("||") == 1
    assert "2026-03-01 12:01:00+00" in shown(postgres, "started_at")
