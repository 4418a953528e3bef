"""What can be set, where each value comes from, and how a `.env` file is changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from docs import generate
from fastapi_crons import ConfigurationError, CronConfig, PluginError, hookimpl
from fastapi_crons.plugins import Plugins
from fastapi_crons_cli.configuration.all_settings import (
    SettingInfo,
    default_settings,
    describe_settings,
    without_passwords,
)
from fastapi_crons_cli.configuration.env_file import change_setting

REDIS = ("fastapi-crons-redis-lock", "fastapi-crons-redis-state")


class PagerSettings(BaseSettings):
    """Settings of somebody else's plugin, who takes no care of errors."""

    model_config = SettingsConfigDict(env_prefix="PAGER_", env_file=".env", extra="ignore")

    key: SecretStr = Field(SecretStr("none"), description="The key.")
    webhook: SecretStr | None = Field(None, description="Where to send to; the path is a secret, too.")
    proxy: str = Field("", description="A proxy.")
    places: dict[str, str] = Field({}, description="Who is called where.")
    people: int = Field(1, validation_alias=AliasChoices("PAGER_PEOPLE", "PAGER_STAFF"), description="How many.")
    most: int = Field(5, description="At most so many.")
    timezone: str = Field("UTC", description="A name that is taken.")

    @model_validator(mode="after")
    def _enough(self) -> PagerSettings:
        if self.people > self.most:
            raise ValueError("too many people")
        return self


class Pager:
    def __init__(self, classes: object) -> None:
        self.classes = classes

    @hookimpl
    def settings(self) -> object:
        if isinstance(self.classes, Exception):
            raise self.classes
        return self.classes


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def pager(plugins: Plugins) -> Plugins:
    plugins.register(Pager([PagerSettings]), "pager")
    return plugins


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def by_variable(described: Sequence[SettingInfo]) -> dict[str, SettingInfo]:
    found = {info.variable: info for info in described}
    assert len(found) == len(described)
    return found


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
        ("CRON_HISTORY_KEEP", "int", "100"),
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


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("CRON_TIMEZONE", "CRON_TIMEZONE", "Asia/Tokyo"),
        ("cron_history_keep", "CRON_HISTORY_KEEP", "7"),
        ("lock_timeout", "CRON_LOCK_TIMEOUT", "600"),
        ("password", "CRON_REDIS_PASSWORD", 'it\'s #1 \\ "$HOME" é'),
        ("path", "CRON_SQLITE_PATH", " a file with blanks "),
        ("username", "CRON_REDIS_USERNAME", ""),
        ("staff", "", ""),
        ("PAGER_STAFF", "PAGER_STAFF", "2"),
    ],
)
def test_a_setting_is_changed_by_variable_or_name(
    pager: Plugins, env_file: Path, name: str, variable: str, value: str
) -> None:
    if not variable:
        with pytest.raises(ConfigurationError, match="PAGER_STAFF"):
            change_setting(pager, name, value)
        return
    change = change_setting(pager, name, value)
    assert (change.variable, change.env_file, change.changed, change.overridden) == (
        variable,
        Path(".env"),
        True,
        False,
    )
    assert dotenv_values(env_file) == {variable: value}
    assert not change_setting(pager, name, value).changed


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CRON_TIMEZON", "did you mean CRON_TIMEZONE"),
        ("lock_timeot", "did you mean CRON_LOCK_TIMEOUT"),
        ("xyzzy", "config-show"),
        ("timezone", "any of CRON_TIMEZONE, PAGER_TIMEZONE"),
    ],
)
def test_a_name_that_is_unknown_or_means_several_is_refused(
    pager: Plugins, env_file: Path, name: str, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        change_setting(pager, name, "UTC")
    assert not env_file.exists()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CRON_TIMEZONE", "Mars/Base", "Mars/Base"),
        ("CRON_API_TOKEN", "", "CRON_API_TOKEN"),
        ("CRON_LOCK_RENEWAL_INTERVAL", "250", "half of lock_timeout"),
        ("CRON_LOCK_TIMEOUT", "20", "CRON_LOCK_RENEWAL_INTERVAL"),
        ("CRON_LOCK_TIMEOUT", None, "CRON_LOCK_RENEWAL_INTERVAL"),
        ("PAGER_PEOPLE", "6", "too many people"),
        ("PAGER_PLACES", "no JSON", "places"),
        ("CRON_REDIS_PASSWORD", "a\nCRON_API_OPEN=true", "line breaks"),
        ("CRON_REDIS_PASSWORD", "a\rb", "line breaks"),
        ("CRON_REDIS_PASSWORD", "a\0b", "NUL"),
        ("CRON_REDIS_PASSWORD", "a\udc80b", "broken"),
        ("CRON_REDIS_PASSWORD", "a${HOME}b", "stands for another variable"),
    ],
)
def test_what_could_not_be_used_is_refused_and_the_file_left_alone(
    pager: Plugins, env_file: Path, name: str, value: str | None, told: str
) -> None:
    before = b"# mine\r\n\nCRON_LOCK_TIMEOUT=400\nCRON_LOCK_RENEWAL_INTERVAL=180\nPAGER_MOST=5\n  X = 1"
    env_file.write_bytes(before)
    inode = env_file.stat().st_ino
    with pytest.raises(ConfigurationError, match=told):
        change_setting(pager, name, value)
    assert env_file.read_bytes() == before
    assert env_file.stat().st_ino == inode
    assert os.listdir(env_file.parent) == [".env"]


def test_the_file_is_judged_with_the_rest_of_the_environment(
    plugins: Plugins, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "30")
    with pytest.raises(ConfigurationError, match="half of lock_timeout"):
        change_setting(plugins, "CRON_LOCK_RENEWAL_INTERVAL", "60")
    assert change_setting(plugins, "CRON_LOCK_RENEWAL_INTERVAL", "15").changed


def test_a_variable_of_the_environment_hides_neither_itself_nor_faults(
    plugins: Plugins, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("cron_timezone", "UTC")
    with pytest.raises(ConfigurationError, match="Mars"):
        change_setting(plugins, "CRON_TIMEZONE", "Mars")
    assert change_setting(plugins, "CRON_TIMEZONE", "Asia/Tokyo").overridden
    assert os.environ.get("cron_timezone") == "UTC"  # noqa: SIM112 - any spelling counts
    monkeypatch.setenv("CRON_REDIS_USERNAME", "")
    assert not change_setting(plugins, "CRON_REDIS_USERNAME", "me").overridden


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (
            "# a\n\nCRON_TIMEZONE=UTC # b\n\n# c\nX='1'\n",
            "Asia/Tokyo",
            "# a\nCRON_TIMEZONE=Asia/Tokyo\n\n# c\nX='1'\n",
        ),
        ("# a\n\nCRON_TIMEZONE=UTC # b\n\n# c\nX='1'\n", None, "# a\n\n# c\nX='1'\n"),
        ("X=1\r\n\r\n", "Asia/Tokyo", "X=1\r\n\r\nCRON_TIMEZONE=Asia/Tokyo\r\n"),
        ("X=1", "Asia/Tokyo", "X=1\nCRON_TIMEZONE=Asia/Tokyo\n"),
        ("  export cron_timezone=UTC\nX=1", "Asia/Tokyo", "X=1\nexport CRON_TIMEZONE=Asia/Tokyo\n"),
        ("export CRON_TIMEZONE='UTC'\nX=1", "Asia/Tokyo", "export CRON_TIMEZONE=Asia/Tokyo\nX=1"),
        ("CRON_TIMEZONE='U T' # ours\n", None, ""),
        ("CRON_TIMEZONE=UTC\nX\ncron_timezone=UTC\n", "Asia/Tokyo", "CRON_TIMEZONE=Asia/Tokyo\nX\n"),
        ("CRON_TIMEZONE=UTC\nX\ncron_timezone=UTC\n", None, "X\n"),
        ("CRON_TIMEZONE=Mars", "Asia/Tokyo", "CRON_TIMEZONE=Asia/Tokyo\n"),
        ("CRON_TIMEZONE=UTC\n", None, ""),
        ("X=1\n", None, "X=1\n"),
    ],
)
def test_other_variables_and_comments_on_lines_of_their_own_stay(
    plugins: Plugins, env_file: Path, before: str, value: str | None, after: str
) -> None:
    env_file.write_bytes(before.encode())
    assert change_setting(plugins, "timezone", value).changed is (before != after)
    assert env_file.read_bytes().decode() == after


def test_another_name_of_a_setting_does_not_hide_the_new_value(pager: Plugins, env_file: Path) -> None:
    env_file.write_text("PAGER_PEOPLE=2\nPAGER_STAFF=3\n")
    change_setting(pager, "PAGER_STAFF", "4")
    assert env_file.read_text() == "PAGER_STAFF=4\n"
    assert by_variable(describe_settings(pager))["PAGER_PEOPLE"].value == "4"


def test_an_open_quote_does_not_swallow_a_setting(plugins: Plugins, env_file: Path) -> None:
    env_file.write_text("X='open\n")
    with pytest.raises(ConfigurationError, match="quote left open"):
        change_setting(plugins, "path", "my file")
    assert env_file.read_text() == "X='open\n"


def test_nothing_to_take_out_makes_no_file(plugins: Plugins, env_file: Path) -> None:
    assert not change_setting(plugins, "timezone", None).changed
    assert not env_file.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o400])
def test_permissions_stay(plugins: Plugins, env_file: Path, mode: int) -> None:
    env_file.write_text("X=1\n")
    env_file.chmod(mode)
    change_setting(plugins, "timezone", "Asia/Tokyo")
    assert stat.S_IMODE(env_file.stat().st_mode) == mode


def test_a_new_file_is_for_its_owner_alone(plugins: Plugins, tmp_path: Path) -> None:
    change_setting(plugins, "api_token", "hunter2-of-more-than-32-characters", tmp_path / "new.env")
    assert stat.S_IMODE((tmp_path / "new.env").stat().st_mode) == 0o600


def test_a_link_stays_a_link(plugins: Plugins, env_file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "env").write_text("X=1\n")
    env_file.symlink_to("shared/env")
    change_setting(plugins, "timezone", "Asia/Tokyo")
    assert env_file.is_symlink()
    assert (shared / "env").read_text() == "X=1\nCRON_TIMEZONE=Asia/Tokyo\n"
    assert os.listdir(shared) == ["env"]


def test_a_file_that_cannot_be_changed_is_named(plugins: Plugins, env_file: Path, tmp_path: Path) -> None:
    env_file.write_bytes(b"X=\xff\n")
    with pytest.raises(ConfigurationError, match=r"\.env can't be changed: it is not UTF-8"):
        change_setting(plugins, "timezone", "Asia/Tokyo")
    env_file.unlink()
    env_file.mkdir()
    with pytest.raises(ConfigurationError, match=r"\.env can't be changed"):
        change_setting(plugins, "timezone", "Asia/Tokyo")
    with pytest.raises(ConfigurationError, match="nowhere"):
        change_setting(plugins, "timezone", "Asia/Tokyo", tmp_path / "nowhere" / ".env")


def test_what_no_file_is_read_for_is_not_written_to_one(plugins: Plugins, env_file: Path) -> None:
    class Bare(BaseSettings):
        bare: int = Field(1, description="A number.")

    plugins.register(Pager([Bare]), "bare")
    with pytest.raises(ConfigurationError, match="BARE is read from the environment only"):
        change_setting(plugins, "bare", "2")
    assert not env_file.exists()


def test_every_setting_says_what_it_means(plugins: Plugins) -> None:
    assert [info.variable for info in default_settings(plugins) if not info.meaning] == []


def test_the_page_of_settings_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "30")
    monkeypatch.setenv("CRON_TIMEZONE", "Mars/Base")
    written = (generate.DOCS / "reference/settings.md").read_text(encoding="utf-8")
    assert written == generate.settings(), f"it is out of date; run `{generate.COMMAND}`"


@pytest.mark.skipif(os.name == "nt", reason="modes and pipes of POSIX")
@pytest.mark.parametrize(
    ("mode", "who"), [(0o600, None), (0o640, "its group"), (0o644, "everybody"), (0o604, "everybody")]
)
def test_who_may_read_the_changed_file_is_told(plugins: Plugins, env_file: Path, mode: int, who: str | None) -> None:
    env_file.touch()
    env_file.chmod(mode)
    change = change_setting(plugins, "timezone", "Asia/Tokyo")
    assert change.readable_by == (None if who is None else f"{who} (mode 0{mode:o})")
    assert env_file.stat().st_mode & 0o777 == mode, "others may need to read it"


@pytest.mark.skipif(os.name == "nt", reason="modes and pipes of POSIX")
def test_what_is_no_file_is_refused(plugins: Plugins, env_file: Path, tmp_path: Path) -> None:
    os.mkfifo(env_file)
    with pytest.raises(ConfigurationError, match="it is a named pipe"):
        change_setting(plugins, "timezone", "Asia/Tokyo")
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(ConfigurationError, match="it is a device"):
        change_setting(plugins, "timezone", "Asia/Tokyo", tmp_path / "link")
    with pytest.raises(ConfigurationError, match="it is a folder"):
        change_setting(plugins, "timezone", "Asia/Tokyo", tmp_path)
