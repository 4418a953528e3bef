"""How long a schedule of a plugin or an app is tried when a job is defined, by the clocks of this machine."""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from fastapi_crons.schedule.base import Schedule
from fastapi_crons.schedule.checks import fault_of

#: How long (seconds) a schedule is tried: by this thread's processor time, and by elapsed time.
_MAX_CPU, _MAX_ELAPSED = 0.02, 0.2
#: How long (seconds elapsed) all schedules of one class are tried together: where there are very many, not all are tried.
_MAX_PER_CLASS = 1.0
_spent: WeakKeyDictionary[type, float] = WeakKeyDictionary()


def tried(schedule: Schedule) -> str | None:
    """How a schedule breaks the protocol; None where about 0.02 s of trying find nothing."""
    kind, began_cpu, began = type(schedule), time.thread_time(), time.perf_counter()
    used_up = _spent.get(kind, 0.0) >= _MAX_PER_CLASS
    cpu, elapsed = (0.0, 0.0) if used_up else (_MAX_CPU, _MAX_ELAPSED)
    try:
        return fault_of(
            schedule,
            int(time.time()),
            lambda: time.thread_time() - began_cpu > cpu or time.perf_counter() - began > elapsed,
        )
    finally:
        _spent[kind] = _spent.get(kind, 0.0) + time.perf_counter() - began
