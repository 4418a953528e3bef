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
TICKS = 2_000
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def main() -> list[tuple[str, float]]:
    """Microseconds a tick, by who computes it; printed with ratios."""
    ours = _measure(_ours)
    rows = [("fastapi-crons", ours), ("croniter", _measure(_croniter)), ("cronsim", _measure(_cronsim))]
    print(f"{'next tick':<20}{'µs':>10}{'× ours':>10}")
    for name, microseconds in rows:
        print(f"{name:<20}{microseconds:>10.2f}{microseconds / ours:>10.1f}")
    return rows


def _measure(make: Callable[[str, str], Callable[[], object]]) -> float:
    best = []
    for _ in range(3):
        steps = [make(expr, zone) for expr, zone in MIX]
        for step in steps:
            step()
        began = perf_counter()
        for step in steps:
            for _ in range(TICKS // len(MIX)):
                step()
        best.append((perf_counter() - began) / TICKS * 1e6)
    return min(best)


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


if __name__ == "__main__":
    main()
