"""Checks of what a job is defined with: its name, its tags, the exceptions that are retried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from fastapi_crons._util.callables import unwrapped
from fastapi_crons._util.text import brief
from fastapi_crons.errors import JobDefinitionError

MAX_NAME_LENGTH = 200
# Most names match this, and need no further check.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.: -]{0,199}")
# Control characters, line and paragraph separators, surrogates and characters that reorder text.
_UNFIT = re.compile("[/\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ANY_ERROR: tuple[type[BaseException], ...] = (Exception,)


def default_name(func: Callable[..., object]) -> str:
    """The name of a function, for a job that is given none."""
    inner = unwrapped(func)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def checked_name(func: object, name: object) -> str:
    """The name of the job of a function, by default that of the function. Raises `JobDefinitionError`, as all of these do."""
    if not callable(func):
        raise JobDefinitionError(f"func must be callable, not {brief(func)}; pass the function itself")
    if name is None:
        name = default_name(func)
    if not isinstance(name, str):
        raise JobDefinitionError(f"name must be text, not {brief(name)}")
    return check_name(name)


def check_name(name: str) -> str:
    """The name. Raises `JobDefinitionError` for what can't be a job's name."""
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


def checked_tags(name: str, tags: object) -> tuple[str, ...]:
    """The tags of the job of this name."""
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise JobDefinitionError(f"tags of job {brief(name)} must be a list of texts, not {brief(tags)}")
    given = tuple(tags)
    if not all(isinstance(tag, str) and tag.strip() and not _UNFIT.search(tag.replace("/", "")) for tag in given):
        raise JobDefinitionError(
            f"tags of job {brief(name)} must be non-blank texts without control characters, not {brief(tags)}"
        )
    return given


def checked_retry_on(name: str, retry_on: object) -> tuple[type[BaseException], ...]:
    """The exceptions after which the job of this name is retried."""
    if retry_on == _ANY_ERROR:
        return _ANY_ERROR
    one = isinstance(retry_on, (type, str)) or not isinstance(retry_on, Iterable)
    given = (retry_on,) if one else tuple(retry_on)  # type: ignore[arg-type]
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in given):
        raise JobDefinitionError(
            f"retry_on of job {brief(name)} can't be {brief(retry_on)}; give an exception class, or several of them"
        )
    return given  # type: ignore[return-value]
