"""What kind of function something callable is, and what to call it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import TypeGuard


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether a call gives a coroutine: for functions, methods, partials and callable objects."""
    if inspect.iscoroutinefunction(function):
        return True
    inner = unwrapped(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004


def is_awaitable(value: object) -> TypeGuard[Awaitable[object]]:
    """Whether a value can be awaited, whatever it does when it is looked at."""
    try:
        return inspect.isawaitable(value)
    except BaseException:  # a stand-in for an object that is not there
        return False


def is_generator_function(function: Callable[..., object]) -> bool:
    """Whether a call only makes a generator, and runs nothing of the function."""
    inner = unwrapped(function)
    if type(inner) is FunctionType:
        return bool(inner.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))
    return inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)


def unwrapped(function: Callable[..., object]) -> Callable[..., object]:
    """The function inside of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def label(function: Callable[..., object]) -> str:
    """`module:qualname`"""
    inner = unwrapped(function)
    module, name = getattr(inner, "__module__", None), getattr(inner, "__qualname__", None)
    return f"{module if isinstance(module, str) else '?'}:{name if isinstance(name, str) else type(inner).__qualname__}"


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
