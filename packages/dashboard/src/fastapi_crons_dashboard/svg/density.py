"""Parts: what happened in each part of a span of time, as numbers, for lanes with more than can be shown one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil
from typing import NamedTuple

from fastapi_crons.run import MissedTicks, Run
from fastapi_crons_dashboard.words.fates import FATES

#: Into so many parts a span is cut.
PARTS = 120
#: Why ticks were held back, by somebody or by a run.
_HELD = ("overlap", "vetoed", "paused", "disabled")
#: Records of these may have runs between their ticks; others are of spans in which nothing ran.
_BETWEEN_RUNS = ("overlap", "vetoed")
#: How high a part is with at least such a share of what the fullest one has: small differences are not shown.
_LEVELS = ((0.5, 1.0), (0.2, 0.6), (0.0, 0.3))


class Stack(NamedTuple):
    """Neighbouring parts that look the same, from `since` to `until` (Unix seconds)."""

    since: int
    until: int
    good: int
    held: int
    bad: int
    covered: int
    """Late ticks that the run of a later one stands for: no work, and nothing that lacks."""
    level: float
    """How much happened in each part, compared with the part in which most did."""

    @property
    def all(self) -> int:
        return self.good + self.held + self.bad

    @property
    def in_words(self) -> str:
        named = (
            (self.good, "ran"),
            (self.held, "held back"),
            (self.bad, "failed or missed"),
            (self.covered, FATES["covered"].word),
        )
        return ", ".join(f"{number} {word}" for number, word in named if number)


class Parts(NamedTuple):
    """Numbers for each of `PARTS` parts of the span from `since` to `until` (Unix seconds)."""

    since: int
    until: int
    good: tuple[int, ...]
    held: tuple[int, ...] = (0,) * PARTS
    bad: tuple[int, ...] = (0,) * PARTS
    covered: tuple[int, ...] = (0,) * PARTS

    @property
    def total(self) -> int:
        return sum(self.good) + sum(self.held) + sum(self.bad)

    def stacks(self, begins: float, ends: float) -> Iterator[Stack]:
        """The parts in which something happened; neighbours that look the same are one. None reaches beyond these instants."""
        sums = [sum(each) for each in zip(self.good, self.held, self.bad, strict=True)]
        most = max(1, *sums)

        def look(part: int) -> tuple[float, bool, bool, bool]:
            level = next(level for share, level in _LEVELS if sums[part] >= share * most) if sums[part] else 0
            return level, self.held[part] > 0, self.bad[part] > 0, self.covered[part] > 0

        for (level, *_), group in groupby(range(PARTS), look):
            first, *rest = group
            last = rest[-1] if rest else first
            numbers = (self.good, self.held, self.bad, self.covered)
            good, held, bad, covered = (sum(each[first : last + 1]) for each in numbers)
            if good + held + bad + covered:
                begin = max(edge(self.since, self.until, first), int(begins))
                end = max(begin, min(edge(self.since, self.until, last + 1), ceil(ends)))
                yield Stack(begin, end, good, held, bad, covered, level)


def edge(since: int, until: int, part: int) -> int:
    """Where a part begins."""
    return since + (until - since) * part // PARTS


def part_of(since: int, until: int, instant: float) -> int:
    """The part that an instant lies in."""
    return min(PARTS - 1, max(0, int((instant - since) * PARTS / (until - since))))


def parts_of_records(
    since: int, until: int, runs: Sequence[Run], missed: Sequence[MissedTicks], handled: Parts | None
) -> Parts:
    """What records say. With `handled`, the ticks that were handled: those that nothing else is known of ran, too."""
    good, held, bad, covered = ([0] * PARTS for _ in range(4))
    by_tone = {"good": good, "held": held, "bad": bad}
    for run in runs:
        if since <= run.started_ts <= until and FATES[run.status].tone in by_tone:
            by_tone[FATES[run.status].tone][part_of(since, until, run.started_ts)] += 1
    without_runs = set[int]()
    for each in missed:
        numbers = covered if each.reason == "coalesced" else held if each.reason in _HELD else bad
        for part, number in _numbers_of(each, since, until):
            numbers[part] += number
        if each.reason not in _BETWEEN_RUNS:
            without_runs.update(_parts_within(each, since, until))
    if handled is not None:
        known = enumerate(zip(handled.good, held, bad, covered, strict=True))
        for part, (number, *others) in known:
            good[part] += 0 if part in without_runs else max(0, number - sum(others))
    return Parts(since, until, tuple(good), tuple(held), tuple(bad), tuple(covered))


def number_between(missed: MissedTicks, since: int, until: int) -> int:
    """How many ticks of a record are in [since, until), as if they were at equal distances."""
    return _number_before(missed, until) - _number_before(missed, since)


def _number_before(missed: MissedTicks, instant: int) -> int:
    if instant <= missed.first_ts:
        return 0
    if instant > missed.last_ts:
        return missed.count
    # In whole numbers, so that it is exact for ticks that are at equal distances.
    return -(-(instant - missed.first_ts) * (missed.count - 1) // max(1, missed.last_ts - missed.first_ts))


def _numbers_of(missed: MissedTicks, since: int, until: int) -> Iterator[tuple[int, int]]:
    """How many ticks of a record are in each part that it reaches into."""
    if missed.last_ts < since or missed.first_ts > until:
        return
    first, last = part_of(since, until, missed.first_ts), part_of(since, until, missed.last_ts)
    for part in range(first, last + 1):
        end = edge(since, until, part + 1) + (part == PARTS - 1)
        yield part, number_between(missed, edge(since, until, part), end)


def _parts_within(missed: MissedTicks, since: int, until: int) -> range:
    """The parts that lie within a record as a whole."""
    if missed.last_ts < since or missed.first_ts > until:
        return range(0)
    first = part_of(since, until, missed.first_ts) + (missed.first_ts > since)
    return range(first, part_of(since, until, missed.last_ts) + (missed.last_ts >= until))
