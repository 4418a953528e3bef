"""The markers of hooks: `@hookimpl` for plugins, `@hookspec` for the specifications."""

from __future__ import annotations

from typing import Any

import pluggy

PROJECT = "fastapi_crons"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: What hooks get about a run or about missed ticks: JSON-serialisable values. Each implementation gets its own copy.
HookContext = dict[str, Any]
