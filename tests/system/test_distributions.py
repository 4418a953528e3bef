"""Distributions as they are installed: built into wheels, put into fresh environments, used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import check_installed

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "fastapi_crons_core": "packages/core",
    "fastapi_crons_sqlite": "packages/backend-sqlite",
    "fastapi_crons_redis_state": "packages/backend-redis/state",
    "fastapi_crons_redis_lock": "packages/backend-redis/lock",
    "fastapi_crons_cli": "packages/cli",
}

pytestmark = pytest.mark.slow


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    # Without the paths of this environment: what is installed must do.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with core and nothing else of ours."""
    folder = tmp_path_factory.mktemp("core") / "env"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", ROOT / "packages/core")
    return python


_USE_CORE = """
import asyncio
from fastapi_crons import Crons
async def main():
    crons = Crons()
    ran = asyncio.Event()
    @crons.cron("* * * * * *")
    async def job(): ran.set()
    await crons.start()
    print(type(crons.engine.state).__name__, type(crons.engine.locks.backend).__name__)
    await asyncio.wait_for(ran.wait(), 3)
    await crons.stop()
asyncio.run(main())
"""


def test_core_alone_works_in_memory_and_says_so_in_one_line(core_alone: Path) -> None:
    done = run(core_alone, "-c", _USE_CORE)
    assert done.stdout.split() == ["MemoryStateBackend", "LocalLockBackend"]
    assert len(done.stderr.splitlines()) == 1
    assert "kept in memory" in done.stderr


@pytest.mark.parametrize(
    ("code", "distribution"),
    [
        ("from fastapi_crons.state import SQLiteStateBackend", "fastapi-crons-sqlite"),
        ("from fastapi_crons.state import RedisStateBackend", "fastapi-crons-redis-state"),
        ("from fastapi_crons.locking import RedisLockBackend", "fastapi-crons-redis-lock"),
    ],
)
def test_a_name_of_a_missing_distribution_says_which(core_alone: Path, code: str, distribution: str) -> None:
    done = run(core_alone, "-c", code, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"pip install {distribution}" in last


@pytest.mark.parametrize("module", ["fastapi_crons", "fastapi_crons.cli"])
def test_the_command_line_that_is_not_installed_says_so_in_one_sentence(core_alone: Path, module: str) -> None:
    done = run(core_alone, "-m", module, "list-jobs", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "the command line is part of fastapi-crons-cli, which is not installed: pip install fastapi-crons-cli"
    ]


@pytest.fixture(scope="module")
def with_everything(core_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with every distribution, and a plugin of somebody else."""
    folder = tmp_path_factory.mktemp("all") / "env"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", *(ROOT / package for package in PACKAGES.values()))
    run(python, "-m", "pip", "install", "-q", "--no-deps", ROOT / "tests/plugins/alerts")
    return python


def test_installing_sqlite_makes_it_the_default(with_everything: Path, tmp_path: Path) -> None:
    done = run(with_everything, "-c", _USE_CORE)
    assert done.stdout.split() == ["SQLiteStateBackend", "SQLiteLockBackend"]
    assert done.stderr == ""
    assert (tmp_path / "crons.db").exists()


_USE_PLUGIN = """
import asyncio, pathlib
from fastapi_crons import Crons
async def main():
    crons = Crons()
    @crons.cron("0 0 1 1 *", name="job")
    async def job(): raise ValueError("no rows")
    await crons.start()
    await crons.run_job("job")
    print(type(crons.engine.state).__name__, [p.version for p in crons.plugins.list() if p.name == "alerts"])
    await crons.stop()
asyncio.run(main())
print(pathlib.Path("alerts.txt").read_text())
"""


def test_a_plugin_of_somebody_else_is_found_used_and_can_be_disabled(
    with_everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_STATE_BACKEND", "scratch")
    done = run(with_everything, "-c", _USE_PLUGIN)
    assert done.stdout.splitlines()[:2] == ["MemoryStateBackend ['1.2.3']", "job: no rows"]
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "alerts, cli")
    refused = run(with_everything, "-c", _USE_PLUGIN, check=False)
    assert "CRON_STATE_BACKEND='scratch'" in refused.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "backend"), [("CRON_STATE_BACKEND", "redis-state"), ("CRON_LOCK_BACKEND", "redis-lock")]
)
def test_a_redis_that_can_not_be_reached_stops_the_start_with_one_sentence(
    with_everything: Path, monkeypatch: pytest.MonkeyPatch, variable: str, backend: str
) -> None:
    monkeypatch.setenv(variable, backend)
    monkeypatch.setenv("CRON_REDIS_URL", "redis://ops:s3cret@127.0.0.1:1/3")
    done = run(with_everything, "-c", _USE_CORE, check=False)
    last = done.stderr.splitlines()[-1]
    assert "StoreUnavailableError: Redis at 127.0.0.1:1, database 3 as user 'ops': " in last
    assert "s3cret" not in done.stdout + done.stderr


def test_the_command_line_works_in_a_project_folder(with_everything: Path, tmp_path: Path) -> None:
    program = with_everything.parent / "fastapi-crons"
    assert re.fullmatch(r"fastapi-crons \d+\.\d+\.\d+\n", run(program, "--version").stdout)
    listed = run(with_everything, "-m", "fastapi_crons", "plugins").stdout
    for name in ("alerts", "memory", "local", "sqlite", "redis-state", "redis-lock", "cli"):
        assert name in listed
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\nfrom fastapi_crons import Crons\n"
        "app = FastAPI()\nCrons(app).cron('0 2 * * *', name='backup_db')(list)\n"
    )
    for words in ([program], [with_everything, "-m", "fastapi_crons"], [with_everything, "-m", "fastapi_crons.cli"]):
        assert "Job 'backup_db' completed successfully" in run(*words, "run-job", "backup_db").stdout
    assert "backup_db" in run(with_everything, "-m", "fastapi_crons", "list-jobs").stdout
    assert run(program, "check").stdout.startswith("✓ app: main:app, 1 jobs\n")


def test_every_distribution_is_complete_and_pins_core() -> None:
    for name, folder in PACKAGES.items():
        package = ROOT / folder
        assert name in check_installed.ENTRY_POINTS
        text = (package / "pyproject.toml").read_text()
        module = check_installed.ENTRY_POINTS[name][0]
        assert (package / "src" / module / "py.typed").exists()
        assert (package / "README.md").read_text().startswith(f"# {name.replace('_', '-')}\n")
        assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
        major, minor, _ = (ROOT / "VERSION").read_text().strip().split(".")
        if name != "fastapi_crons_core":
            assert f'"fastapi-crons-core>={major}.{minor},<{major}.{int(minor) + 1}"' in text
