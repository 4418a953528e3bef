"""What is compared: each contender runs the same jobs on the same schedules, in the process that it is made in."""

from __future__ import annotations

import asyncio
import heapq
import importlib.util
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from benchmarks.load import Load
from benchmarks.servers import Store

Job = Callable[[], Awaitable[None]]


class Contender(ABC):
    """A scheduler with jobs that do nothing but count how often they are called.

    `store` is the address of what it keeps its jobs or records in: a file, a URL, or nothing.
    """

    def __init__(self, load: Load, store: str) -> None:
        self.load = load
        self.store = store
        #: How often each job has been called.
        self.calls = [0] * load.jobs
        self.jobs = [self._job(number) for number in range(load.jobs)]

    @abstractmethod
    def register(self) -> None:
        """Tell the scheduler of the jobs."""

    @abstractmethod
    async def start(self) -> None:
        """Start it; when this returns, jobs are called as they fall due."""

    @abstractmethod
    async def stop(self) -> None: ...

    def _job(self, number: int) -> Job:
        calls = self.calls

        async def job() -> None:
            calls[number] += 1

        job.__name__ = job.__qualname__ = f"job_{number}"
        return job


class BareAsyncio(Contender):
    """A heap of due times and `create_task`: the least that a scheduler could do. It keeps and promises nothing."""

    def register(self) -> None:
        now, period = int(time.time()), self.load.period
        self._heap = [
            (now + 1 + (self.load.phase(number) - now - 1) % period, number) for number in range(self.load.jobs)
        ]
        heapq.heapify(self._heap)

    async def start(self) -> None:
        self._clock = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._clock.cancel()
        await asyncio.wait({self._clock})

    async def _run(self) -> None:
        heap, period, jobs = self._heap, self.load.period, self.jobs
        tasks: set[Awaitable[None]] = set()
        while True:
            await asyncio.sleep(max(0.0, heap[0][0] - time.time()))
            while heap[0][0] <= time.time():
                due, number = heap[0]
                task = asyncio.ensure_future(jobs[number]())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                heapq.heapreplace(heap, (due + period, number))


class FastAPICrons(Contender):
    """This project: every tick is claimed, and every run is on record, in memory or in the store."""

    def register(self) -> None:
        from fastapi_crons import CronConfig, Crons

        os.environ.update(self._store_settings())
        # Few runs are kept, so that old ones have to go while we measure, as in a scheduler that has run for long.
        self._crons = Crons(config=CronConfig(history_keep=10))
        for number, job in enumerate(self.jobs):
            self._crons.cron(self.load.expression(number), name=f"job-{number}")(job)

    async def start(self) -> None:
        await self._crons.start()

    async def stop(self) -> None:
        await self._crons.stop()

    def _store_settings(self) -> dict[str, str]:
        if self.store.startswith("redis:"):
            return {"CRON_REDIS_URL": self.store}
        if self.store.startswith("postgresql:"):
            return {"CRON_POSTGRES_URL": self.store}
        if self.store:
            return {"CRON_SQLITE_PATH": self.store}
        return {"CRON_STATE_BACKEND": "memory", "CRON_LOCK_BACKEND": "local"}

    async def missed(self) -> int:
        """How many ticks of late have not been run, by its own records: let go, or covered by a later run."""
        engine = self._crons.engine
        assert engine is not None
        found = await engine.state.missed_by_job([job.name for job in self._crons.jobs])
        return sum(ticks.count for of_job in found.values() for ticks in of_job)


class APScheduler(Contender):
    """APScheduler 3: no history, and no claims; with a job store, when each job is due next survives a restart."""

    def register(self) -> None:
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        # It drops ticks that are more than a second late, and those of a job that still runs, unless told otherwise.
        self._scheduler = AsyncIOScheduler(job_defaults={"misfire_grace_time": None, "max_instances": 10})
        if self.store:
            self._scheduler.add_jobstore("sqlalchemy", url=f"sqlite:///{self.store}")
            _jobs[:] = self.jobs
        for number, job in enumerate(self.jobs):
            minute, hour, day, month, _, *second = self.load.expression(number).split()
            when = {"minute": minute, "hour": hour, "day": day, "month": month, "second": second[0] if second else "0"}
            if self.store:
                self._scheduler.add_job(_call, "cron", (number,), **when)
            else:
                self._scheduler.add_job(job, "cron", **when)

    async def start(self) -> None:
        self._scheduler.start()

    async def stop(self) -> None:
        # A shutdown cancels what has been started, and complains of each.
        self._scheduler.pause()
        await asyncio.sleep(0.1)
        self._scheduler.shutdown(wait=False)


_jobs: list[Job] = []


async def _call(number: int) -> None:
    """What a job store of APScheduler can keep: a function that it finds by its name, and its argument."""
    await _jobs[number]()


class Docket(Contender):
    """docket (`pydocket`): each run is claimed from a Redis stream; the state of a job's last run is kept for 15 minutes.

    A job is put on the schedule again after each of its runs; a tick that passes meanwhile leaves no trace.
    """

    def register(self) -> None:
        import docket

        # With its defaults, 10 runs at a time and a look at the schedule every 250 ms, a worker starts 40 runs a second.
        often = timedelta(milliseconds=100)
        self._docket = docket.Docket(name="benchmark", url=self.store)
        self._worker = docket.Worker(
            self._docket, concurrency=30, minimum_check_interval=often, scheduling_resolution=often
        )
        self._tasks = [self._task(number) for number in range(self.load.jobs)]

    async def start(self) -> None:
        await self._docket.__aenter__()
        for task in self._tasks:
            self._docket.register(task)
        await self._worker.__aenter__()
        self._running = asyncio.create_task(self._worker.run_forever())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})
        await self._worker.__aexit__(None, None, None)
        await self._docket.__aexit__(None, None, None)

    def _task(self, number: int) -> Callable[..., Awaitable[None]]:
        import docket

        # Its cron expressions have the second first.
        *minutes, second = [*self.load.expression(number).split(), "0"][:6]
        job, expression = self.jobs[number], " ".join((second, *minutes))

        async def task(again: docket.Cron = docket.Cron(expression)) -> None:  # noqa: B008 - so it wants its schedule
            await job()

        task.__name__ = task.__qualname__ = job.__name__
        return task


class Procrastinate(Contender):
    """procrastinate, its periodic tasks: each process puts a job into a queue for each tick, unless another one has done so,
    and takes jobs from it one by one. It keeps all of them, with what became of them and when.
    """

    def register(self) -> None:
        import procrastinate

        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self.store))
        for number in range(self.load.jobs):
            task = self._app.task(name=f"job-{number}")(self._task(number))
            self._app.periodic(cron=self.load.expression(number))(task)

    async def start(self) -> None:
        await self._app.open_async()
        await self._make_tables()
        worker = self._app.run_worker_async(concurrency=10, install_signal_handlers=False)
        self._running = asyncio.create_task(worker)

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})
        await self._app.close_async()

    async def _make_tables(self) -> None:
        """Make its tables, in one of the processes."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.store, autocommit=True) as connection:
            await connection.execute("SELECT pg_advisory_lock(1)")
            found = await connection.execute("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
            if await found.fetchone() == (False,):
                await self._app.schema_manager.apply_schema_async()

    def _task(self, number: int) -> Callable[[int], Awaitable[None]]:
        job = self.jobs[number]

        async def task(timestamp: int) -> None:
            await job()

        return task


@dataclass(frozen=True)
class Entry:
    """A contender with a place to keep what it keeps."""

    label: str
    kind: type[Contender]
    store: Store = "memory"
    keeps: str = "nothing"
    claims: str = "no"
    #: How many runs a second it gets through, where those that are asked for can be too many.
    most: int | None = None
    #: Modules that it can't do without, and that our own distributions don't bring.
    needs: tuple[str, ...] = ()

    @property
    def lacks(self) -> list[str]:
        """Those of the modules that are not installed."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]

    def rate(self, wanted: int) -> int:
        """How many runs a second it is given to do."""
        return wanted if self.most is None else min(wanted, self.most)


CONTENDERS = {
    "bare": Entry("bare asyncio: a heap and `create_task`", BareAsyncio),
    "memory": Entry("FastAPI Crons, memory", FastAPICrons, keeps="every run", claims="in the process"),
    "sqlite": Entry("FastAPI Crons, SQLite", FastAPICrons, "file", "every run", "on the host"),
    "redis": Entry("FastAPI Crons, Redis", FastAPICrons, "redis", "every run", "in the fleet"),
    "postgres": Entry("FastAPI Crons, PostgreSQL", FastAPICrons, "postgres", "every run", "in the fleet", most=1_000),
    "apscheduler": Entry("APScheduler 3.11, memory", APScheduler, needs=("apscheduler",)),
    "apscheduler_sqlite": Entry(
        "APScheduler 3.11, SQLite job store",
        APScheduler,
        "file",
        "when each job is due next",
        # Each run is a transaction, and a disk can take some milliseconds for that.
        most=100,
        needs=("apscheduler", "sqlalchemy"),
    ),
    "procrastinate": Entry(
        "procrastinate, PostgreSQL",
        Procrastinate,
        "postgres",
        "every run",
        "in the fleet",
        most=20,
        needs=("procrastinate", "psycopg"),
    ),
    "docket": Entry("docket, Redis", Docket, "redis", "each job's last run", "in the fleet", needs=("docket",)),
}
