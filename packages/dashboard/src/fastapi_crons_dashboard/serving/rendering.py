"""Makes pages of templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from fastapi_crons.clock import UTC, utc_datetime
from fastapi_crons.run import RETRY_LOGGER, reason_in_words
from fastapi_crons_dashboard.words import instants, times
from fastapi_crons_dashboard.words.fates import FATES, STRIP_LEGEND, TRIGGERS, legend

#: The pages that each page links to, and their words.
NAVIGATION = (
    ("overview", "Jobs"),
    ("runs", "Runs"),
    ("timeline", "Timeline"),
    ("plan", "Plan"),
    ("instances", "Instances"),
)


def pretty(text: str) -> str:
    """JSON text on lines of its own; any other as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


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
        clock=times.clock,
        localised=times.localised,
        pieces=times.pieces,
        pretty=pretty,
        counted=times.counted,
        reason=lambda ticks, details: reason_in_words(ticks, details=details),
        instant=utc_datetime,
        zone=times.zone,
        instant_text=instants.instant_text,
        wall=instants.wall,
        on_the_wall=instants.on_the_wall,
    )
    environment.globals.update(
        utc=UTC,
        fates=FATES,
        strip_legend=legend(STRIP_LEGEND),
        triggers=TRIGGERS,
        navigation=NAVIGATION,
        retry_logger=RETRY_LOGGER,
    )
    return environment


def render(template: str, values: Mapping[str, object]) -> str:
    """A page. Raises for values that a template needs and does not get."""
    return _environment().get_template(template).render(values)
