"""What a page of the dashboard costs, with many jobs that have run for days. Runs in a process of its own."""

from __future__ import annotations

import asyncio
import os
import time
from time import process_time
from typing import Any

HOUR = 3_600
#: How many runs are put on record at once.
BATCH = 1_000
#: How often each page is asked for; the first time, its template is compiled.
TIMES = 6
#: How many jobs are running meanwhile.
RUNNING = 20
#: From when to when (hours ago) no instance was up, and the ticks were missed.
OUTAGE = (7, 2)


def cost_of_pages(store: str, jobs: int, hours: int) -> dict[str, float]:
    """CPU seconds for each page, as an operator sees it, the server's included where the store has one: the least of several.

    Each of so many jobs has run once in every one of so many hours; in between, no instance was up.
    """
    os.environ.update({"CRON_REDIS_URL": store} if store.startswith("redis:") else {"CRON_SQLITE_PATH": store})
    return asyncio.run(_measured(store, jobs, hours))


async def _measured(store: str, jobs: int, hours: int) -> dict[str, float]:
    from fastapi import FastAPI

    from fastapi_crons import Crons, get_cron_router

    last = await _fill(store, jobs, hours)
    crons, ended = Crons(), asyncio.Event()
    for number in range(jobs):
        function = ended.wait if 0 < number <= RUNNING else _nothing
        crons.cron(f"{number % 60} * * * *", name=f"job-{number}", tags=[f"group-{number % 20}"])(function)
    app = FastAPI()
    app.include_router(get_cron_router(crons))
    paths = {
        "Jobs": "",
        "Jobs, by failures": "?sort=failures&backwards=true",
        "Timeline, two days": "/timeline",
        "Timeline, a week": "/timeline?zoom=7d",
        "Runs that failed": "/runs",
        "A job": "/jobs/job-0",
        "A run": f"/jobs/job-0/runs/{last}",
        "Why": "/jobs/job-0/why",
        "Plan, a day": "/plan",
        "Instances": "/instances",
    }
    await crons.start()
    running = [asyncio.create_task(crons.run_job(f"job-{number}")) for number in range(1, RUNNING + 1)]
    try:
        await _until_running(app)
        return {name: await _cost(app, path, store) for name, path in paths.items()}
    finally:
        ended.set()
        await asyncio.gather(*running)
        await crons.stop()


async def _until_running(app: Any) -> None:
    """Wait until the jobs that wait are running, each with a button that only an operator gets."""
    for _ in range(100):
        if (await _ask(app, "?state=running")).count(b'aria-label="Run job-') == RUNNING:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{RUNNING} jobs are to be running, each with a button")


async def _nothing() -> None:
    pass


async def _fill(store: str, jobs: int, hours: int) -> str:
    """Put the runs on record; returns the id of the last one of the first job."""
    from fastapi_crons.run import MissedTicks, Run, RunError, RunIds
    from fastapi_crons.state import HistoryLimits

    backend = _backend(store)
    await backend.open("default", HistoryLimits(keep=1_000, days=30))
    hour = int(time.time()) // HOUR * HOUR
    failed = RunError("ConnectionError", "the other side does not answer", "")
    now, last = 0.0, ""
    ids = RunIds(lambda: now)
    records: list[Run | MissedTicks] = []
    outage = range(*(hour - ago * HOUR for ago in OUTAGE))
    for tick in range(hour - hours * HOUR - len(outage), hour, 60):
        now = float(tick)
        for number in range(tick // 60 % 60, jobs, 60):
            if tick in outage:
                missed: Any = {
                    "job": f"job-{number}",
                    "first_ts": tick,
                    "last_ts": tick,
                    "count": 1,
                    "recorded_ts": now,
                }
                records.append(MissedTicks(ids(), reason="misfire_grace_time", instance="here", **missed))
                continue
            ends = (
                {"status": "failed", "error": failed} if (tick // HOUR + number) % 50 == 0 else {"status": "completed"}
            )
            run: Any = {"id": ids(), "job": f"job-{number}", "tick_ts": tick, "started_ts": now, "ended_ts": now + 0.1}
            records.append(Run(trigger="schedule", attempt=1, instance="here", token=tick, **run, **ends))
            last = run["id"] if number == 0 else last
        if len(records) > BATCH or tick == hour - 60:
            await backend.write(records)
            records = []
    await backend.close()
    return last


def _backend(store: str) -> Any:
    from redis.asyncio import Redis

    from fastapi_crons.state import RedisStateBackend, SQLiteStateBackend

    return RedisStateBackend(Redis.from_url(store)) if store.startswith("redis:") else SQLiteStateBackend(store)


async def _cost(app: Any, path: str, store: str) -> float:
    costs = []
    for _ in range(TIMES):
        server, own = _of_server(store), process_time()
        await _ask(app, path)
        own = process_time() - own
        costs.append(own + _of_server(store) - server)
    return min(costs)


def _of_server(store: str) -> float:
    """CPU seconds of the Redis server so far."""
    from redis import Redis

    if not store.startswith("redis:"):
        return 0.0
    with Redis.from_url(store) as client:
        cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


async def _ask(app: Any, path: str) -> bytes:
    """Ask for a page as an operator's browser on this machine does; returns it."""
    where, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/dashboard{where}",
        "raw_path": f"/dashboard{where}".encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"host", b"localhost:8000"), (b"accept", b"text/html")],
        "client": ("testclient", 50_000),
        "server": ("127.0.0.1", 8_000),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{path}: {sent[0]['status']}")
    return b"".join(message["body"] for message in sent[1:])
