"""The axis of a timeline: round times on the wall clock of a zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import NamedTuple

from fastapi_crons.clock import utc_datetime

#: Zones differ from UTC by a multiple of this many seconds.
_GRAIN = 900
_STEPS = (300, 900, 1_800, 3_600, 7_200, 14_400, 86_400)
_MOST_LABELS = 13


class Label(NamedTuple):
    """A round time, and where it is, in per cent of the width."""

    x: float
    instant: datetime
    text: str
    new_day: bool


def labels(since: int, until: int, zone: tzinfo) -> Iterator[Label]:
    """Round times between two instants (Unix seconds)."""
    step = next((step for step in _STEPS if (until - since) / step < _MOST_LABELS), _STEPS[-1])
    grain = min(step, _GRAIN)
    for instant in range(-(-since // grain) * grain, until, grain):
        local = utc_datetime(instant).astimezone(zone)
        if (local.hour * 3_600 + local.minute * 60 + local.second) % step:
            continue
        new_day = local.hour == local.minute == 0
        x = 100 * (instant - since) / (until - since)
        yield Label(x, local, f"{local:%a %d}" if new_day else f"{local:%H:%M}", new_day)
