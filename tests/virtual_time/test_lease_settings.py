"""How long leases and instances last: whatever is accepted loses no lease, and what would is refused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import ConfigurationError, CronConfig
from fastapi_crons.locking.record import MAX_TERM
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import Fleet
from tests.support import examples, runs_of
from tests.virtual_time.test_leases import State, instance, told


@given(
    lock_timeout=st.floats(1, 20),
    renewal=st.floats(0.05, 0.6),
    instance_timeout=st.floats(1, 20),
    heartbeat=st.floats(0.05, 0.6),
)
@settings(max_examples=examples(30), deadline=None)
def test_in_a_healthy_fleet_no_accepted_combination_of_settings_loses_a_lease(
    lock_timeout: float, renewal: float, instance_timeout: float, heartbeat: float
) -> None:
    options = {
        "lock_timeout": lock_timeout,
        "lock_renewal_interval": lock_timeout * renewal,
        "instance_timeout": instance_timeout,
        "heartbeat_interval": instance_timeout * heartbeat,
    }
    try:
        CronConfig(**options)
    except ConfigurationError:
        return  # refused: at most half of the limits

    async def work() -> None:
        clock, fleet = VirtualClock(), Fleet()
        state = State()
        first, second = instance(fleet, clock, state, **options), instance(fleet, clock, state, **options)
        held = 2.5 * max(lock_timeout, instance_timeout)

        async def job() -> None:
            await clock.sleep(held)

        for crons in (first, second):
            crons.cron("0 0 * * *", name="job")(job)
            await crons.start()
        running = asyncio.create_task(first.run_job("job"))
        await clock.advance(first, second, seconds=held / 2, finish_runs=False)
        assert first.engine is not None
        lease = next(iter(fleet.records["job"].leases.values()))  # type: ignore[union-attr]
        assert lease.expires > clock.now()
        (run_id,) = first.engine.runner.active
        assert first.engine.leases.trusts(run_id)
        await clock.advance(first, second, seconds=held / 2 + 1)
        assert (await running).status == "completed"
        assert told(await runs_of(first, "job")) == [(1, "completed")]
        await first.stop()
        await second.stop()

    asyncio.run(work())


def test_a_lease_or_an_instance_that_lasts_less_than_a_second_is_refused() -> None:
    for name in ("lock_timeout", "instance_timeout"):
        with pytest.raises(ConfigurationError, match=f"CRON_{name.upper()}"):
            CronConfig(**{name: 0.9})


def test_a_lease_that_stores_would_take_for_damaged_is_refused() -> None:
    year = 365 * 86_400
    assert CronConfig(lock_timeout=year).lock_timeout == year < MAX_TERM
    for seconds in (year + 1, 1e12, 1e300):
        with pytest.raises(ConfigurationError, match="CRON_LOCK_TIMEOUT"):
            CronConfig(lock_timeout=seconds)


def test_lease_settings_read_back_as_they_are_documented() -> None:
    config = CronConfig()
    assert (repr(config.lock_timeout), repr(config.lock_renewal_interval)) == ("300", "60")
    assert repr(CronConfig(lock_timeout=2.5).lock_timeout) == "2.5"
