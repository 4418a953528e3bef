"""What kind of function a callable is, what a call of it takes, and how it is named.

A decorator made with `functools.wraps` leaves a function that shows the signature of another one. What counts here is
the object that is called; what it wraps counts only where the wrapper passes on whatever it is given (`*args, **kwargs`).
"""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import FunctionType, MethodType
from typing import Annotated, TypeGuard, get_args, get_origin

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
#: What `functools.cache` and `lru_cache` make: a call of it takes what the function itself takes.
_Cached = type(functools.cache(lambda: None))


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether a call gives a coroutine: for functions, methods, partials and callable objects."""
    if type(function) is FunctionType and not function.__dict__:
        # The same as below, at a tenth of the cost: very many jobs may be defined.
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    if inspect.iscoroutinefunction(function):
        return True
    inner = unwrapped(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004


def is_awaitable(value: object) -> TypeGuard[Awaitable[object]]:
    """Whether a value can be awaited, whatever its code does when asked."""
    try:
        return inspect.isawaitable(value)
    except BaseException:  # a proxy whose object is not there
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
    return f"{_module_name(module)}:{name if isinstance(name, str) else type(inner).__qualname__}"


def _module_name(module: object) -> str:
    """The name of a module in every process: a script is `__main__` only where it is run."""
    if module not in ("__main__", "__mp_main__"):
        return module if isinstance(module, str) else "?"
    script = sys.modules.get("__main__")
    spec, file = getattr(script, "__spec__", None), getattr(script, "__file__", None)
    if spec is not None:
        return str(spec.name)
    if not isinstance(file, str) or file.startswith("<"):
        return "__main__"  # no script: Python's prompt, a notebook, a pipe
    return os.path.splitext(os.path.basename(file))[0]


def parameters_of(function: Callable[..., object]) -> list[inspect.Parameter] | None:
    """What a call of this very object takes, in order; None where a callable does not say.

    Raises `ValueError` for a partial that passes what its function does not take.
    """
    try:
        return list(inspect.signature(_bare(function), follow_wrapped=False).parameters.values())
    except (TypeError, ValueError, NameError):
        if isinstance(function, functools.partial) and parameters_of(function.func) is not None:
            raise ValueError(f"it passes what {label(function)} does not take") from None
        return None  # some built-in callables have no signature


def required_parameters(function: Callable[..., object]) -> list[str]:
    """The parameters that a call can't leave out; empty where a callable does not say. Raises as `parameters_of`."""
    if type(function) is FunctionType and not function.__dict__:
        # The same as below, at a tenth of the cost: very many jobs may be defined.
        code = function.__code__
        if not code.co_argcount and not code.co_kwonlyargcount:
            return []
        given_by_position = code.co_argcount - len(function.__defaults__ or ())
        by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        defaults = function.__kwdefaults__ or {}
        return [*code.co_varnames[:given_by_position], *(name for name in by_name if name not in defaults)]
    own = parameters_of(function) or []
    required = [parameter.name for parameter in own if _is_required(parameter)]
    named = {parameter.name for parameter in own}
    return required + [
        parameter.name
        for parameter in _declared_for_the_rest(function, own)
        if _is_required(parameter) and parameter.name not in named
    ]


def takes(function: Callable[..., object], name: str) -> bool:
    """Whether an argument of this name can be passed: to the function, or to what it passes its arguments on to."""
    if isinstance(function, functools.partial) and name in function.keywords:
        return False
    for _, parameters in reached(function):
        for parameter in parameters:
            if parameter.name == name:
                return parameter.kind in _BY_NAME
    return False


def reached(function: Callable[..., object]) -> Iterator[tuple[Callable[..., object], list[inspect.Parameter]]]:
    """The functions that a call reaches, as far as can be seen, each with the parameters that the caller fills.

    They are the object itself, and what it wraps where it passes on whatever it is given.
    """
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        own = parameters_of(function)
        declared = _declared_for_the_rest(function, own or [])
        yield function, [*(own or ()), *declared]
        if declared or (own is not None and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)):
            return
        function = getattr(unwrapped(function), "__wrapped__", function)


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in kinds


def _declared_for_the_rest(function: Callable[..., object], own: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters that the `__signature__` of a function declares for its `*args, **kwargs`."""
    inner = unwrapped(function)
    declared = getattr(inner, "__signature__", None)
    open_ended = any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in own)
    if not open_ended or not isinstance(declared, inspect.Signature) or inner is not function:
        return []
    # `functools.wraps` copies that of the wrapped function, too: then it says nothing about the wrapper.
    copied = declared is getattr(getattr(inner, "__wrapped__", None), "__signature__", None)
    return [] if copied else list(declared.parameters.values())


def _bare(function: Callable[..., object]) -> Callable[..., object]:
    """The same callable without a `__signature__`, which may claim something else."""
    if isinstance(function, functools.partial):
        inner = _bare(function.func)
        if inner is function.func:
            return function
        return functools.partial(inner, *function.args, **function.keywords)
    if type(function) is _Cached:
        return _bare(function.__wrapped__)
    if isinstance(function, MethodType):
        return MethodType(_bare(function.__func__), function.__self__)
    if type(function) is FunctionType:
        if "__signature__" not in function.__dict__:
            return function
        bare = FunctionType(function.__code__, {}, function.__name__, function.__defaults__, function.__closure__)
        bare.__kwdefaults__ = function.__kwdefaults__
        return bare
    call = getattr(type(function), "__call__", None)  # noqa: B004
    return MethodType(_bare(call), function) if type(call) is FunctionType else function


def marked_parameter(function: Callable[..., object], *, dependencies: bool = True) -> tuple[str, str] | None:
    """A parameter that only FastAPI fills in (`Query()`, `Depends()`, …), with the name of its marker; None for none.

    A `Query()` in `Annotated` next to a default does not count: a plain call uses the default, as FastAPI would. A dependency
    always counts, or with `dependencies=False` never.
    """
    if "pydantic.fields" not in sys.modules:
        return None  # then there are no markers
    from pydantic.fields import FieldInfo

    params = sys.modules.get("fastapi.params")
    depends: tuple[type, ...] = (params.Depends,) if params is not None and dependencies else ()
    fields: tuple[type, ...] = () if params is None else (params.Param, params.Body)
    given = passed_by_partial(function)
    for name, value in given.items():
        if isinstance(value, (FieldInfo, *(() if params is None else (params.Depends,)))):
            return name, type(value).__name__
    for inner, parameters in reached(function):
        for parameter in parameters:
            if parameter.name in given:
                continue
            if isinstance(parameter.default, (FieldInfo, *depends)):
                return parameter.name, type(parameter.default).__name__
            wanted = depends if parameter.default is not parameter.empty else (*depends, *fields)
            for mark in _marks(annotation_of(inner, parameter)) if wanted else ():
                if isinstance(mark, wanted):
                    return parameter.name, type(mark).__name__
    return None


def dependency_of(parameter: inspect.Parameter) -> object:
    """The `Depends(…)` of a parameter, whose annotation is evaluated: its default, or in `Annotated`; None for none."""
    params = sys.modules.get("fastapi.params")
    if params is None:
        return None
    marks = (parameter.default, *_marks(parameter.annotation))
    return next((mark for mark in marks if isinstance(mark, params.Depends)), None)


def uncalled_dependency(parameter: inspect.Parameter) -> str | None:
    """The name of `Depends` or `Security`, where a parameter has that without a call; None for any other one."""
    fastapi, params = sys.modules.get("fastapi"), sys.modules.get("fastapi.params")
    if fastapi is None or params is None:
        return None
    markers = (fastapi.Depends, fastapi.Security, params.Depends, params.Security)
    marks = (parameter.default, *_marks(parameter.annotation))
    return next((str(marker.__name__) for marker in markers for mark in marks if mark is marker), None)


def passed_by_partial(function: Callable[..., object]) -> dict[str, object]:
    """The arguments that a partial passes; those by position under their number."""
    if not isinstance(function, functools.partial):
        return {}
    return {**{f"{number}.": value for number, value in enumerate(function.args, start=1)}, **function.keywords}


class Unevaluated(str):
    """An annotation that stays text, since it can't be evaluated."""

    why: str
    """What is missing, and what to do."""

    def __new__(cls, annotation: str, why: str) -> Unevaluated:
        made = super().__new__(cls, annotation)
        made.why = why
        return made


def annotation_of(function: Callable[..., object], parameter: inspect.Parameter) -> object:
    """The annotation of a parameter. One that is text is evaluated as FastAPI does it; it is `Unevaluated` where that fails."""
    annotation: object = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    inner = inspect.unwrap(unwrapped(function))
    code, names = getattr(inner, "__code__", None), dict(getattr(inner, "__globals__", {}))
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet
    try:
        evaluated: object = eval(annotation, names)
        if isinstance(evaluated, str):  # in quotes, in a module where annotations are text anyway
            evaluated = eval(evaluated, names)
    except NameError as error:  # a name for type checkers alone, or of a later line
        return Unevaluated(
            annotation,
            f"there is no {error.name!r} in its module when the job is defined; import it outside of `if TYPE_CHECKING`, or "
            "define it at the top of the module, before the job",
        )
    except Exception as error:
        return Unevaluated(annotation, f"that raises {type(error).__name__}: {error}; write a type")
    return evaluated


def _marks(annotation: object) -> tuple[object, ...]:
    """The metadata of an `Annotated` annotation."""
    if get_origin(annotation) is not Annotated:
        return ()
    return tuple(get_args(annotation)[1:])


def unpicklable(value: object) -> str | None:
    """Why another process can't be passed a function or a value; None where it can, as far as can be seen.

    A function goes by its name in its module. While it is decorated, that name stands for nothing yet.
    """
    inner = unwrapped(value) if callable(value) else value
    if type(inner) is FunctionType:
        if "<" in inner.__qualname__:
            return f"another process can't find {inner.__qualname__}"
        if inner is value:
            return None
        assert isinstance(value, functools.partial)
        return unpicklable((value.args, value.keywords))
    try:
        pickle.dumps(value)
    except Exception as error:
        return f"another process can't be passed it: {error}"
    return None
