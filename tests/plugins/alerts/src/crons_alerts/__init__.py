"""A plugin of somebody else: a hook, and a state store of its own kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi_crons import hookimpl
from fastapi_crons.plugins import StateBackendSpec


@hookimpl
def on_error(job_name: str, context: dict[str, Any]) -> None:
    """Write the alert to a file."""
    with Path("alerts.txt").open("a") as file:
        file.write(f"{job_name}: {context['error']}\n")


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    """A store by another name."""
    from fastapi_crons.state import MemoryStateBackend

    return {"scratch": StateBackendSpec("fastapi_crons.state:MemoryStateBackend", lambda config: MemoryStateBackend())}
