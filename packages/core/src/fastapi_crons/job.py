"""CronJob and the registry of jobs: what is to run, and when."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, overload

from fastapi_crons._elsewhere import former_names_of
from fastapi_crons._util.callables import is_generator_function, label, required_parameters, takes, unwrapped
from fastapi_crons._util.executions import run_again_in_a_notebook, same_function, told_apart
from fastapi_crons._util.markers import marked_parameter
from fastapi_crons._util.text import cut
from fastapi_crons.clock import UTC
from fastapi_crons.errors import DuplicateJobError, JobDefinitionError, ScheduleError, UnknownJobError
from fastapi_crons.schedule._parser import MAX_LENGTH
from fastapi_crons.schedule.cron import CronSchedule, Schedule, cron_schedule, zone_name
from fastapi_crons.schedule.english import doubts
from fastapi_crons.schedule.foreign import fault_of

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig

logger = logging.getLogger(__name__)

Overlap = Literal["skip", "queue", "allow"]
# A job may return and take whatever it likes; the scheduler passes both through.
JobFunc = Callable[..., Any]

MAX_NAME_LENGTH = 200
#: The longest duration (seconds): what is longer was not meant.
LONGEST = 10**9
# What most names are like, and nothing is wrong with.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.: -]{0,199}")
# Control characters, line and paragraph separators, surrogates and characters that reorder text.
_UNFIT = re.compile("[/\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_OVERLAPS: tuple[Overlap, ...] = ("skip", "queue", "allow")
#: The options that can be left to the scheduler, and the settings that they take then.
_SETTINGS = {
    "timezone": "timezone",
    "coalesce": "coalesce",
    "misfire_grace_time": "misfire_grace_time",
    "timeout": "default_timeout",
}
_OPEN = tuple(_SETTINGS)
_ANY_ERROR: tuple[type[BaseException], ...] = (Exception,)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class CronJob:
    """An immutable definition of a job.

    `func` is called without arguments, on the event loop if it is a coroutine function, else in a thread; where it has a
    parameter named `context`, it is given a `JobContext`.
    `expr` is a cron expression or any object that keeps the `Schedule` protocol. `name` defaults to the
    function's name: 1 to 200 printable characters without `/`. Durations are seconds. An option left at None
    takes the scheduler's setting (`CRON_TIMEZONE`, `CRON_COALESCE`, …) when the job is registered.

    Raises `JobDefinitionError` or `ScheduleError` (both are `ValueError`), naming the parameter.
    """

    func: JobFunc
    expr: str | Schedule
    name: str
    tags: Sequence[str]
    timezone: str | None
    """The zone that a cron expression is read in, as `Europe/Berlin` or a `ZoneInfo`; default `CRON_TIMEZONE`."""
    coalesce: bool
    """Whether of late ticks the newest runs once for all, or each by itself; default `CRON_COALESCE`."""
    misfire_grace_time: float | None
    """How late (seconds) a tick may start; a later one is let go. Default `CRON_MISFIRE_GRACE_TIME`: no limit."""
    overlap: Overlap
    """What becomes of a tick while the job is still running: `skip` it, `queue` one, or `allow` both to run."""
    max_retries: int
    """How often a run that failed is tried again."""
    retry_delay: float
    """Seconds before the first retry, doubled for each further one; each varies by up to a quarter, and none is longer
    than `CRON_MAX_RETRY_DELAY`."""
    retry_on: tuple[type[BaseException], ...]
    """The errors that are worth another attempt: one class, or several of them."""
    timeout: float | None
    """How long (seconds) each attempt may take; default `CRON_DEFAULT_TIMEOUT`: no limit."""
    jitter: float
    """Each tick starts up to so many seconds later, by a delay that is the same for it everywhere."""
    enabled: bool
    """Whether ticks are run at all. A run by hand is possible all the same."""
    store_result: bool
    """Whether what the function returns is kept with the run."""
    schedule: Schedule = field(init=False, repr=False)
    """When it is due: made from `expr` and `timezone`."""
    schedule_zone: str = field(init=False, repr=False)
    """The zone of the schedule; empty for a kind that has none."""
    _left_open: tuple[str, ...] = field(init=False, repr=False)

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
        zone = timezone if isinstance(expr, str) else expr  # a Schedule has its own
        put(self, "_left_open", _left_open(zone, coalesce, misfire_grace_time, timeout))
        self._check_options()
        if isinstance(self.schedule, CronSchedule) and "/" in self.schedule.text:
            for doubt in doubts(self.schedule.text):
                logger.warning("job %r: %s", self.name, doubt, extra={"job": self.name})

    def _check_function(self) -> None:
        if is_generator_function(self.func):
            raise self._fault("func", self.func, "nothing of a generator function would run; iterate inside a job")
        try:
            required = required_parameters(self.func)
        except ValueError as error:
            raise self._fault("func", self.func, f"{error}; a job is called without arguments") from None
        if (
            not required
            and self.func.__class__ is FunctionType
            and not (self.func.__defaults__ or self.func.__kwdefaults__ or self.func.__dict__)
        ):
            return  # as most jobs are
        marked = marked_parameter(self.func)
        if marked is not None:
            raise JobDefinitionError(
                f"job {_short(self.name)}: parameter {_short(marked[0])} is left to {marked[1]}(…), which only FastAPI "
                "fills in, for endpoints; a job gets only 'context', so make what it needs inside the job"
            )
        unknown = [name for name in required if name != "context" or not takes(self.func, name)]
        if unknown:
            raise JobDefinitionError(
                f"job {_short(self.name)}: {_named(unknown)} no default; a job gets only 'context', by name; "
                "give defaults, or a functools.partial"
            )

    def _check_options(self) -> None:
        if self.overlap not in _OVERLAPS:
            raise self._fault("overlap", self.overlap, f"choose one of {', '.join(_OVERLAPS)}")
        if self.misfire_grace_time is not None:
            self._check_seconds("misfire_grace_time", self.misfire_grace_time, zero=False)
        if self.timeout is not None:
            self._check_seconds("timeout", self.timeout, zero=False)
        if type(self.retry_delay) is not float or self.retry_delay != 1.0:
            self._check_seconds("retry_delay", self.retry_delay, zero=True)
        if type(self.jitter) is not float or self.jitter != 0.0:
            self._check_seconds("jitter", self.jitter, zero=True)
        if self.max_retries.__class__ is not int or self.max_retries < 0:
            raise self._fault("max_retries", self.max_retries, "give a whole number, 0 or more")
        for option, value in (
            ("enabled", self.enabled),
            ("store_result", self.store_result),
            ("coalesce", self.coalesce),
        ):
            if value is not True and value is not False:
                raise self._fault(option, value, "give True or False")

    def _check_seconds(self, option: str, value: object, *, zero: bool) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= LONGEST or (value == 0 and not zero):  # type: ignore[operator]
            raise self._fault(option, value, f"give seconds, {'0 or more' if zero else 'more than 0'}")

    def _fault(self, option: str, value: object, advice: str) -> JobDefinitionError:
        return JobDefinitionError(f"{option} of job {_short(self.name)} can't be {_short(value)}; {advice}")

    @property
    def next_run(self) -> datetime | None:
        """The next tick after now by the machine's clock (aware, UTC); None when there is none or the job is disabled."""
        return self.schedule.next_after(datetime.now(UTC)) if self.enabled else None

    @property
    def function_name(self) -> str:
        """Where the function was defined, as `module:qualname`."""
        return label(self.func)

    def with_defaults(self, config: CronConfig) -> CronJob:
        """This job with the options that were left open filled in from the settings; this very one where none changes."""
        set_here = (self.timezone or "UTC", self.coalesce, self.misfire_grace_time, self.timeout)
        if set_here == (config.timezone, config.coalesce, config.misfire_grace_time, config.default_timeout):
            return self  # as of most jobs
        wanted = {option: getattr(config, _SETTINGS[option]) for option in self._left_open}
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


class JobRegistry(Sequence[CronJob]):
    """The jobs of one scheduler, in the order they were registered. Reads like a list; names are unique.

    Safe to append to from any thread.
    """

    def __init__(
        self,
        config: CronConfig,
        on_append: Callable[[CronJob], None],
        notice: Callable[[], None],
        is_running: Callable[[], bool],
    ) -> None:
        self._config = config
        self._on_append = on_append
        self._notice = notice
        self._is_running = is_running
        self._jobs: dict[str, CronJob] = {}
        self._lock = threading.Lock()
        #: The jobs that may be registered once more, and whether their functions may have moved meanwhile.
        self._again: dict[str, bool] = {}

    def append(self, job: CronJob) -> None:
        """Register a job. Raises `DuplicateJobError` where its name is taken; then nothing has changed.

        While the scheduler does not run, a function that its module registers again because it was executed again takes the
        place of the former.
        """
        if not isinstance(job, CronJob):
            raise JobDefinitionError(
                f"only a CronJob can be registered, not {_short(job)}; make one or use @crons.cron"
            )
        job = job.with_defaults(self._config)
        self._notice()
        with self._lock:
            known = self._jobs.get(job.name)
            if known is None or self._is_once_more(known, job):
                self._jobs[job.name] = job
                known = None
        if known is not None:
            raise DuplicateJobError(_registered_already(known, job))
        self._on_append(job)

    def expect_again(self, *, moved: bool) -> None:
        """What registered these jobs is done once more. `moved` says that their functions may stand in other lines."""
        with self._lock:
            self._again.update(dict.fromkeys(self._jobs, moved))

    def use_settings(self, config: CronConfig) -> None:
        """Fill in what the jobs left open from other settings than before."""
        with self._lock:
            self._config = config
            self._jobs = {name: job.with_defaults(config) for name, job in self._jobs.items()}

    def _is_once_more(self, known: CronJob, job: CronJob) -> bool:
        if self._is_running():
            return False
        moved = self._again.get(job.name)
        if moved is not None and same_function(known.func, job.func, moved=moved):
            del self._again[job.name]
            return True
        return run_again_in_a_notebook(known.func, job.func)

    def extend(self, jobs: Iterable[CronJob]) -> None:
        """Register several jobs, one by one."""
        for job in jobs:
            self.append(job)

    def get(self, name: str) -> CronJob | None:
        """The job of this name, or None."""
        return self._jobs.get(name)

    def named(self, name: str) -> CronJob:
        """The job of this name. Raises `UnknownJobError` where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise UnknownJobError(
                f"there is no job named {cut(name, MAX_NAME_LENGTH)!r}; check the spelling, or list the jobs"
            )
        return job

    def names(self) -> frozenset[str]:
        """The names of all jobs."""
        return frozenset(self._snapshot_names())

    def _snapshot_names(self) -> list[str]:
        with self._lock:
            return list(self._jobs)

    def _snapshot(self) -> list[CronJob]:
        with self._lock:
            return list(self._jobs.values())

    @overload
    def __getitem__(self, index: int) -> CronJob: ...
    @overload
    def __getitem__(self, index: slice) -> list[CronJob]: ...
    def __getitem__(self, index: int | slice) -> CronJob | list[CronJob]:
        return self._snapshot()[index]

    def __iter__(self) -> Iterator[CronJob]:
        return iter(self._snapshot())

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, item: object) -> bool:
        known = self._jobs.get(item.name) if isinstance(item, CronJob) else None
        # What is kept of a job has its open options filled in.
        return known is item or (known is not None and (known.func, known.expr) == (item.func, item.expr))  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"JobRegistry({', '.join(self._snapshot_names())})"


def _left_open(timezone: object, coalesce: object, grace: object, timeout: object) -> tuple[str, ...]:
    """The options that take the scheduler's settings."""
    if timezone is coalesce is grace is timeout is None:
        return _OPEN  # as of most jobs, and the same object for all
    given = {"timezone": timezone, "coalesce": coalesce, "misfire_grace_time": grace, "timeout": timeout}
    return tuple(option for option in _OPEN if given[option] is None)


def _default_name(func: JobFunc) -> str:
    inner = unwrapped(func)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def _checked_name(func: object, name: object) -> str:
    if not callable(func):
        raise JobDefinitionError(f"func must be callable, not {_short(func)}; pass the function itself")
    if name is None:
        name = _default_name(func)
    if not isinstance(name, str):
        raise JobDefinitionError(f"name must be text, not {_short(name)}")
    _check_name(name)
    return name


def _check_name(name: str) -> None:
    if _PLAIN.fullmatch(name):
        return
    visible = any(character.isprintable() and not character.isspace() for character in name)
    if not visible or len(name) > MAX_NAME_LENGTH:
        raise JobDefinitionError(
            f"name {_short(name)} has {len(name)} characters; give 1 to {MAX_NAME_LENGTH}, not only blanks"
        )
    unfit = _UNFIT.search(name)
    if unfit is not None:
        raise JobDefinitionError(
            f"name {_short(name)} holds {unfit.group()!a}; use printable characters without '/' and control characters"
        )
    if name in (".", ".."):
        raise JobDefinitionError(f"name {name!r} has a meaning of its own in URLs; choose another")


def _checked_tags(name: str, tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise JobDefinitionError(f"tags of job {_short(name)} must be a list of texts, not {_short(tags)}")
    given = tuple(tags)
    if not all(isinstance(tag, str) and tag.strip() and not _UNFIT.search(tag.replace("/", "")) for tag in given):
        raise JobDefinitionError(
            f"tags of job {_short(name)} must be texts that are not blank, without control characters, not {_short(tags)}"
        )
    return given


def _checked_retry_on(name: str, retry_on: object) -> tuple[type[BaseException], ...]:
    if retry_on == _ANY_ERROR:
        return _ANY_ERROR
    one = isinstance(retry_on, (type, str)) or not isinstance(retry_on, Iterable)
    given = (retry_on,) if one else tuple(retry_on)  # type: ignore[arg-type]
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in given):
        raise JobDefinitionError(
            f"retry_on of job {_short(name)} can't be {_short(retry_on)}; give an exception class, or several of them"
        )
    return given  # type: ignore[return-value]


def check_expression(expr: object) -> None:
    """Raises `ScheduleError` for what is neither a text nor a `Schedule`; `JobDefinitionError` for a function."""
    if isinstance(expr, (str, Schedule)):
        return
    if callable(expr):
        raise JobDefinitionError(
            f"@crons.cron stands without an expression over {_short(_default_name(expr))}; "
            'write it as @crons.cron("*/5 * * * *")'
        )
    raise ScheduleError(f"expr must be a cron expression or a Schedule, not {_short(expr)}")


def _schedule(name: str, expr: object, timezone: str | None) -> Schedule:
    if isinstance(expr, str):
        return cron_schedule(expr) if timezone is None else cron_schedule(expr, timezone)
    if not isinstance(expr, Schedule):
        raise ScheduleError(f"expr of job {_short(name)} must be a cron expression or a Schedule, not {_short(expr)}")
    if timezone is not None:
        raise JobDefinitionError(
            f"timezone of job {_short(name)} goes with a cron expression; its Schedule has its own"
        )
    _check_schedule(name, expr)
    return expr


def _zone_of(schedule: Schedule) -> str:
    """The zone of a schedule; empty for a kind of schedule that has none."""
    zone = getattr(schedule, "timezone", "")
    return zone if isinstance(zone, str) else ""


def _check_schedule(name: str, schedule: Schedule) -> None:
    """A schedule of somebody else's is tried over a year, so that it fails here and not in the scheduler."""
    if isinstance(schedule, CronSchedule):
        return
    text = schedule.text
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH or not text.isprintable():
        raise ScheduleError(
            f"expr of job {_short(name)}: a Schedule's text must be 1 to {MAX_LENGTH} printable characters, "
            f"not {_short(text)}"
        )
    try:
        hash(schedule)
    except Exception as error:
        raise ScheduleError(f"expr of job {_short(name)}: its Schedule failed with {_short(error)}") from error
    fault = fault_of(schedule, int(time.time()))
    if fault is not None:
        raise ScheduleError(f"expr of job {_short(name)}: its Schedule can't be used: {fault}")


def _named(parameters: list[str]) -> str:
    names = " and ".join(map(repr, parameters))
    return f"parameter {names} has" if len(parameters) == 1 else f"parameters {names} have"


def _registered_already(known: CronJob, job: CronJob) -> str:
    one = told_apart(known.func)
    if known.func is job.func:
        return f"{one} is registered twice as the job {_short(job.name)}; leave one out, or give the other a name= of its own"
    return (
        f"a job named {_short(job.name)} is registered already, for {one}; give this one, for {told_apart(job.func)}, "
        "another name"
    )


def _short(value: object) -> str:
    """A value for an error message: escaped, and not longer than 60 characters."""
    try:
        text = ascii(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


__getattr__ = former_names_of(__name__)
