"""Distributions as they are installed: built into wheels, put into fresh environments, used."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.system import check_installed
from tests.system.conftest import EXAMPLES, PACKAGES, ROOT, pip, run

pytestmark = pytest.mark.slow

#: Distributions that register a store of `fastapi-crons-redis`, and nothing more.
WITHOUT_CODE = {"fastapi_crons_redis_lock", "fastapi_crons_redis_state"}

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


_ASK_FOR_REDIS = """
from fastapi_crons import MissingDistributionError
from fastapi_crons.plugins import Plugins
print(*sorted({plugin.name for plugin in Plugins().list()} - {"memory", "local"}))
for module, name in (("locking", "RedisLockBackend"), ("state", "RedisStateBackend")):
    try:
        exec(f"from fastapi_crons.{module} import {name}")
    except MissingDistributionError as error:
        print(error)
    else:
        print(name)
"""
_LOCK_MISSING, _STATE_MISSING = (
    f"Redis{kind.title()}Backend is part of fastapi-crons-redis-{kind}, which is not installed: "
    f"pip install fastapi-crons-redis-{kind}"
    for kind in ("lock", "state")
)


def test_each_piece_of_redis_registers_one_store_and_takes_it_away_again(
    with_code_of_redis: Path, wheels: Path
) -> None:
    def asked() -> list[str]:
        return run(with_code_of_redis, "-c", _ASK_FOR_REDIS).stdout.splitlines()

    assert asked() == ["", _LOCK_MISSING, _STATE_MISSING]
    pip(with_code_of_redis, "install", "--no-index", *wheels.glob("fastapi_crons_redis_lock-*"))
    assert asked() == ["redis-lock", "RedisLockBackend", _STATE_MISSING]
    pip(with_code_of_redis, "install", "--no-index", *wheels.glob("fastapi_crons_redis_state-*"))
    assert asked() == ["redis-lock redis-state", "RedisLockBackend", "RedisStateBackend"]
    pip(with_code_of_redis, "uninstall", "fastapi-crons-redis-lock")
    assert asked() == ["redis-state", _LOCK_MISSING, "RedisStateBackend"]
    pip(with_code_of_redis, "uninstall", "fastapi-crons-redis")
    refused = run(with_code_of_redis, "-c", _ASK_FOR_REDIS, check=False).stderr.splitlines()[-1]
    assert "of fastapi-crons-redis-state" in refused
    assert "No module named 'fastapi_crons_redis'" in refused


def test_no_file_is_in_two_wheels(wheels: Path) -> None:
    files = {path.name: set(ZipFile(path).namelist()) for path in wheels.glob("*.whl")}
    together = [name for names in files.values() for name in names]
    assert len(together) == len(set(together))
    for wheel, names in files.items():
        folders = {name.partition("/")[0].rpartition(".")[2] for name in names}
        assert (folders == {"dist-info"}) is (wheel.partition("-")[0] in WITHOUT_CODE)


def test_the_dashboard_comes_with_the_list_of_the_files_of_others(wheels: Path) -> None:
    (wheel,) = wheels.glob("fastapi_crons_dashboard-*.whl")
    licences = {Path(name).name for name in ZipFile(wheel).namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "htmx.txt", "pico.txt", "vendored.json"}


def test_installing_sqlite_makes_it_the_default(with_everything: Path, tmp_path: Path) -> None:
    done = run(with_everything, "-c", _USE_CORE)
    assert done.stdout.split() == ["SQLiteStateBackend", "SQLiteLockBackend"]
    assert done.stderr == ""
    assert (tmp_path / "crons.db").exists()


_USE_PLUGIN = """
import asyncio
from fastapi_crons import Crons
async def main():
    crons = Crons()
    await crons.start()
    (jsonl,) = [plugin for plugin in crons.plugins.list() if plugin.name == 'jsonl']
    print(type(crons.engine.state).__name__, jsonl.name, jsonl.version)
    await crons.stop()
asyncio.run(main())
"""


def test_a_plugin_of_somebody_else_is_found_used_and_can_be_disabled(
    with_everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_STATE_BACKEND", "jsonl")
    done = run(with_everything, "-c", _USE_PLUGIN)
    assert done.stdout == "JsonlStateBackend jsonl 0.1.0\n"
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "jsonl, cli")
    refused = run(with_everything, "-c", _USE_PLUGIN, check=False)
    assert "CRON_STATE_BACKEND='jsonl'" in refused.stderr.splitlines()[-1]


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
    for name in (
        "webhook-alerts",
        "jsonl",
        "plain-sql",
        "memory",
        "local",
        "sqlite",
        "redis-state",
        "redis-lock",
        "cli",
        "dashboard",
    ):
        assert name in listed
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\nfrom fastapi_crons import Crons\n"
        "app = FastAPI()\nCrons(app).cron('0 2 * * *', name='backup_db')(list)\n"
    )
    for words in ([program], [with_everything, "-m", "fastapi_crons"], [with_everything, "-m", "fastapi_crons.cli"]):
        assert "Job 'backup_db' completed successfully" in run(*words, "run-job", "backup_db").stdout
    assert "backup_db" in run(with_everything, "-m", "fastapi_crons", "list-jobs").stdout
    assert run(program, "check").stdout.startswith("✓ app: main:app, 1 job\n")


def test_every_distribution_is_complete_and_pins_core() -> None:
    major, minor, _ = (ROOT / "VERSION").read_text().strip().split(".")
    # Ours use what is private, too, and are released together.
    ours = f'"fastapi-crons-core>={major}.{minor},<{major}.{int(minor) + 1}"'
    others = f'"fastapi-crons-core>={major}.{minor},<{int(major) + 1}"'
    assert [path for path in (ROOT / "packages").rglob("*") if path.is_symlink()] == []
    for name, folder in {**PACKAGES, **EXAMPLES}.items():
        package = ROOT / folder
        text = (package / "pyproject.toml").read_text()
        module = check_installed.ENTRY_POINTS[name][0] if name in PACKAGES else name
        assert (package / "src" / module / "py.typed").exists() is (name not in WITHOUT_CODE)
        assert (package / "README.md").read_text().startswith(f"# {name.replace('_', '-')}\n")
        assert (name == "fastapi_crons_core") is not ((ours if name in PACKAGES else others) in text)
        if name in PACKAGES:
            assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
