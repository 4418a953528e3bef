"""Stores that hold a little of everything, and what has to be found where a value in them is damaged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from httpx2 import AsyncClient

from fastapi_crons import Crons, MissedTicks, Run
from fastapi_crons.clock import Clock
from fastapi_crons.job import CronJob
from fastapi_crons.locking import Definition, LeaseTerms, LockBackend, PauseRequest
from fastapi_crons.locking.base import ClaimRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import LogLine, RunError, RunIds
from fastapi_crons.state import BackfillRecord, StateBackend
from fastapi_crons.state.base import HistoryLimits
from tests.integration.api.client import client_of, path
from tests.support import nothing

#: When the store was left, and when a scheduler takes it up again.
LEFT, TAKEN_UP = "2026-03-01T00:00:00Z", "2026-03-01T00:05:00Z"


LIMITS = HistoryLimits(100, 30)
#: A job whose rows are damaged, one that must not mind, and one that is paused.
VICTIM, OTHER, PAUSED = "victim", "other", "paused"


SCHEDULE = "* * * * *"


def definition(job: str, schedule: str) -> Definition:
    made = CronJob(nothing, schedule, job)
    return Definition(job, made.schedule.text, made.schedule_zone, made.function_name)


def runs_of_job(job: str, new_id: RunIds, now: float) -> list[Run | MissedTicks]:
    error = RunError("ValueError", "no reports", "Traceback …")
    log = (LogLine(now, "INFO", "reports", "half done"),)
    begun = Run(new_id(), job, int(now), "schedule", 1, "gone", 5, "running", now)
    return [
        Run(
            new_id(),
            job,
            int(now),
            "schedule",
            1,
            "gone",
            1,
            "completed",
            now,
            now + 1,
            result_json='{"files": 3}',
            log=log,
        ),
        Run(new_id(), job, None, "cli", 1, "gone", 2, "failed", now, now + 1, error, actor="ops", note="by hand"),
        Run(
            new_id(), job, int(now), "catch_up", 2, "gone", 3, "completed", now, now + 1, None, None, 4, int(now) - 240
        ),
        replace(begun, delay="it was late"),
        MissedTicks(
            new_id(), job, int(now) - 600, int(now) - 60, 10, "overlap", now, "gone", False, "run 1 held the job"
        ),
    ]


async def leave_a_store(
    state: StateBackend, locks: LockBackend, clock: Clock, instance: Instance, schedule: str = SCHEDULE
) -> None:
    """Write a bit of everything, and die without having said so."""
    now, new_id = clock.now(), RunIds(clock.now)
    terms = LeaseTerms(300, 30)
    for namespace in ("default", "elsewhere"):
        await state.open(namespace, LIMITS)
        await locks.open(replace(instance, owner=f"gone~{namespace}"), namespace, terms, clock)
        await locks.register([definition(job, schedule) for job in (VICTIM, OTHER, PAUSED)])
        await locks.beat(1, "digest", 0)
        await locks.pause([PauseRequest(PAUSED, "ops", "the other side is down")])
        zone = definition(VICTIM, schedule).timezone
        tick = int(now) + 1
        ids = [new_id() for _ in range(4)]
        claims = [ClaimRequest(job, ids[index], tick, schedule, zone) for index, job in enumerate((VICTIM, OTHER))]
        claims += [ClaimRequest(VICTIM, ids[2], tick + 1, schedule, zone, missed="max_catch_up")]
        await locks.claim(claims)
        await locks.cancel([ids[0]], "ops")
        records = [record for job in (VICTIM, OTHER, PAUSED) for record in runs_of_job(job, new_id, now)]
        records += [Run(ids[0], VICTIM, tick, "schedule", 1, instance.id, 1, "running", now)]
        await state.write(records)
        for job in (VICTIM, OTHER):
            begun = BackfillRecord(new_id(), job, "gone~", "gone", int(now) - 600, int(now), now, note="once more")
            assert await state.begin_backfill(begun) is None
        await locks.close()
        await state.close()


def elsewhere(now: float) -> Instance:
    """An instance on another host, which is judged by its heartbeat."""
    here = Instance.of_this_process("gone")
    return replace(here, owner="gone~1", host="elsewhere", boot="", started_ts=now)


TEXTS = [
    "''",
    "'zzz'",
    "'[1'",
    "'{}'",
    "'9999-12-31T23:59:59'",
    "'null'",
    "'[[1,2],[3]]'",
    "'[[1e999,\"\\ud800\",3,4]]'",
]


class Caught(logging.Handler):
    """What is logged of errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> Caught:
        logging.getLogger("fastapi_crons").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("fastapi_crons").removeHandler(self)

    @property
    def failures(self) -> list[str]:
        """What must not happen."""
        return [
            record.getMessage()
            for record in self.records
            if record.exc_info or "does not answer" in record.getMessage() or "failed" in record.getMessage()
        ]

    @property
    def named(self) -> list[str]:
        return [message for record in self.records if "is damaged" in (message := record.getMessage())]


async def check_pages(crons: Crons, client: AsyncClient) -> None:
    """Whatever is asked, there is an answer."""
    runs = [run for job in (VICTIM, OTHER, PAUSED) for run in await crons.runs(job)]
    assert any(run.result == {"files": 3} for run in runs)
    pages = ["/crons", "/scheduler", "/scheduler/health"]
    for job in (VICTIM, OTHER, PAUSED):
        pages += [path(job), f"{path(job)}/runs", f"{path(job)}/runs?status=running", f"{path(job)}/backfills"]
        pages += [f"{path(job)}/ticks/{time}" for time in ("2026-02-28T23:55:00Z", "2026-03-01T00:00:00Z", TAKEN_UP)]
    pages += [path(run.job, "runs", run.id) for run in runs]
    for page in pages:
        answer = await client.get(page)
        assert answer.status_code == 200, (page, answer.text)


async def check(crons: Crons, schedule: str, let_time_pass: Callable[[list[str]], Awaitable[None]]) -> None:
    ran: list[str] = []
    for name in (VICTIM, OTHER, PAUSED):
        crons.cron(schedule, name=name)(nothing)
    crons.add_after_run_hook(lambda name, context: ran.append(name))
    with Caught() as caught:
        await crons.start()
        client = client_of(crons)
        try:
            await check_pages(crons, client)
            await let_time_pass(ran)
            await check_pages(crons, client)
            assert (await crons.run_job(OTHER, force=True)).status == "completed"
            assert crons.engine is not None
            paused = {known.job for known in await crons.engine.locks.known() if known.pause is not None}
            for name in {OTHER, VICTIM} - paused:  # one that is paused by the damage stays so
                assert ran.count(name) >= 2, ran
            health = crons.health()
            assert health.status != "unhealthy", health
            if caught.named:
                assert any("damaged" in finding for finding in health.findings)
            assert len(set(caught.named)) == len(caught.named), caught.named
        finally:
            await client.aclose()
            await crons.stop()
    assert caught.failures == []
