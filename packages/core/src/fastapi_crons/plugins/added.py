"""Functions added as hooks through `crons.add_…_hook`: each becomes a plugin, so that there is one way to call a hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeGuard

from fastapi_crons._util.callables import is_generator_function, label, marked_parameter, parameters_of
from fastapi_crons._util.executions import run_again_in_a_notebook, same_function
from fastapi_crons.errors import PluginError
from fastapi_crons.plugins.markers import HookContext, hookimpl

HookFunc = Callable[..., Any]

#: An added function gets this only by name: the documented call has two arguments.
_ONLY_BY_NAME = "crons"

#: A function that has only parameters of these kinds passes on whatever it is given.
_PASSED_ON = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}

#: Turns the arguments of a specification into those of one function, by position and by name.
Bind = Callable[[Mapping[str, object]], tuple[list[object], dict[str, object]]]


class AddedHook:
    """A function that was added as a hook, as a plugin."""

    def __init__(self, hook: str, function: HookFunc, job_name: str | None, names: Container[str] | None) -> None:
        self.hook = hook
        self.function = function
        self.job_name = job_name
        #: Where it is for some jobs: their names, which may become more or fewer.
        self.names = names

    def concerns(self, job_name: str) -> bool:
        """Whether it is called for this job."""
        if self.names is not None and job_name not in self.names:
            return False
        return self.job_name is None or self.job_name == job_name

    def is_again(self, former: object, *, moved: bool) -> bool:
        """Whether the former is the same function, added in the same way."""
        return self._is_alike(former) and same_function(former.function, self.function, moved=moved)

    def is_of_a_cell_run_again(self, former: AddedHook) -> bool:
        """Whether the former is the same function of a notebook, and its cell was run again."""
        return self._is_alike(former) and run_again_in_a_notebook(former.function, self.function)

    def _is_alike(self, former: object) -> TypeGuard[AddedHook]:
        if not isinstance(former, AddedHook) or (former.hook, former.job_name) != (self.hook, self.job_name):
            return False
        return former.names is None and self.names is None  # groups see to theirs


def added_hook(hook: str, function: HookFunc, job_name: str | None, names: Container[str] | None = None) -> AddedHook:
    """A plugin that implements one hook by a function: for all jobs, for one, or for those in `names`.

    Raises `PluginError` for what can't be called as a hook.
    """
    if not callable(function):
        raise PluginError(f"a {hook} hook must be callable, not {function!r}; pass the function itself")
    if is_generator_function(function):
        raise PluginError(f"a {hook} hook can't be a generator function: nothing of {label(function)!r} would run")
    if job_name is not None and not isinstance(job_name, str):
        raise PluginError(f"job_name of a {hook} hook must be the name of one job, or None for all, not {job_name!r}")
    try:
        bind_added(function)
    except ValueError as error:
        raise PluginError(
            f"a {hook} hook is called with job_name and context: {error}; give a default, or a functools.partial"
        ) from None
    marked = marked_parameter(function)
    if marked is not None:
        raise PluginError(
            f"a {hook} hook can't have a parameter {marked[0]!r} with {marked[1]}(…): only FastAPI fills that in"
        )

    # trylast: after the hooks of plugins; among themselves in the order they were added.
    @hookimpl(trylast=True)
    def implementation(self: AddedHook, job_name: str, context: HookContext) -> None:
        self.function(job_name, context)

    implementation.__name__ = hook
    kind: type[AddedHook] = type(f"Added{hook}", (AddedHook,), {hook: implementation})
    return kind(hook, function, job_name, names)


def bind_added(function: HookFunc) -> Bind:
    """How an added function gets its arguments: a parameter named as in the specification gets that one, the others in order.

    Raises `ValueError`, saying which, where it has parameters that the documented call leaves out.
    """
    parameters = parameters_of(function)
    if parameters is None:
        return _bind_in_order
    inner = getattr(function, "__wrapped__", None)
    if inner is not None and {parameter.kind for parameter in parameters} == _PASSED_ON:
        # The wrapped function says what it takes; where it needs more than that, the wrapper fills it in.
        shown = parameters_of(inner)
        bind = _bind_in_order if shown is None else _bind_by(shown)
        return _bind_in_order if shown is not None and _left_out(shown, bind) else bind
    bind = _bind_by(parameters)
    left_out = _left_out(parameters, bind)
    if left_out:
        raise ValueError(f"{' and '.join(map(repr, left_out))} of {label(function)!r} would get no value")
    return bind


def _bind_in_order(arguments: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
    return [value for name, value in arguments.items() if name != _ONLY_BY_NAME], {}


def _bind_by(parameters: list[inspect.Parameter]) -> Bind:
    open_to_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    kept = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    kept.add(_ONLY_BY_NAME)

    def bind(arguments: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
        rest = {name: value for name, value in arguments.items() if name not in kept}
        positional: list[object] = []
        named: dict[str, object] = {}
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(rest.values())
                rest.clear()
            elif parameter.kind is parameter.POSITIONAL_ONLY:
                positional.extend(rest.pop(name) for name in list(rest)[:1])
            elif parameter.kind is not parameter.VAR_KEYWORD:
                if parameter.name in arguments:
                    named[parameter.name] = arguments[parameter.name]
                elif rest:
                    named[parameter.name] = rest.pop(next(iter(rest)))
        return positional, {**named, **rest} if open_to_all else named

    return bind


def _left_out(parameters: list[inspect.Parameter], bind: Bind) -> list[str]:
    """The parameters without a default that a call of an added function leaves out."""
    positional, named = bind(dict.fromkeys(("job_name", "context", _ONLY_BY_NAME)))
    own = inspect.Signature(parameters).bind_partial(*positional, **named).arguments
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters
        if parameter.name not in own and parameter.default is parameter.empty and parameter.kind not in open_ended
    ]
