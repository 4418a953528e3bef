"""The arguments that a job takes, as fields of a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import Parameter, formatannotation
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic_core import PydanticSerializationError

from fastapi_crons.job import CronJob
from fastapi_crons.management import HIDDEN, announces_secret, arguments_text

#: How the names of these fields begin.
_PREFIX = "argument:"
#: A longer text has more than one line.
_ONE_LINE = 60


class Argument(NamedTuple):
    """An argument, and what a run passes where it is not given."""

    name: str
    kind: str
    """The annotation of its parameter."""
    text: str
    """Its value as a form has it; empty for None, and for one that is not shown."""
    is_shown: bool
    """False for a secret, and for what is no text."""
    choices: tuple[str, ...]
    """All values that it may have, where they are few."""

    @property
    def field(self) -> str:
        return f"{_PREFIX}{self.name}"

    @property
    def is_secret(self) -> bool:
        return announces_secret(self.name)

    @property
    def is_long(self) -> bool:
        return "\n" in self.text or len(self.text) > _ONE_LINE


def arguments_of(job: CronJob) -> list[Argument]:
    """All arguments that the function takes, in its order, and those that its `**kwargs` are given."""
    by_name, others = job.parameters.arguments, job.parameters.any_arguments
    found = []
    for name in [*by_name, *(name for name in job.kwargs if name not in by_name)]:
        parameter = by_name.get(name, others)
        annotation = Parameter.empty if parameter is None else parameter.annotation
        value = job.kwargs.get(name, None if parameter is None else parameter.default)
        text = _text(name, value)
        kind = "" if annotation is Parameter.empty else _kind(annotation)
        choices = _choices(annotation)
        found.append(Argument(name, kind, text or "", text is not None, choices if text in choices else ()))
    return found


def given_arguments(job: CronJob, fields: Mapping[str, str]) -> dict[str, str]:
    """What a form gives for arguments; nothing for those that are left as they were."""
    known = {argument.field: argument.text for argument in arguments_of(job)}
    sent = {name: text.replace("\r\n", "\n") for name, text in fields.items() if name.startswith(_PREFIX)}
    return {name.removeprefix(_PREFIX): text for name, text in sent.items() if text != known.get(name)}


def _text(name: str, value: object) -> str | None:
    """A value as a form has it; None where it can't be shown."""
    try:
        shown = json.loads(arguments_text({name: value}))[name]
    except (PydanticSerializationError, ValueError):
        return None
    if shown is None:
        return ""
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    return None if HIDDEN in text else text


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    return formatannotation(annotation).replace("typing.", "")


def _choices(annotation: object) -> tuple[str, ...]:
    if annotation is bool:
        return ("true", "false")
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return values if all(isinstance(value, str) for value in values) else ()
