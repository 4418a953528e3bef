"""The Redis state store: job states, the history of runs, and events, for a fleet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons._util.damage import Damage
from fastapi_crons.locking.base import Reach
from fastapi_crons.run import LogLine, MissedTicks, Run, RunStatus
from fastapi_crons.state.backfills import KEPT, BackfillRecord, backfill_to_text
from fastapi_crons.state.base import (
    Event,
    HistoryLimits,
    JobState,
    MissedQuery,
    Record,
    RunQuery,
    Signal,
    StateBackend,
)
from fastapi_crons.state.checks import checked_log
from fastapi_crons.state.figures import Figures, day_of

from .clients import Client
from .connection import Connection, text_of
from .history import History
from .questions import Questions
from .records import events_in, lines_of, parsed, restored_figures, restored_state
from .subscription import messages

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend

#: The layout that this version writes, and the oldest version that may use it.
VERSION = 2
COMPATIBLE_FROM = 1
#: How many jobs one step indexes, cuts back, or forgets.
_INDEXED_AT_A_TIME, _CUT_AT_A_TIME, _FORGOTTEN_AT_A_TIME = 5, 50, 50
#: How many states, or figures, one step puts on record.
_RESTORED_AT_A_TIME = 500


class RedisStateBackend(StateBackend):
    """Job states and history in Redis: a server, a replicated one behind sentinels, or a cluster.

    `redis_client` is a client of `redis.asyncio`, which is used as it is and left open, or the URL of a server, as in
    `CRON_REDIS_URL`; what the other settings `CRON_REDIS_…` say holds besides, and the connection is closed at the
    end. All keys of a namespace lie in one hash slot.

    Missed ticks expire by themselves a day after `HistoryLimits.days`, and with `keep_always=0` also runs that have ended. Each
    `events()` holds one connection.
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
        self._keep_to("default", HistoryLimits(100, 30))

    def _keep_to(self, namespace: str, limits: HistoryLimits) -> None:
        self._limits = limits
        self._history = History(self._connection, namespace, limits, self._damage)
        self._questions = Questions(self._history)
        #: Whether jobs may have more runs than the limits allow, because the limits have changed.
        self._limits_are_new = True

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=False)

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=True)

    async def _open(self, namespace: str, limits: HistoryLimits, *, to_read: bool) -> None:
        self._keep_to(namespace, limits)
        await self._connection.open()
        await self._connection.warn_of_eviction(("allkeys", "volatile"), "history can go")
        found, needs = await self._history.do("open", [VERSION, COMPATIBLE_FROM, to_read])
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
            await self._history.do(
                "write", len(records), "\n".join([line for record in records for line in lines_of(record)])
            )

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        return await self._questions.states(jobs)

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        statuses = () if status is None else (status,)
        return await self.find_runs(RunQuery(None if job is None else (job,), statuses, None, None, before, limit))

    async def find_runs(self, query: RunQuery) -> list[Run]:
        return await self._questions.runs(query)

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        return await self._questions.missed(query)

    async def find_ids(self, part: str, job: str | None = None) -> list[str]:
        return await self._questions.ids(part, None if job is None else [job])

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        return await self._questions.figures(jobs, since, until)

    async def sums(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> dict[str, Figures]:
        found, unreadable = await self._questions.sums(jobs, since, until)
        # Of these, the days that are not damaged are added up.
        return {**found, **await super().sums(unreadable, since=since, until=until)} if unreadable else found

    async def run(self, run_id: str) -> Run | None:
        text, log, *_ = (*await self._history.ask("run", run_id), None, None)
        found = self._history.readable_runs([run_id.encode(), text])
        return self._with_log(found[0], log) if found else None

    def _with_log(self, run: Run, log: bytes | None) -> Run:
        def read() -> tuple[LogLine, ...]:
            return checked_log(tuple(LogLine(*line) for line in parsed(log)))

        return replace(run, log=self._damage.noted(f"log of run {run.id}", read) or ()) if log else run

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        texts = await self._history.ask("runs_by_id", list(run_ids))
        logs = dict(zip(texts[::3], texts[2::3], strict=True))
        pairs = [text for index, text in enumerate(texts) if index % 3 != 2]
        return {run.id: self._with_log(run, logs[run.id.encode()]) for run in self._history.readable_runs(pairs)}

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return (await self.missed_by_job([job], limit=limit))[job]

    async def runs_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[Run]]:
        return await self._questions.runs_by_job(jobs, limit)

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        found: dict[str, list[MissedTicks]] = {job: [] for job in jobs}
        for missed in self._history.readable_missed(await self._history.ask("missed", [list(jobs), limit]), jobs):
            found[missed.job].append(missed)
        return found

    async def unfinished(self) -> list[Run]:
        return await self._questions.unfinished()

    async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:
        await self._history.do_in_steps(
            "restore_states", [restored_state(each) for each in states], _RESTORED_AT_A_TIME
        )
        await self._history.do_in_steps(
            "restore_figures", [restored_figures(each) for each in figures], _RESTORED_AT_A_TIME
        )

    async def begin_backfill(self, record: BackfillRecord) -> BackfillRecord | None:
        wanted, unreadable = [record.id, record.job, backfill_to_text(record), KEPT], ""
        while found := await self._history.ask("begin_backfill", [*wanted, unreadable]):
            others = self._history.readable_backfills(found[1:])
            if others:
                return others[0]
            unreadable = text_of(found[0])
        return None

    async def change_backfill(self, record: BackfillRecord) -> bool:
        changed = [record.id, record.revision, backfill_to_text(record)]
        return bool(await self._history.ask("change_backfill", changed))

    async def backfill(self, backfill_id: str) -> BackfillRecord | None:
        found = self._history.readable_backfills(await self._history.ask("backfills", backfill_id))
        return found[0] if found else None

    async def backfills(self, job: str | None = None) -> list[BackfillRecord]:
        found = self._history.readable_backfills(await self._history.ask("backfills"))
        return sorted((each for each in found if job is None or each.job == job), reverse=True)

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    async def prune(self, now: float) -> None:
        """Delete what is too old. Each write keeps to the number of records; only new limits need a look at all jobs."""
        history, limits = self._history, self._limits
        cutoff = max(0, int((now - limits.days * 86_400) * 1000))
        if self._limits_are_new:
            is_indexed, *jobs = map(text_of, await history.ask("jobs"))
            if not is_indexed:
                await history.do_in_steps("index", jobs, _INDEXED_AT_A_TIME)
                await history.do("index", [])
            await history.do_in_steps("cut_back", jobs, _CUT_AT_A_TIME, cutoff)
            self._limits_are_new = False
        while await history.do("prune", cutoff):
            pass
        while await history.do("prune_figures", day_of(max(0, now - limits.figures_days * 86_400))):
            pass

    async def forget(self, jobs: Collection[str]) -> None:
        await self._history.do_in_steps("forget", jobs, _FORGOTTEN_AT_A_TIME)

    async def publish(self, signal: Signal) -> None:
        await self._history.do("publish", signal)

    async def events(self, *, records: bool = True) -> AsyncGenerator[Event, None]:
        channels = [self._history.prefix + channel for channel in (("signals", "events") if records else ("signals",))]
        async with aclosing(messages(self._connection, channels)) as found:
            async for message in found:
                for event in events_in(message, self._damage):
                    yield event
