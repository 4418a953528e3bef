"""FastAPI's markers (`Depends(…)`, `Query(…)` and their kin) among the parameters of functions that FastAPI does not call."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, get_args, get_origin

from fastapi_crons._util.callables import reached, unwrapped


def marked_parameter(function: Callable[..., object]) -> tuple[str, str] | None:
    """A parameter that a plain call would leave to a marker, with the marker's name; None where there is none.

    A `Query()` in `Annotated` beside a default leaves nothing to it: the function is called with the default, as FastAPI
    would. A dependency is left to it in every case.
    """
    if "pydantic.fields" not in sys.modules:
        return None  # nobody can have made one
    from pydantic.fields import FieldInfo

    params = sys.modules.get("fastapi.params")
    depends: tuple[type, ...] = () if params is None else (params.Depends,)
    fields: tuple[type, ...] = () if params is None else (params.Param, params.Body)
    given = _given(function)
    for name, value in given.items():
        if isinstance(value, (FieldInfo, *depends)):
            return name, type(value).__name__
    for inner, parameters in reached(function):
        for parameter in parameters:
            if parameter.name in given:
                continue
            if isinstance(parameter.default, (FieldInfo, *depends)):
                return parameter.name, type(parameter.default).__name__
            wanted = depends if parameter.default is not parameter.empty else (*depends, *fields)
            for mark in _marks(inner, parameter.annotation) if wanted else ():
                if isinstance(mark, wanted):
                    return parameter.name, type(mark).__name__
    return None


def _given(function: Callable[..., object]) -> dict[str, object]:
    """What a partial gives its function."""
    if not isinstance(function, functools.partial):
        return {}
    return {**{f"{number}.": value for number, value in enumerate(function.args, start=1)}, **function.keywords}


def _marks(function: Callable[..., object], annotation: object) -> tuple[object, ...]:
    """What stands beside the type in an annotation by `Annotated`."""
    if isinstance(annotation, str):
        inner = inspect.unwrap(unwrapped(function))
        code, names = getattr(inner, "__code__", None), dict(getattr(inner, "__globals__", {}))
        for name, cell in zip(
            getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False
        ):
            try:
                names[name] = cell.cell_contents
            except ValueError:
                continue  # not bound yet
        try:
            # As FastAPI does it; what can't be found, a name for type checkers alone, holds no marker.
            annotation = eval(annotation, names)
        except Exception:
            return ()
    if get_origin(annotation) is not Annotated:
        return ()
    return tuple(get_args(annotation)[1:])
