"""What all instances know of a backfill: its record, as it is on record in a state store."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

from fastapi_crons._util.damage import Check, DamagedError, check, instant, name, one_of, optional, text, tick, whole

__all__ = ["KEPT", "BackfillRecord", "BackfillStatus", "backfill_from_text", "backfill_to_text"]

BackfillStatus = Literal["running", "completed", "stopped", "cancelled", "interrupted"]

#: How many of a namespace are kept; those that are running are kept beyond that.
KEPT = 100


class BackfillRecord(NamedTuple):
    """A span whose ticks are run again, and how far that is. Instants in Unix seconds (UTC)."""

    id: str
    """Sorts by when it began."""
    job: str
    owner: str
    """Which instance works on it, as the lock store knows it."""
    instance: str
    """The name of that instance."""
    first: int
    last: int
    """The beginning and the end of the span, both included."""
    started_ts: float
    one_by_one: bool = False
    force: bool = False
    stop_on_failure: bool = False
    actor: str | None = None
    note: str | None = None
    ticks: int = 0
    """How many ticks the span has, up to when it began; and what of them is left out, and why."""
    ran: int = 0
    stood_for: int = 0
    running: int = 0
    waiting: int = 0
    in_doubt: int = 0
    beyond: int = 0
    runs: int = 0
    """How many runs it has."""
    status: BackfillStatus = "running"
    done: int = 0
    failed: int = 0
    skipped: int = 0
    current_run: str | None = None
    ended_ts: float | None = None
    """None while it is running, and where its instance died."""
    error: str | None = None
    cancel_asked: bool = False
    cancelled_by: str | None = None
    revision: int = 0
    """How often it was changed."""

    @property
    def left(self) -> int:
        """How many runs have not ended."""
        return self.runs - self.done - self.failed - self.skipped


_COUNTS = (
    "ticks",
    "ran",
    "stood_for",
    "running",
    "waiting",
    "in_doubt",
    "beyond",
    "runs",
    "done",
    "failed",
    "skipped",
    "revision",
)
_CHECKS: dict[str, Check] = {
    **dict.fromkeys(("id", "job", "owner"), name),
    "instance": text,
    **dict.fromkeys(("first", "last"), tick),
    "started_ts": instant,
    "ended_ts": optional(instant),
    **dict.fromkeys(("actor", "note", "current_run", "error", "cancelled_by"), optional(text)),
    **dict.fromkeys(_COUNTS, whole),
    "status": one_of(get_args(BackfillStatus)),
}


def backfill_to_text(record: BackfillRecord) -> str:
    """A record as stores keep it: a JSON object."""
    return json.dumps(record._asdict())


def backfill_from_text(kept: str | bytes) -> BackfillRecord:
    """The record that a text holds; fields of a later version are left out. Raises `DamagedError`, or what `json` raises."""
    fields = json.loads(kept)
    if not isinstance(fields, dict):
        raise DamagedError("it is no object")
    record = BackfillRecord(**{field: fields[field] for field in BackfillRecord._fields if field in fields})
    check(record, _CHECKS)
    for field in ("one_by_one", "force", "stop_on_failure", "cancel_asked"):
        if not isinstance(getattr(record, field), bool):
            raise DamagedError(f"{field} is neither true nor false")
    return record


class KeptBackfills:
    """Backfills that this process keeps, by the rule that all stores keep to."""

    def __init__(self) -> None:
        self._all: dict[str, BackfillRecord] = {}

    def begin(self, record: BackfillRecord) -> BackfillRecord | None:
        """Keep a new one; returns another one of the job instead, where that is on record as running."""
        for other in self._all.values():
            if other.job == record.job and other.status == "running":
                return other
        self._all[record.id] = record
        for old in self.of_job(None)[KEPT:]:
            if old.status != "running":
                del self._all[old.id]
        return None

    def change(self, record: BackfillRecord) -> bool:
        """Keep what follows on what is on record; False where that has changed, or is gone."""
        known = self._all.get(record.id)
        if known is None or known.revision != record.revision - 1:
            return False
        self._all[record.id] = record
        return True

    def forget(self, jobs: Collection[str]) -> None:
        """Delete those of these jobs."""
        self._all = {each.id: each for each in self._all.values() if each.job not in jobs}

    def one(self, backfill_id: str) -> BackfillRecord | None:
        return self._all.get(backfill_id)

    def of_job(self, job: str | None) -> list[BackfillRecord]:
        """Those of a job, or of all, newest first."""
        return [each for _, each in sorted(self._all.items(), reverse=True) if job is None or each.job == job]
