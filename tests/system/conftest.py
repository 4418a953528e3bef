"""Environments with our distributions installed from wheels: each is made once, whatever the number of workers that want it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Once
from tests.system.clones import NOT_OURS

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "fastapi_crons_core": "packages/core",
    "fastapi_crons_sqlite": "packages/backend-sqlite",
    "fastapi_crons_postgres": "packages/backend-postgres",
    "fastapi_crons_redis": "packages/backend-redis/redis",
    "fastapi_crons_redis_state": "packages/backend-redis/state",
    "fastapi_crons_redis_lock": "packages/backend-redis/lock",
    "fastapi_crons_cli": "packages/cli",
    "fastapi_crons_dashboard": "packages/dashboard",
}
EXAMPLES = {
    "fastapi_crons_webhook_alerts": "examples/plugins/webhook_alerts",
    "fastapi_crons_jsonl": "examples/plugins/jsonl",
    "fastapi_crons_plain_sql": "examples/plugins/plain_sql",
}
#: What runs the tests of the examples, and apps.
_TOOLS = ("pytest", "hypothesis", "uvicorn")


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program without the paths of this environment: what is installed must do."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session", autouse=True)
def _quick_programs() -> Iterator[None]:
    """Much that pip installs is never imported: it compiles nothing, and the first program to import a module does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        # Of pip's options that say no, the variable is the answer to what they deny.
        patch.setenv("PIP_NO_COMPILE", "0")
        patch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        yield


@pytest.fixture(scope="session")
def wheels(once: Once) -> Path:
    """A folder with the wheels of all distributions, the examples among them."""

    def build(folder: Path) -> None:
        builder = new_environment(folder.with_name("builder"))
        pip(builder, "install", "hatchling")
        sources = [ROOT / package for package in (*PACKAGES.values(), *EXAMPLES.values())]
        pip(builder, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, *sources)

    return once("wheels", build)


@pytest.fixture(scope="session")
def core_alone(once: Once, wheels: Path) -> Path:
    """The Python of an environment with core and nothing else of ours."""

    def make(folder: Path) -> None:
        pip(new_environment(folder), "install", *wheels.glob("fastapi_crons_core-*"))

    return python_of(once("core-alone", make))


@pytest.fixture
def with_code_of_redis(tmp_path: Path, wheels: Path) -> Path:
    """The Python of an environment with core and the code of the Redis stores, but no plugin that registers one."""
    python = new_environment(tmp_path / "redis")
    pip(python, "install", *wheels.glob("fastapi_crons_core-*"), *wheels.glob("fastapi_crons_redis-*"))
    return python


@pytest.fixture(scope="session")
def with_everything(once: Once, wheels: Path) -> Path:
    """The Python of an environment with every distribution, and the examples as plugins of somebody else."""

    def make(folder: Path) -> None:
        pip(new_environment(folder), "install", *_TOOLS, *wheels.glob("*.whl"))

    return python_of(once("everything", make))


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def new_environment(folder: Path, *, has_pip: bool = False) -> Path:
    run(sys.executable, "-m", "venv", *([] if has_pip else ["--without-pip"]), folder)
    return python_of(folder)


def pip(python: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Install into another environment, by uv, in a second; what `pip install` does, `test_clone.py` and `nox -s build` see."""
    command, *rest = arguments
    if command == "wheel":
        return run(sys.executable, "-m", "pip", "--python", python, "-q", command, *rest, check=check)
    return run(sys.executable, "-m", "uv", "pip", command, "-q", "--python", python, *rest, check=check)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "clone", symlinks=True, ignore=NOT_OURS))


@pytest.fixture(scope="session")
def tools(once: Once) -> Path:
    """The programs of an environment that has nothing to do with the clone: uv and nox."""

    def make(folder: Path) -> None:
        python = new_environment(folder)
        pip(python, "install", "nox", "uv")
        # nox finds a uv beside it, too: it is in a folder of its own.
        (folder / "only-uv").mkdir()
        shutil.move(folder / "bin" / "uv", folder / "only-uv" / "uv")
        pip(python, "uninstall", "uv")

    return once("tools", make)


@pytest.fixture
def uv(tools: Path) -> Path:
    return tools / "only-uv"
