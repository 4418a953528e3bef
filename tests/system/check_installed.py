"""Run in a fresh environment: the distribution named by the argument can be imported, and its plugin is found."""

from __future__ import annotations

import importlib
import sys

from fastapi_crons.plugins import Plugins

#: By distribution: the module that it installs, or that it registers a plugin of, and the names of its plugins.
ENTRY_POINTS: dict[str, tuple[str, set[str]]] = {
    "fastapi_crons_core": ("fastapi_crons", {"memory", "local"}),
    "fastapi_crons_sqlite": ("fastapi_crons_sqlite", {"sqlite"}),
    "fastapi_crons_postgres": ("fastapi_crons_postgres", {"postgres"}),
    "fastapi_crons_redis": ("fastapi_crons_redis", set()),
    "fastapi_crons_redis_state": ("fastapi_crons_redis", {"redis-state"}),
    "fastapi_crons_redis_lock": ("fastapi_crons_redis", {"redis-lock"}),
    "fastapi_crons_cli": ("fastapi_crons_cli", {"cli"}),
    "fastapi_crons_dashboard": ("fastapi_crons_dashboard", {"dashboard"}),
}


def main(distribution: str) -> None:
    """Exit with a message when something is missing."""
    module, expected = ENTRY_POINTS[distribution]
    importlib.import_module(module)
    found = {plugin.name for plugin in Plugins().list()}
    wanted = expected | ENTRY_POINTS["fastapi_crons_core"][1]
    if found != wanted:
        sys.exit(f"{distribution}: expected the plugins {sorted(wanted)}, found {sorted(found)}")
    print(f"{distribution}: {module} imports; plugins {', '.join(sorted(found))}")


if __name__ == "__main__":
    main(sys.argv[1])
