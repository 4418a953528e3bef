"""What to write here for the schedules of Quartz, Spring, AWS, Jenkins, systemd and Go's cron."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

#: Whether fields, in our order, are an expression.
Parses = Callable[[Sequence[str]], bool]

_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+) (.+)")
_AWS = re.compile(r"cron\((.+)\)", re.IGNORECASE)
_UNIT = r"([1-9]\d*) ?(s|sec|seconds?|m|mins?|minutes?|h|hours?|d|days?)"
_PERIOD = re.compile(rf"(?:@every |every |rate\()?({_UNIT}(?: ?{_UNIT})*)\)?", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NAMES = ("hourly", "daily", "midnight", "weekly", "monthly", "yearly", "annually")
_NUMBERS = r"([\d*,./]+)"
_CALENDAR = re.compile(
    rf"(?:([a-z,.]+) )?(?:(\*|\d{{4}})-{_NUMBERS}-{_NUMBERS}[ T])?{_NUMBERS}:{_NUMBERS}(?::{_NUMBERS})?", re.IGNORECASE
)
_HASH = re.compile(r"(?<![A-Z])[HR](?:\((\d+)-(\d+)\))?(/\d+)?(?![A-Z])", re.IGNORECASE)
_BEFORE_LAST = re.compile(r"\bL-([1-9]|1\d|2[0-7])\b", re.IGNORECASE)
_YEARS = re.compile(r"(?:19|20)\d\d(?:[-,/]\d+)*")
_DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK = 2, 3, 4
#: How many fields there are: without seconds, with seconds, and with seconds and the year.
_FEWEST, _WITH_SECONDS, _MOST = 5, 6, 7


def instead_of_text(text: str, parses: Parses) -> str:
    """What to write instead of a text that is no cron expression; empty where it is not known whose it is."""
    zone, period = _ZONE.fullmatch(text), _PERIOD.fullmatch(text)
    calendar, aws = _CALENDAR.fullmatch(text), _AWS.fullmatch(text)
    if zone is not None:
        return f"the zone is an option of the job; write {zone[2]!r} with timezone={zone[1]!r}"
    if period is not None:
        parts = re.findall(_UNIT, period[1], re.IGNORECASE)
        arguments = ", ".join(f"{_UNITS[unit[0].lower()]}={number}" for number, unit in parts)
        return f"in place of an interval, write Every({arguments}) of fastapi_crons.schedules"
    if text.lower().startswith("@every "):
        return "in place of an interval, write Every(…) of fastapi_crons.schedules, like Every(minutes=5)"
    if text.lower() == "@reboot":
        return "write AtStart() of fastapi_crons.schedules, which is due once for all workers"
    if text.lower() in _NAMES:
        return f"write '@{text.lower()}'"
    if calendar is not None:
        return f"in place of a calendar event of systemd, write {_of_calendar(*calendar.groups())!r}"
    if aws is not None:
        return f"AWS wraps it in cron(…), which is left out here{instead_of_fields(aws[1].split(), parses)}"
    return ""


def _of_calendar(
    week: str | None,
    year: str | None,
    month: str | None,
    day: str | None,
    hour: str,
    minute: str,
    second: str | None,
) -> str:
    """The cron expression of an event of systemd's calendar, like `Mon..Fri *-*-* 02:00`."""
    days = re.sub(r"[a-z]+", lambda name: name[0][:3].upper(), week or "*", flags=re.IGNORECASE)
    fields = [minute, hour, day or "*", month or "*", days]
    if year not in (None, "*"):
        fields += [second or "0", str(year)]
    elif second and second.strip("0"):
        fields.append(second)
    return re.sub(r"\b0+(?=\d)", "", " ".join(fields).replace("..", "-"))


def instead_of_fields(fields: Sequence[str], parses: Parses) -> str:
    """What to write instead of fields that are none of ours, to be added to the reason; empty where it is not known."""
    for order, written in _orders(fields) if _FEWEST <= len(fields) <= _MOST else ():
        plain = _plain(written)
        if not parses(plain):
            continue
        hint = f"{order}write {' '.join(plain)!r}"
        if _HASH.search(" ".join(written)):
            hint += ", and jitter=… where jobs must not all start at once"
        if _BEFORE_LAST.search(written[_DAY_OF_MONTH]):
            hint += ", and let the job return on the other days"
        if order and any(character.isdigit() for character in plain[_DAY_OF_WEEK].partition("#")[0]):
            hint += " (in Quartz and AWS, Sunday is day 1 of the week; here it is 0 or 7; names like SUN mean the same)"
        return f"; {hint}"
    if "?" in fields and _WITH_SECONDS <= len(fields) <= _MOST:
        return "; seconds are the last field here, not the first as in Quartz and Spring"
    return ""


def _orders(fields: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The orders in which the fields may have been meant, and the fields in ours."""
    if _HASH.search(" ".join(fields)) or _BEFORE_LAST.search(fields[_DAY_OF_MONTH]):
        yield "", [*fields]
    if len(fields) == _WITH_SECONDS and (_YEARS.fullmatch(fields[5]) or (fields[5] == "*" and "?" in fields)):
        year = [] if fields[5] == "*" else ["0", fields[5]]
        yield "the year is the seventh field here, after the seconds, not the sixth as in AWS; ", [*fields[:5], *year]
    if len(fields) >= _WITH_SECONDS:
        second, *others = fields[:6]
        year = [field for field in fields[6:] if field not in ("*", "?")]
        yield (
            "seconds are the last field here, not the first as in Quartz and Spring; if they come first, ",
            [*others, second, *year] if second.strip("0") or year else others,
        )


def _plain(fields: Sequence[str]) -> list[str]:
    """Fields in our order without what only others know: `H`, `L-3`, and `?`, which means `*`."""
    plain = [_without_hash(place, field) for place, field in enumerate(fields)]
    for place in (_DAY_OF_MONTH, _DAY_OF_WEEK):
        plain[place] = plain[place].replace("?", "*")
    plain[_DAY_OF_MONTH] = _BEFORE_LAST.sub(
        lambda before: f"{28 - int(before[1])}-{31 - int(before[1])}", plain[_DAY_OF_MONTH]
    )
    return plain


def _without_hash(place: int, field: str) -> str:
    lowest = "1" if place in (_DAY_OF_MONTH, _MONTH) else "0"

    def plain(hashed: re.Match[str]) -> str:
        first, last, step = hashed.groups()
        if not step:
            return str(first or lowest)
        return f"{first}-{last}{step}" if first else f"*{step}"

    return _HASH.sub(plain, field)
