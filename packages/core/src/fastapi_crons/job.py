"""CronJob, the definition of a job, and ManualRun, a request to run one now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import InitVar, dataclass, field
from datetime import datetime, tzinfo
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from fastapi_crons._elsewhere import former_names_of
from fastapi_crons._util.callables import (
    is_coroutine_function,
    is_generator_function,
    label,
    unpicklable,
)
from fastapi_crons._util.text import brief
from fastapi_crons.clock import UTC
from fastapi_crons.errors import InvalidArgumentError, JobDefinitionError, ScheduleError
from fastapi_crons.functions.arguments import arguments_digest, arguments_from_texts, arguments_text, checked_arguments
from fastapi_crons.functions.dependencies import fault_of as dependency_fault_of
from fastapi_crons.functions.parameters import Parameters, kind_of_client, not_evaluated, parameters_of_job
from fastapi_crons.job_checks import checked_name, checked_retry_on, checked_tags, default_name
from fastapi_crons.run import Trigger
from fastapi_crons.schedule.base import Schedule, lacking
from fastapi_crons.schedule.cron import zone_name
from fastapi_crons.schedules.of_job import (
    check_options,
    counts_from_end,
    doubts_of,
    schedule_of_job,
    takes_zone,
    zone_of,
)
from fastapi_crons.schedules.texts import is_written_in_python, schedule_of_text

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig

logger = logging.getLogger(__name__)

Overlap = Literal["skip", "queue", "allow"]
#: Where a job's function runs.
Place = Literal["loop", "thread", "process"]
# A job may return and take whatever it likes; the scheduler passes both through.
JobFunc = Callable[..., Any]

#: The longest duration (seconds) that is accepted: a longer one is taken for a mistake.
LONGEST = 10**9
PLACES: tuple[Place, ...] = ("loop", "thread", "process")
_OVERLAPS: tuple[Overlap, ...] = ("skip", "queue", "allow")
_TRIGGERS: tuple[Trigger, ...] = ("cli", "api", "code")
#: Options whose default is a setting of the scheduler: option, name of the setting.
_DEFAULTED = {
    "timezone": "timezone",
    "coalesce": "coalesce",
    "misfire_grace_time": "misfire_grace_time",
    "timeout": "default_timeout",
    "max_retries": "default_max_retries",
    "retry_delay": "default_retry_delay",
}
_ALL_DEFAULTED = tuple(_DEFAULTED)
_NONE_GIVEN = (None,) * len(_DEFAULTED)
_options_but_timezone = attrgetter(*_ALL_DEFAULTED[1:])
_settings = attrgetter(*_DEFAULTED.values())
_NO_ARGUMENTS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, init=False)
class CronJob:
    """An immutable definition of a job.

    `func` is called on the event loop if it is a coroutine function, else in a thread: with `kwargs`, with a `JobContext` for a
    parameter named `context` or annotated with it, and with its dependencies (`Depends(…)`), which FastAPI resolves.
    `expr` is a cron expression, a schedule of `fastapi_crons.schedules`, or any object that implements the `Schedule`
    protocol. `name` defaults to the
    function's name: 1 to 200 printable characters without `/`. Durations are seconds. An option left at None
    takes the scheduler's setting (`CRON_TIMEZONE`, `CRON_COALESCE`, …) when the job is registered.

    Raises `JobDefinitionError` or `ScheduleError` (both are `ValueError`), naming the parameter.
    """

    func: JobFunc
    expr: str | Schedule
    name: str
    tags: Sequence[str]
    timezone: str | None
    """Time zone of the schedule, like `Europe/Berlin` or a `ZoneInfo`; default `CRON_TIMEZONE`. Only for cron expressions
    and schedules that have no zone of their own."""
    coalesce: bool
    """True: one run, of the newest late tick, stands for all late ticks. False: each late tick gets its own run.
    Default `CRON_COALESCE`."""
    misfire_grace_time: float | None
    """How late (seconds) a tick may start; after that it is missed. Default `CRON_MISFIRE_GRACE_TIME`: no limit."""
    overlap: Overlap
    """What happens to a tick while the job is still running: `skip` it, `queue` one, or `allow` both to run."""
    max_retries: int
    """How often a failed run is retried; default `CRON_DEFAULT_MAX_RETRIES`: never."""
    retry_delay: float
    """Seconds before the first retry, doubled for each further one, varied by up to a quarter, and at most
    `CRON_MAX_RETRY_DELAY`; default `CRON_DEFAULT_RETRY_DELAY`: 1."""
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
    kwargs: Mapping[str, object] = field(repr=False)
    """What the function is called with, by name, checked against its annotations and converted to what they say."""
    arguments_json: str | None = field(init=False)
    """The same as JSON text, without secrets; None for a job without arguments."""
    arguments_digest: str = field(init=False, repr=False)
    """The same as a short text, by which an edit of them is recognised; empty for a job without arguments."""
    run_in: Place
    """Where the function runs: on the event `loop`, in a `thread`, or in a `process` of its own, which a time limit or a
    cancellation ends whatever it does. By default a coroutine function runs on the loop, any other in a thread."""
    schedule: Schedule = field(init=False, repr=False)
    """When the job is due: made from `expr` and `timezone`."""
    schedule_zone: str = field(init=False, repr=False)
    """The schedule's time zone; empty for a `Schedule` without one."""
    counts_from_end: bool = field(init=False, repr=False)
    """Whether each tick is counted from the end of the last run."""
    parameters: Parameters = field(init=False, repr=False)
    """What the function asks for."""
    _defaulted: tuple[str, ...] = field(init=False, repr=False)

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
        max_retries: int | None = None,
        retry_delay: float | None = None,
        retry_on: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
        timeout: float | None = None,
        jitter: float = 0.0,
        enabled: bool = True,
        store_result: bool = True,
        kwargs: Mapping[str, object] | None = None,
        run_in: Place | None = None,
    ) -> None:
        put = object.__setattr__
        if isinstance(expr, str) and "(" in expr and is_written_in_python(expr):
            expr = schedule_of_text(expr)
        put(self, "func", func)
        put(self, "expr", expr)
        put(self, "name", checked_name(func, name))
        self._check_function()
        put(self, "kwargs", self._checked_kwargs(kwargs))
        put(self, "arguments_json", arguments_text(self.kwargs) if self.kwargs else None)
        put(self, "arguments_digest", arguments_digest(self.kwargs) if self.kwargs else "")
        put(self, "tags", () if tags is None else checked_tags(self.name, tags))
        put(self, "timezone", None if timezone is None else zone_name(timezone))
        put(self, "coalesce", True if coalesce is None else coalesce)
        put(self, "misfire_grace_time", misfire_grace_time)
        put(self, "overlap", overlap)
        put(self, "max_retries", 0 if max_retries is None else max_retries)
        put(self, "retry_delay", 1.0 if retry_delay is None else retry_delay)
        put(self, "retry_on", checked_retry_on(self.name, retry_on))
        put(self, "timeout", timeout)
        put(self, "jitter", jitter)
        put(self, "enabled", enabled)
        put(self, "store_result", store_result)
        put(self, "schedule", schedule_of_job(self.name, expr, self.timezone))
        put(self, "schedule_zone", zone_of(self.schedule))
        put(self, "counts_from_end", counts_from_end(self.schedule))
        zone = timezone if expr.__class__ is str or takes_zone(expr) else expr
        put(self, "_defaulted", _defaulted(zone, coalesce, misfire_grace_time, timeout, max_retries, retry_delay))
        put(self, "run_in", ("loop" if is_coroutine_function(func) else "thread") if run_in is None else run_in)
        self._check_options()
        if check_options(self.name, self.schedule, overlap, jitter):
            put(self, "overlap", "queue")
        text = self.schedule.text
        if "/" in text or text.count(" ") > 4:  # 4: five fields
            for doubt in doubts_of(self.schedule):
                logger.warning("job %r: %s", self.name, doubt, extra={"job": self.name})

    def _check_function(self) -> None:
        if is_generator_function(self.func):
            raise self._error("func", self.func, "calling a generator function runs nothing; iterate inside a job")
        try:
            parameters = parameters_of_job(self.func)
        except ValueError as error:
            raise self._error("func", self.func, f"{error}; give it as kwargs=… instead") from None
        if parameters.marked is not None:
            name, marker = parameters.marked
            raise JobDefinitionError(
                f"job {brief(self.name)}: parameter {brief(name)} is a {marker}(…), which FastAPI resolves only in "
                "endpoints; a job has no client's request, so give it a plain default"
            )
        fault = dependency_fault_of(parameters.dependencies) if parameters.dependencies else None
        if fault is not None:
            raise JobDefinitionError(
                f"job {brief(self.name)} can't have its dependencies ({_parameters(list(parameters.dependencies))}): {fault}"
            )
        object.__setattr__(self, "parameters", parameters)

    def _checked_kwargs(self, kwargs: object) -> Mapping[str, object]:
        parameters = self.parameters
        if kwargs is None and not parameters.required:
            return _NO_ARGUMENTS  # most jobs
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise self._error("kwargs", kwargs, "give a mapping of names to values")
        by_position = [name for name in parameters.required if not parameters.is_passed_by_name(name)]
        if by_position:
            raise JobDefinitionError(
                f"job {brief(self.name)}: {_parameters(by_position)} can be passed by position only, and a job's arguments are "
                "passed by name; take the '/' out of the function's parameters"
            )
        try:
            checked = checked_arguments(parameters, kwargs or {})
        except InvalidArgumentError as error:
            raise JobDefinitionError(f"kwargs of job {brief(self.name)}: {error}") from None
        missing = [name for name in parameters.required if name not in checked]
        for name in missing:
            if (kind := kind_of_client(parameters.arguments[name].annotation)) is not None:
                raise JobDefinitionError(
                    f"job {brief(self.name)}: parameter {brief(name)} is {kind}, which only comes from a client; take it out, "
                    "or give it a default"
                )
        if missing:
            raise JobDefinitionError(
                f"job {brief(self.name)}: no value is given for {_parameters(missing)}{_not_evaluated(parameters)}; give "
                "kwargs=… to the job or to its own JobGroup, or defaults"
            )
        return MappingProxyType(checked)

    def _check_options(self) -> None:
        if self.overlap not in _OVERLAPS:
            raise self._error("overlap", self.overlap, f"choose one of {', '.join(_OVERLAPS)}")
        if self.run_in != "loop":
            self._check_place(self.run_in)
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

    def _check_place(self, place: object) -> None:
        if place not in PLACES:
            raise self._error("run_in", place, f"choose one of {', '.join(PLACES)}")
        if place == "thread" and is_coroutine_function(self.func):
            raise self._error("run_in", place, "a coroutine function runs on the event loop, or in a process")
        if place == "process":
            if self.parameters.dependencies:
                raise self._error(
                    "run_in", place, "dependencies can't be passed to another process; open them in the job"
                )
            fault = unpicklable(self.func) or unpicklable(dict(self.kwargs))
            if fault is not None:
                raise self._error("run_in", place, f"{fault}; define the function at the top of a module")

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

    def renamed(self, name: str, tags: Sequence[str]) -> CronJob:
        """This job under another name and with other tags, which are checked as those of a new job."""
        if name == self.name and tuple(tags) == self.tags:
            return self
        job = copy(self)
        object.__setattr__(job, "name", checked_name(self.func, name))
        object.__setattr__(job, "tags", checked_tags(name, tags))
        return job

    def with_defaults(self, config: CronConfig) -> CronJob:
        """This job with its unset options taken from the settings; the same object where nothing changes."""
        if (self.timezone or "UTC", *_options_but_timezone(self)) == _settings(config):
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
            put(job, "schedule", schedule_of_job(self.name, self.expr, wanted["timezone"]))
            put(job, "schedule_zone", zone_of(job.schedule))
        return job


def _defaulted(*given: object) -> tuple[str, ...]:
    """Those of the options in `_DEFAULTED`, given in this order, that take the scheduler's settings."""
    if given == _NONE_GIVEN:
        return _ALL_DEFAULTED  # most jobs, which share this object
    return tuple(option for option, value in zip(_ALL_DEFAULTED, given, strict=True) if value is None)


def check_expression(expr: object) -> None:
    """Raise `ScheduleError` for what is neither text nor a `Schedule`, and `JobDefinitionError` for a function."""
    if isinstance(expr, type) and isinstance(expr, Schedule):
        raise ScheduleError(f"expr can't be the class {expr.__name__}; give an object of it")
    if isinstance(expr, (str, Schedule)):
        return
    if callable(expr):
        raise JobDefinitionError(
            f"@crons.cron was given no expression for {brief(default_name(expr))}; "
            'write it like @crons.cron("*/5 * * * *")'
        )
    raise ScheduleError(f"expr must be a cron expression or a Schedule, not {brief(expr)}{lacking(expr)}")


def _parameters(parameters: list[str]) -> str:
    names = " and ".join(map(repr, parameters))
    return f"parameter {names}" if len(parameters) == 1 else f"parameters {names}"


def _not_evaluated(parameters: Parameters) -> str:
    """Names the parameter whose annotation is text that can't be evaluated: it might say `Depends`."""
    for name in parameters.required:
        fault = not_evaluated(parameters.arguments[name]) if name in parameters.arguments else None
        if fault is not None:
            return f" ({fault})"
    return ""


@dataclass(frozen=True, slots=True)
class ManualRun:
    """A request to run a job now; see `Crons.run_job`. Raises `ValueError` for a timeout or trigger that can't be used,
    `InvalidArgumentError` (a `ValueError`) for arguments that the function does not take."""

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
    kwargs: Mapping[str, object] = field(default_factory=dict, repr=False)
    """Arguments of this run, in place of the job's own, or in addition to them."""
    tick: int | None = None
    """The tick (Unix seconds) that is run again; None for a run without a tick."""
    texts: InitVar[bool] = False
    """Whether these values are all text, read as the annotations say: as it is where they allow that, else as JSON."""

    def __post_init__(self, texts: bool) -> None:
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if self.timeout is not None and not (number and 0 < self.timeout <= LONGEST):
            raise ValueError(f"timeout can't be {self.timeout!r}; give seconds, more than 0")
        if not isinstance(self.kwargs, Mapping):
            raise InvalidArgumentError(f"kwargs can't be {brief(self.kwargs)}; give a mapping of names to values")
        if self.kwargs:
            check = arguments_from_texts if texts else checked_arguments
            object.__setattr__(self, "kwargs", MappingProxyType(check(self.job.parameters, self.kwargs)))
        if self.trigger not in _TRIGGERS:
            raise ValueError(f"triggered_by can't be {self.trigger!r}; choose one of {', '.join(_TRIGGERS)}")


__getattr__ = former_names_of(__name__)
