"""The dashboard of FastAPI Crons. Its rooms, from the top down; imports point down:

- `plugin`, `router`: the doors by which an app gets it
- `pages`: each page, and what its forms do
- `serving`: how pages are asked for and answered
- `svg`: what is drawn
- `words`: what is said, of instants, fates, definitions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons_dashboard.router import get_dashboard_router

__all__ = ["get_dashboard_router"]


def __getattr__(name: str) -> object:
    # The plugin is imported in each process that has it installed, also where no router is made.
    if name == "get_dashboard_router":
        from fastapi_crons_dashboard.router import get_dashboard_router

        return get_dashboard_router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
