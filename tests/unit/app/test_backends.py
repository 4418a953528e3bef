"""Which stores a scheduler uses, and what it says where they do not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio import RedisCluster

from fastapi_crons import CronConfig
from fastapi_crons._elsewhere import class_elsewhere
from fastapi_crons.errors import ConfigurationError, MissingDistributionError
from fastapi_crons.locking import LocalLockBackend, LockBackend
from fastapi_crons.plugins import Plugins, StateBackendSpec
from fastapi_crons.plugins.choice import choose_backends, reach_warning
from fastapi_crons.state import MemoryStateBackend, StateBackend
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from fastapi_crons_sqlite import SQLiteLockBackend, SQLiteStateBackend
from tests import seam

URL = "redis://ops:s3cret@127.0.0.1:1/0"


def _not_installed(distribution: str) -> str:
    raise PackageNotFoundError(distribution)


def chosen(state: StateBackend | None = None) -> tuple[str, str]:
    """The names of the classes of state and lock that the environment leads to."""
    config = CronConfig()
    found, locks = choose_backends(config, Plugins(config.disabled_plugins), state, None)
    return type(found).__name__, type(locks.backend).__name__


def test_nothing_configured_leads_to_sqlite_where_it_is_installed() -> None:
    assert chosen() == ("SQLiteStateBackend", "SQLiteLockBackend")


@pytest.mark.parametrize("in_file", [False, True])
def test_a_redis_url_leads_to_redis_for_both(monkeypatch: pytest.MonkeyPatch, in_file: bool) -> None:
    if in_file:
        Path(".env").write_text(f"CRON_REDIS_URL={URL}\n")
    else:
        monkeypatch.setenv("CRON_REDIS_URL", URL)
    assert chosen() == ("RedisStateBackend", "RedisLockBackend")
    assert chosen(SQLiteStateBackend("mine.db")) == ("SQLiteStateBackend", "RedisLockBackend")


@pytest.mark.parametrize(
    ("state", "lock", "expected", "said"),
    [
        ("sqlite", None, ("SQLiteStateBackend", "RedisLockBackend"), "they are kept per host (SQLiteStateBackend)"),
        (None, "sqlite", ("RedisStateBackend", "SQLiteLockBackend"), "each host runs every tick (SQLiteLockBackend)"),
        ("redis-state", "redis-lock", ("RedisStateBackend", "RedisLockBackend"), None),
        ("redis", "redis", ("RedisStateBackend", "RedisLockBackend"), None),
    ],
)
def test_what_is_named_is_used_and_stores_of_different_reach_get_one_line(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    state: str | None,
    lock: str | None,
    expected: tuple[str, str],
    said: str | None,
) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", URL)
    for variable, name in (("CRON_STATE_BACKEND", state), ("CRON_LOCK_BACKEND", lock)):
        if name is not None:
            monkeypatch.setenv(variable, name)
    assert chosen() == expected
    assert len(caplog.messages) == (said is not None)
    assert said is None or said in caplog.text


class FleetState(MemoryStateBackend):
    """A store of somebody else's for a whole fleet."""

    durable, reach = True, "fleet"

    def __init__(self, lock: Callable[[], LockBackend | None]) -> None:
        super().__init__()
        self._lock = lock

    def companion_lock(self) -> LockBackend | None:  # type: ignore[override]
        return self._lock()


class FleetLock(LocalLockBackend):
    reach = "fleet"


@pytest.mark.parametrize("made", [lambda: redis.asyncio.from_url(URL), lambda: RedisCluster.from_url(URL), lambda: URL])
@pytest.mark.parametrize("distributed", ["false", "true"])
@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:2/0"])
def test_a_redis_store_given_alone_takes_the_lock_on_that_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, made: Any, distributed: str, url: str | None
) -> None:
    monkeypatch.setenv("CRON_ENABLE_DISTRIBUTED_LOCKING", distributed)
    if url is not None:
        monkeypatch.setenv("CRON_REDIS_URL", url)
    state = RedisStateBackend(made())
    _, locks = choose_backends(CronConfig(), Plugins(), state, None)
    assert isinstance(locks.backend, RedisLockBackend)
    assert locks.backend._connection.name == state._connection.name
    assert not caplog.messages
    assert not list(Path().iterdir())


def test_a_redis_store_given_alone_says_what_to_install_for_its_lock(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.metadata.version", _not_installed)
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "redis-lock,postgres")
    assert chosen(RedisStateBackend(URL)) == ("RedisStateBackend", "SQLiteLockBackend")
    (said,) = caplog.messages
    assert "each host runs every tick (SQLiteLockBackend)" in said
    assert said.endswith("is not installed: pip install fastapi-crons-redis-lock")
    monkeypatch.setenv("CRON_ENABLE_DISTRIBUTED_LOCKING", "true")
    with pytest.raises(ConfigurationError, match="pip install fastapi-crons-redis-lock"):
        chosen(RedisStateBackend(URL))


def test_a_lock_whose_plugin_is_disabled_is_not_used_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "redis-lock")
    assert chosen(RedisStateBackend(URL)) == ("RedisStateBackend", "SQLiteLockBackend")
    (said,) = caplog.messages
    assert said.endswith("whose plugin is disabled: take it out of CRON_DISABLED_PLUGINS")


def test_a_lock_that_is_named_goes_before_the_store_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_LOCK_BACKEND", "sqlite")
    assert chosen(RedisStateBackend(URL)) == ("RedisStateBackend", "SQLiteLockBackend")


def test_a_store_of_somebody_else_s_brings_its_lock_or_says_what_to_install(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(FleetState(FleetLock)) == ("FleetState", "FleetLock")
    assert not caplog.messages

    def missing() -> LockBackend | None:
        raise MissingDistributionError("its lock is part of acme-lock, which is not installed: pip install acme-lock")

    assert chosen(FleetState(missing)) == ("FleetState", "SQLiteLockBackend")
    (said,) = caplog.messages
    assert "pip install acme-lock" in said
    with pytest.raises(ConfigurationError, match="the lock of FleetState can't be made: ZeroDivisionError"):
        chosen(FleetState(lambda: 1 / 0))  # type: ignore[arg-type, return-value]


def test_a_sqlite_store_given_alone_locks_in_its_own_file() -> None:
    _, locks = choose_backends(CronConfig(), Plugins(), SQLiteStateBackend("mine.db"), None)
    assert isinstance(locks.backend, SQLiteLockBackend)
    assert Path(locks.backend.path) == Path(SQLiteStateBackend("mine.db").path)


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [
        ("fastapi_crons.state", "SQLiteStateBackend", SQLiteStateBackend),
        ("fastapi_crons.state", "RedisStateBackend", RedisStateBackend),
        ("fastapi_crons.locking", "SQLiteLockBackend", SQLiteLockBackend),
        ("fastapi_crons.locking", "RedisLockBackend", RedisLockBackend),
    ],
)
def test_documented_classes_are_found_without_loading_plugins(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, found: type
) -> None:
    seam.ENTRY_POINTS.replace(monkeypatch, lambda group: 1 / 0)
    assert getattr(import_module(module), name) is found


def test_documented_classes_are_those_of_the_table_and_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError, match=r"'fastapi_crons\.state' has no attribute 'RedisLockBackend'"):
        class_elsewhere("fastapi_crons.state", "RedisLockBackend")
    monkeypatch.setitem(sys.modules, "fastapi_crons_sqlite.state", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastapi_crons_sqlite\.state"):
        class_elsewhere("fastapi_crons.state", "SQLiteStateBackend")
    monkeypatch.setattr("importlib.metadata.version", _not_installed)
    with pytest.raises(MissingDistributionError, match="not installed: pip install fastapi-crons-sqlite"):
        class_elsewhere("fastapi_crons.state", "SQLiteStateBackend")


def test_distributed_locking_takes_a_lock_for_a_fleet_or_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_ENABLE_DISTRIBUTED_LOCKING", "true")
    assert chosen() == ("SQLiteStateBackend", "RedisLockBackend")
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "redis-lock")
    with pytest.raises(
        ConfigurationError, match="no variable says where the lock of all instances is: set CRON_POSTGRES_URL"
    ):
        chosen()
    monkeypatch.setenv("CRON_LOCK_BACKEND", "postgres")
    assert chosen() == ("SQLiteStateBackend", "PostgresLockBackend")
    monkeypatch.delenv("CRON_LOCK_BACKEND")
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "redis-lock,postgres")
    with pytest.raises(ConfigurationError, match="pip install fastapi-crons-redis-lock"):
        chosen()
    monkeypatch.setenv("CRON_POSTGRES_URL", "postgresql://db/shop")
    with pytest.raises(ConfigurationError, match=r"CRON_POSTGRES_URL is set, .*: pip install fastapi-crons-postgres$"):
        chosen()
    monkeypatch.delenv("CRON_POSTGRES_URL")
    monkeypatch.delenv("CRON_DISABLED_PLUGINS")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "sqlite")
    with pytest.raises(ConfigurationError, match="SQLiteLockBackend reaches no further than one host"):
        chosen()


def test_two_stores_that_the_environment_asks_for_are_refused_until_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", URL)
    monkeypatch.setenv("CRON_POSTGRES_URL", "postgresql://crons:hidden@localhost/app")
    with pytest.raises(ConfigurationError) as refused:
        chosen()
    assert str(refused.value) == (
        "the environment asks for PostgresStateBackend (CRON_POSTGRES_URL) and RedisStateBackend (CRON_REDIS_URL); "
        "unset what is not used, or name one store by CRON_STATE_BACKEND"
    )
    monkeypatch.setenv("CRON_STATE_BACKEND", "postgres")
    assert chosen() == ("PostgresStateBackend", "PostgresLockBackend")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "redis")
    assert chosen() == ("PostgresStateBackend", "RedisLockBackend")
    monkeypatch.delenv("CRON_STATE_BACKEND")
    assert chosen() == ("RedisStateBackend", "RedisLockBackend")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "sqlite")
    with pytest.raises(ConfigurationError, match="name one store by CRON_STATE_BACKEND"):
        chosen()


def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "redis-lock")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "redis-lock")
    with pytest.raises(ConfigurationError, match="pip install fastapi-crons-redis-lock"):
        chosen()


@pytest.mark.parametrize(
    "url", ["rediss//ops:s3cret@host", "redis+sentinel://ops:s3cret@host:26379", "redis://h:s3cret/x"]
)
def test_a_url_that_can_not_be_used_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="CRON_REDIS_URL") as refused:
        chosen()
    assert "s3cret" not in str(refused.value)


def test_several_hosts_with_a_lock_for_one_are_warned_about_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reach_warning("host") is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert reach_warning("fleet") is None
    assert "Kubernetes" in str(reach_warning("host"))
    monkeypatch.setenv("CRON_ENABLE_DISTRIBUTED_LOCKING", "true")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "sqlite")
    with pytest.raises(ConfigurationError, match=r"CRON_ENABLE_DISTRIBUTED_LOCKING.*SQLiteLockBackend.*Kubernetes"):
        chosen()
    monkeypatch.delenv("CRON_LOCK_BACKEND")
    monkeypatch.setenv("CRON_REDIS_URL", URL)
    assert chosen() == ("RedisStateBackend", "RedisLockBackend")


class _StrangersSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CRON_ACME_")

    key: int = 1


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (lambda config: _StrangersSettings(), "settings can't be used: CRON_ACME_KEY: "),
        (lambda config: 1 / 0, "Store can't be made: ZeroDivisionError: division by zero"),
    ],
)
def test_a_backend_that_can_not_be_made_says_why_without_values(
    monkeypatch: pytest.MonkeyPatch, create: Callable[[CronConfig], StateBackend], said: str
) -> None:
    monkeypatch.setenv("CRON_ACME_KEY", "s3cret")
    spec = StateBackendSpec("acme:Store", create, lambda: _StrangersSettings)
    with pytest.raises(ConfigurationError) as refused:
        spec.make(CronConfig())
    assert str(refused.value).startswith(said)
    assert "s3cret" not in str(refused.value)


def test_a_backend_that_does_not_tell_of_its_settings_is_named_when_they_are_at_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRON_ACME_KEY", "s3cret")
    spec = StateBackendSpec("acme:Store", lambda config: _StrangersSettings())  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match=r"^Store: settings can't be used: key: ") as refused:
        spec.make(CronConfig())
    assert "s3cret" not in str(refused.value)
