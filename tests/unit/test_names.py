"""What `fastapi_crons` offers: every name is there, and none costs anything before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastapi_crons
from fastapi_crons import Crons

#: What is wanted by some commands, stores and hooks, and by others not.
HEAVY = {
    "aiosqlite",
    "asyncio",
    "asyncpg",
    "croniter",
    "fastapi",
    "filelock",
    "pydantic",
    "redis",
    "rich",
    "sqlite3",
    "typer",
}


def test_every_public_name_is_there() -> None:
    assert all(getattr(fastapi_crons, name) is not None for name in fastapi_crons.__all__)
    assert set(fastapi_crons.__all__) <= set(dir(fastapi_crons))


def test_submodules_are_attributes_and_other_names_are_not() -> None:
    code = "import fastapi_crons; fastapi_crons.state.StateBackend, fastapi_crons.locking.LockBackend"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="'fastapi_crons' has no attribute 'nope'"):
        fastapi_crons.nope  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = HEAVY | {"packaging"}
    code = f"import sys, fastapi_crons, fastapi_crons.plugins; print([*{heavy} & sys.modules.keys()])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_loading_plugins_imports_nothing_before_it_is_needed() -> None:
    code = f"import sys; from fastapi_crons.plugins import Plugins; Plugins(); print([*{HEAVY} & sys.modules.keys()])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_scheduler_of_the_process_can_be_asked_for_without_making_one() -> None:
    assert Crons.current() is None
    crons = Crons()
    assert Crons.current() is crons
