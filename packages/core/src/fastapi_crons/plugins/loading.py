"""Finding and importing plugins by their entry points."""

from __future__ import annotations

import logging
import threading
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points, version

from fastapi_crons._util.text import one_line
from fastapi_crons.errors import PluginError
from fastapi_crons.plugins.markers import PROJECT

logger = logging.getLogger(__name__)

#: An import of a plugin that takes longer (seconds) is logged.
_LONG_IMPORT = 5.0
#: The distributions whose versions plugins require.
_CORE = ("fastapi-crons-core", "fastapi-crons")


def import_plugins(disabled: frozenset[str]) -> dict[str, EntryPoint]:
    """The entry points of all plugins that are not disabled, imported. Raises `PluginError`, naming each that can't be."""
    found: dict[str, EntryPoint] = {}
    # One by one, and not by pluggy, which would also load those of a distribution that an earlier copy on the path hides.
    for entry_point in entry_points(group=PROJECT):
        if entry_point.name in disabled:
            continue
        rival = found.setdefault(entry_point.name, entry_point)
        if rival is not entry_point:
            raise PluginError(
                f"two plugins are named {entry_point.name!r}: {origin(rival)} and {origin(entry_point)}; "
                "uninstall one of the two distributions"
            )
    faults = [fault for entry_point in found.values() if (fault := _fault_of(entry_point)) is not None]
    if faults:
        raise PluginError("; ".join(text for text, _ in faults)) from faults[0][1]
    return found


def _fault_of(entry_point: EntryPoint) -> tuple[str, BaseException | None] | None:
    """Why a plugin can't be loaded, as text, and what it raised; None where it can."""
    if entry_point.dist is not None:
        unmet = _unmet_requirement(entry_point.dist)
        if unmet is not None:
            # Checked before it is imported: what it raises would only hide the reason.
            return f"plugin {origin(entry_point)} {unmet}; or {_disable(entry_point)}", None
    watch = threading.Timer(_LONG_IMPORT, _log_long_import, [entry_point])
    watch.daemon = True
    watch.start()
    try:
        entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        return f"plugin {origin(entry_point)} can't be imported: {one_line(error)}; {remedy(entry_point)}", error
    finally:
        watch.cancel()
        watch.join()  # a process that forks now must have no thread that it does not know of
    return None


def _unmet_requirement(distribution: Distribution) -> str | None:
    """Which version of core a distribution requires that is not installed, and what to do; None where all is well.

    pip checks the ranges of what it installs, but not of what is installed: `pip install -U fastapi-crons-core` only warns.
    """
    stated = [line for line in distribution.requires or () if line.lower().startswith("fastapi")]
    if not stated:
        return None
    from packaging.requirements import InvalidRequirement, Requirement  # costs more than all the rest
    from packaging.utils import canonicalize_name

    for line in stated:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name not in _CORE or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:  # it runs from its sources, or is the distribution without code
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wanted = f"{name}{requirement.specifier}"
            return (
                f"needs {wanted}, and {name} {installed} is installed: "
                f"pip install -U {distribution.name}, or pip install '{wanted}'"
            )
    return None


def _log_long_import(entry_point: EntryPoint) -> None:
    logger.error(
        "plugin %s has not been imported within %g s, and everything waits for it; if this does not end, %s",
        origin(entry_point),
        _LONG_IMPORT,
        _disable(entry_point),
    )


def remedy(entry_point: EntryPoint) -> str:
    return f"fix or uninstall it, or {_disable(entry_point)}"


def _disable(entry_point: EntryPoint) -> str:
    return f"set CRON_DISABLED_PLUGINS={entry_point.name}"


def origin(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    of = f" of {distribution.name} {distribution.version}" if distribution is not None else ""
    return f"{entry_point.name!r} ({entry_point.value}){of}"
