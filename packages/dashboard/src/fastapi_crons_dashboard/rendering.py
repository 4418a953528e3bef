"""Makes pages of templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from fastapi_crons_dashboard import times
from fastapi_crons_dashboard.fates import FATES

#: The pages that each page links to, and their words.
NAVIGATION = (("overview", "Jobs"),)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fastapi_crons_dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        duration=times.duration,
        relative=times.relative,
        absolute=times.absolute,
        iso=times.iso,
    )
    environment.globals.update(fates=FATES, navigation=NAVIGATION)
    return environment


def render(template: str, values: Mapping[str, object]) -> str:
    """A page. Raises for values that a template needs and does not get."""
    return _environment().get_template(template).render(values)
