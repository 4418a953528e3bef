"""Settings from the environment, a file, or code."""

from __future__ import annotations

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
    monkeypatch.setenv("CRON_API_TOKEN", "hunter2")
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
