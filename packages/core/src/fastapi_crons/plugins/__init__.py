"""Plugins: the hook specifications, how plugins are found and called, and the backends that they bring."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons.plugins.backends import LockBackendSpec, StateBackendSpec
    from fastapi_crons.plugins.registry import PluginInfo, Plugins

__all__ = ["LockBackendSpec", "PluginInfo", "Plugins", "StateBackendSpec"]

#: Imported when asked for: every plugin imports the hook specifications, which are in this package.
_LATER = {
    "LockBackendSpec": "fastapi_crons.plugins.backends",
    "PluginInfo": "fastapi_crons.plugins.registry",
    "Plugins": "fastapi_crons.plugins.registry",
    "StateBackendSpec": "fastapi_crons.plugins.backends",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
