"""A strip of ticks, the latest at its right end: a mark for each, whose shape and colour say what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fastapi_crons.management import TickMark
from fastapi_crons_dashboard.words.fates import FATES, Look

#: The width of a mark's place, and the height of a strip, in the units of the drawing.
STEP, HEIGHT = 6, 16
#: How many ticks have a place in a strip.
PLACES = 60
#: The lines of each shape, relative to the left end of its place.
_LINES = {
    "disc": "v12",
    "small": "m0 4v4",
    "half": "m0 6v6",
    "ring": "m-1.5 4h3v4h-3z",
    "cross": "m-2 1l4 10m-4 0l4-10",
    "broken": "v4m0 4v4m-2-6h4",
    "stop": "m-2 4h4v4h-4z",
    "bar": "m-2 6h4",
    "pause": "m-1.2 2v8m2.4 0v-8",
    "gap": "v7m0 3v2",
    "dot": "m-.5 6h1",
}
#: Shapes that are drawn with a thick line.
_THICK = ("disc", "half", "small")


class StripTick(NamedTuple):
    """A tick, what became of it (a name in `FATES`), and the id of its run, where it has one."""

    instant: datetime
    fate: str
    run: str | None


class Marks(NamedTuple):
    """All marks of one look, as one path."""

    path: str
    tone: str
    thick: bool


class Strip(NamedTuple):
    """A strip, as values that a template writes down."""

    width: int
    height: int
    marks: tuple[Marks, ...]
    summary: str
    """What it shows, in words."""


class Place(NamedTuple):
    """The place of one tick in a strip."""

    x: int
    path: str
    tick: StripTick
    look: Look

    @property
    def notable(self) -> bool:
        """Whether it is one of those that are looked for: only these are reached by the keyboard."""
        return self.look.tone in ("bad", "busy", "held")

    @property
    def thick(self) -> bool:
        return self.look.shape in _THICK


def strip_tick(mark: TickMark) -> StripTick:
    """A tick of core's, with how its run ended as its fate where it ran."""
    run = mark.run
    fate = run.status if run is not None and mark.fate in ("ran", "running") else mark.fate
    return StripTick(mark.time, fate, None if run is None else run.id)


def strip(ticks: Sequence[StripTick], places: int = PLACES) -> Strip:
    """The strip of these ticks, oldest first; fewer than it has places leave its left end empty."""
    found: dict[tuple[str, str], list[str]] = {}
    for place in strip_places(ticks, places):
        look = place.look
        found.setdefault((look.shape, look.tone), []).append(place.path)
    marks = tuple(Marks("".join(lines), tone, shape in _THICK) for (shape, tone), lines in found.items())
    return Strip(places * STEP, HEIGHT, marks, summary_of(ticks[-places:]))


def strip_places(ticks: Sequence[StripTick], places: int = PLACES) -> list[Place]:
    """Where each of the latest ticks is in a strip."""
    shown = ticks[-places:]
    first = places - len(shown)
    return [_place((first + index) * STEP, tick) for index, tick in enumerate(shown)]


def _place(x: int, tick: StripTick) -> Place:
    look = FATES[tick.fate]
    return Place(x, f"M{x + STEP // 2} 2{_LINES[look.shape]}", tick, look)


def summary_of(ticks: Sequence[StripTick]) -> str:
    """How many ticks became what, the most frequent first: `Last 60 ticks: 57 completed, 3 failed`."""
    if not ticks:
        return "No ticks yet"
    counts = Counter(FATES[tick.fate].word for tick in ticks).most_common()
    of = "Last tick" if len(ticks) == 1 else f"Last {len(ticks)} ticks"
    return f"{of}: {', '.join(f'{number} {word}' for word, number in counts)}"
