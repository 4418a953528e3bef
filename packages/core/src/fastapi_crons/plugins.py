"""Plugins: finding them, and calling what they implement."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pluggy

from fastapi_crons import hookspecs
from fastapi_crons._callables import (
    is_coroutine_function,
    label,
    positional_parameters,
    required_parameters,
    takes,
)
from fastapi_crons._threads import ThreadPool
from fastapi_crons.errors import ConfigurationError, PluginError, SkipRun
from fastapi_crons.hookspecs import PROJECT, HookContext, hookimpl
from fastapi_crons.outcome import safe_text, where_raised

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

#: An implementation of which so many calls hang is not called until one of them ends.
_MAX_HANGING = 4

HookFunc = Callable[[str, HookContext], Any]
BackendT_co = TypeVar("BackendT_co", covariant=True)


@dataclass(frozen=True)
class BackendSpec(Generic[BackendT_co]):
    """How a backend is found and made. Making one of these must import nothing heavy."""

    class_path: str
    """`module:Class`. The class can be imported by its name from `fastapi_crons.state` or `fastapi_crons.locking`."""
    create: Callable[[CronConfig], BackendT_co]
    """Makes a backend from the environment's settings; raises `ConfigurationError` where it can't."""
    settings: Callable[[], type[BaseSettings]] | None = None
    """Gives the class of the backend's own settings."""
    preference: int = -1
    """With no backend named in the settings, the one with the highest preference is used; below 0: only when named."""

    @property
    def class_name(self) -> str:
        return self.class_path.rpartition(":")[2]

    def load_class(self) -> type[BackendT_co]:
        module, _, name = self.class_path.partition(":")
        loaded: type[BackendT_co] = getattr(import_module(module), name)
        return loaded


StateBackendSpec = BackendSpec["StateBackend"]
LockBackendSpec = BackendSpec["LockBackend"]


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known of a loaded plugin."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]


class Plugins:
    """The plugins of one scheduler.

    Raises `PluginError`, naming distribution and entry point, when a plugin can't be loaded. `disabled` names entry
    points that are left alone.
    """

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for name in disabled:
            self._manager.set_blocked(name)
        self._calls: dict[str, tuple[HookCall, ...]] = {}
        self._load_entry_points()
        self.state_backends: Mapping[str, BackendSpec[StateBackend]] = self._backends("state_backends")
        self.lock_backends: Mapping[str, BackendSpec[LockBackend]] = self._backends("lock_backends")

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin: any object or module with `@hookimpl` functions. Raises `PluginError` where it does not fit."""
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            with suppress(ValueError, AssertionError):
                self._manager.unregister(plugin)
            raise PluginError(f"plugin {name or plugin!r} can't be registered: {error}") from error
        self._calls.clear()

    def unregister(self, plugin: object) -> None:
        """Take a plugin out again."""
        self._manager.unregister(plugin)
        self._calls.clear()

    def add_function(self, hook: str, function: HookFunc, job_name: str | None) -> None:
        """Add a plain function as an implementation of a run hook, for one job or for all."""
        if not callable(function):
            raise PluginError(f"a {hook} hook must be callable, not {function!r}; pass the function itself")
        self.register(
            _ADDED_HOOKS[hook](function, job_name), f"{label(function)}#{id(function):x}/{len(self._added())}"
        )

    def jobs_named_by_functions(self) -> frozenset[str]:
        """The job names that added functions are bound to."""
        return frozenset(added.job_name for added in self._added() if added.job_name is not None)

    def _added(self) -> list[_AddedHook]:
        return [plugin for plugin in self._manager.get_plugins() if isinstance(plugin, _AddedHook)]

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
        for entry_point in found.values():
            try:
                entry_point.load()
            except Exception as error:
                raise PluginError(
                    f"plugin {_origin(entry_point)} can't be imported: {type(error).__name__}: {error}; "
                    f"mend or uninstall it, or set CRON_DISABLED_PLUGINS={entry_point.name}"
                ) from error
        try:
            self._manager.load_setuptools_entrypoints(PROJECT)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"plugin {error.plugin!r} does not fit this version of fastapi-crons: {error}") from error

    def _backends(self, hook: str) -> dict[str, BackendSpec[Any]]:
        backends: dict[str, BackendSpec[Any]] = {}
        brought_by: dict[str, str] = {}
        for call in self.calls(hook):
            for name, spec in call.function().items():
                if name in backends:
                    raise PluginError(
                        f"plugins {brought_by[name]!r} and {call.plugin_name!r} both bring a backend {name!r} ({hook}); "
                        "disable one of them with CRON_DISABLED_PLUGINS"
                    )
                backends[name], brought_by[name] = spec, call.plugin_name
        return backends


class HookCall:
    """One implementation of one hook."""

    __slots__ = (
        "_is_coroutine_function",
        "_job_name",
        "_pass_by_position",
        "arguments",
        "function",
        "hanging",
        "hook",
        "plugin_name",
    )

    def __init__(self, hook: str, implementation: pluggy.HookImpl) -> None:
        plugin = implementation.plugin
        self.hook = hook
        self.plugin_name = implementation.plugin_name
        self.function: Callable[..., Any] = implementation.function
        self.arguments = implementation.argnames
        self._job_name: str | None = None
        self._pass_by_position = 0
        if isinstance(plugin, _AddedHook):
            self.function, self._job_name = plugin.function, plugin.job_name
            named = [name for name in ("job_name", "context") if takes(plugin.function, name)]
            # Added functions may call their parameters what they like; what is named as in the specification is given so.
            self._pass_by_position = min(2, positional_parameters(plugin.function))
            by_name = len(named) == len(required_parameters(plugin.function)) and len(named) != 2
            self.arguments = tuple(named) if by_name else ()
        #: How many of its calls exceeded their time limit and still go on.
        self.hanging = 0
        self._is_coroutine_function = is_coroutine_function(self.function)

    def concerns(self, job_name: str) -> bool:
        return self._job_name is None or self._job_name == job_name

    def call_by_name(self, arguments: Mapping[str, object]) -> object:
        """Call it here and now, with those of the arguments that it takes."""
        return self.function(*(arguments[name] for name in self.arguments))

    async def run(self, pool: ThreadPool, positional: tuple[object, ...], by_name: Mapping[str, object]) -> object:
        """Call it: on the loop when it is a coroutine function, else in the pool; await what can be awaited."""
        arguments = (
            [by_name[name] for name in self.arguments] if self.arguments else positional[: self._pass_by_position]
        )
        if self._is_coroutine_function:
            result = self.function(*arguments)
        else:
            result = await self._in_thread(pool, arguments)
        return await result if inspect.isawaitable(result) else result

    async def _in_thread(self, pool: ThreadPool, arguments: Sequence[object]) -> object:
        future = pool.submit(self.function, *arguments)
        try:
            ended = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not pool.withdraw(future):
                pool.leave_behind(future)
                self.hangs(future)
            raise
        if ended.error is None:
            return ended.value
        if type(ended.error) is StopIteration:
            raise RuntimeError("StopIteration left a function") from ended.error
        raise ended.error

    def hangs(self, call: asyncio.Future[Any]) -> None:
        """Count a call that goes on after its time limit, until it ends."""

        def ended(_: asyncio.Future[Any]) -> None:
            self.hanging -= 1

        self.hanging += 1
        call.add_done_callback(ended)


class HookCaller:
    """Calls hooks, each implementation isolated from the others and bounded in time."""

    def __init__(self, plugins: Plugins, pool: ThreadPool, timeout: float) -> None:
        self._plugins = plugins
        self._calls = plugins.calls
        self._pool = pool
        self._timeout = timeout
        self.failures = 0

    def wanted(self, hook: str, job_name: str) -> bool:
        """Whether anything implements the hook for this job."""
        calls = self._calls(hook)
        return any(call.concerns(job_name) for call in calls) if calls else False

    async def for_job(self, hook: str, job_name: str, context: HookContext) -> SkipRun | None:
        """Call a hook about a job, one implementation after another; returns the first veto of a `before_run`."""
        for call in self._plugins.calls(hook):
            if not call.concerns(job_name):
                continue
            own = {key: deepcopy(value) if type(value) in (dict, list) else value for key, value in context.items()}
            veto = await self._guarded(call, (job_name, own), {"job_name": job_name, "context": own})
            if veto is not None and hook == "before_run":
                return veto
        return None

    def redacted(self, job_name: str, field: str, value: str) -> str:
        """What plugins let be kept of a text."""
        for call in self._plugins.calls("redact"):
            try:
                kept = call.call_by_name({"job_name": job_name, "field": field, "value": value})
                if kept is not None and not isinstance(kept, str):
                    raise TypeError(f"redact must return text or None, not {type(kept).__name__}")
            except BaseException as error:
                self.complain(call, "failed, so the text is not kept", error)
                return f"<not kept: the redact hook of plugin {call.plugin_name!r} failed>"
            value = value if kept is None else kept
        return value

    async def for_scheduler(self, hook: str, **arguments: object) -> None:
        """Call a life-cycle hook."""
        for call in self._plugins.calls(hook):
            await self._guarded(call, (), arguments)

    async def _guarded(
        self, call: HookCall, positional: tuple[object, ...], by_name: Mapping[str, object]
    ) -> SkipRun | None:
        if call.hanging >= _MAX_HANGING:
            self.complain(call, f"is not called: {call.hanging} of its calls hang")
            return None

        async def contained() -> BaseException | None:
            # SystemExit and KeyboardInterrupt would leave the task and end the loop.
            try:
                await call.run(self._pool, positional, by_name)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                return error
            return None

        task = asyncio.ensure_future(contained())
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=0)
            if not task.done():
                call.hangs(task)
            self.complain(call, f"did not end within {self._timeout:g} s and was left behind")
            return None
        if task.cancelled():
            self.complain(call, "was cancelled")
            return None
        error = task.result()
        if error is None or isinstance(error, SkipRun):
            return error
        self.complain(call, "failed", error)
        return None

    def complain(self, call: HookCall, what: str, error: BaseException | None = None) -> None:
        """Log what an implementation did wrong, in one line."""
        self.failures += 1
        if error is None:
            logger.error("hook %s of plugin %r %s", call.hook, call.plugin_name, what)
            return
        logger.error(
            "hook %s of plugin %r %s: %s: %s (%s)",
            call.hook,
            call.plugin_name,
            what,
            type(error).__name__,
            ascii(safe_text(error, 500)),
            where_raised(error),
        )
        logger.debug("hook %s of plugin %r", call.hook, call.plugin_name, exc_info=error)


class _AddedHook:
    """A function added through `crons.add_…_hook`, made into a plugin: there is one way that a hook is called."""

    def __init__(self, function: HookFunc, job_name: str | None) -> None:
        self.function = function
        self.job_name = job_name


# trylast: after the plugins' hooks, and among themselves in the order they were added.
class _AddedBeforeRun(_AddedHook):
    @hookimpl(trylast=True)
    def before_run(self, job_name: str, context: HookContext) -> None:
        self.function(job_name, context)


class _AddedAfterRun(_AddedHook):
    @hookimpl(trylast=True)
    def after_run(self, job_name: str, context: HookContext) -> None:
        self.function(job_name, context)


class _AddedOnError(_AddedHook):
    @hookimpl(trylast=True)
    def on_error(self, job_name: str, context: HookContext) -> None:
        self.function(job_name, context)


class _MakesAddedHook(Protocol):
    def __call__(self, function: HookFunc, job_name: str | None) -> _AddedHook: ...


_ADDED_HOOKS: Mapping[str, _MakesAddedHook] = {
    "before_run": _AddedBeforeRun,
    "after_run": _AddedAfterRun,
    "on_error": _AddedOnError,
}


def find_class(specs: Mapping[str, BackendSpec[BackendT_co]], class_name: str) -> type[BackendT_co] | None:
    """The class of this name among what plugins have registered, or None."""
    spec = next((spec for spec in specs.values() if spec.class_name == class_name), None)
    return None if spec is None else spec.load_class()


def chosen_backend(
    specs: Mapping[str, BackendSpec[BackendT_co]], name: str | None, variable: str
) -> BackendSpec[BackendT_co]:
    """The backend of this name, or with None the preferred one.

    Raises `ConfigurationError`, naming the variable and what there is instead.
    """
    if name is None:
        offered = [spec for spec in specs.values() if spec.preference >= 0]
        if not offered:
            raise ConfigurationError(
                f"no store is left to choose; set {variable} to one of {', '.join(sorted(specs)) or 'those of a plugin'}"
            )
        return max(offered, key=lambda spec: spec.preference)
    spec = specs.get(name)
    if spec is None:
        raise ConfigurationError(
            f"{variable}={name!r}: no installed plugin brings this backend; there are {', '.join(sorted(specs))}"
        )
    return spec


def _origin(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    of = f" of {distribution.name} {distribution.version}" if distribution is not None else ""
    return f"{entry_point.name!r} ({entry_point.value}){of}"
