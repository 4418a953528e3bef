"""What kind of function something callable is, and what to call it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether a call gives a coroutine: for functions, methods, partials and callable objects."""
    if inspect.iscoroutinefunction(function):
        return True
    inner = unwrapped(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004


def unwrapped(function: Callable[..., object]) -> Callable[..., object]:
    """The function inside of partials."""
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func
    return function


def label(function: Callable[..., object]) -> str:
    """`module:qualname`"""
    try:
        return f"{function.__module__}:{function.__qualname__}"
    except AttributeError:
        inner = unwrapped(function)
        module = getattr(inner, "__module__", None) or "?"
        return f"{module}:{getattr(inner, '__qualname__', None) or type(inner).__qualname__}"


def required_parameters(function: Callable[..., object]) -> list[str]:
    """The parameters that a call can't leave out; empty where a callable does not say."""
    if type(function) is FunctionType and not function.__dict__:
        # The same as below, at a tenth of the cost: very many jobs may be defined.
        code = function.__code__
        if not code.co_argcount and not code.co_kwonlyargcount:
            return []
        given_by_position = code.co_argcount - len(function.__defaults__ or ())
        by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        defaults = function.__kwdefaults__ or {}
        return [*code.co_varnames[:given_by_position], *(name for name in by_name if name not in defaults)]
    return [
        parameter.name
        for parameter in _parameters(function)
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def positional_parameters(function: Callable[..., object]) -> int:
    """How many arguments can be given by position; many where a callable does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 255
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 255
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def takes(function: Callable[..., object], name: str) -> bool:
    """Whether a parameter of this name is open to be given by name."""
    if isinstance(function, functools.partial) and name in function.keywords:
        return False
    return any(
        parameter.name == name and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        for parameter in _parameters(function)
    )


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []  # some built-in callables have no signature
