"""Recorder: writes records of runs and missed ticks into the state store, and then releases leases.

What is noted in one turn of the event loop is written as one batch; what is noted during a write is the next one. While the
state store is down, records wait in memory, up to a limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.part import Finding, Part
from fastapi_crons._util.tasks import Supervisor, is_cancellation
from fastapi_crons._util.text import counted, one_line, span, traceback_text
from fastapi_crons.clock import Clock
from fastapi_crons.locking.base import LeaseRef
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.state.base import Record, StateBackend

logger = logging.getLogger(__name__)

#: What a store raises about a record that it can't store. The batch is halved until that record is alone, and dropped.
_ABOUT_DATA = (UnicodeError, OverflowError, TypeError)
#: How many records a batch has at most: larger ones would block the event loop while they are put together.
MAX_BATCH = 1000
#: A store that takes longer than this (seconds) for a write is slow.
_SLOW = 0.1
#: How long (seconds) leases wait for a record that can't be written.
_HOLD_LEASES = 0.1


class Ongoing(Protocol):
    """A run that is running, of which a record can be made at any time."""

    def so_far(self) -> Run: ...


class Recorder(Part):
    """The write-behind buffer of one scheduler."""

    def __init__(
        self,
        state: StateBackend,
        locks: LockClient,
        leases: LeaseBook,
        clock: Clock,
        supervisor: Supervisor,
        *,
        store_timeout: float,
        max_buffered: int,
    ) -> None:
        self._state = state
        self._locks = locks
        self._leases = leases
        self._clock = clock
        self._supervisor = supervisor
        self._store_timeout = store_timeout
        self._max_buffered = max_buffered
        #: By id: runs that started in this turn of the event loop, and in the last one. One that ends at once is written once.
        self._started: dict[str, Ongoing] = {}
        self._running: dict[str, Ongoing] = {}
        #: What is to be written, by id. A run that was vetoed has a record of each kind.
        self._pending: dict[str, Ongoing | Record] = {}
        #: The batch that is being written.
        self._writing: dict[str, Ongoing | Record] = {}
        #: Leases to release: those whose outcome is still to be written, and those that can be released now.
        self._releases: list[tuple[LeaseRef, Callable[[], None]]] = []
        self._written: list[tuple[LeaseRef, Callable[[], None]]] = []
        self._wake = asyncio.Event()
        self._release_wake = asyncio.Event()
        #: Set when the write that is under way, or else the next one, has come to its end; then another takes its place.
        self._tried = asyncio.Event()
        self._ended = False
        self._busy = 0
        self._batch_size = MAX_BATCH
        self._dropped = 0
        self._outage, self._overflow = Meter(), Meter()
        #: Whether the last write took so long that outcomes and leases are sent at the same time.
        self.slow = False
        #: Why the state store does not answer at the moment; None while it does.
        self.fault: str | None = None

    async def startup(self) -> None:
        self._supervisor.start("record", self._write_forever)
        self._supervisor.start("release", self._release_forever)

    async def shutdown(self, timeout: float) -> None:
        await self._supervisor.cancel("record", timeout)
        await self._supervisor.cancel("release", timeout)
        await self._flush(timeout)
        self._ended = True
        self._tried.set()

    def findings(self) -> Iterator[Finding]:
        if self.fault is not None:
            waiting = counted(len(self._pending), "record")
            yield Finding(f"the state store does not answer, {waiting} wait", failure=True, cause=self.fault)
        if self._dropped:
            yield Finding(f"{self._dropped} records were dropped while the state store was down")

    @property
    def idle(self) -> bool:
        """Whether everything noted so far is written, and all leases are released."""
        return not (self._has_work or self._written or self._busy)

    def noted(self, run_id: str) -> Run | None:
        """A run whose latest record may not be in the state store yet."""
        found = (
            self._pending.get(run_id)
            or self._started.get(run_id)
            or self._running.get(run_id)
            or self._writing.get(run_id)
        )
        return None if found is None or isinstance(found, MissedTicks) else _as_run(found)

    def noted_runs(self) -> list[Run]:
        """The runs whose latest records may not be in the state store yet."""
        found = {**self._writing, **self._running, **self._started, **self._pending}
        return [_as_run(noted) for noted in found.values() if not isinstance(noted, MissedTicks)]

    def noted_missed(self) -> list[MissedTicks]:
        """The records of missed ticks that may not be in the state store yet."""
        return [noted for noted in {**self._writing, **self._pending}.values() if isinstance(noted, MissedTicks)]

    async def recorded(self, run_id: str) -> None:
        """Return when what was noted of a run is written, or can't be at the moment."""
        while self.noted(run_id) is not None and self.fault is None and not self._ended:
            await self._tried.wait()

    def expect(self, latency: float) -> None:
        """Note how long (seconds) a store took to answer, before the first write shows it."""
        self.slow = latency > _SLOW

    def started(self, run_id: str, run: Ongoing) -> None:
        """Note that a run has started. Where it has ended by the time of the write, it is written once."""
        self._started[run_id] = run
        self._wake.set()

    def logged(self, run_id: str, run: Ongoing) -> None:
        """Note that a running run has logged more. It is written as it is by then; what waits for it already stands for it."""
        if run_id not in self._started and run_id not in self._running:
            self._pending.setdefault(run_id, run)
            self._wake.set()

    def ended(self, run: Run) -> None:
        """Note a run's outcome."""
        if self._started.pop(run.id, None) is None:
            self._running.pop(run.id, None)
        self._pending[run.id] = run
        self._wake.set()

    def missed(self, ticks: MissedTicks) -> None:
        """Note missed ticks."""
        self._pending[f"{ticks.id} missed"] = ticks
        self._wake.set()

    def release(self, lease: LeaseRef, released: Callable[[], None] = lambda: None) -> None:
        """Release a lease once its record is written; `released` is called after that."""
        self._leases.releasing(lease)
        if self.slow:
            # Outcome and lease are sent at the same time, or the job would stay locked for two long calls.
            self._written.append((lease, released))
            self._release_wake.set()
        else:
            self._releases.append((lease, released))
            self._wake.set()

    async def _write_forever(self) -> None:
        """Write batches as they gather."""
        backoff = Backoff()
        while True:
            if not self._has_work:
                self._wake.clear()
                await self._wake.wait()
            self._take_started()
            await asyncio.sleep(0)
            self._take_running()
            if not (self._pending or self._releases):
                continue
            if await self._write_batch():
                backoff = Backoff()
            else:
                await self._hold_records(backoff.next())

    async def _release_forever(self) -> None:
        """Release leases as they come."""
        while True:
            if not self._written:
                await self._release_wake.wait()
            self._release_wake.clear()
            while self._written:
                batch, self._written = self._written, []
                self._busy += 1
                try:
                    await self._locks.release([lease for lease, _ in batch])
                except BaseException:
                    self._written[:0] = batch
                    raise
                finally:
                    self._busy -= 1
                for lease, released in batch:
                    try:
                        released()
                    except Exception as error:
                        logger.error(
                            "job %r: an error occurred after its run\n%s",
                            lease.job,
                            traceback_text(error),
                            extra={"job": lease.job},
                        )

    async def _flush(self, timeout: float) -> None:
        """Write and release what is left at a stop, within so many seconds, after the two tasks have ended."""
        loop, backoff = asyncio.get_running_loop(), Backoff()
        deadline = loop.time() + timeout
        self._take_started()
        self._take_running()
        while self._pending or self._releases:
            try:
                if await asyncio.wait_for(self._write_batch(), timeout):
                    continue
            except BaseException as error:
                if is_cancellation(error):
                    raise
                self._report(error, self._clock.monotonic())
            if loop.time() >= deadline:
                records = counted(len(self._pending), "record")
                logger.error("could not write %s to the state store: %s", records, self.fault)
                break
            await asyncio.sleep(backoff.next())
        left, self._written = self._written, []
        left += self._releases
        if left:
            await self._locks.release_now([lease for lease, _ in left], timeout)
            for _, released in left:
                released()

    @property
    def _has_work(self) -> bool:
        return bool(self._started or self._running or self._pending or self._releases)

    def _take_started(self) -> None:
        self._running.update(self._started)
        self._started.clear()

    def _take_running(self) -> None:
        self._pending.update(self._running)
        self._running.clear()

    async def _write_batch(self) -> bool:
        """Write one batch; returns whether the store answers."""
        batch = dict(islice(self._pending.items(), self._batch_size))
        for key in batch:
            del self._pending[key]
        self._writing = batch
        releases = len(self._releases)
        self._busy += 1
        began = self._clock.monotonic()
        try:
            await self._write([_record(noted) for noted in batch.values()])
        except _ABOUT_DATA as error:
            if len(batch) == 1:
                logger.error("a record was dropped, which the state store can't keep: %s", one_line(error))
                self._dropped += 1
            else:
                self._requeue(batch)
                self._batch_size = len(batch) // 2
        except Exception as error:
            self._requeue(batch)
            self._report(error, began)
            if isinstance(error, asyncio.TimeoutError):
                # It may be the batch that is too large for the way to the store.
                self._batch_size = max(1, len(batch) // 2)
        except BaseException:  # it was cancelled, or a driver raises what nobody expects
            self._requeue(batch)
            raise
        else:
            self._batch_size = min(MAX_BATCH, self._batch_size * 2)
            if batch:
                self.slow = self._clock.monotonic() - began > _SLOW
        finally:
            self._busy -= 1
            self._writing = {}
            self._tried.set()
            self._tried = asyncio.Event()
        self._release_written(releases)
        return self.fault is None

    async def _hold_records(self, delay: float) -> None:
        """Wait until the next attempt to write. Leases don't wait that long."""
        until = self._clock.monotonic() + delay
        while (left := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, _HOLD_LEASES))
            self._release_written(len(self._releases))

    def _release_written(self, releases: int) -> None:
        """Release the first so many leases.

        Outcomes are written before their leases are released: a crash in between leaves a lease whose run is known to have
        ended. While the store is down leases are released all the same, or jobs would stay locked. The leases of missed ticks
        lock no job, and wait.
        """
        due, self._releases = self._releases[:releases], self._releases[releases:]
        if self._pending:
            waiting = [release for release in due if self._has_to_wait(release[0].run_id)]
            if waiting:
                due = [release for release in due if not self._has_to_wait(release[0].run_id)]
                self._releases[:0] = waiting
        self._written += due
        self._release_wake.set()

    def _has_to_wait(self, record_id: str) -> bool:
        if record_id in self._pending:
            return self.fault is None
        return f"{record_id} missed" in self._pending

    async def _write(self, records: list[Record]) -> None:
        if records:
            await asyncio.wait_for(self._state.write(records), self._store_timeout)
            self.fault = None
            now = self._clock.monotonic()
            lasting = self._outage.works(now)
            self._overflow.works(now)
            if lasting is not None:
                waiting = counted(len(self._pending), "record")
                logger.warning(
                    "the state store answers again, after %s; %s still to be written", span(lasting.seconds), waiting
                )

    def _requeue(self, batch: dict[str, Ongoing | Record]) -> None:
        self._pending = {**batch, **self._pending}
        excess = len(self._pending) - self._max_buffered
        if excess > 0:
            for key in list(islice(self._pending, excess)):
                del self._pending[key]
            self._dropped += excess
            lasting = self._overflow.failed(self._clock.monotonic())
            if lasting is not None:
                logger.error(
                    "the state store is down for too long: %s dropped so far, the oldest first; at most %d wait "
                    "(CRON_MAX_BUFFERED_RECORDS)",
                    counted(self._dropped, "record"),
                    self._max_buffered,
                )

    def _report(self, error: BaseException, asked: float) -> None:
        """Log that the state store does not answer: once, and then now and then."""
        timed_out = isinstance(error, asyncio.TimeoutError)
        self.fault = f"no answer within {self._store_timeout:g} s" if timed_out else one_line(error)
        lasting = self._outage.failed(self._clock.monotonic(), asked=asked)
        if lasting is None:
            return
        waiting = counted(len(self._pending), "record")
        if lasting.first:
            logger.error("the state store does not answer; jobs run, and %s to be written: %s", waiting, self.fault)
        else:
            logger.error(
                "the state store has not answered for %s, %s to be written: %s",
                span(lasting.seconds),
                waiting,
                self.fault,
            )


def _record(noted: Ongoing | Record) -> Record:
    return noted if isinstance(noted, MissedTicks) else _as_run(noted)


def _as_run(noted: Ongoing | Run) -> Run:
    return noted if isinstance(noted, Run) else noted.so_far()
