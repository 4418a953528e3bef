"""The next tick of a schedule: ours beside croniter and cronsim, over realistic expressions and zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from time import perf_counter
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from fastapi_crons.schedule import CronSchedule

MIX = [
    ("*/5 * * * *", "UTC"),
    ("0 * * * *", "America/New_York"),
    ("0 0 * * *", "Europe/Berlin"),
    ("30 2 * * *", "America/New_York"),
    ("0 9 * * 1-5", "Europe/London"),
    ("0 0 1 * *", "Asia/Tokyo"),
    ("*/15 8-18 * * mon-fri", "Europe/Paris"),
    ("0 */2 * * *", "UTC"),
]
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def microseconds_per_tick(ticks: int) -> dict[str, float]:
    """What the next tick costs, by who computes it: the best of three passes over so many ticks."""
    makers = {"FastAPI Crons": _ours, "croniter": _croniter, "cronsim": _cronsim}
    return {name: min(_measure(make, ticks) for _ in range(3)) for name, make in makers.items()}


def _measure(make: Callable[[str, str], Callable[[], object]], ticks: int) -> float:
    steps = [make(expr, zone) for expr, zone in MIX]
    for step in steps:
        step()
    began = perf_counter()
    for step in steps:
        for _ in range(ticks // len(MIX)):
            step()
    return (perf_counter() - began) / ticks * 1e6


def _ours(expr: str, zone: str) -> Callable[[], object]:
    schedule, at = CronSchedule(expr, zone), [int(START.timestamp())]

    def step() -> None:
        tick = schedule.next_tick(at[0])
        assert tick is not None
        at[0] = tick

    return step


def _croniter(expr: str, zone: str) -> Callable[[], object]:
    ticks = croniter(expr, START.astimezone(ZoneInfo(zone)))
    return lambda: ticks.get_next(datetime)


def _cronsim(expr: str, zone: str) -> Callable[[], object]:
    ticks = CronSim(expr, START.astimezone(ZoneInfo(zone)))
    return lambda: next(ticks)
