"""The view `crons_runs`, which people and Grafana read."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from fastapi_crons.run import Run, RunError, RunIds, RunStatus
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.settings import PostgresSettings
from tests.faults.postgres_server import PostgresServer
from tests.system.conftest import ROOT

AT = 1_772_366_400  # 2026-03-01 12:00 UTC
RUN = Run(RunIds(lambda: AT)(), "job", AT, "schedule", 1, "here", 1, "completed", AT + 0.25, AT + 2.75)


async def written(
    postgres: PostgresServer,
    *runs: Run,
    database: str = "postgres",
    namespace: str = "view",
    schema: str = "public",
) -> None:
    url = SecretStr(postgres.url_of(database))
    store = PostgresStateBackend.by_settings(PostgresSettings(url=url, db_schema=schema), 20)
    await store.open(namespace, HistoryLimits(1000, 30))
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


def a_run(job: str, ago: float, took: float, error: str | None = None) -> Run:
    started = time.time() - ago
    found = None if error is None else RunError("ValueError", error, "…")
    status: RunStatus = "completed" if error is None else "failed"
    run = replace(RUN, id=RunIds(lambda: started)(), job=job, started_ts=started, ended_ts=started + took)
    return replace(run, status=status, error=found)


@pytest.mark.parametrize("schema", ["public", "of_its_own"])
async def test_the_queries_of_the_guide_answer_what_they_are_asked(postgres: PostgresServer, schema: str) -> None:
    """To the role that the guide makes for them."""
    guide = re.sub(r"\bpublic\b", schema, (ROOT / "docs/how-to/postgres.md").read_text(encoding="utf-8"))
    failed, slow, at_three = re.findall(r"```sql\n(SELECT .*?)```", guide, re.DOTALL)
    (role,) = re.findall(r"```sql\n(CREATE ROLE grafana .*?)```", guide, re.DOTALL)
    database, hour, day = f"view_{uuid4().hex}", 3_600, 86_400
    postgres.psql(f"CREATE DATABASE {database}")
    postgres.psql(f"CREATE SCHEMA IF NOT EXISTS {schema}", database)
    postgres.psql(f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC", database)
    night = float(postgres.psql("SELECT extract(epoch FROM now() - date_trunc('day', now()) - interval '3 hours')"))
    await written(
        postgres,
        a_run("sync", 3 * hour, 1, "first"),
        a_run("sync", 2 * hour, 1, "latest"),
        a_run("mail", hour, 1, "refused"),
        a_run("mail", 2 * day, 1, "before"),
        *(a_run("report", 2 * day - took, took) for took in (10, 20, 60)),
        *(a_run("report", hour - took, took) for took in (40, 50, 90)),
        a_run("nightly", night + 60, 120),
        a_run("over", night + 120, 60),
        database=database,
        namespace="default",
        schema=schema,
    )
    others = [a_run("theirs", night + 60, 120), a_run("theirs", hour, 1, "theirs")]
    await written(postgres, *others, database=database, namespace="staging", schema=schema)
    postgres.psql(role, database)

    def asked(query: str) -> list[str]:
        return postgres.psql(f"SET ROLE grafana; {query}", database).splitlines()[1:]

    rows = [row.split("|") for row in asked(failed)]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("sync", "2", "ValueError: latest"),
        ("mail", "1", "ValueError: refused"),
    ]
    assert "report|50|20" in asked(slow)
    at_that_time = {row.split("|")[0] for row in asked(at_three)}
    assert "nightly" in at_that_time
    assert not at_that_time & {"over", "theirs"}
    postgres.psql("DROP OWNED BY grafana", database)
    postgres.psql("DROP ROLE grafana")
