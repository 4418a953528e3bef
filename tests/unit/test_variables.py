"""Variables that are not what they seem: misspelt ones, ones with quotes, ones that nothing reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_crons import ConfigurationError, CronConfig, Crons
from fastapi_crons.plugins import Plugins
from fastapi_crons.scheduler.variables import unread_variables
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons_redis.settings import RedisSettings
from fastapi_crons_sqlite import SQLiteSettings

#: Misspelt, and what was meant.
MISSPELT = {
    "CRON_TIMEZON": "CRON_TIMEZONE",
    "CRON_TIME_ZONE": "CRON_TIMEZONE",
    "cron_timezon": "CRON_TIMEZONE",
    "CRON_NAME_SPACE": "CRON_NAMESPACE",
    "CRON_ENABLE": "CRON_ENABLED",
    "CRON_REDIS_URI": "CRON_REDIS_URL",
    "CRON_SQLITE_PAHT": "CRON_SQLITE_PATH",
    "CRON_LOCK_TIMOUT": "CRON_LOCK_TIMEOUT",
    "CRON_HEARTBEAT_INTERVALL": "CRON_HEARTBEAT_INTERVAL",
}
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


@pytest.mark.parametrize("variable", MISSPELT)
@pytest.mark.parametrize("in_file", [False, True])
async def test_a_misspelt_variable_is_named_once_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, in_file: bool
) -> None:
    if in_file:
        Path(".env").write_text(f"{variable}=1\n")
    else:
        monkeypatch.setenv(variable, "1")
    crons = Crons(state_backend=MemoryStateBackend())
    await crons.start()
    await crons.stop()
    named = [message for message in caplog.messages if variable.upper() in message]
    assert named == [f"{variable.upper()} is set, but nothing reads it: did you mean {MISSPELT[variable]}?"]


def test_variables_of_others_and_our_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*OTHERS, *OURS):
        monkeypatch.setenv(variable, "UTC")
    assert unread_variables(Plugins()) == []


def test_variables_of_what_is_not_installed_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", "redis://h/0")
    assert unread_variables(Plugins()) == []
    (said,) = unread_variables(Plugins(frozenset({"redis-lock", "redis-state"})))
    assert said.startswith("CRON_REDIS_URL is set, but what reads it is not installed: pip install ")


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
