"""Options of groups: what a group gives its jobs, checked when the group is made, and for each of its jobs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi_crons._util.text import brief
from fastapi_crons.errors import InvalidArgumentError, JobDefinitionError, ScheduleError
from fastapi_crons.functions.arguments import checked_arguments
from fastapi_crons.functions.parameters import parameters_of_job
from fastapi_crons.job import CronJob, JobFunc
from fastapi_crons.job_checks import check_name, default_name
from fastapi_crons.schedule.base import Schedule
from fastapi_crons.scheduler.placements import Included
from fastapi_crons.schedules.of_job import takes_zone

#: Stands for the name of a job while a group's own tags and options are checked.
_PROBE = "job of a group"


def job_of_group(
    func: JobFunc,
    expr: str | Schedule,
    name: str | None,
    tags: Iterable[str] | None,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    groups: Sequence[Included],
) -> CronJob:
    """A job with these options and defaults; `groups` gave the defaults, the innermost first."""
    options = merged(defaults, given)
    if "timezone" not in given and not takes_zone(expr):
        options.pop("timezone", None)  # a default for schedules without a zone of their own
    try:
        return CronJob(func, expr, name, tags, **options)
    except JobDefinitionError:
        if isinstance(options.get("kwargs"), Mapping):
            _check_arguments_of_groups(func, name or default_name(func), options["kwargs"], given, groups)
        raise


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options in place of others; of arguments, those of the same name."""
    merged = {**defaults, **given}
    if "kwargs" in defaults and isinstance(given.get("kwargs"), Mapping):
        merged["kwargs"] = {**defaults["kwargs"], **given["kwargs"]}
    return merged


def _check_arguments_of_groups(
    func: JobFunc, name: str, kwargs: Mapping[str, object], given: Mapping[str, Any], groups: Sequence[Included]
) -> None:
    """Raises `JobDefinitionError` for an argument that a group gives all its jobs, and this one does not take."""
    try:
        parameters = parameters_of_job(func)
    except ValueError:
        return  # the function itself is at fault
    for argument in kwargs.keys() - given.get("kwargs", {}).keys():
        group = next(each for each in groups if argument in each.kwargs)
        try:
            checked_arguments(parameters, {argument: kwargs[argument]})
        except InvalidArgumentError as fault:
            raise JobDefinitionError(
                f"job {brief(name)} can't have argument {brief(argument)} of the JobGroup made at {group.made_at}, which gives "
                f"it to all its jobs: {fault}; have the function take it, or give it to single jobs"
            ) from None


def checked_prefix(prefix: object) -> str:
    if not isinstance(prefix, str):
        raise JobDefinitionError(f"prefix must be text, not {brief(prefix)}")
    if prefix.strip("."):
        try:
            check_name(prefix)
        except JobDefinitionError as error:
            raise JobDefinitionError(str(error).replace("name", "prefix", 1)) from None
    return prefix


def checked_tags(tags: Iterable[str] | None) -> tuple[str, ...]:
    return () if tags is None else tuple(_probed({"tags": tags}).tags)


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(
            f"a JobGroup has no option {', '.join(map(repr, sorted(unknown)))}; it has prefix, tags, and "
            f"{', '.join(sorted(_OPTIONS))}"
        )
    given = {option: value for option, value in options.items() if value is not None}
    job = _probed(given)
    if "retry_on" in given:
        given["retry_on"] = job.retry_on  # it may be an iterator
    if "kwargs" in given:
        given["kwargs"] = dict(given["kwargs"])
    return given


def _probed(options: Mapping[str, Any]) -> CronJob:
    """A job with these options. Raises what is wrong with them as a fault of a group."""
    try:
        return CronJob(_nothing, "* * * * *", _PROBE, **options)
    except (JobDefinitionError, ScheduleError) as error:
        raise type(error)(str(error).replace(f"job {_PROBE!r}", "a JobGroup")) from None


def _nothing(**_: object) -> None:
    """Takes whatever arguments a group has for its jobs."""


_OPTIONS = inspect.signature(CronJob).parameters.keys() - {"func", "expr", "name", "tags"}
