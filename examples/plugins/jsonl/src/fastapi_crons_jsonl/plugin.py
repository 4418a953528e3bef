"""The plugin: brings the backend named `jsonl`. Every scheduler imports this module, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons import hookimpl
from fastapi_crons.plugins import StateBackendSpec

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons import CronConfig
    from fastapi_crons.state import StateBackend


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    return {"jsonl": StateBackendSpec("fastapi_crons_jsonl.state:JsonlStateBackend", _create, _settings)}


def _settings() -> type[BaseSettings]:
    from fastapi_crons_jsonl.settings import JsonlSettings

    return JsonlSettings


def _create(config: CronConfig) -> StateBackend:
    from fastapi_crons_jsonl.settings import JsonlSettings
    from fastapi_crons_jsonl.state import JsonlStateBackend

    settings = JsonlSettings()
    # Never so long that the scheduler gives up first.
    return JsonlStateBackend(settings.folder, lock_timeout=min(settings.lock_timeout, 0.8 * config.store_timeout))
