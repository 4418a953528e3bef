"""Makes a schedule again from its text, as it is on record: a cron expression, or one like `Every(minutes=90)`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.cron import CronSchedule, cron_schedule
from fastapi_crons.schedule.due import TickRange, tick_range
from fastapi_crons.schedule.own import own_ticks
from fastapi_crons.schedules.combined import MAX_TEXT, AnyOf
from fastapi_crons.schedules.limited import Except, Within
from fastapi_crons.schedules.single import AtStart, Every, Once

# What the texts are made of; arguments are checked by the classes themselves.
KINDS: dict[str, Callable[..., ZonedSchedule]] = {
    kind.__name__: kind for kind in (Every, Once, AtStart, AnyOf, Within, Except, CronSchedule)
}
#: `cron(…)` and `rate(…)` are AWS's, `H(0-7)` is Jenkins'.
_OF_OTHERS = ("cron", "rate", "h", "r")


def is_written_in_python(text: str) -> bool:
    """Whether a text is one like `Every(minutes=90)`, and no cron expression."""
    name, bracket, _ = text.partition("(")
    return bool(bracket) and len(name.split()) <= 1 and name.strip().lower() not in _OF_OTHERS


def schedule_of_text(text: str, timezone: str | None = None) -> ZonedSchedule:
    """The schedule of this text, in a zone unless it has one of its own; None leaves that open, which means UTC.

    Raises `ScheduleError` for a text that can't be read, or is of a kind that only plugins or apps know.
    """
    if not is_written_in_python(text):
        return cron_schedule(text, timezone or "UTC")
    schedule = _of_text(text)
    return schedule if timezone is None else schedule.in_zone(timezone)


def range_of_text(schedule: str, timezone: str, after: int, until: int, start: int = 0) -> TickRange | None:
    """The ticks in (after, until] of a schedule that is known by text and zone only; None where these can't be read.

    `start` is the tick of the last start, where it is due at starts.
    """
    try:
        known = schedule_of_text(schedule, timezone or None)
    except ScheduleError:
        return None  # a kind of schedule that is not installed any more: its ticks can't be known
    own = own_ticks(known, start)
    return tick_range(known, after, until) if own is None else own.range(after, until)


@lru_cache(maxsize=1_024)
def _of_text(text: str) -> ZonedSchedule:
    if len(text) > MAX_TEXT:
        raise ScheduleError(f"the schedule has {len(text)} characters; at most {MAX_TEXT} are allowed")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ScheduleError(f"schedule {brief(text)} can't be read; write it like Every(minutes=90)") from None
    try:
        made = _made(node, text)
    except TypeError as error:  # an argument that is missing or unknown
        raise ScheduleError(f"schedule {brief(text)} can't be read: {error}") from None
    except RecursionError:
        raise ScheduleError(f"schedule {brief(text)} can't be read: it is nested too deeply") from None
    if not isinstance(made, ZonedSchedule):
        raise ScheduleError(f"schedule {brief(text)} can't be read; write it like Every(minutes=90)")
    return made


def _made(node: ast.expr, text: str) -> Any:
    """A schedule, or one of its arguments."""
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in KINDS:
            raise ScheduleError(f"schedule {brief(text)} can't be read: {brief(name)} is none of {', '.join(KINDS)}")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ScheduleError(f"schedule {brief(text)} can't be read: ** has no meaning in it")
        arguments = {str(keyword.arg): _made(keyword.value, text) for keyword in node.keywords}
        return KINDS[name](*(_made(argument, text) for argument in node.args), **arguments)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_made(item, text) for item in node.elts]
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    raise ScheduleError(
        f"schedule {brief(text)} can't be read: {brief(ast.unparse(node))} is neither a schedule nor a text, number or list"
    )
