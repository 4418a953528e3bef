"""Variables that are not what they seem: misspelt ones, ones with quotes, ones that nothing reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_crons import ConfigurationError, CronConfig
from fastapi_crons.plugins import Plugins
from fastapi_crons.scheduler.variables import unread_variables
from fastapi_crons_redis.settings import RedisSettings
from fastapi_crons_sqlite import SQLiteSettings

#: Of other programs, and ours.
OTHERS = (
    "CRON_SECRET",
    "CRON_SCHEDULE",
    "CRON_TZ",
    "CRON_LOG_LEVEL",
    "CRON_JOB_NAME",
    "CRON",
    "CRON_",
    "CRONTAB",
    "TIMEZON",
)
OURS = ("CRON_TIMEZONE", "CRON_REDIS_CA_FILE", "CRON_SQLITE_PATH", "CRON_APP", "cron_namespace")


def test_variables_of_others_and_our_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*OTHERS, *OURS):
        monkeypatch.setenv(variable, "UTC")
    assert unread_variables(Plugins()) == []


def test_variables_of_what_is_not_installed_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", "redis://h/0")
    assert unread_variables(Plugins()) == []
    (said,) = unread_variables(Plugins(frozenset({"redis-lock", "redis-state"})))
    assert said.startswith("CRON_REDIS_URL is set, but what reads it is not installed: pip install ")
    monkeypatch.delenv("CRON_REDIS_URL")
    monkeypatch.setenv("CRON_POSTGRES_URL", "postgresql://h/app")
    (said,) = unread_variables(Plugins(frozenset({"postgres"})))
    assert said == "CRON_POSTGRES_URL is set, but what reads it is not installed: pip install fastapi-crons-postgres"


@pytest.mark.parametrize("mark", ['"', "'"])
@pytest.mark.parametrize(
    ("variable", "settings"),
    [
        ("CRON_SQLITE_PATH", SQLiteSettings),
        ("CRON_INSTANCE_ID", CronConfig),
        ("CRON_DISABLED_PLUGINS", CronConfig),
        ("CRON_NAMESPACE", CronConfig),
        ("CRON_TIMEZONE", CronConfig),
        ("CRON_REDIS_URL", RedisSettings),
        ("CRON_REDIS_USERNAME", RedisSettings),
        ("CRON_REDIS_CA_FILE", RedisSettings),
    ],
)
def test_quotes_that_a_reader_of_variables_left_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, settings: type[CronConfig], mark: str
) -> None:
    monkeypatch.setenv(variable, f"{mark}crons.db{mark}")
    with pytest.raises(ConfigurationError, match=variable):
        settings()
    # Where a file is read that means them as quotes, they are no part of the value.
    monkeypatch.delenv(variable)
    Path(".env").write_text(f"CRON_SQLITE_PATH={mark}crons.db{mark}\n")
    assert SQLiteSettings().path == "crons.db"
