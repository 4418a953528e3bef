"""The Redis state store: job states, the history of runs, and events, for a fleet."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from redis.asyncio import RedisCluster

from fastapi_crons._util.damage import Damage, DamagedError, name
from fastapi_crons.locking.base import Reach
from fastapi_crons.run import LogLine, MissedTicks, Run, RunStatus
from fastapi_crons.state.base import Event, HistoryLimits, JobState, Record, Signal, StateBackend
from fastapi_crons.state.checks import checked_log, checked_missed, checked_run, checked_state

from .clients import Client
from .connection import Connection, text_of
from .records import as_json, events_in, lines_of, missed_of, parsed, run_of
from .scripts import HISTORY_KEYS, history_script
from .subscription import messages

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend

#: The layout that this version writes, and the oldest version that may use it.
VERSION = 1
COMPATIBLE_FROM = 1
#: Seconds after `HistoryLimits.days` at which ended runs expire, where they have not been pruned.
_MARGIN = 86_400
#: The longest expiry (seconds): servers refuse one that overflows.
_LONGEST = 100 * 366 * 86_400
#: For a list of the runs of all jobs: about how many runs one step reads, and of how many jobs at most.
_RUNS_AT_A_TIME, _JOBS_AT_A_TIME = 2_000, 100
#: How many jobs one step deletes.
_FORGOTTEN_AT_A_TIME = 50


class RedisStateBackend(StateBackend):
    """Job states and history in Redis: a server, a replicated one behind sentinels, or a cluster.

    `redis_client` is a client of `redis.asyncio`, which is used as it is and left open, or the URL of a server, as in
    `CRON_REDIS_URL`; what the other settings `CRON_REDIS_…` say holds besides, and the connection is closed at the
    end. All keys of a namespace lie in one hash slot.

    Runs that have ended expire by themselves a day after `HistoryLimits.days`. Each `events()` holds one connection.
    """

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, redis_client: Client | str) -> None:
        self._set_up(Connection.to(redis_client, type(self).__name__))

    @classmethod
    def on(cls, connection: Connection) -> RedisStateBackend:
        """A state store on a connection of its own."""
        backend = cls.__new__(cls)
        backend._set_up(connection)
        return backend

    def _set_up(self, connection: Connection) -> None:
        self._connection = connection
        self._damage = Damage("history in Redis")
        self._script = history_script()
        self._prefix = ""
        self._limits = HistoryLimits(100, 30)
        #: Whether jobs may have more runs than the limits allow, because the limits have changed.
        self._limits_are_new = True

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=False)

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=True)

    async def _open(self, namespace: str, limits: HistoryLimits, *, to_read: bool) -> None:
        self._prefix, self._limits, self._limits_are_new = f"{{crons:{namespace}}}:state:", limits, True
        await self._connection.open()
        await self._connection.warn_of_eviction(("allkeys", "volatile"), "history can go")
        found, needs = await self._do("open", [VERSION, COMPATIBLE_FROM, to_read])
        self._connection.refuse_newer(namespace, found, needs, VERSION)

    async def close(self) -> None:
        await self._connection.close()

    def companion_lock(self) -> LockBackend:
        # Another distribution registers it: where that is not installed, the import says what to install.
        from fastapi_crons.locking import RedisLockBackend

        lock: LockBackend = RedisLockBackend(self._connection.url or self._connection.client)
        return lock

    async def write(self, records: Sequence[Record]) -> None:
        if records:
            await self._do("write", len(records), "\n".join([line for record in records for line in lines_of(record)]))

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        return {state.job: state for _, state in await self._heads(jobs)}

    async def _heads(self, jobs: Collection[str] | None = None) -> list[tuple[str, JobState]]:
        """The states of jobs, each with the id of its latest run."""

        def read(text: bytes | None) -> tuple[str, JobState]:
            run_id, status, job, instance, started = parsed(text)
            return name(run_id, "id"), checked_state(JobState(job, status, instance, started))

        texts = await self._texts("states", None if jobs is None else list(jobs))
        found = (self._damage.noted(f"state of a job, {_shown(text)}", partial(read, text)) for text in texts)
        return [head for head in found if head is not None]

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """For all jobs, reads the latest run of each, then the runs of those that ran last, until there are enough.

        A rare `status` can lead through the runs of all jobs, in many short steps: none keeps the server busy for long.
        """
        if job is not None:
            return await self._runs_of_one(job, limit, before, status)
        if status == "running":
            unfinished = [run for run in await self.unfinished() if before is None or run.id < before]
            return sorted(unfinished, key=attrgetter("id"), reverse=True)[:limit]
        latest = sorted(await self._heads(), key=itemgetter(0), reverse=True)
        found: list[Run] = []
        done, size = 0, max(1, _RUNS_AT_A_TIME // max(1, limit))
        while done < len(latest) and limit > 0:
            after = found[-1].id if len(found) == limit else None
            if after is not None and latest[done][0] < after:
                break
            jobs = [state.job for _, state in latest[done : done + size]]
            found += self._readable_runs(await self._texts("runs", [jobs, limit, before, after, status]), jobs)
            found = sorted(found, key=attrgetter("id"), reverse=True)[:limit]
            done, size = done + size, min(2 * size, _JOBS_AT_A_TIME)
        return found

    async def run(self, run_id: str) -> Run | None:
        text, log, *_ = (*await self._texts("run", run_id), None, None)
        found = self._readable_runs([run_id.encode(), text])
        return self._with_log(found[0], log) if found else None

    def _with_log(self, run: Run, log: bytes | None) -> Run:
        def read() -> tuple[LogLine, ...]:
            return checked_log(tuple(LogLine(*line) for line in parsed(log)))

        return replace(run, log=self._damage.noted(f"log of run {run.id}", read) or ()) if log else run

    async def _runs_of_one(self, job: str, limit: int, before: str | None, status: RunStatus | None) -> list[Run]:
        found: list[Run] = []
        # A run that can't be read must not look like the end of the list.
        while (wanted := limit - len(found)) > 0:
            texts = await self._texts("runs", [[job], wanted, before, None, status])
            found += self._readable_runs(texts, [job])
            if len(texts) < 2 * wanted:
                break
            before = (texts[-2] or b"").decode("utf-8", "replace")
        return found

    def _readable_runs(self, texts: Sequence[bytes | None], jobs: Collection[str] | None = None) -> list[Run]:
        """The readable runs of a list of ids, each followed by its run; only of these jobs, where some are named."""

        def read(run_id: bytes | None, text: bytes) -> Run:
            run = checked_run(run_of(*parsed(text)))
            if run.id.encode() != run_id:
                raise DamagedError(f"it says that it is run {run.id}")
            _check_job(run.job, jobs)
            return run

        found = (
            self._damage.noted(f"run {_shown(run_id)}", partial(read, run_id, text))
            for run_id, text in zip(texts[::2], texts[1::2], strict=True)
            if text
        )
        return [run for run in found if run is not None]

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        texts = await self._texts("runs_by_id", list(run_ids))
        logs = dict(zip(texts[::3], texts[2::3], strict=True))
        pairs = [text for index, text in enumerate(texts) if index % 3 != 2]
        return {run.id: self._with_log(run, logs[run.id.encode()]) for run in self._readable_runs(pairs)}

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return (await self.missed_by_job([job], limit=limit))[job]

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        def read(text: bytes | None) -> MissedTicks:
            missed = checked_missed(missed_of(*parsed(text)))
            _check_job(missed.job, jobs)
            return missed

        found: dict[str, list[MissedTicks]] = {job: [] for job in jobs}
        for text in await self._texts("missed", [list(jobs), limit]):
            missed = self._damage.noted(f"missed ticks {_shown(text)}", partial(read, text))
            if missed is not None:
                found[missed.job].append(missed)
        return found

    async def unfinished(self) -> list[Run]:
        # What is listed as running may be on record as ended.
        return [run for run in self._readable_runs(await self._texts("unfinished")) if run.status == "running"]

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    async def prune(self, now: float) -> None:
        """Delete what is too old. Each write keeps to the number of records; only new limits need a look at all jobs."""
        cutoff = max(0, int((now - self._limits.days * 86_400) * 1000))
        if self._limits_are_new:
            cursor = await self._do("prune_all", [cutoff, "0"])
            while cursor != "0":
                cursor = await self._do("prune_all", [cutoff, cursor])
            self._limits_are_new = False
        while await self._do("prune", cutoff):
            pass

    async def forget(self, jobs: Collection[str]) -> None:
        names = list(jobs)
        for start in range(0, len(names), _FORGOTTEN_AT_A_TIME):
            await self._do("forget", names[start : start + _FORGOTTEN_AT_A_TIME])

    async def publish(self, signal: Signal) -> None:
        await self._do("publish", signal)

    async def events(self, *, records: bool = True) -> AsyncGenerator[Event, None]:
        channels = [self._prefix + channel for channel in (("signals", "events") if records else ("signals",))]
        async with aclosing(messages(self._connection, channels)) as found:
            async for message in found:
                for event in events_in(message, self._damage):
                    yield event

    async def _do(self, operation: str, batch: object = None, lines: str = "") -> Any:
        """Have the script do an operation; returns its answer."""
        return await self._connection.answer(
            self._script, self._keys(), self._arguments(operation, batch, lines), self._damage
        )

    async def _texts(self, operation: str, batch: object = None) -> list[bytes | None]:
        """Have the script do an operation; returns the texts that it found, whatever is in them."""
        found = await self._connection.call(self._script, self._keys(), self._arguments(operation, batch))
        return found if isinstance(found, list) else []

    def _keys(self) -> list[str]:
        return [self._prefix + key for key in HISTORY_KEYS]

    def _arguments(self, operation: str, batch: object, lines: str = "") -> tuple[str | int, ...]:
        return (
            operation,
            self._prefix,
            self._limits.keep,
            math.ceil(min(self._limits.days * 86_400, _LONGEST)) + _MARGIN,
            # The script does not see who subscribes at another node of a cluster.
            int(isinstance(self._connection.client, RedisCluster)),
            as_json(batch),
            lines,
        )


def _check_job(job: str, jobs: Collection[str] | None) -> None:
    """What is kept under one job's name must not say that it is another's."""
    if jobs is not None and job not in jobs:
        raise DamagedError(f"it says that it is of job {job}")


def _shown(text: bytes | None) -> str:
    return text_of(text)[:60]
