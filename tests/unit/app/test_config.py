"""Settings from the environment, a file, or code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastapi_crons import ConfigurationError, CronConfig


def test_settings_come_from_code_environment_and_file_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("CRON_TIMEZONE=Asia/Tokyo\nCRON_HISTORY_KEEP=7\nCRON_LOCK_TIMEOUT=400\nOTHER=1\n")
    monkeypatch.setenv("CRON_HISTORY_KEEP", "8")
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "500")
    config = CronConfig(lock_timeout=600)
    assert (config.timezone, config.history_keep, config.lock_timeout) == ("Asia/Tokyo", 8, 600)


def test_the_documented_settings_have_the_documented_defaults() -> None:
    config = CronConfig()
    assert config.enable_distributed_locking is False
    assert (config.lock_timeout, config.lock_renewal_interval) == (300, 60)
    assert CronConfig(instance_id="worker-001").instance_id == "worker-001"


def test_all_faults_are_reported_at_once_with_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_TIMEZONE", "Mars/Base")
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "0")
    monkeypatch.setenv("CRON_HISTORY_KEEP", "many")
    monkeypatch.setenv("CRON_NAMESPACE", "a/b")
    with pytest.raises(ConfigurationError) as caught:
        CronConfig()
    for variable in ("CRON_TIMEZONE", "CRON_LOCK_TIMEOUT", "CRON_HISTORY_KEEP", "CRON_NAMESPACE"):
        assert variable in str(caught.value)
    assert "Mars/Base" in str(caught.value)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lock_timeot"):
        CronConfig(lock_timeot=5)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"lock_timeout": 10, "lock_renewal_interval": 9}, "CRON_LOCK_RENEWAL_INTERVAL"),
        ({"heartbeat_interval": 20, "instance_timeout": 30}, "CRON_INSTANCE_TIMEOUT"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, float], variable: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        CronConfig(**settings)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_API_TOKEN", "hunter2-of-more-than-32-characters")
    assert "hunter2" not in repr(CronConfig())
    monkeypatch.setenv("CRON_API_TOKEN", "")
    monkeypatch.setenv("CRON_TIMEZONE", "nowhere")
    with pytest.raises(ConfigurationError) as caught:
        CronConfig()
    assert "CRON_API_TOKEN=***" in str(caught.value)


def test_intervals_that_were_left_open_follow_the_limits_that_were_set() -> None:
    assert CronConfig(lock_timeout=30).lock_renewal_interval == 10
    assert CronConfig(instance_timeout=6).heartbeat_interval == 3
    assert CronConfig(heartbeat_interval=60).instance_timeout == 180
    assert CronConfig(heartbeat_interval=60, instance_timeout=200).instance_timeout == 200
    with pytest.raises(ConfigurationError, match="LOCK_RENEWAL_INTERVAL"):
        CronConfig(lock_timeout=30, lock_renewal_interval=60)


@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1"])
def test_durations_are_finite_and_positive(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CRON_HISTORY_DAYS", value)
    with pytest.raises(ConfigurationError, match="CRON_HISTORY_DAYS"):
        CronConfig()


def test_an_instance_name_is_printable() -> None:
    with pytest.raises(ConfigurationError, match="CRON_INSTANCE_ID"):
        CronConfig(instance_id="bad\udc80")


def test_an_instance_name_that_was_not_set_is_made_up_once_for_the_process() -> None:
    name = CronConfig().instance_id
    assert name == CronConfig(timezone="Asia/Tokyo").instance_id == CronConfig(instance_id=None).instance_id
    assert str(os.getpid()) in name
    assert CronConfig(instance_id="worker-001").given_instance_id == "worker-001"
    assert CronConfig().given_instance_id is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_name_of_its_own() -> None:
    config, given = CronConfig(), CronConfig(instance_id="worker-001")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join([config.instance_id, CronConfig().instance_id, given.instance_id]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    names = os.read(read, 1000).decode().split("\n")
    os.close(read)
    os.close(write)
    assert names[0] == names[1] != config.instance_id
    assert str(child) in names[0]
    assert names[2] == "worker-001"


def test_quotes_that_were_kept_around_a_token_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="CRON_API_TOKEN") as refused:
        CronConfig(api_token='"a-token-that-is-long-enough"')
    assert "quotes" in str(refused.value)
    assert "long-enough" not in str(refused.value)


@pytest.mark.parametrize("name", ["heartbeat_interval", "lock_renewal_interval"])
def test_an_interval_that_would_keep_the_store_busy_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name.upper()):
        CronConfig(**{name: 1e-9})
