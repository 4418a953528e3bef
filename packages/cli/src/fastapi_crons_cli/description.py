"""What a cron expression means, in plain words."""

from __future__ import annotations

_SIX_FIELDS = 6


def describe(expression: str) -> str | None:
    """The expression in English; None where the library that does it has no words for it."""
    from cron_descriptor import Options, get_description

    from fastapi_crons.schedule import ALIASES

    expression = ALIASES.get(expression.lower(), expression)
    fields = expression.split()
    if len(fields) == _SIX_FIELDS:  # seconds come last here, and first there
        expression = " ".join([fields[-1], *fields[:-1]])
    options = Options()
    options.locale_code = "en_US"
    options.use_24hour_time_format = True
    try:
        return str(get_description(expression, options))
    except Exception:  # an expression of a kind that it does not know
        return None
