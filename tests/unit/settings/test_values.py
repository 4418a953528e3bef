"""What can be set, where each value comes from, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import generate
from fastapi_crons import ConfigurationError, CronConfig, PluginError
from fastapi_crons.plugins import Plugins
from fastapi_crons_cli.configuration.all_settings import (
    SettingInfo,
    default_settings,
    describe_settings,
    without_passwords,
)
from fastapi_crons_cli.configuration.env_file import change_setting
from tests.unit.settings.pager import Pager, PagerSettings, by_variable

REDIS = ("fastapi-crons-redis-lock", "fastapi-crons-redis-state")


def test_a_setting_is_described(plugins: Plugins) -> None:
    assert by_variable(describe_settings(plugins))["CRON_LOCK_TIMEOUT"] == SettingInfo(
        name="lock_timeout",
        variable="CRON_LOCK_TIMEOUT",
        type="float",
        default="300",
        meaning="How long a lease lasts unless it is renewed; at least 1, at most 31,536,000 (a year).",
        distributions=("fastapi-crons-core",),
        value="300",
        source="default",
    )


@pytest.mark.parametrize(
    ("variable", "kind", "default"),
    [
        ("CRON_ENABLED", "bool", "true"),
        ("CRON_HISTORY_KEEP", "int", "1000"),
        ("CRON_TIMEZONE", "str", "UTC"),
        ("CRON_DEFAULT_TIMEOUT", "float, optional", ""),
        ("CRON_DEFAULT_MAX_RETRIES", "int", "0"),
        ("CRON_DEFAULT_RETRY_DELAY", "float", "1"),
        ("CRON_API_TOKEN", "secret, optional", ""),
        ("CRON_DISABLED_PLUGINS", "list of names", ""),
        ("CRON_REDIS_URL", "secret", "redis://localhost:6379/0"),
        ("PAGER_KEY", "secret", "***"),
        ("PAGER_PLACES", "JSON object", "{}"),
        ("PAGER_PEOPLE", "int", "1"),
    ],
)
def test_types_and_defaults_are_readable(pager: Plugins, variable: str, kind: str, default: str) -> None:
    info = by_variable(default_settings(pager))[variable]
    assert (info.type, info.default, info.value, info.source) == (kind, default, default, "default")


def test_values_come_from_code_environment_and_file_in_this_order(
    plugins: Plugins, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text(
        "cron_timezone=Asia/Tokyo\nCRON_HISTORY_KEEP=7\nCRON_LOCK_TIMEOUT=400\nCRON_REDIS_USERNAME=me\n"
    )
    monkeypatch.setenv("cron_history_keep", "8")
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "500")
    monkeypatch.setenv("CRON_SQLITE_PATH", "jobs.db")
    monkeypatch.setenv("CRON_REDIS_USERNAME", "")  # empty is as good as unset there
    found = by_variable(describe_settings(plugins, CronConfig(lock_timeout=600, disabled_plugins=frozenset("ba"))))
    assert {variable: (info.value, info.source) for variable, info in found.items() if info.source != "default"} == {
        "CRON_TIMEZONE": ("Asia/Tokyo", ".env"),
        "CRON_HISTORY_KEEP": ("8", "environment"),
        "CRON_LOCK_TIMEOUT": ("600", "code"),
        "CRON_DISABLED_PLUGINS": ("a, b", "code"),
        "CRON_REDIS_USERNAME": ("me", ".env"),
        "CRON_SQLITE_PATH": ("jobs.db", "environment"),
    }
    assert by_variable(describe_settings(plugins))["CRON_LOCK_TIMEOUT"].source == "environment"


def test_secrets_are_not_shown(pager: Plugins, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_API_TOKEN", "hunter2-of-more-than-32-characters")
    monkeypatch.setenv("CRON_REDIS_URL", "rediss://me:hunter2@host:6380/3")
    monkeypatch.setenv("CRON_REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("CRON_STATE_BACKEND", "postgresql://me:hunter2@host/jobs")
    monkeypatch.setenv("PAGER_WEBHOOK", "https://host/hunter2")
    env_file.write_text(
        """PAGER_KEY=hunter2\nPAGER_PROXY=me:hunter2@host:81\nPAGER_PLACES={"a_token": "hunter2", "b": "c"}"""
    )
    described = describe_settings(pager, CronConfig(api_token="hunter2-of-more-than-32-characters-of-code"))
    assert "hunter2" not in str(described)
    shown = {variable: info.value for variable, info in by_variable(described).items()}
    assert (
        shown["CRON_API_TOKEN"] == shown["CRON_REDIS_PASSWORD"] == shown["PAGER_KEY"] == shown["PAGER_WEBHOOK"] == "***"
    )
    assert shown["CRON_REDIS_URL"] == "rediss://***@host:6380/3"
    assert shown["CRON_STATE_BACKEND"] == "postgresql://***@host/jobs"
    assert shown["PAGER_PROXY"] == "***@host:81"
    assert shown["PAGER_PLACES"] == "{a_token: ***, b: c}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host/2?socket_timeout=3", "redis://host/2?socket_timeout=3"),
        ("redis+sentinel://a:1,b:2/jobs", "redis+sentinel://a:1,b:2/jobs"),
        ("redis+sentinel://me:pw@a:1,b:2/jobs", "redis+sentinel://***@a:1,b:2/jobs"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix:///run/redis.sock?password=pw", "unix:///run/redis.sock?password=***"),
        ("redis://:p%40w%2Fd@host", "redis://***@host"),
    ],
)
def test_a_place_is_shown_without_its_password(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", url)
    assert by_variable(describe_settings(plugins))["CRON_REDIS_URL"].value == shown


@pytest.mark.parametrize(
    "url", ["redis://:p@w/hunter2@host", "redis://:hunter2", "redis://host:hunter2/0", "hunter2", "https://hunter2"]
)
def test_what_leads_to_no_redis_server_is_refused_and_not_shown(plugins: Plugins, env_file: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of a Redis server") as refused:
        change_setting(plugins, "CRON_REDIS_URL", url)
    assert "hunter2" not in str(refused.value)
    assert not env_file.exists()


def test_a_file_with_several_faults_can_be_mended_one_by_one(plugins: Plugins, env_file: Path) -> None:
    env_file.write_text("CRON_ENABLED=maybe\nCRON_TIMEZONE=Mars/X\n")
    with pytest.raises(ConfigurationError, match="CRON_LOCK_TIMEOUT"):
        change_setting(plugins, "CRON_LOCK_TIMEOUT", "-1")
    with pytest.raises(ConfigurationError, match="CRON_ENABLED"):
        change_setting(plugins, "CRON_ENABLED", "perhaps")
    assert change_setting(plugins, "CRON_ENABLED", "true").changed
    assert change_setting(plugins, "CRON_TIMEZONE", None).changed
    assert env_file.read_text() == "CRON_ENABLED=true\n"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CRON_STATE_BACKEND", "nosuch", "no installed plugin brings this backend; there are memory"),
        ("CRON_API_TOKEN", " hunter2 ", "can't begin or end with spaces"),
    ],
)
def test_what_no_scheduler_could_use_is_refused(
    plugins: Plugins, env_file: Path, name: str, value: str, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why) as refused:
        change_setting(plugins, name, value)
    assert "hunter2" not in str(refused.value)
    assert not env_file.exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: text", "plain: text"),
        ("somebody@example.com", "somebody@example.com"),
        ("https://key@host/1", "https://***@host/1"),
        ("http://host?a=1&api_key=pw#x", "http://host?a=1&api_key=***"),
        ("http://host?token=p@w", "http://***"),
        ("me:pw@a http://me:pw@b", "***@a http://***@b"),
    ],
)
def test_passwords_in_urls_are_hidden(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_what_two_distributions_bring_is_listed_once(plugins: Plugins) -> None:
    found = by_variable(describe_settings(plugins))
    assert found["CRON_REDIS_URL"].distributions == REDIS
    assert found["CRON_SQLITE_PATH"].distributions == ("fastapi-crons-sqlite",)
    classes = plugins.settings_classes()
    assert next(iter(classes)) is CronConfig
    assert [names for names in classes.values() if names[0] in REDIS] == [REDIS]


def test_a_plugin_brings_settings_of_its_own(pager: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    pager.register(Pager((PagerSettings,)), "second pager")
    monkeypatch.setenv("PAGER_STAFF", "3")
    info = by_variable(describe_settings(pager))["PAGER_PEOPLE"]
    assert (info.value, info.source, info.distributions) == ("3", "environment", ("pager", "second pager"))


@pytest.mark.parametrize("answer", [RuntimeError("boom"), [int], 5, [PagerSettings.model_construct()]])
def test_a_plugin_that_cannot_say_what_can_be_set_is_named(plugins: Plugins, answer: object) -> None:
    plugins.register(Pager(answer), "odd one")
    with pytest.raises(PluginError, match="odd one"):
        describe_settings(plugins)


def test_all_faults_are_told_at_once_and_each_once(pager: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_TIMEZONE", "Mars/Base")
    monkeypatch.setenv("CRON_REDIS_CONNECT_TIMEOUT", "many")
    monkeypatch.setenv("PAGER_STAFF", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        describe_settings(pager)
    for fault in ("CRON_TIMEZONE='Mars/Base'", "CRON_REDIS_CONNECT_TIMEOUT='many'", "PAGER_PEOPLE: Input should be"):
        assert str(caught.value).count(fault) == 1
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("PAGER_PLACES", "no JSON")
    with pytest.raises(ConfigurationError, match="places"):
        describe_settings(pager)


def test_every_setting_says_what_it_means(plugins: Plugins) -> None:
    assert [info.variable for info in default_settings(plugins) if not info.meaning] == []


def test_the_page_of_settings_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "30")
    monkeypatch.setenv("CRON_TIMEZONE", "Mars/Base")
    written = (generate.DOCS / "reference/settings.md").read_text(encoding="utf-8")
    assert written == generate.settings(), f"it is out of date; run `{generate.COMMAND}`"
