"""How a `.env` file is changed: what is refused, what stays, who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import Field
from pydantic_settings import BaseSettings

from fastapi_crons import ConfigurationError
from fastapi_crons.plugins import Plugins
from fastapi_crons_cli.configuration.all_settings import describe_settings
from fastapi_crons_cli.configuration.env_file import change_setting
from tests.unit.settings.pager import Pager, by_variable


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
