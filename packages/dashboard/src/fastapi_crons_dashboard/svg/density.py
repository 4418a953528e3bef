"""Parts: what happened in each part of a span of time, as numbers, for lanes with more than can be shown one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from fastapi_crons.run import MissedTicks, Run
from fastapi_crons_dashboard.words.fates import FATES

#: Into so many parts a span is cut.
PARTS = 120
#: How high a part is with at least such a share of what the fullest one has: small differences are not shown.
_LEVELS = ((0.5, 1.0), (0.2, 0.6), (0.0, 0.3))


class Stack(NamedTuple):
    """Neighbouring parts that look the same, from `since` to `until` (Unix seconds)."""

    since: int
    until: int
    good: int
    held: int
    bad: int
    level: float
    """How much happened in each part, compared with the part in which most did."""

    @property
    def all(self) -> int:
        return self.good + self.held + self.bad

    @property
    def in_words(self) -> str:
        named = ((self.good, "handled"), (self.held, "held back"), (self.bad, "failed or missed"))
        return ", ".join(f"{number} {word}" for number, word in named if number)


class Parts(NamedTuple):
    """Numbers for each of `PARTS` parts of the span from `since` to `until` (Unix seconds)."""

    since: int
    until: int
    good: tuple[int, ...]
    held: tuple[int, ...] = (0,) * PARTS
    bad: tuple[int, ...] = (0,) * PARTS

    @property
    def total(self) -> int:
        return sum(self.good) + sum(self.held) + sum(self.bad)

    def stacks(self) -> Iterator[Stack]:
        """The parts in which something happened; neighbours that look the same are one."""
        sums = [sum(each) for each in zip(self.good, self.held, self.bad, strict=True)]
        most = max(1, *sums)

        def look(part: int) -> tuple[float, bool, bool]:
            level = next(level for share, level in _LEVELS if sums[part] >= share * most) if sums[part] else 0
            return level, self.held[part] > 0, self.bad[part] > 0

        for (level, _, _), group in groupby(range(PARTS), look):
            first, *rest = group
            last = rest[-1] if rest else first
            good, held, bad = (sum(each[first : last + 1]) for each in (self.good, self.held, self.bad))
            if good + held + bad:
                begin, end = edge(self.since, self.until, first), edge(self.since, self.until, last + 1)
                yield Stack(begin, end, good, held, bad, level)


def edge(since: int, until: int, part: int) -> int:
    """Where a part begins."""
    return since + (until - since) * part // PARTS


def part_of(since: int, until: int, instant: float) -> int:
    """The part that an instant lies in."""
    return min(PARTS - 1, max(0, int((instant - since) * PARTS / (until - since))))


def parts_of_records(
    since: int, until: int, runs: Sequence[Run], missed: Sequence[MissedTicks], handled: Parts | None
) -> Parts:
    """What records say. With `handled`, the ticks that were handled: those that nothing else is known of ran."""
    good, held, bad = [0] * PARTS, [0] * PARTS, [0] * PARTS
    numbers = {"good": good, "held": held, "bad": bad}
    for run in runs:
        if since <= run.started_ts <= until and FATES[run.status].tone in numbers:
            numbers[FATES[run.status].tone][part_of(since, until, run.started_ts)] += 1
    for each in missed:
        if each.reason != "coalesced":
            tone = held if each.reason in ("overlap", "vetoed", "paused", "disabled") else bad
            _spread(tone, each, since, until)
    if handled is not None:
        known = zip(handled.good, held, bad, strict=True)
        good = [max(0, number - others - failed) for number, others, failed in known]
    return Parts(since, until, tuple(good), tuple(held), tuple(bad))


def _spread(numbers: list[int], missed: MissedTicks, since: int, until: int) -> None:
    """Add the ticks of a record to the parts it spans, as if they were evenly spread."""
    if missed.last_ts < since or missed.first_ts > until:
        return
    first, last = part_of(since, until, missed.first_ts), part_of(since, until, missed.last_ts)
    length = max(1, missed.last_ts - missed.first_ts)
    for part in range(first, last + 1):
        begin, end = max(missed.first_ts, edge(since, until, part)), min(missed.last_ts, edge(since, until, part + 1))
        number = missed.count if first == last else round(missed.count * max(0, end - begin) / length)
        numbers[part] += max(1, number) if first == last or number else 0
