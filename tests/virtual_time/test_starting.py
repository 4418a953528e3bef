"""A start that has to wait for its stores, and what leaves the stores when nobody wants it any more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, Run
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.state import HistoryLimits, MemoryStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_sqlite import SQLiteStateBackend
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of, state_of


class Down(MemoryStateBackend):
    """A state store whose first calls fail."""

    def __init__(self, call: str, times: int) -> None:
        super().__init__()
        self.call, self.times = call, times

    def _answers(self, call: str) -> None:
        if call == self.call and self.times:
            self.times -= 1
            raise StoreUnavailableError("it is down")

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._answers("open")
        await super().open(namespace, limits)

    async def unfinished(self) -> list[Run]:
        self._answers("unfinished")
        return await super().unfinished()


@pytest.mark.parametrize("call", ["open", "unfinished"])
async def test_a_scheduler_waits_for_its_store_and_begins_once_when_it_is_there(
    clock: VirtualClock, make_crons: Callable[..., Crons], call: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fastapi_crons")
    crons = make_crons(state_backend=Down(call, 3), start_without_store=True)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    assert "Cron scheduler waits for its stores: 1 job will run when it has them" in caplog.messages
    assert not any("started" in message for message in caplog.messages)
    health = crons.health()
    assert health.status == "unhealthy"
    assert "waits for its stores" in health.findings[0]
    await clock.advance(crons, minutes=3)
    assert crons.health().status == "ok"
    ticks = [run.tick_ts for run in await runs_of(crons, "job")]
    assert len(ticks) == len(set(ticks)) == 3


@pytest.mark.parametrize("call", ["open", "unfinished"])
async def test_a_start_fails_with_its_store_unless_it_is_to_wait(make_crons: Callable[..., Crons], call: str) -> None:
    crons = make_crons(state_backend=Down(call, 1))
    with pytest.raises(StoreUnavailableError, match="it is down"):
        await crons.start()
    await crons.start()
    assert crons.health().status == "ok"


async def test_a_job_that_nobody_registers_any_more_leaves_the_stores(clock: VirtualClock, tmp_path: Path) -> None:
    config = CronConfig(forget_after_days=0.5, heartbeat_interval=600)

    async def life(*jobs: str, hours: float) -> set[str]:
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=config, clock=clock)
        for name in jobs:
            crons.cron("0 * * * *", name=name)(nothing)
        await crons.start()
        await clock.advance(crons, hours=hours)
        known = set(await state_of(crons).states())
        await crons.stop()
        return known

    assert await life("stays", "goes", hours=2) == {"stays", "goes"}
    assert await life("stays", hours=11) == {"stays", "goes"}
    assert await life("stays", hours=3) == {"stays"}


class _Fickle(MemoryStateBackend):
    """Raises errors that are none of ours, where it is told to."""

    def __init__(self, failing: str) -> None:
        super().__init__()
        self.failing = failing

    def _fail(self, call: str) -> None:
        if call == self.failing:
            raise ConnectionError(f"{call}: no route to host")

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._fail("open")
        await super().open(namespace, limits)

    async def prune(self, now: float) -> None:
        self._fail("prune")
        await super().prune(now)


async def test_whatever_a_state_store_raises_counts_as_unavailable(make_crons: MakeCrons, clock: VirtualClock) -> None:
    state = _Fickle("open")
    crons = make_crons(state_backend=state, start_without_store=True)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    assert "no route to host" in str(crons.health().findings)
    state.failing = "prune"
    await clock.advance(crons, minutes=5)
    assert crons.health().status == "ok"
    assert len(await runs_of(crons, "job")) >= 4


async def test_a_history_that_could_not_be_forgotten_is_forgotten_later(clock: VirtualClock, tmp_path: Path) -> None:
    class Slow(SQLiteStateBackend):
        failing = False

        async def forget(self, jobs: Collection[str]) -> None:
            if self.failing:
                raise StoreUnavailableError("it is down")
            await super().forget(jobs)

    async def started(job: str) -> tuple[Crons, Slow]:
        reset()
        config = CronConfig(forget_after_days=0.5, heartbeat_interval=600)
        state = Slow(tmp_path / "jobs.db")
        crons = Crons(state_backend=state, config=config, clock=clock)
        crons.cron("0 * * * *", name=job)(nothing)
        await crons.start()
        return crons, state

    crons, _ = await started("goes")
    await clock.advance(crons, hours=2)
    await crons.stop()
    crons, state = await started("stays")
    state.failing = True
    await clock.advance(crons, hours=14)
    assert set(await state.states()) == {"goes", "stays"}
    state.failing = False
    await clock.advance(crons, minutes=2)
    assert set(await state.states()) == {"stays"}
    await crons.stop()


async def test_hooks_and_runs_are_told_the_name_that_the_settings_say(make_crons: MakeCrons) -> None:
    crons = make_crons()
    told: list[str] = []
    crons.cron("* * * * *", name="job")(nothing)
    crons.add_before_run_hook(lambda job, context: told.append(context["instance_id"]))
    for _ in range(2):
        await crons.start()
        assert (await crons.run_job("job")).instance == crons.config.instance_id
        await crons.stop()
    assert told == [crons.config.instance_id] * 2


async def test_schedulers_that_live_in_one_process_have_names_of_their_own(make_crons: MakeCrons) -> None:
    schedulers = [make_crons() for _ in range(3)]
    for crons in schedulers:
        await crons.start()
    name = CronConfig().instance_id
    assert [crons.engine and crons.engine.instance.id for crons in schedulers] == [name, f"{name}-2", f"{name}-3"]
    await schedulers[0].stop()
    await schedulers[0].start()
    assert schedulers[0].engine is not None
    assert schedulers[0].engine.instance.id == name


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
