"""Draws the lane of a job on an axis of time. Places across are per cent of the width, so that a lane fits any page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from typing import Literal, NamedTuple

from fastapi_crons.clock import utc_datetime
from fastapi_crons.run import MissedReason, MissedTicks, Run, reason_in_words
from fastapi_crons_dashboard.svg.density import Parts, Stack, number_between, parts_of_records
from fastapi_crons_dashboard.words.fates import FATES, Look
from fastapi_crons_dashboard.words.times import duration

#: How many runs, marks or planned ticks a lane shows one by one; more are shown as a density.
MOST = 72
#: How high a lane is, and where its bars stand.
HEIGHT, _TOP, _BAR = 32, 8, 16
#: So wide at least is a bar: less could neither be seen nor clicked.
_LEAST = 0.35

Kind = Literal["run", "planned", "collides", "mark", "range", "level", "due"]

_FATES_OF_MISSED: dict[MissedReason, str] = {
    "overlap": "skipped",
    "vetoed": "vetoed",
    "paused": "paused",
    "coalesced": "covered",
}


class Window(NamedTuple):
    """A span of time that is shown, in Unix seconds, and now."""

    since: int
    until: int
    now: float

    def x(self, instant: float) -> float:
        """The place of an instant, at the edge for one outside."""
        return 100 * (min(max(instant, self.since), self.until) - self.since) / (self.until - self.since)

    def shows(self, instant: float) -> bool:
        return self.since <= instant <= self.until

    @property
    def past_until(self) -> int:
        """Until when what was due is shown."""
        return min(self.until, int(self.now))

    @property
    def ahead_since(self) -> int:
        """From when on what is planned is shown."""
        return max(self.since, int(self.now))


class Shape(NamedTuple):
    """Something in a lane."""

    kind: Kind
    x: float
    width: float
    y: float
    height: float
    tone: str
    symbol: str
    """Of a mark."""
    title: str
    run: str | None = None
    """The run that it leads to."""
    tick: int | None = None
    """Where there is no run: the instant (Unix seconds) that it leads to an explanation of, or a closer look at."""
    notable: bool = False
    """Whether it is one of those that are looked for: only these are reached by the keyboard."""

    @property
    def closer(self) -> bool:
        """Whether it stands for so many that a closer look is needed."""
        return self.kind in ("level", "due")


class Records(NamedTuple):
    """What is known of a job in a window."""

    runs: Sequence[Run]
    missed: Sequence[MissedTicks]
    handled: Parts | None
    """How many ticks fell due and were handled, in each part of the window, where they are too many to be shown one by one."""
    planned: Sequence[int] | Parts
    """The ticks ahead."""
    runs_planned: bool
    """Whether they are run; they are not while the job is paused."""
    p50: float | None
    p95: float | None
    swallowed: Sequence[int] | Parts = ()
    """The ticks so far of a pause that goes on: they are on record when it ends."""
    handled_since: float | None = None
    """Since when ticks are among `handled`."""

    @property
    def begins(self) -> float:
        """The first instant that anything is known of."""
        instants = [*(run.started_ts for run in self.runs), *(each.first_ts for each in self.missed)]
        return min(instants if self.handled_since is None else [*instants, self.handled_since], default=0.0)

    def parts(self, window: Window) -> Parts:
        """All of it but what lies ahead, as numbers."""
        parts = parts_of_records(window.since, window.until, self.runs, self.missed, self.handled)
        if not isinstance(self.swallowed, Parts):
            return parts
        return parts._replace(held=tuple(map(sum, zip(parts.held, self.swallowed.good, strict=True))))


class Words(NamedTuple):
    """How a lane speaks: in which zone, which it names with each time, and whether it may show what is not for all."""

    zone: tzinfo
    details: bool

    def at(self, instant: float) -> str:
        return f"{self._local(instant):%a %d %b %H:%M:%S %Z}"

    def between(self, first: float, last: float) -> str:
        begin, end = self._local(first), self._local(last)
        same_day = (begin.date(), begin.tzname()) == (end.date(), end.tzname())
        return f"{begin:%a %d %b %H:%M:%S} – {end:%H:%M:%S %Z}" if same_day else f"{self.at(first)} – {self.at(last)}"

    def _local(self, instant: float) -> datetime:
        return utc_datetime(instant).astimezone(self.zone)

    def run(self, run: Run) -> str:
        look = FATES[run.status].word
        took = "" if run.duration is None else f", {duration(run.duration)}"
        error = f" ({run.error.type})" if run.error is not None and self.details else ""
        ended = run.ended_ts
        when = self.at(run.started_ts) if ended is None else self.between(run.started_ts, ended)
        return f"{look}{error}: {when}{took}"

    def missed(self, missed: MissedTicks) -> str:
        reason = reason_in_words(missed, details=self.details)
        if missed.count == 1:
            return f"{self.at(missed.first_ts)}: not run, {reason}"
        number = f"{'at least ' if missed.more else ''}{missed.count}"
        return f"{self.between(missed.first_ts, missed.last_ts)}: {number} ticks not run, {reason}"


def lane(window: Window, records: Records, words: Words) -> list[Shape]:
    """The shapes of a lane, at most a few hundred; those that are drawn later lie above the others."""
    shapes = list(_planned(window, records, words))
    one_by_one = len(records.runs) + len(records.missed) <= MOST
    if records.handled is not None or isinstance(records.swallowed, Parts) or not one_by_one:
        shapes += _density(window, records, words)
        shapes += _bars(window, [run for run in records.runs if run.status == "running"][:MOST], words)
    else:
        shapes += _ranges(window, records.missed, words)
        shapes += _bars(window, records.runs, words)
        shapes += _marks(window, records.missed, words)
    if not isinstance(records.swallowed, Parts):
        shapes += [_swallowed(window, tick, words) for tick in records.swallowed]
    return shapes


def summary(window: Window, records: Records) -> str:
    """A lane in words."""
    runs = records.runs
    failed = sum(FATES[run.status].tone == "bad" for run in runs)
    numbers = [(each, number_between(each, window.since, window.until + 1)) for each in records.missed]
    covered = sum(number for each, number in numbers if each.reason == "coalesced")
    missed = sum(number for each, number in numbers if each.reason != "coalesced")
    missed += records.swallowed.total if isinstance(records.swallowed, Parts) else len(records.swallowed)
    planned = records.planned.total if isinstance(records.planned, Parts) else len(records.planned)
    shown = f"{len(runs)} runs"
    if records.handled is not None:
        others = sum(run.status not in ("completed", "running") for run in runs)
        shown = f"{sum(records.parts(window).good) + others} ticks ran"
    known = f"{shown}, {failed} failed; {missed} ticks not run; "
    if covered:
        known += f"{covered} {FATES['covered'].word}; "
    return f"{known}{planned} planned"


def _bars(window: Window, runs: Iterable[Run], words: Words) -> Iterator[Shape]:
    busy_until = 0.0
    for run in sorted(runs, key=lambda run: run.started_ts):
        ended = window.now if run.ended_ts is None else run.ended_ts
        if ended < window.since or run.started_ts > window.until:
            continue
        x, look = window.x(run.started_ts), FATES[run.status]
        # One that began while another was running stands lower.
        beside = run.started_ts < busy_until
        busy_until = max(busy_until, ended)
        width = min(max(_LEAST, window.x(ended) - x), 100 - x) or _LEAST
        y, height = (_TOP + _BAR / 2, _BAR / 2 + 4) if beside else (_TOP, _BAR)
        bad = look.tone in ("bad", "held")
        yield Shape("run", x, width, y, height, look.tone, "", words.run(run), run=run.id, notable=bad)
        if bad:
            yield Shape("mark", x, 0, 0, 8, look.tone, look.shape, words.run(run), run=run.id)


def _ranges(window: Window, missed: Iterable[MissedTicks], words: Words) -> Iterator[Shape]:
    for each in missed:
        x, end = window.x(each.first_ts), window.x(each.last_ts)
        if end > x:
            tone = _look_of(each).tone
            yield Shape("range", x, end - x, _TOP + 5, _BAR - 10, tone, "", words.missed(each), tick=each.last_ts)


def _marks(window: Window, missed: Iterable[MissedTicks], words: Words) -> Iterator[Shape]:
    for each in missed:
        if window.shows(each.first_ts) or window.shows(each.last_ts):
            tick = each.first_ts if window.shows(each.first_ts) else each.last_ts
            look, notable = _look_of(each), each.reason != "coalesced"
            yield Shape(
                "mark", window.x(tick), 0, 10, 12, look.tone, look.shape, words.missed(each), tick=tick, notable=notable
            )


def _swallowed(window: Window, tick: int, words: Words) -> Shape:
    look, title = FATES["paused"], f"{words.at(tick)}: not run, the job is paused"
    return Shape("mark", window.x(tick), 0, 10, 12, look.tone, look.shape, title, tick=tick, notable=True)


def _look_of(missed: MissedTicks) -> Look:
    return FATES[_FATES_OF_MISSED.get(missed.reason, "missed")]


def _planned(window: Window, records: Records, words: Words) -> Iterator[Shape]:
    if isinstance(records.planned, Parts):
        for stack in records.planned.stacks(window.ahead_since, window.until):
            title = f"{words.between(stack.since, stack.until)}: {stack.good} planned"
            yield _level("due", window, stack, 1.0, 0.0, "ahead" if records.runs_planned else "held", title)
        return
    busy_until = 0.0
    for tick in records.planned:
        x = window.x(tick)
        width = min(max(_LEAST, window.x(tick + (records.p50 or 0)) - x), max(_LEAST, 100 - x))
        collides = records.runs_planned and tick < busy_until
        busy_until = max(busy_until, tick + (records.p95 or 0)) if not collides else busy_until
        title = f"{words.at(tick)}: planned"
        if not records.runs_planned:
            title = f"{words.at(tick)}: will not be run, the job is paused"
        elif collides:
            title += ", but the run before usually still goes on"
        elif records.p50 is not None:
            title += f", usually takes {duration(records.p50)}"
        kind: Kind = "collides" if collides else "planned"
        tone = "held" if collides or not records.runs_planned else "ahead"
        yield Shape(kind, x, width, _TOP + 1, _BAR - 2, tone, "", title, tick=tick, notable=collides)
        if collides or (not records.runs_planned and tick == records.planned[0]):
            symbol = "bar" if collides else "pause"
            yield Shape("mark", x, 0, 0, 8, tone, symbol, title, tick=tick)


def _density(window: Window, records: Records, words: Words) -> Iterator[Shape]:
    for stack in records.parts(window).stacks(records.begins, window.now):
        title = f"{words.between(stack.since, stack.until)}: {stack.in_words}"
        if stack.covered:
            yield _covered(window, stack, title)
        share = 0.0
        for tone, number in (("bad", stack.bad), ("held", stack.held), ("good", stack.good)):
            if number:
                yield _level("level", window, stack, number / stack.all, share, tone, title)
                share += number / stack.all
        if stack.bad or stack.held:
            tone, symbol = ("bad", "cross") if stack.bad else ("held", "bar")
            middle, x = (stack.since + stack.until) // 2, window.x((stack.since + stack.until) / 2)
            yield Shape("mark", x, 0, 0, 8, tone, symbol, title, tick=middle)


def _covered(window: Window, stack: Stack, title: str) -> Shape:
    x, middle = window.x(stack.since), (stack.since + stack.until) // 2
    return Shape("range", x, _width(window, stack), _TOP + 5, _BAR - 10, FATES["covered"].tone, "", title, tick=middle)


def _width(window: Window, stack: Stack) -> float:
    x = window.x(stack.since)
    return min(max(_LEAST, window.x(stack.until) - x), max(_LEAST, 100 - x))


def _level(kind: Kind, window: Window, stack: Stack, part: float, below: float, tone: str, title: str) -> Shape:
    """A part of a stack: as high as its share of it, above the share that is drawn already."""
    # What is planned is a low band: a job that is due each second fills it, and says little by that.
    whole = 4 + (4 if kind == "due" else 16) * stack.level
    height = max(1.0, whole * part)
    x, middle = window.x(stack.since), (stack.since + stack.until) // 2
    y = HEIGHT - 4 - whole * below - height
    notable = tone in ("bad", "held") and kind == "level"
    return Shape(kind, x, _width(window, stack), y, height, tone, "", title, tick=middle, notable=notable)
