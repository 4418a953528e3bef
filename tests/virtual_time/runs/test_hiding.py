"""Secrets of the settings in what a running scheduler logs, stores and raises."""

from __future__ import annotations

import logging

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.management.management import Management
from tests.conftest import MakeCrons


async def test_secrets_of_the_settings_are_kept_nowhere(
    make_crons: MakeCrons, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CRON_REDIS_PASSWORD", "of/redis%41")
    monkeypatch.setenv("CRON_REDIS_URL", "redis://me:of%2Fthe-url@host/0")
    monkeypatch.setenv("CRON_API_TOKEN", "a-token-of-the-api")
    monkeypatch.setenv("CRON_LOCK_BACKEND", "local")
    secrets = "of/redis%41", "of/redisA", "of%2Fthe-url", "of/the-url", "a-token-of-the-api"
    crons = make_crons()

    @crons.cron("0 0 1 1 *", name="fails")
    def fails() -> None:
        logging.getLogger("app").warning("with %s", secrets)
        raise ValueError(f"refused: {secrets}")

    crons.cron("0 0 1 1 *", name="works")(lambda: {secrets[0]: [*secrets, 7]})
    await crons.start()
    await crons.run_job("fails", note=f"because of {secrets[0]}")
    await crons.run_job("works")
    for job in ("fails", "works"):
        (run,) = await crons.runs(job)
        assert not [secret for secret in secrets if secret in str(await Management(crons).run(job, run.id))]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fastapi_crons")]
    assert any("refused: ('***'" in message for message in ours)
    assert not [secret for secret in secrets if secret in str(ours)]


@pytest.mark.parametrize("value", ["postgresql://me:p/ss@host/jobs", "x?password=hunter2&y=p/ss"])
async def test_a_setting_that_is_refused_is_shown_without_its_password(value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await Crons(config=CronConfig(state_backend=value)).start()
    assert not any(part in str(refused.value) for part in ("ss@", "hunter2"))
