"""Hooks that do next to nothing."""

from __future__ import annotations

from typing import Any

Context = dict[str, Any]


async def ok() -> dict[str, int]:
    return {"rows": 3}
