"""Parameters: what a job's function asks for. Looked at once, when the job is defined, on what a call will really reach."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType, UnionType
from typing import Annotated, NamedTuple, Union, get_args, get_origin

from fastapi_crons._util.callables import (
    Unevaluated,
    annotation_of,
    dependency_of,
    marked_parameter,
    passed_by_partial,
    reached,
    required_parameters,
    uncalled_dependency,
)
from fastapi_crons._util.text import brief

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_NO_PARAMETERS: Mapping[str, inspect.Parameter] = MappingProxyType({})


class GivenAsContext:
    """Base class of `JobContext`: a parameter with this annotation is given the context of its run, whatever its name."""

    __slots__ = ()


class Parameters(NamedTuple):
    """What a call of a job's function takes. Annotations are evaluated, as far as their names can be found."""

    context: tuple[str, ...] = ()
    """The parameters that are given the `JobContext`: those named `context`, or annotated with it."""
    dependencies: Mapping[str, inspect.Parameter] = _NO_PARAMETERS
    """The parameters that FastAPI fills in: `Depends(…)`, a `Request`, a `Response`, `BackgroundTasks`."""
    arguments: Mapping[str, inspect.Parameter] = _NO_PARAMETERS
    """The other parameters that can be passed by name."""
    any_arguments: inspect.Parameter | None = None
    """The `**kwargs` that takes arguments of any other name, too."""
    required: tuple[str, ...] = ()
    """The arguments that a call can't leave out."""
    marked: tuple[str, str] | None = None
    """A parameter that only a request of a client can fill in, such as `Query()`, with the name of its marker."""

    def is_passed_by_name(self, name: str) -> bool:
        """Whether a parameter of this name can be passed by it; one before a `/` can't."""
        return name in self.arguments or name in self.context or name in self.dependencies


NONE = Parameters()


def parameters_of_job(function: Callable[..., object]) -> Parameters:
    """What a job's function asks for. Raises `ValueError` for a partial that passes what its function does not take."""
    required = required_parameters(function)
    if (
        not required
        and type(function) is FunctionType
        and not (function.__defaults__ or function.__kwdefaults__ or function.__dict__)
        and not function.__code__.co_flags & (inspect.CO_VARKEYWORDS | inspect.CO_VARARGS)
    ):
        return NONE  # most jobs, of which there may be very many
    given = passed_by_partial(function)
    context: list[str] = []
    dependencies: dict[str, inspect.Parameter] = {}
    arguments: dict[str, inspect.Parameter] = {}
    rest: inspect.Parameter | None = None
    for inner, parameters in reached(function):
        rest = None
        for parameter in parameters:
            name = parameter.name
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter.replace(annotation=annotation_of(inner, parameter))
            known = name in given or name in context or name in dependencies or name in arguments
            if known or parameter.kind not in _BY_NAME:
                continue
            evaluated = parameter.replace(annotation=annotation_of(inner, parameter))
            if dependency_of(evaluated) or uncalled_dependency(evaluated) or is_injected(evaluated.annotation):
                dependencies[name] = evaluated
            elif name == "context" or _is_context(evaluated.annotation):
                context.append(name)
            else:
                arguments[name] = evaluated
    return Parameters(
        tuple(context),
        dependencies,
        arguments,
        rest,
        tuple(name for name in required if name not in context and name not in dependencies),
        marked_parameter(function, dependencies=False),
    )


def not_evaluated(parameter: inspect.Parameter) -> str | None:
    """What is wrong with an annotation that is text which can't be evaluated; None for any other one."""
    annotation = parameter.annotation
    if not isinstance(annotation, Unevaluated):
        return None
    return f"its annotation {brief(str(annotation))} can't be evaluated: {annotation.why}"


def _is_context(annotation: object) -> bool:
    return any(issubclass(each, GivenAsContext) for each in _classes(annotation))


def is_request(annotation: object) -> bool:
    """Whether a parameter is given the request."""
    requests = sys.modules.get("starlette.requests")
    return requests is not None and any(
        each is requests.HTTPConnection or issubclass(each, requests.Request) for each in _classes(annotation)
    )


def is_injected(annotation: object) -> bool:
    """Whether FastAPI fills in a parameter without being told to: the request, the response, or background tasks."""
    if is_request(annotation):
        return True
    kinds = [
        getattr(sys.modules[module], name)
        for module, name in (("starlette.responses", "Response"), ("starlette.background", "BackgroundTasks"))
        if module in sys.modules
    ]
    return any(issubclass(each, kind) for each in _classes(annotation) for kind in kinds)


def kind_of_client(annotation: object) -> str | None:
    """What a parameter is, in words, that FastAPI fills in only where there is a client: a WebSocket, an upload."""
    kinds = (
        ("starlette.websockets", "WebSocket", "a WebSocket"),
        ("starlette.datastructures", "UploadFile", "an UploadFile"),
    )
    for module, name, words in kinds:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and any(issubclass(each, kind) for each in _classes(annotation)):
            return words
    return None


def _classes(annotation: object) -> list[type]:
    """The classes that an annotation names: `A`, `A | None`, `Annotated[A, …]`."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _classes(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for each in get_args(annotation) for found in _classes(each)]
    return []
