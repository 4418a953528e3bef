"""What a started scheduler says of its stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.unit.app.test_backends import chosen


async def test_memory_given_alone_keeps_to_this_process_and_makes_no_file(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(MemoryStateBackend()) == ("MemoryStateBackend", "LocalLockBackend")
    crons = Crons(state_backend=MemoryStateBackend())
    await crons.start()
    await crons.stop()
    assert not list(Path().iterdir())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://ops:s3cret@127.0.0.1:1/2",
        "rediss://ops:s3cret@127.0.0.1:1/2",
        "redis+sentinel://ops:s3cret@127.0.0.1:1,127.0.0.1:2/primary/2",
        "rediss+sentinel://ops:s3cret@127.0.0.1:1/primary",
        "redis+cluster://ops:s3cret@127.0.0.1:1",
        "unix:///tmp/none.sock?db=2",
    ],
)
async def test_urls_of_every_kind_lead_to_a_client_that_names_its_place_without_the_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", url)
    crons = Crons()
    with pytest.raises(Exception, match=r"Redis (at|service|Cluster)") as refused:
        await crons.start()
    assert "s3cret" not in str(refused.value)


async def test_a_lock_for_one_host_where_several_are_likely_degrades_health(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DYNO", "web.1")
    config = CronConfig()
    locks = DistributedLockManager(LocalLockBackend(), config)
    crons = Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=config, clock=VirtualClock())
    await crons.start()
    health = crons.health()
    await crons.stop()
    assert health.status == "degraded"
    assert "Heroku" in health.findings[0]
    assert "Heroku" in caplog.text
