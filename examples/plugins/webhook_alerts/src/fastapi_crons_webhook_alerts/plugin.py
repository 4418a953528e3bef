"""The plugin: says over a webhook when a job begins to fail, still fails, and is well again.

Every scheduler imports this module, with or without a webhook; what it needs for an alert is imported for the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_crons import HookContext, hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons import Crons
    from fastapi_crons_webhook_alerts.settings import AlertSettings

#: How much of `CRON_HOOK_TIMEOUT` is used: what is given up before its end can say why.
_SHARE = 0.9


@hookimpl
def settings() -> Sequence[type[BaseSettings]]:
    from fastapi_crons_webhook_alerts.settings import AlertSettings

    return [AlertSettings]


@hookimpl
def scheduler_started() -> None:
    """Read the settings now, so that a wrong one is reported at the start and not at the first failure."""
    _options()


@hookimpl
async def on_error(job_name: str, context: HookContext, crons: Crons) -> None:
    options = _options()
    if options.url is None or context["status"] == "cancelled":  # it was asked for
        return
    from fastapi_crons import StoreError
    from fastapi_crons_webhook_alerts.history import failures_before

    deadline = _deadline(crons)
    try:
        failures = 1 + await failures_before(crons, job_name, context["run_id"], enough=max(options.nth, 1))
    except StoreError:
        failures = None  # rather an alert too many than none
    if failures in (None, 1):
        await _send("failed", context, failures, options, deadline)
    elif failures == options.nth:
        await _send("still_failing", context, failures, options, deadline)


@hookimpl
async def after_run(job_name: str, context: HookContext, crons: Crons) -> None:
    options = _options()
    if options.url is None:
        return
    from fastapi_crons_webhook_alerts.history import failures_before

    deadline = _deadline(crons)
    failures = await failures_before(crons, job_name, context["run_id"])
    if failures:
        await _send("recovered", context, failures, options, deadline)


def _options() -> AlertSettings:
    from fastapi_crons_webhook_alerts.settings import AlertSettings

    return AlertSettings()


def _deadline(crons: Crons) -> float:
    """Until when (on the loop's clock) this hook may take."""
    import asyncio

    return asyncio.get_running_loop().time() + _SHARE * crons.config.hook_timeout


async def _send(
    event: str, context: HookContext, failures: int | None, options: AlertSettings, deadline: float
) -> None:
    from fastapi_crons_webhook_alerts.message import message
    from fastapi_crons_webhook_alerts.sender import post

    assert options.url is not None
    body = message(event, context, failures, error_text=options.error_text)
    await post(options.url.get_secret_value(), body, timeout=options.timeout, deadline=deadline)
