"""The cases that are measured. Each runs in a process of its own: `python -m benchmarks.cases NAME` prints JSON."""

from __future__ import annotations

import asyncio
import gc
import heapq
import json
import logging
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

SECONDS = 6
JOBS = 1_000
MANY = 10_000
IDLE = 100_000

Figures = dict[str, float]


class Held:
    """How long the event loop was held at most: the lateness of a timer that wants to fire every 5 ms."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _watch(self) -> None:
        while True:
            before = perf_counter()
            await asyncio.sleep(0.005)
            self.longest = max(self.longest, perf_counter() - before - 0.005)


def bare_asyncio() -> Figures:
    """A heap of due times and `create_task` of a no-op: the least that a scheduler could do."""
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1

    async def main() -> Figures:
        tasks: set[asyncio.Task[None]] = set()
        first = int(time.time()) + 1
        heap = [(first, number) for number in range(JOBS)]
        heapq.heapify(heap)
        began, until = process_time(), first + SECONDS
        while heap[0][0] < until:
            await asyncio.sleep(max(0.0, heap[0][0] - time.time()))
            while heap[0][0] <= time.time():
                due, number = heapq.heappop(heap)
                task = asyncio.create_task(job())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                heapq.heappush(heap, (due + 1, number))
        await asyncio.sleep(0.1)
        return {"runs": runs, "cpu": process_time() - began}

    return asyncio.run(main())


def crons_memory() -> Figures:
    from fastapi_crons.state import MemoryStateBackend

    return asyncio.run(_crons(MemoryStateBackend(), JOBS))


def crons_sqlite() -> Figures:
    return _in_folder(lambda folder: asyncio.run(_crons(_sqlite(folder), JOBS)))


def crons_sqlite_many() -> Figures:
    return _in_folder(lambda folder: asyncio.run(_crons(_sqlite(folder), MANY)))


def apscheduler_memory() -> Figures:
    return asyncio.run(_apscheduler(None))


def apscheduler_sqlite() -> Figures:
    return _in_folder(lambda folder: asyncio.run(_apscheduler(f"sqlite:///{folder}/jobs.db")))


def crons_idle() -> Figures:
    """100,000 jobs that are not due: time to register and start, memory, and CPU while nothing happens."""
    from fastapi_crons import Crons
    from fastapi_crons.state import MemoryStateBackend

    async def job() -> None: ...

    async def main() -> Figures:
        crons = Crons(state_backend=MemoryStateBackend())
        crons.cron("0 0 1 1 *", name="first")(job)
        began = perf_counter()
        for number in range(IDLE):
            crons.cron(f"{number % 60} {number // 60 % 24} 1 1 *", name=f"job-{number}")(job)
        registered = perf_counter()
        await crons.start()
        started = perf_counter()
        cpu = process_time()
        await asyncio.sleep(5)
        idle = (process_time() - cpu) / 5
        await crons.stop()
        return {"register": registered - began, "start": started - registered, "idle_cpu": idle}

    return asyncio.run(main())


def crons_idle_memory() -> Figures:
    """Bytes for each of 100,000 idle jobs, all told: definition, registry, records."""
    from fastapi_crons import Crons
    from fastapi_crons.state import MemoryStateBackend

    async def job() -> None: ...

    async def main() -> Figures:
        crons = Crons(state_backend=MemoryStateBackend())
        crons.cron("0 0 1 1 *", name="first")(job)
        gc.collect()
        tracemalloc.start()
        for number in range(IDLE):
            crons.cron(f"{number % 60} {number // 60 % 24} 1 1 *", name=f"job-{number}")(job)
        await crons.start()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await crons.stop()
        return {"bytes_per_job": size / IDLE}

    return asyncio.run(main())


def import_time() -> Figures:
    """Milliseconds that `import fastapi_crons` takes beyond `import fastapi`; the median of several fresh processes."""
    code = "import time, fastapi; began = time.perf_counter(); import fastapi_crons; print(time.perf_counter() - began)"
    times = sorted(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(7))
    return {"milliseconds": times[3] * 1000}


async def _crons(state: object, jobs: int) -> Figures:
    from fastapi_crons import CronConfig, Crons
    from fastapi_crons.state import StateBackend

    assert isinstance(state, StateBackend)
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1

    crons = Crons(state_backend=state, config=CronConfig(history_keep=10))
    for number in range(jobs):
        crons.cron("* * * * * *", name=f"job-{number}")(job)
    await crons.start()
    await asyncio.sleep(1.0 - time.time() % 1.0 + 0.5)  # the middle of a second, after the first ticks
    runs, began = 0, process_time()
    await asyncio.sleep(SECONDS)
    cpu, counted = process_time() - began, runs
    # The watch costs CPU of its own, so it has its own seconds.
    held = Held()
    held.start()
    await asyncio.sleep(SECONDS)
    await held.stop()
    missed = sum([sum(row.count for row in await state.missed(f"job-{number}")) for number in range(jobs)])
    missed += sum([sum(run.missed_ticks for run in await state.runs(f"job-{number}")) for number in range(0, jobs, 50)])
    await crons.stop()
    return {"runs": counted, "cpu": cpu, "missed": missed, "held_ms": held.longest * 1000}


async def _apscheduler(url: str | None) -> Figures:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    scheduler = AsyncIOScheduler(job_defaults={"misfire_grace_time": None, "max_instances": 10})
    if url is not None:
        scheduler.add_jobstore("sqlalchemy", url=url)
    for _ in range(JOBS):
        scheduler.add_job(_apscheduler_job, "cron", second="*")
    scheduler.start()
    await asyncio.sleep(1.0 - time.time() % 1.0 + 0.5)
    global _apscheduler_runs
    _apscheduler_runs, began = 0, process_time()
    await asyncio.sleep(SECONDS)
    cpu, counted = process_time() - began, _apscheduler_runs
    scheduler.shutdown(wait=False)
    return {"runs": counted, "cpu": cpu, "missed": JOBS * SECONDS - counted}


_apscheduler_runs = 0


async def _apscheduler_job() -> None:
    global _apscheduler_runs
    _apscheduler_runs += 1


def _sqlite(folder: Path) -> object:
    from fastapi_crons.state import SQLiteStateBackend

    return SQLiteStateBackend(db_path=folder / "jobs.db")


def _in_folder(case: Callable[[Path], Figures]) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        return case(Path(folder))


CASES: dict[str, Callable[[], Figures]] = {
    case.__name__: case
    for case in (
        bare_asyncio,
        crons_memory,
        crons_sqlite,
        crons_sqlite_many,
        apscheduler_memory,
        apscheduler_sqlite,
        crons_idle,
        crons_idle_memory,
        import_time,
    )
}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(CASES[sys.argv[1]]()))
