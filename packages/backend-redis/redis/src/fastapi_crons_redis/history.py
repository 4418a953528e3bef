"""The script of the state store, as it is called: what is asked of it, and the records in its answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from redis.asyncio import RedisCluster

from fastapi_crons._util.damage import Damage, DamagedError
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.state.backfills import BackfillRecord, backfill_from_text
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.state.checks import checked_missed, checked_run

from .connection import Connection, text_of
from .records import as_json, missed_of, parsed, run_of
from .scripts import HISTORY_KEYS, history_script

#: Seconds after `HistoryLimits.days`, or `figures_days`, at which what has not been pruned expires.
_MARGIN = 86_400
#: The longest expiry (seconds): servers refuse one that overflows.
_LONGEST = 100 * 366 * 86_400


class History:
    """The history of one namespace."""

    def __init__(self, connection: Connection, namespace: str, limits: HistoryLimits, damage: Damage) -> None:
        self.prefix = f"{{crons:{namespace}}}:state:"
        self.damage = damage
        self._connection = connection
        self._keys = [self.prefix + key for key in HISTORY_KEYS]
        self._about: tuple[str | int, ...] = (
            self.prefix,
            limits.keep,
            limits.keep_failed,
            limits.keep_always,
            _lifetime(limits.days),
            _lifetime(limits.figures_days),
            # The script does not see who subscribes at another node of a cluster.
            int(isinstance(connection.client, RedisCluster)),
        )

    async def do(self, operation: str, batch: object = None, lines: str = "") -> Any:
        """Have the script do an operation; returns its answer."""
        arguments = (operation, *self._about, as_json(batch), lines)
        return await self._connection.answer(history_script(operation), self._keys, arguments, self.damage)

    async def ask(self, operation: str, batch: object = None) -> list[Any]:
        """Have the script find something; returns the texts that it found, whatever is in them. See `texts_in`."""
        arguments = (operation, *self._about, as_json(batch), "")
        found = await self._connection.call(history_script(operation), self._keys, arguments)
        return texts_in(found[0] if isinstance(found, list) else found)

    async def do_in_steps(self, operation: str, jobs: Collection[object], size: int, *more: object) -> None:
        """Have the script do something to jobs, or records of them, so many at a time, of which it says how many are done."""
        names = list(jobs)
        while names:
            part = names[:size]
            names = names[await self.do(operation, [part, *more] if more else part) :]

    def readable_runs(self, texts: Sequence[bytes | None], jobs: Collection[str] | None = None) -> list[Run]:
        """The readable runs of a list of ids, each followed by its run; only of these jobs, where some are named."""

        def read(run_id: bytes | None, text: bytes) -> Run:
            run = checked_run(run_of(*parsed(text)))
            if run.id.encode() != run_id:
                raise DamagedError(f"it says that it is run {run.id}")
            _check_job(run.job, jobs)
            return run

        found = (
            self.damage.noted(f"run {shown(run_id)}", partial(read, run_id, text))
            for run_id, text in zip(texts[::2], texts[1::2], strict=True)
            if text
        )
        return [run for run in found if run is not None]

    def readable_missed(self, texts: Sequence[bytes | None], jobs: Collection[str] | None = None) -> list[MissedTicks]:
        """The readable ones among these records of missed ticks; only of these jobs, where some are named."""

        def read(text: bytes | None) -> MissedTicks:
            missed = checked_missed(missed_of(*parsed(text)))
            _check_job(missed.job, jobs)
            return missed

        found = (self.damage.noted(f"missed ticks {shown(text)}", partial(read, text)) for text in texts)
        return [missed for missed in found if missed is not None]

    def readable_backfills(self, texts: Sequence[bytes | None]) -> list[BackfillRecord]:
        """The readable ones among these backfills."""
        found = (
            self.damage.noted(f"backfill {shown(text)}", partial(backfill_from_text, text)) for text in texts if text
        )
        return [record for record in found if record is not None]


def texts_in(answer: bytes | None) -> list[Any]:
    """The texts that `scripts/history/answer.lua` has put together; lists among them are put together likewise."""
    lengths, _, texts = (answer or b"").partition(b"\n")
    found: list[bytes | None] = []
    start = 0
    for length in map(int, lengths.split()):
        found.append(texts[start : start + length] if length >= 0 else None)
        start += max(0, length)
    return found


def shown(text: bytes | None) -> str:
    """A text of the server, for people."""
    return text_of(text)[:60]


def _lifetime(days: float) -> int:
    return math.ceil(min(days * 86_400, _LONGEST)) + _MARGIN


def _check_job(job: str, jobs: Collection[str] | None) -> None:
    """What is kept under one job's name must not say that it is another's."""
    if jobs is not None and job not in jobs:
        raise DamagedError(f"it says that it is of job {job}")
