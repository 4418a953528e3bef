"""What kind of function something callable is, and what to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable


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
