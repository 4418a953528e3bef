"""The state store: a file that is read along, and a history in memory that answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar

from filelock import Timeout

from fastapi_crons import MissedTicks, Run, RunStatus, StoreUnavailableError, StoreUnusableError
from fastapi_crons.locking import Reach
from fastapi_crons.state import HistoryLimits, Record, StateBackend
from fastapi_crons_jsonl.file import LineFile
from fastapi_crons_jsonl.history import History
from fastapi_crons_jsonl.lines import line_of, record_of

T = TypeVar("T")
#: The file is written anew when so many of its lines are needed no more, and more than are needed.
_MANY = 1_000


class JsonlStateBackend(StateBackend):
    """The history in `<folder>/<namespace>.jsonl`, shared by all processes of a host."""

    reach: ClassVar[Reach] = "host"

    def __init__(self, folder: str | Path = "crons-history", *, lock_timeout: float = 4.0) -> None:
        self._folder = Path(folder)
        self._lock_timeout = lock_timeout

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._limits, self._history, self._read = limits, History(), 0
        self._file = LineFile(self._folder / f"{namespace}.jsonl", self._lock_timeout)
        # One thread, which all that blocks is done in: so nothing here is ever done twice at a time.
        self._thread = ThreadPoolExecutor(1, "fastapi-crons-jsonl")
        try:
            await self._do(lambda: None)
        except StoreUnavailableError as error:
            raise StoreUnusableError(str(error)) from error

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    async def write(self, records: Sequence[Record]) -> None:
        def work() -> None:
            lines = [line_of(record) for record in records if not self._history.is_closed(record)]
            if lines:
                self._file.append(lines)
                self._catch_up()

        await self._do(work, locked=True)

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        def work() -> list[Run]:
            runs = self._history.newest(Run, job, before)
            return list(islice((run for run in runs if status in (None, run.status)), limit))

        return await self._do(work)

    async def run(self, run_id: str) -> Run | None:
        def work() -> Record | None:
            where = self._history.lines.get((Run, run_id))
            return None if where is None else record_of(json.loads(self._file.line(*where)))

        found = await self._do(work)
        return found if isinstance(found, Run) else None

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return await self._do(lambda: list(islice(self._history.newest(MissedTicks, job), limit)))

    async def unfinished(self) -> list[Run]:
        return await self._do(lambda: [run for run in self._history.newest(Run, None) if run.status == "running"])

    async def prune(self, now: float) -> None:
        def work() -> None:
            self._history.prune(self._limits, now)
            needed = len(self._history.lines)
            if self._read - needed > max(_MANY, needed):
                self._write_anew()

        await self._do(work, locked=True)

    async def forget(self, jobs: Collection[str]) -> None:
        def work() -> None:
            self._history.drop(lambda rank, record: record.job in jobs)
            self._write_anew()

        await self._do(work, locked=True)

    async def _do(self, work: Callable[[], T], *, locked: bool = False) -> T:
        """Do something with the history as it is by now, in the thread; `locked` while no other process writes."""

        def whole() -> T:
            if not locked:
                self._catch_up()
                return work()
            with self._file.locked():
                self._catch_up()
                return work()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, whole)
        except Timeout:
            raise StoreUnavailableError(
                f"{self._file.path} is held by another process for more than {self._lock_timeout:g} s"
            ) from None
        except OSError as error:
            raise StoreUnavailableError(f"{self._file.path}: {error.strerror or error}") from error

    def _catch_up(self) -> None:
        anew, lines = self._file.read()
        if anew:
            self._history, self._read = History(), 0
        for place, line in lines:
            self._history.add(place, line)
        self._read += len(lines)

    def _write_anew(self) -> None:
        """Leave only the lines that are needed; all processes read them again."""
        self._file.replace([self._file.line(*where) for where in sorted(self._history.lines.values())])
