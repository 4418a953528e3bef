"""Zone: the UTC offsets of a time zone, as segments of time between its clock changes.

`zoneinfo` knows the offset of an instant, but not when it changes next; this finds the changes by bisection, once per zone
and stretch of time. All instants are whole Unix seconds.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STRETCH = 64 * 86_400
# Two changes closer together than this could be overlooked. In the tz database they are at least four days apart.
_PROBE = 2 * 86_400
#: An offset is less than a day, so a clock change repeats less than two days.
_LOOK_BACK = 2 * 86_400
#: The instants that `datetime` can express, less a stretch at either end. No segment goes beyond `LAST`.
FIRST, LAST = -62_135_596_800 + _STRETCH, (253_402_300_800 // _STRETCH - 1) * _STRETCH


class Segment(NamedTuple):
    """From `start` up to, but not including, `end`, the zone's wall clock is UTC plus `offset` seconds.

    `seen_until` is the latest wall-clock time (as seconds since 1970 on that clock) before `start`: earlier ones are repeats.
    """

    start: int
    end: int
    offset: int
    seen_until: int


class Zone:
    """A zone's segments, which are found when they are needed, and cached."""

    __slots__ = ("_info", "_recent", "_stretches", "name")

    def __init__(self, name: str, info: ZoneInfo) -> None:
        self.name = name
        self._info = info
        self._stretches: dict[int, tuple[Segment, ...]] = {}
        self._recent = Segment(0, 0, 0, 0)

    def segment(self, instant: int) -> Segment:
        """The segment of an instant between `FIRST` and `LAST`. It may end without a change of the offset."""
        recent = self._recent
        if recent.start <= instant < recent.end:
            return recent
        number = instant // _STRETCH
        stretch = self._stretches.get(number)
        if stretch is None:
            if len(self._stretches) > 1_000:
                self._stretches.clear()
            stretch = self._stretches[number] = self._find(number * _STRETCH)
        for segment in stretch:
            if instant < segment.end:
                break
        self._recent = segment
        return segment

    def _find(self, start: int) -> tuple[Segment, ...]:
        changes = self._changes(start - _LOOK_BACK, start + _STRETCH)
        offset = self._offset(start - _LOOK_BACK)
        seen_until = start - _LOOK_BACK + offset
        begin, segments = start - _LOOK_BACK, []
        for change in (*changes, start + _STRETCH):
            if change > start:
                segments.append(Segment(max(begin, start), change, offset, seen_until))
            seen_until = max(seen_until, change + offset)
            begin, offset = change, self._offset(change)
        return tuple(segments)

    def _changes(self, start: int, end: int) -> list[int]:
        changes = []
        before, earlier = self._offset(start), start
        for probe in (*range(start + _PROBE, end, _PROBE), end):
            after = self._offset(probe)
            if after != before:
                changes.append(self._bisect(earlier, probe, before))
            before, earlier = after, probe
        return [change for change in changes if change < end]

    def _bisect(self, low: int, high: int, before: int) -> int:
        """The first instant in (low, high] whose offset is not `before`."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, instant: int) -> int:
        local = (_EPOCH + timedelta(seconds=instant)).astimezone(self._info)
        offset = local.utcoffset()
        assert offset is not None
        return offset.days * 86_400 + offset.seconds


@lru_cache(maxsize=1024)
def zone(name: str) -> Zone:
    """The zone of this name in the tz database. Raises `ScheduleError` where there is none."""
    try:
        return Zone(name, ZoneInfo(name))
    except Exception:
        # zoneinfo raises many kinds of errors: for unknown keys, paths, folders, and files that are no zones.
        raise ScheduleError(
            f"timezone {brief(name)} is unknown; give a name of the tz database, like 'Europe/Berlin' or 'UTC'"
        ) from None
