"""CronJob, the definition of a job, and ManualRun, a request to run one now."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from fastapi_crons._elsewhere import former_names_of
from fastapi_crons._util.callables import (
    is_coroutine_function,
    is_generator_function,
    label,
    marked_parameter,
    required_parameters,
    takes,
    unwrapped,
)
from fastapi_crons._util.text import brief
from fastapi_crons.clock import UTC
from fastapi_crons.errors import JobDefinitionError, ScheduleError
from fastapi_crons.run import Trigger
from fastapi_crons.schedule._parser import doubts
from fastapi_crons.schedule.cron import CronSchedule, Schedule, cron_schedule, zone_name
from fastapi_crons.schedule.trial import tried

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig

logger = logging.getLogger(__name__)

Overlap = Literal["skip", "queue", "allow"]
# A job may return and take whatever it likes; the scheduler passes both through.
JobFunc = Callable[..., Any]

MAX_NAME_LENGTH = 200
#: The longest duration (seconds) that is accepted: a longer one is taken for a mistake.
LONGEST = 10**9
# Most names match this, and need no further check.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.: -]{0,199}")
# Control characters, line and paragraph separators, surrogates and characters that reorder text.
_UNFIT = re.compile("[/\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_OVERLAPS: tuple[Overlap, ...] = ("skip", "queue", "allow")
_TRIGGERS: tuple[Trigger, ...] = ("cli", "api", "code")
#: Options whose default is a setting of the scheduler: option, name of the setting.
_DEFAULTED = {
    "timezone": "timezone",
    "coalesce": "coalesce",
    "misfire_grace_time": "misfire_grace_time",
    "timeout": "default_timeout",
}
_ALL_DEFAULTED = tuple(_DEFAULTED)
_ANY_ERROR: tuple[type[BaseException], ...] = (Exception,)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class CronJob:
    """An immutable definition of a job.

    `func` is called without arguments, on the event loop if it is a coroutine function, else in a thread; where it has a
    parameter named `context`, it is given a `JobContext`.
    `expr` is a cron expression or any object that implements the `Schedule` protocol. `name` defaults to the
    function's name: 1 to 200 printable characters without `/`. Durations are seconds. An option left at None
    takes the scheduler's setting (`CRON_TIMEZONE`, `CRON_COALESCE`, …) when the job is registered.

    Raises `JobDefinitionError` or `ScheduleError` (both are `ValueError`), naming the parameter.
    """

    func: JobFunc
    expr: str | Schedule
    name: str
    tags: Sequence[str]
    timezone: str | None
    """Time zone of the cron expression, like `Europe/Berlin` or a `ZoneInfo`; default `CRON_TIMEZONE`."""
    coalesce: bool
    """True: one run, of the newest late tick, stands for all late ticks. False: each late tick gets its own run.
    Default `CRON_COALESCE`."""
    misfire_grace_time: float | None
    """How late (seconds) a tick may start; after that it is missed. Default `CRON_MISFIRE_GRACE_TIME`: no limit."""
    overlap: Overlap
    """What happens to a tick while the job is still running: `skip` it, `queue` one, or `allow` both to run."""
    max_retries: int
    """How often a failed run is retried."""
    retry_delay: float
    """Seconds before the first retry, doubled for each further one, varied by up to a quarter, and at most
    `CRON_MAX_RETRY_DELAY`."""
    retry_on: tuple[type[BaseException], ...]
    """The exceptions that are retried: one class, or several."""
    timeout: float | None
    """How long (seconds) each attempt may take; default `CRON_DEFAULT_TIMEOUT`: no limit."""
    jitter: float
    """Each tick starts up to this many seconds late. Every instance computes the same delay for a tick."""
    enabled: bool
    """Whether ticks are run. A manual run is possible either way."""
    store_result: bool
    """Whether the function's return value is stored with the run."""
    schedule: Schedule = field(init=False, repr=False)
    """When the job is due: made from `expr` and `timezone`."""
    schedule_zone: str = field(init=False, repr=False)
    """The schedule's time zone; empty for a `Schedule` without one."""
    is_async: bool = field(init=False, repr=False)
    """Whether the function runs on the event loop."""
    _defaulted: tuple[str, ...] = field(init=False, repr=False)
    _takes_context: bool | None = field(init=False, repr=False)

    def __init__(
        self,
        func: JobFunc,
        expr: str | Schedule,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        *,
        timezone: str | tzinfo | None = None,
        coalesce: bool | None = None,
        misfire_grace_time: float | None = None,
        overlap: Overlap = "skip",
        max_retries: int = 0,
        retry_delay: float = 1.0,
        retry_on: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
        timeout: float | None = None,
        jitter: float = 0.0,
        enabled: bool = True,
        store_result: bool = True,
    ) -> None:
        put = object.__setattr__
        put(self, "func", func)
        put(self, "expr", expr)
        put(self, "name", _checked_name(func, name))
        self._check_function()
        put(self, "tags", () if tags is None else _checked_tags(self.name, tags))
        put(self, "timezone", None if timezone is None else zone_name(timezone))
        put(self, "coalesce", True if coalesce is None else coalesce)
        put(self, "misfire_grace_time", misfire_grace_time)
        put(self, "overlap", overlap)
        put(self, "max_retries", max_retries)
        put(self, "retry_delay", retry_delay)
        put(self, "retry_on", _checked_retry_on(self.name, retry_on))
        put(self, "timeout", timeout)
        put(self, "jitter", jitter)
        put(self, "enabled", enabled)
        put(self, "store_result", store_result)
        put(self, "schedule", _schedule(self.name, expr, self.timezone))
        put(self, "schedule_zone", _zone_of(self.schedule))
        zone = timezone if isinstance(expr, str) else expr  # a Schedule has a zone of its own, or needs none
        put(self, "_defaulted", _defaulted(zone, coalesce, misfire_grace_time, timeout))
        put(self, "is_async", is_coroutine_function(func))
        put(self, "_takes_context", None)
        self._check_options()
        if isinstance(self.schedule, CronSchedule) and "/" in self.schedule.text:
            for doubt in doubts(self.schedule.text):
                logger.warning("job %r: %s", self.name, doubt, extra={"job": self.name})

    def _check_function(self) -> None:
        if is_generator_function(self.func):
            raise self._error("func", self.func, "calling a generator function runs nothing; iterate inside a job")
        try:
            required = required_parameters(self.func)
        except ValueError as error:
            raise self._error("func", self.func, f"{error}; a job is called without arguments") from None
        if (
            not required
            and self.func.__class__ is FunctionType
            and not (self.func.__defaults__ or self.func.__kwdefaults__ or self.func.__dict__)
        ):
            return  # most jobs: nothing else to check
        marked = marked_parameter(self.func)
        if marked is not None:
            raise JobDefinitionError(
                f"job {brief(self.name)}: parameter {brief(marked[0])} is a {marked[1]}(…), which FastAPI resolves only in "
                "endpoints; a job gets only 'context', so create what it needs inside the job"
            )
        unknown = [name for name in required if name != "context" or not takes(self.func, name)]
        if unknown:
            raise JobDefinitionError(
                f"job {brief(self.name)}: {_parameters(unknown)} no default; a job gets only 'context', by name; "
                "give defaults, or a functools.partial"
            )

    def _check_options(self) -> None:
        if self.overlap not in _OVERLAPS:
            raise self._error("overlap", self.overlap, f"choose one of {', '.join(_OVERLAPS)}")
        if self.misfire_grace_time is not None:
            self._check_seconds("misfire_grace_time", self.misfire_grace_time, zero=False)
        if self.timeout is not None:
            self._check_seconds("timeout", self.timeout, zero=False)
        if type(self.retry_delay) is not float or self.retry_delay != 1.0:
            self._check_seconds("retry_delay", self.retry_delay, zero=True)
        if type(self.jitter) is not float or self.jitter != 0.0:
            self._check_seconds("jitter", self.jitter, zero=True)
        if self.max_retries.__class__ is not int or self.max_retries < 0:
            raise self._error("max_retries", self.max_retries, "give a whole number, 0 or more")
        for option, value in (
            ("enabled", self.enabled),
            ("store_result", self.store_result),
            ("coalesce", self.coalesce),
        ):
            if value is not True and value is not False:
                raise self._error(option, value, "give True or False")

    def _check_seconds(self, option: str, value: object, *, zero: bool) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= LONGEST or (value == 0 and not zero):  # type: ignore[operator]
            raise self._error(option, value, f"give seconds, {'0 or more' if zero else 'more than 0'}")

    def _error(self, option: str, value: object, advice: str) -> JobDefinitionError:
        return JobDefinitionError(f"{option} of job {brief(self.name)} can't be {brief(value)}; {advice}")

    @property
    def next_run(self) -> datetime | None:
        """The next tick after now by the machine's clock (aware, UTC); None when there is none or the job is disabled."""
        return self.schedule.next_after(datetime.now(UTC)) if self.enabled else None

    @property
    def function_name(self) -> str:
        """Where the function was defined, as `module:qualname`."""
        return label(self.func)

    @property
    def takes_context(self) -> bool:
        """Whether the function has a parameter named `context`. Found out when it is first asked: most jobs are idle."""
        if self._takes_context is None:
            object.__setattr__(self, "_takes_context", takes(self.func, "context"))
        return self._takes_context is True

    def with_defaults(self, config: CronConfig) -> CronJob:
        """This job with its unset options taken from the settings; the same object where nothing changes."""
        current = (self.timezone or "UTC", self.coalesce, self.misfire_grace_time, self.timeout)
        if current == (config.timezone, config.coalesce, config.misfire_grace_time, config.default_timeout):
            return self  # most jobs
        wanted = {option: getattr(config, _DEFAULTED[option]) for option in self._defaulted}
        if "timezone" in wanted and wanted["timezone"] == (self.timezone or "UTC"):
            del wanted["timezone"]
        if all(value == getattr(self, option) for option, value in wanted.items()):
            return self
        job = copy(self)
        put = object.__setattr__
        for option, value in wanted.items():
            put(job, option, value)
        if "timezone" in wanted:
            put(job, "schedule", _schedule(self.name, self.expr, wanted["timezone"]))
            put(job, "schedule_zone", wanted["timezone"])
        return job


def _defaulted(timezone: object, coalesce: object, grace: object, timeout: object) -> tuple[str, ...]:
    """The options that take the scheduler's settings."""
    if timezone is coalesce is grace is timeout is None:
        return _ALL_DEFAULTED  # most jobs, which share this object
    given = {"timezone": timezone, "coalesce": coalesce, "misfire_grace_time": grace, "timeout": timeout}
    return tuple(option for option in _ALL_DEFAULTED if given[option] is None)


def _default_name(func: JobFunc) -> str:
    inner = unwrapped(func)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def _checked_name(func: object, name: object) -> str:
    if not callable(func):
        raise JobDefinitionError(f"func must be callable, not {brief(func)}; pass the function itself")
    if name is None:
        name = _default_name(func)
    if not isinstance(name, str):
        raise JobDefinitionError(f"name must be text, not {brief(name)}")
    if _PLAIN.fullmatch(name):
        return name
    visible = any(character.isprintable() and not character.isspace() for character in name)
    if not visible or len(name) > MAX_NAME_LENGTH:
        raise JobDefinitionError(
            f"name {brief(name)} has {len(name)} characters; give 1 to {MAX_NAME_LENGTH}, not only spaces"
        )
    unfit = _UNFIT.search(name)
    if unfit is not None:
        raise JobDefinitionError(
            f"name {brief(name)} contains {unfit.group()!a}; use printable characters, without '/' and control characters"
        )
    if name in (".", ".."):
        raise JobDefinitionError(f"name {name!r} has a special meaning in URLs; choose another")
    return name


def _checked_tags(name: str, tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise JobDefinitionError(f"tags of job {brief(name)} must be a list of texts, not {brief(tags)}")
    given = tuple(tags)
    if not all(isinstance(tag, str) and tag.strip() and not _UNFIT.search(tag.replace("/", "")) for tag in given):
        raise JobDefinitionError(
            f"tags of job {brief(name)} must be non-blank texts without control characters, not {brief(tags)}"
        )
    return given


def _checked_retry_on(name: str, retry_on: object) -> tuple[type[BaseException], ...]:
    if retry_on == _ANY_ERROR:
        return _ANY_ERROR
    one = isinstance(retry_on, (type, str)) or not isinstance(retry_on, Iterable)
    given = (retry_on,) if one else tuple(retry_on)  # type: ignore[arg-type]
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in given):
        raise JobDefinitionError(
            f"retry_on of job {brief(name)} can't be {brief(retry_on)}; give an exception class, or several of them"
        )
    return given  # type: ignore[return-value]


def check_expression(expr: object) -> None:
    """Raise `ScheduleError` for what is neither text nor a `Schedule`, and `JobDefinitionError` for a function."""
    if isinstance(expr, (str, Schedule)):
        return
    if callable(expr):
        raise JobDefinitionError(
            f"@crons.cron was given no expression for {brief(_default_name(expr))}; "
            'write it like @crons.cron("*/5 * * * *")'
        )
    raise ScheduleError(f"expr must be a cron expression or a Schedule, not {brief(expr)}")


def _schedule(name: str, expr: object, timezone: str | None) -> Schedule:
    if isinstance(expr, str):
        return cron_schedule(expr) if timezone is None else cron_schedule(expr, timezone)
    if not isinstance(expr, Schedule):
        raise ScheduleError(f"expr of job {brief(name)} must be a cron expression or a Schedule, not {brief(expr)}")
    if timezone is not None:
        raise JobDefinitionError(
            f"timezone of job {brief(name)} can't be set: it is for cron expressions, and this job has a Schedule"
        )
    if not isinstance(expr, CronSchedule):
        # Try it over a year, so that a faulty one fails here and not in the scheduler.
        fault = tried(expr)
        if fault is not None:
            raise ScheduleError(f"expr of job {brief(name)}: its Schedule can't be used: {fault}")
    return expr


def _zone_of(schedule: Schedule) -> str:
    """The schedule's time zone; empty for a `Schedule` without one."""
    zone = getattr(schedule, "timezone", "")
    return zone if isinstance(zone, str) else ""


def _parameters(parameters: list[str]) -> str:
    names = " and ".join(map(repr, parameters))
    return f"parameter {names} has" if len(parameters) == 1 else f"parameters {names} have"


@dataclass(frozen=True, slots=True)
class ManualRun:
    """A request to run a job now; see `Crons.run_job`. Raises `ValueError` for a timeout or trigger that can't be used."""

    job: CronJob
    force: bool = False
    """Run the job although it is already running."""
    timeout: float | None = None
    """In seconds; None for the job's own."""
    actor: str | None = None
    """Who asks for the run."""
    note: str | None = None
    """Why they ask for it."""
    trigger: Trigger = "code"
    """Where the request comes from."""

    def __post_init__(self) -> None:
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if self.timeout is not None and not (number and 0 < self.timeout <= LONGEST):
            raise ValueError(f"timeout can't be {self.timeout!r}; give seconds, more than 0")
        if self.trigger not in _TRIGGERS:
            raise ValueError(f"triggered_by can't be {self.trigger!r}; choose one of {', '.join(_TRIGGERS)}")


__getattr__ = former_names_of(__name__)
