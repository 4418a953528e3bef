"""The plugins of one scheduler, and what they implement."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from fastapi_crons._util.callables import (
    is_coroutine_function,
    is_generator_function,
    label,
    marked_parameter,
    parameters_of,
    required_parameters,
)
from fastapi_crons._util.hiding import as_cause
from fastapi_crons._util.text import one_line, printable
from fastapi_crons.errors import PluginError
from fastapi_crons.plugins import specs as hookspecs
from fastapi_crons.plugins.added import AddedHook, HookFunc, added_hook
from fastapi_crons.plugins.backends import BackendSpec
from fastapi_crons.plugins.calls import HookCall
from fastapi_crons.plugins.loading import import_plugins, origin, remedy
from fastapi_crons.plugins.markers import PROJECT

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

_BRING_STORES = frozenset({"state_backends", "lock_backends"})
#: Hooks whose answer is needed at once: they are never awaited.
_PLAIN = _BRING_STORES | {"redact", "run_scope", "routes", "cli_commands", "settings"}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A loaded plugin."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]


class _Calls(dict[str, tuple[HookCall, ...]]):
    """By hook; found out when a hook is first asked for. A lookup is quick: each run makes several."""

    def __init__(self, find: Callable[[str], tuple[HookCall, ...]]) -> None:
        self._find = find

    def __missing__(self, hook: str) -> tuple[HookCall, ...]:
        found = self[hook] = self._find(hook)
        return found


class Plugins:
    """The plugins of one scheduler.

    Raises `PluginError`, naming distribution and entry point of each plugin that can't be loaded: without what it brings, a
    shared lock for example, starting would be worse than not starting. `disabled` names entry points that are not loaded.
    """

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        #: The implementations of each hook, in the order they are called.
        self.calls = _Calls(self._calls_of)
        #: Kept when plugins are registered, so that the failures and hanging calls of each are not forgotten.
        self._implementations: dict[pluggy.HookImpl, HookCall] = {}
        #: Registered plugins whose modules are executed again, which may register them again.
        self._again: dict[int, tuple[object, bool]] = {}
        self._brought_by: dict[tuple[str, str], str] = {}
        #: How many functions were added.
        self._number = 0
        self._entry_points = import_plugins(disabled)
        self._add_entry_points()
        self.state_backends: Mapping[str, BackendSpec[StateBackend]] = self._backends("state_backends")
        self.lock_backends: Mapping[str, BackendSpec[LockBackend]] = self._backends("lock_backends")

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin: any object or module with `@hookimpl` functions. Raises `PluginError` where it does not fit."""
        shown = name or label(plugin if callable(plugin) else type(plugin))
        self._unregister_former(plugin)
        if self._manager.is_registered(plugin):
            raise PluginError(f"plugin {shown!r} is registered already")
        unique = name or f"{shown}#{id(plugin):x}"
        if self._manager.has_plugin(unique):
            raise PluginError(f"another plugin is named {unique!r}; give this one another name")
        try:
            self._add(plugin, unique)
            stores = sorted(_BRING_STORES & {caller.name for caller in self._manager.get_hookcallers(plugin) or ()})
            if stores:
                self._manager.unregister(plugin)
                raise PluginError(f"{stores[0]} is asked when plugins are loaded: bring stores through an entry point")
        except PluginError as error:
            raise PluginError(f"plugin {shown!r} can't be registered: {error}") from error
        if not self._manager.get_hookcallers(plugin):
            logger.warning("plugin %r implements no hook: mark its functions with @hookimpl", shown)
        self.calls.clear()

    def unregister(self, plugin: object) -> None:
        """Remove a plugin. Raises `PluginError` for one that is not registered."""
        name = self._manager.get_name(plugin)
        if name is None:
            raise PluginError(f"plugin {label(plugin if callable(plugin) else type(plugin))!r} is not registered")
        self._manager.unregister(plugin)
        self._again.pop(id(plugin), None)
        self._entry_points.pop(name, None)
        self._implementations = {
            known: call for known, call in self._implementations.items() if known.plugin is not plugin
        }
        self.calls.clear()

    def expect_again(self, *, moved: bool) -> None:
        """The module that registered plugins is executed again: what it registers replaces them. See `JobRegistry`."""
        brought = {id(self._manager.get_plugin(name)) for name in self._entry_points}
        for plugin in self._manager.get_plugins():
            if id(plugin) not in brought:
                self._again[id(plugin)] = (plugin, moved)

    def _unregister_former(self, plugin: object) -> None:
        """Unregister the plugin that this one replaces, if there is one."""
        if isinstance(plugin, AddedHook):
            for cell in self.added():
                if plugin.is_of_a_cell_run_again(cell):
                    self.unregister(cell)
                    return
        for key, (former, moved) in self._again.items():
            if isinstance(plugin, AddedHook):
                same = plugin.is_again(former, moved=moved)
            else:
                same = former is plugin or label(type(former)) == label(type(plugin)) != label(ModuleType)
            if same:
                del self._again[key]
                self.unregister(former)
                return

    def add_function(
        self, hook: str, function: HookFunc, job_name: str | None, names: Container[str] | None = None
    ) -> AddedHook:
        """Add a plain function as an implementation of a run hook, for one job, for those in `names`, or for all."""
        added = added_hook(hook, function, job_name, names)
        self._number += 1
        self.register(added, f"{label(function)}#{id(function):x}/{self._number}")
        return added

    def added(self) -> list[AddedHook]:
        """The functions that were added as hooks."""
        return [plugin for plugin in self._manager.get_plugins() if isinstance(plugin, AddedHook)]

    def _calls_of(self, hook: str) -> tuple[HookCall, ...]:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()[::-1]
        for each in implementations:
            if each not in self._implementations:
                self._implementations[each] = HookCall(hook, each)
        return tuple(self._implementations[each] for each in implementations)

    def list(self) -> list[PluginInfo]:
        """The plugins that came through entry points, with distribution, version and the hooks they implement."""
        return [
            PluginInfo(
                name=name,
                distribution=entry_point.dist.name if entry_point.dist else "?",
                version=entry_point.dist.version if entry_point.dist else "?",
                hooks=tuple(sorted(caller.name for caller in self._callers(name))),
            )
            for name, entry_point in self._entry_points.items()
        ]

    def _callers(self, name: str) -> Sequence[pluggy.HookCaller]:
        return self._manager.get_hookcallers(self._manager.get_plugin(name)) or ()

    def settings_classes(self) -> Mapping[type[BaseSettings], tuple[str, ...]]:
        """Every class of settings, each with the distributions that bring it: `CronConfig`, then by distribution.

        A plugin that belongs to no distribution stands there by its own name. Raises `PluginError`, naming the plugin,
        where one fails to say which classes it brings.
        """
        from fastapi_crons.config import CronConfig

        distributions = {info.name: info.distribution for info in self.list()}
        brought: dict[type[BaseSettings], set[str]] = {}
        for plugin, ask in self._settings_sources():
            for settings in self._settings_of(plugin, ask):
                brought.setdefault(settings, set()).add(distributions.get(plugin, plugin))
        ours = ("fastapi-crons-core", *sorted(brought.pop(CronConfig, set()) - {"fastapi-crons-core"}))
        by_distribution = sorted(brought.items(), key=lambda item: sorted(item[1]))
        return {CronConfig: ours, **{settings: tuple(sorted(names)) for settings, names in by_distribution}}

    def _settings_sources(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What returns a class of settings, or several, with the name of the plugin it belongs to."""
        for hook, specs in (("state_backends", self.state_backends), ("lock_backends", self.lock_backends)):
            for name, spec in specs.items():
                if spec.settings is not None:
                    yield self._brought_by[hook, name], spec.settings
        for call in self.calls["settings"]:
            yield call.plugin_name, call.invoke

    def _add_entry_points(self) -> None:
        for name, entry_point in self._entry_points.items():
            try:
                self._add(entry_point.load(), name)
            except PluginError as error:
                raise self._unusable(name, f"can't be used: {error}") from error
            if not self._callers(name):
                logger.warning("plugin %s implements no hook: mark its functions with @hookimpl", origin(entry_point))

    def _unusable(self, name: str, what: str) -> PluginError:
        """An error that says which plugin is faulty, how, and what to do."""
        entry_point = self._entry_points.get(name)
        if entry_point is None:
            return PluginError(f"plugin {name!r} {what}; fix it")
        return PluginError(f"plugin {origin(entry_point)} {what}; {remedy(entry_point)}")

    def _add(self, plugin: object, name: str) -> None:
        """Register a plugin whole, or raise `PluginError`."""
        known = self._manager.get_name(plugin)
        if known is not None:
            raise PluginError(f"it is the same object as plugin {known!r}")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            self._check(plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if isinstance(error, PluginError):
                raise
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(f"it does not fit this version of fastapi-crons: {printable(str(error))}") from error
            raise PluginError(one_line(error)) from as_cause(error)

    def _check(self, plugin: object) -> None:
        """Refuse implementations that pluggy accepts and we could not call."""
        for caller in self._manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin or isinstance(plugin, AddedHook):
                    continue
                if implementation.wrapper or implementation.hookwrapper:
                    raise PluginError(f"{caller.name} can't be a wrapper; run_scope is what goes around a run")
                if caller.name != "run_scope" and is_generator_function(implementation.function):
                    raise PluginError(f"{caller.name} can't be a generator function: nothing of it would run")
                if caller.name in _PLAIN and is_coroutine_function(implementation.function):
                    raise PluginError(f"{caller.name} must be a plain function: it is not awaited")
                _check_call(caller.name, implementation)

    @contextmanager
    def _blaming(self, plugin: str, what: str) -> Iterator[None]:
        """Turn whatever a plugin raises into an error that names it, and says what it failed to do."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._unusable(plugin, f"{what}: {one_line(error)}") from as_cause(error)

    def _backends(self, hook: str) -> dict[str, BackendSpec[Any]]:
        backends: dict[str, BackendSpec[Any]] = {}
        for call in self.calls[hook]:
            with self._blaming(call.plugin_name, f"failed to say which stores it brings ({hook})"):
                offered = call.invoke()
                if not isinstance(offered, Mapping):
                    raise TypeError(f"{hook} must return a mapping, not {type(offered).__name__}")
                for name, spec in offered.items():
                    if not (isinstance(name, str) and isinstance(spec, BackendSpec)):
                        raise TypeError(f"{hook} must give a BackendSpec for each name, not {spec!r} for {name!r}")
            for name, spec in offered.items():
                if name in backends:
                    rival = self._entry_points[self._brought_by[hook, name]]
                    what = f"and plugin {origin(rival)} both bring a backend {name!r} ({hook})"
                    raise self._unusable(call.plugin_name, what)
                self._brought_by[hook, name] = call.plugin_name
                backends[name] = spec.brought_by(partial(self._unusable, call.plugin_name))
        return backends

    def _settings_of(self, plugin: str, ask: Callable[[], object]) -> Sequence[type[BaseSettings]]:
        from pydantic_settings import BaseSettings

        classes: list[type[BaseSettings]] = []
        with self._blaming(plugin, "failed to say which settings it brings"):
            offered = ask()
            for settings in offered if isinstance(offered, Sequence) else [offered]:
                if not (isinstance(settings, type) and issubclass(settings, BaseSettings)):
                    raise TypeError(f"{settings!r} is not a subclass of pydantic_settings.BaseSettings")
                classes.append(settings)
        return classes


def _check_call(hook: str, implementation: pluggy.HookImpl) -> None:
    """Refuse an implementation that can't be called with what pluggy would pass."""
    function, taken = implementation.function, implementation.argnames
    unknown = [name for name in required_parameters(function) if name not in taken]
    if unknown:
        raise PluginError(f"{hook} has parameters that are not in the specification: {', '.join(unknown)}")
    marked = marked_parameter(function)
    if marked is not None:
        raise PluginError(f"{hook} leaves {marked[0]} to {marked[1]}(…), which only FastAPI fills in")
    parameters = parameters_of(function)
    try:
        if parameters is not None:
            inspect.Signature(parameters).bind(*taken)
    except TypeError as error:
        # pluggy reads the signature of the wrapped function, not of the decorated one that is called.
        raise PluginError(f"{hook} can't be called with {', '.join(taken)} ({error})") from None
