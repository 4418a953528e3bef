"""Completion of the ids of runs: from the store that the settings name, else from that of an app that a command has used."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from fastapi_crons_cli.completion.quietly import quietly

if TYPE_CHECKING:
    from fastapi_crons.run import Run
    from fastapi_crons.scheduler import Crons

#: How many runs a shell offers.
_OFFERED = 50
#: A shell waits no longer than this (seconds) for a store.
_PATIENCE = 2


def newest_runs() -> list[tuple[str, str]]:
    """The short ids of the newest runs, newest first, each with its job, status and start; none where they can't be read."""
    from fastapi_crons.run import short_id

    runs = quietly(_newest_runs)
    return [(short_id(run.id), f"{run.job}, {run.status}, {run.started:%Y-%m-%d %H:%M:%S} UTC") for run in runs]


def _newest_runs() -> list[Run]:
    if os.path.exists(".env") and not os.path.isfile(".env"):  # reading a pipe would block
        return []
    found = asyncio.run(asyncio.wait_for(_of_settings(), _PATIENCE))
    if found:
        return found
    from fastapi_crons_cli.apps import find_app

    return asyncio.run(asyncio.wait_for(_of_app(find_app(None, only_used=True).crons), _PATIENCE))


async def _of_settings() -> list[Run]:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.stores import limits_of
    from fastapi_crons.plugins import Plugins
    from fastapi_crons.plugins.choice import choose_backends

    config = CronConfig()
    state, _ = choose_backends(config, Plugins(config.disabled_plugins), None, None)
    await state.open_to_read(config.namespace, limits_of(config))
    try:
        return await state.runs(None, limit=_OFFERED)
    finally:
        await state.close()


async def _of_app(crons: Crons) -> list[Run]:
    from fastapi_crons.management.management import Management

    await crons.start("observer")
    try:
        return await Management(crons).runs(limit=_OFFERED)
    finally:
        await crons.stop()
