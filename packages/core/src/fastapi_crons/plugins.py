"""Plugins: finding them, and what they implement."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from fastapi_crons import hookspecs
from fastapi_crons._callables import is_generator_function, label, required_parameters
from fastapi_crons.backends import BackendSpec, LockBackendSpec, StateBackendSpec
from fastapi_crons.errors import PluginError
from fastapi_crons.hooks import AddedHook, HookCall, HookFunc
from fastapi_crons.hookspecs import PROJECT, hookimpl
from fastapi_crons.outcome import one_line, printable
from fastapi_crons.requirements import unmet_requirement

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

#: An import of a plugin that takes longer (seconds) is told of.
_LONG_IMPORT = 5.0

__all__ = ["LockBackendSpec", "PluginInfo", "Plugins", "StateBackendSpec"]


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known of a loaded plugin."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]


class Plugins:
    """The plugins of one scheduler.

    Raises `PluginError`, naming distribution and entry point of each plugin that can't be loaded: what it brings may be wanted,
    a shared lock for one, and going on without would be worse than not starting. `disabled` names entry points that are left
    alone, unread.
    """

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for name in disabled:
            self._manager.set_blocked(name)
        self._calls: dict[str, tuple[HookCall, ...]] = {}
        self._brought_by: dict[tuple[str, str], str] = {}
        self._load_entry_points()
        self.state_backends: Mapping[str, BackendSpec[StateBackend]] = self._backends("state_backends")
        self.lock_backends: Mapping[str, BackendSpec[LockBackend]] = self._backends("lock_backends")

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin: any object or module with `@hookimpl` functions. Raises `PluginError` where it does not fit."""
        shown = name or label(plugin if callable(plugin) else type(plugin))
        if self._manager.is_registered(plugin):
            raise PluginError(f"plugin {shown!r} is registered already")
        unique = name or f"{shown}#{id(plugin):x}"
        if self._manager.has_plugin(unique):
            raise PluginError(f"another plugin is named {unique!r}; give this one another name")
        try:
            self._manager.register(plugin, unique)
            self._manager.check_pending()
            self._check(plugin)
        except (ValueError, pluggy.PluginValidationError, PluginError) as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise PluginError(f"plugin {shown!r} can't be registered: {one_line(error)}") from error
        self._calls.clear()

    def unregister(self, plugin: object) -> None:
        """Take a plugin out again."""
        self._manager.unregister(plugin)
        self._calls.clear()

    def add_function(self, hook: str, function: HookFunc, job_name: str | None) -> None:
        """Add a plain function as an implementation of a run hook, for one job or for all."""
        if not callable(function):
            raise PluginError(f"a {hook} hook must be callable, not {function!r}; pass the function itself")
        if is_generator_function(function):
            raise PluginError(f"a {hook} hook can't be a generator function: nothing of {label(function)!r} would run")
        self.register(_added(hook, function, job_name), f"{label(function)}#{id(function):x}/{len(self._added())}")

    def jobs_named_by_functions(self) -> frozenset[str]:
        """The job names that added functions are bound to."""
        return frozenset(added.job_name for added in self._added() if added.job_name is not None)

    def _added(self) -> list[AddedHook]:
        return [plugin for plugin in self._manager.get_plugins() if isinstance(plugin, AddedHook)]

    def calls(self, hook: str) -> tuple[HookCall, ...]:
        """The implementations of a hook, in the order they are called."""
        calls = self._calls.get(hook)
        if calls is None:
            implementations = reversed(getattr(self._manager.hook, hook).get_hookimpls())
            calls = self._calls[hook] = tuple(HookCall(hook, implementation) for implementation in implementations)
        return calls

    def list(self) -> list[PluginInfo]:
        """The plugins that came through entry points, with distribution, version and the hooks they implement."""
        return [
            PluginInfo(
                name=self._manager.get_name(plugin) or "?",
                distribution=distribution.project_name,
                version=distribution.version,
                hooks=tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ())),
            )
            for plugin, distribution in self._manager.list_plugin_distinfo()
        ]

    def settings_classes(self) -> Mapping[type[BaseSettings], tuple[str, ...]]:
        """Every class of settings, each with the distributions that bring it: `CronConfig`, then by distribution.

        A plugin that belongs to no distribution stands there by its own name. Raises `PluginError`, naming the plugin,
        where one can't say which classes it brings.
        """
        from fastapi_crons.config import CronConfig

        distributions = {info.name: info.distribution for info in self.list()}
        brought: dict[type[BaseSettings], set[str]] = {}
        for plugin, ask in self._settings_sources():
            for settings in _settings_of(plugin, ask):
                brought.setdefault(settings, set()).add(distributions.get(plugin, plugin))
        ours = ("fastapi-crons-core", *sorted(brought.pop(CronConfig, set()) - {"fastapi-crons-core"}))
        by_distribution = sorted(brought.items(), key=lambda item: sorted(item[1]))
        return {CronConfig: ours, **{settings: tuple(sorted(names)) for settings, names in by_distribution}}

    def _settings_sources(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What gives a class of settings, or several, with the name of the plugin it belongs to."""
        for hook, specs in (("state_backends", self.state_backends), ("lock_backends", self.lock_backends)):
            for name, spec in specs.items():
                if spec.settings is not None:
                    yield self._brought_by[hook, name], spec.settings
        for call in self.calls("settings"):
            yield call.plugin_name, call.here

    def _load_entry_points(self) -> None:
        found: dict[str, EntryPoint] = {}
        for entry_point in entry_points(group=PROJECT):
            if self._manager.is_blocked(entry_point.name):
                continue
            rival = found.setdefault(entry_point.name, entry_point)
            if rival is not entry_point:
                raise PluginError(
                    f"two plugins are named {entry_point.name!r}: {_origin(rival)} and {_origin(entry_point)}; "
                    "uninstall one of the two distributions"
                )
        faults = [fault for entry_point in found.values() if (fault := _fault_of(entry_point)) is not None]
        if faults:
            raise PluginError("; ".join(text for text, _ in faults)) from faults[0][1]
        try:
            self._manager.load_setuptools_entrypoints(PROJECT)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            # Some are found out before they have a name.
            name = next((name for name, entry_point in found.items() if entry_point.load() is error.plugin), "?")
            raise PluginError(
                f"plugin {_shown(found, name)} does not fit this version of fastapi-crons: {printable(str(error))}"
            ) from error
        except ValueError as error:  # one module under two names
            raise PluginError(f"plugins can't be registered: {one_line(error)}") from error
        for plugin in self._manager.get_plugins():
            name = self._manager.get_name(plugin) or "?"
            try:
                self._check(plugin)
            except PluginError as error:
                raise PluginError(f"plugin {_shown(found, name)} can't be used: {error}") from error
            if not self._manager.get_hookcallers(plugin):
                logger.warning("plugin %s implements no hook: its functions want @hookimpl", _shown(found, name))

    def _check(self, plugin: object) -> None:
        """Refuse what pluggy takes, and we could not call."""
        for caller in self._manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin or isinstance(plugin, AddedHook):
                    continue
                if implementation.wrapper or implementation.hookwrapper:
                    raise PluginError(f"{caller.name} can't be a wrapper; run_scope is what goes around a run")
                if caller.name != "run_scope" and is_generator_function(implementation.function):
                    raise PluginError(f"{caller.name} can't be a generator function: nothing of it would run")
                unknown = [
                    name for name in required_parameters(implementation.function) if name not in implementation.argnames
                ]
                if unknown:
                    raise PluginError(f"{caller.name} wants {', '.join(unknown)}, which nobody gives")

    def _backends(self, hook: str) -> dict[str, BackendSpec[Any]]:
        backends: dict[str, BackendSpec[Any]] = {}
        for call in self.calls(hook):
            try:
                offered = call.here()
                if not isinstance(offered, Mapping):
                    raise TypeError(f"{hook} must return a mapping, not {type(offered).__name__}")
                for name, spec in offered.items():
                    if not (isinstance(name, str) and isinstance(spec, BackendSpec)):
                        raise TypeError(f"{hook} must give a BackendSpec for each name, not {spec!r} for {name!r}")
            except Exception as error:
                raise PluginError(
                    f"plugin {call.plugin_name!r} failed to say which stores it brings ({hook}): {one_line(error)}; "
                    "mend it, or disable it with CRON_DISABLED_PLUGINS"
                ) from error
            for name, spec in offered.items():
                if name in backends:
                    raise PluginError(
                        f"plugins {self._brought_by[hook, name]!r} and {call.plugin_name!r} both bring a backend {name!r} "
                        f"({hook}); disable one of them with CRON_DISABLED_PLUGINS"
                    )
                backends[name], self._brought_by[hook, name] = spec, call.plugin_name
        return backends


def _settings_of(plugin: str, ask: Callable[[], object]) -> Sequence[type[BaseSettings]]:
    from pydantic_settings import BaseSettings

    classes: list[type[BaseSettings]] = []
    try:
        offered = ask()
        for settings in offered if isinstance(offered, Sequence) else [offered]:
            if not (isinstance(settings, type) and issubclass(settings, BaseSettings)):
                raise TypeError(f"{settings!r} is no subclass of pydantic_settings.BaseSettings")
            classes.append(settings)
    except Exception as error:
        raise PluginError(
            f"plugin {plugin!r} failed to say which settings it brings: {one_line(error)}; "
            "mend it, or disable it with CRON_DISABLED_PLUGINS"
        ) from error
    return classes


def _added(hook: str, function: HookFunc, job_name: str | None) -> AddedHook:
    """A plugin that implements one hook, by a function that does not know of plugins."""

    # trylast: after the plugins' hooks, and among themselves in the order they were added.
    @hookimpl(trylast=True)
    def implementation(self: AddedHook, job_name: str, context: hookspecs.HookContext) -> None:
        self.function(job_name, context)

    implementation.__name__ = hook
    kind: type[AddedHook] = type(f"Added{hook}", (AddedHook,), {hook: implementation})
    return kind(function, job_name)


def _fault_of(entry_point: EntryPoint) -> tuple[str, BaseException | None] | None:
    """Why a plugin can't be loaded, in words, with what it raised; None where it can."""
    disable = f"set CRON_DISABLED_PLUGINS={entry_point.name}"
    if entry_point.dist is not None:
        unmet = unmet_requirement(entry_point.dist)
        if unmet is not None:
            # Before it is imported: what it raises there would only hide the reason.
            return f"plugin {_origin(entry_point)} {unmet}; or {disable}", None
    watch = threading.Timer(_LONG_IMPORT, _complain_of_import, [entry_point])
    watch.daemon = True
    watch.start()
    try:
        entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        text = f"plugin {_origin(entry_point)} can't be imported: {one_line(error)}; mend or uninstall it, or {disable}"
        return text, error
    finally:
        watch.cancel()
        watch.join()  # a process that forks now must have no thread more than it knows of
    return None


def _complain_of_import(entry_point: EntryPoint) -> None:
    logger.error(
        "plugin %s has not been imported within %g s, and everything waits for it; if it does not end, "
        "set CRON_DISABLED_PLUGINS=%s",
        _origin(entry_point),
        _LONG_IMPORT,
        entry_point.name,
    )


def _shown(found: Mapping[str, EntryPoint], name: str) -> str:
    return _origin(found[name]) if name in found else repr(name)


def _origin(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    of = f" of {distribution.name} {distribution.version}" if distribution is not None else ""
    return f"{entry_point.name!r} ({entry_point.value}){of}"
