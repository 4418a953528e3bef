"""Records of what happened: runs, and ticks that were missed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from fastapi_crons.clock import utc_datetime

if TYPE_CHECKING:
    import logging

    from pydantic import JsonValue

RunStatus = Literal["running", "completed", "failed", "timed_out", "cancelled", "interrupted"]
Trigger = Literal["schedule", "catch_up", "cli", "api", "code", "again"]
MissedReason = Literal[
    "misfire_grace_time",
    "max_catch_up",
    "coalesced",
    "overlap",
    "vetoed",
    "schedule_changed",
    "disabled",
    "paused",
    "unknown",
]
#: Why ticks were not run, in words.
REASONS: dict[MissedReason, str] = {
    "overlap": "the job was still running",
    "vetoed": "a before-run hook vetoed it",
    "paused": "the job was paused",
    "disabled": "the job was disabled",
    "schedule_changed": "it was due under an older schedule, which was changed before an instance ran it",
    "misfire_grace_time": "it was later than its misfire grace time allows",
    "max_catch_up": "it was older than the late ticks that max_catch_up allows to run",
    "coalesced": "it was late, and the run of a later tick stands for it (coalesce)",
    "unknown": "the reason is one that only a newer version knows",
}
#: The logger of the lines that tell in a run's log which attempt failed, by what error, and when the next one follows.
RETRY_LOGGER = "fastapi_crons.retry"
#: How runs end that did not do their work, and that nobody cancelled.
FAILED: tuple[RunStatus, ...] = ("failed", "timed_out", "interrupted")
#: The error type of runs that were interrupted because their process died or lost its lease: their ticks are rerun.
INTERRUPTED = "Interrupted"
#: How many characters of a run's id are shown, and how many a user has to give at least.
SHORT_ID = 8
SHORTEST_ID = 4

#: The latest time that an id can hold.
_LAST_MILLISECOND = 2**48 - 1

#: A run that waited for less than this (seconds) did not really wait.
SHORTEST_WAIT = 0.01


@dataclass(frozen=True, slots=True)
class RunError:
    """What a failed run raised, as text that is safe to store: no surrogates, no NUL, limited in size."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A log record that was made inside a run. `ts` in Unix seconds (UTC)."""

    ts: float
    level: str
    logger: str
    message: str
    """One text, with the traceback where the record had one; safe to store."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a job, or the part of it that has happened so far.

    Instants are Unix seconds (UTC) in the `…_ts` fields; `tick`, `started` and `ended` give them as aware datetimes.
    """

    id: str
    """Unique, and sorts by the time the run was claimed (UUID version 7, RFC 9562)."""
    job: str
    """The job's name."""
    tick_ts: int | None
    """The scheduled time; None for a manual run, unless it runs a tick again."""
    trigger: Trigger
    """What started it: `again` where somebody asked to run a tick again."""
    attempt: int
    """How many times the function has been started for this tick, this one included."""
    instance: str
    """The id of the instance that ran it."""
    token: int
    """The fencing token of the claim: greater than that of any earlier claim of the job."""
    status: RunStatus
    """Its state."""
    started_ts: float
    """When it began."""
    ended_ts: float | None = None
    """When it ended; None while it is running."""
    error: RunError | None = None
    """What it raised last, or why it was interrupted; None for a run without an error."""
    result_json: str | None = None
    """What the function returned, as JSON text; None when it returned None or nothing is to be kept."""
    missed_ticks: int = 0
    """How many earlier ticks this run stands for (`coalesce`)."""
    missed_since_ts: int | None = None
    """The oldest of those."""
    actor: str | None = None
    """Who asked for a manual run."""
    note: str | None = None
    """What they said about it."""
    beside: str | None = None
    """The run that was still running when this one was forced."""
    log: tuple[LogLine, ...] = ()
    """The newest log records made inside the run, oldest first."""
    log_dropped: int = 0
    """How many earlier ones did not fit."""
    delay: str | None = None
    """Why the tick was claimed late, where it was."""
    waited: float = 0.0
    """For how many seconds, after its start, it waited for a free thread or process; its time limit begins after that."""

    arguments_json: str | None = None
    """What the function was called with, as JSON text without secrets; None for a job without arguments."""

    @property
    def result(self) -> JsonValue:
        """What the function returned, as hooks get it: read from its JSON text. None where nothing is kept."""
        if self.result_json is None:
            return None
        try:
            value: JsonValue = json.loads(self.result_json)
        except (ValueError, RecursionError):  # not written by this library
            return self.result_json
        return value

    @property
    def tick(self) -> datetime | None:
        """The scheduled time (aware, UTC); None for a manual run."""
        return None if self.tick_ts is None else utc_datetime(self.tick_ts)

    @property
    def started(self) -> datetime:
        """When the run began (aware, UTC)."""
        return utc_datetime(self.started_ts)

    @property
    def ended(self) -> datetime | None:
        """When the run ended (aware, UTC); None while it is running."""
        return None if self.ended_ts is None else utc_datetime(self.ended_ts)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while the run is running."""
        return None if self.ended_ts is None else max(0.0, self.ended_ts - self.started_ts)


@dataclass(frozen=True, slots=True)
class MissedTicks:
    """A range of missed ticks of one job, as one record. A later record with the same id replaces it."""

    id: str
    """Unique, and sorts by the time the ticks were missed (UUID version 7)."""
    job: str
    first_ts: int
    last_ts: int
    count: int
    """How many; where `more` is true, at least so many."""
    reason: MissedReason
    recorded_ts: float
    instance: str
    more: bool = False
    detail: str | None = None

    @property
    def first(self) -> datetime:
        """The oldest of the ticks (aware, UTC)."""
        return utc_datetime(self.first_ts)

    @property
    def last(self) -> datetime:
        """The newest of the ticks (aware, UTC)."""
        return utc_datetime(self.last_ts)


def reason_in_words(ticks: MissedTicks, *, details: bool = True) -> str:
    """Why ticks were not run. `details`: whether texts may be shown that are not for all."""
    return REASONS[ticks.reason] + (f": {ticks.detail}" if ticks.detail and details else "")


class HasLog(Protocol):
    """A run that is going on, to which log records belong."""

    @property
    def log_fields(self) -> dict[str, object]: ...

    def keep_record(self, record: logging.LogRecord) -> None: ...


#: The run that the current task, or thread, belongs to.
current_run: ContextVar[HasLog | None] = ContextVar("fastapi_crons_run", default=None)


def short_id(run_id: str) -> str:
    """The end of a run's id, which is shown for it: the beginning is the time, which all runs of a minute share."""
    return run_id[-SHORT_ID:]


def made_at(record_id: str) -> float:
    """When the id of a run or record was made, in Unix seconds; 0 for one that is no UUID version 7."""
    try:
        return int(record_id[:8] + record_id[9:13], 16) / 1000
    except ValueError:
        return 0.0


def first_id_at(instant: float) -> str:
    """A text that sorts before the ids of all runs and records made at an instant (Unix seconds) or later.

    And behind those made before it: ids begin with the time, in milliseconds as hexadecimal digits.
    """
    digits = f"{min(max(0, int(instant * 1000)), _LAST_MILLISECOND):012x}"
    return f"{digits[:8]}-{digits[8:]}"


class RunIds:
    """Makes run ids: UUID version 7, strictly increasing within one instance of this class."""

    __slots__ = ("_counter", "_head", "_last", "_middle", "_millisecond", "_now", "_randbits")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        # Seeded anew for each: two processes must not draw the same numbers.
        self._randbits = random.Random(random.SystemRandom().getrandbits(128)).getrandbits
        self._millisecond = 0
        self._counter = 0
        self._head = self._middle = ""
        self._last = 0

    def __call__(self) -> str:
        millisecond = int(self._now() * 1000)
        if millisecond > self._millisecond:
            self._begin(millisecond)
        elif self._counter == 0xFFF:
            # The clock stands still, or was set back: borrow from the milliseconds to come.
            self._begin(self._millisecond + 1)
        else:
            self._counter += 1
        # Random digits are drawn once a millisecond; the counter makes ids differ at both ends: either can be shown alone.
        return f"{self._head}{self._counter:03x}{self._middle}{(self._last + self._counter) & 0xFFFFFFFF:08x}"

    def _begin(self, millisecond: int) -> None:
        self._millisecond, self._counter = millisecond, 0
        time_digits, random_digits = f"{millisecond:012x}", f"{0x8 << 60 | self._randbits(62):016x}"
        self._head = f"{time_digits[:8]}-{time_digits[8:]}-7"
        self._middle, self._last = f"-{random_digits[:4]}-{random_digits[4:8]}", int(random_digits[8:], 16)
