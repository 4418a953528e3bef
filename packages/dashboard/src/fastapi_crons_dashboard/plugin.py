"""The plugin: adds the dashboard to each management router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_crons import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

    from fastapi_crons import Crons


@hookimpl
def routes(router: APIRouter, crons: Crons | None) -> None:
    from fastapi_crons_dashboard.router import add_pages

    add_pages(router, prefix="/dashboard")
