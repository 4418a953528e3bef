"""Which scheduler `Crons(…)` means, and what registers with it: apps, factories, lifespans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from fastapi_crons import (
    ConfigurationError,
    CronConfig,
    Crons,
    DuplicateJobError,
    PluginError,
    get_cron_router,
    hookimpl,
)
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.support import nothing


def manager() -> DistributedLockManager:
    return DistributedLockManager(LocalLockBackend(), CronConfig(namespace="managed"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"state_backend": MemoryStateBackend()},
        {"lock_manager": manager()},
        {"config": CronConfig(timezone="Europe/Berlin")},
        {"clock": VirtualClock()},
    ],
)
def test_a_scheduler_that_was_made_without_an_app_becomes_the_apps(given: dict[str, Any]) -> None:
    first = Crons(**given)
    first.cron("* * * * *", name="early")(nothing)
    app = FastAPI()
    assert Crons(app) is first
    assert Crons(app) is first
    assert Crons() is first
    assert first.app is app
    with TestClient(app):
        assert first.running
        if "state_backend" in given:
            assert first.engine is not None
            assert first.engine.state is given["state_backend"]
    assert not first.running


def test_what_the_app_brings_is_used_and_fills_in_what_jobs_left_open() -> None:
    state, clock = MemoryStateBackend(), VirtualClock()
    first = Crons(state_backend=state)
    first.cron("0 0 * * *", name="open")(nothing)
    first.cron("0 0 * * *", name="own", timezone="Asia/Tokyo", timeout=1)(nothing)
    config = CronConfig(timezone="Europe/Berlin", coalesce=False, default_timeout=9, misfire_grace_time=60)
    crons = Crons(FastAPI(), config=config, clock=clock)
    assert crons is first
    assert (crons.config, crons.clock) == (config, clock)
    first.cron("0 0 * * *", name="later")(nothing)
    for name in ("open", "later"):
        job = crons.jobs.named(name)
        assert (job.schedule_zone, job.coalesce, job.timeout, job.misfire_grace_time) == ("Europe/Berlin", False, 9, 60)
    own = crons.jobs.named("own")
    assert (own.schedule_zone, own.timeout) == ("Asia/Tokyo", 1)


@pytest.mark.parametrize("name", ["state_backend", "lock_manager", "config", "clock"])
def test_what_both_were_given_and_differs_is_an_error(name: str) -> None:
    make: dict[str, Callable[[], Any]] = {
        "state_backend": MemoryStateBackend,
        "lock_manager": manager,
        "config": lambda: CronConfig(namespace="other" if made else "one"),
        "clock": VirtualClock,
    }
    made: list[Any] = []
    made.append(make[name]())
    crons = Crons(**{name: made[0]})
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=f"line [0-9]+.* was given a {name} already .*give it once"):
        Crons(app, **{name: make[name]()})
    assert crons.app is None
    assert Crons(app, **{name: made[0]}) is crons
    assert Crons(app, **{name: made[0]}) is crons


def test_one_that_was_made_for_an_app_is_not_taken_by_another() -> None:
    first = Crons(FastAPI(), state_backend=MemoryStateBackend())
    assert Crons(FastAPI()) is not first


def test_one_that_runs_is_not_taken_by_another_app() -> None:
    first = Crons(state_backend=MemoryStateBackend())
    app = FastAPI()
    Crons(app)
    with TestClient(app):
        second = Crons(FastAPI(), state_backend=MemoryStateBackend())
        assert second is not first


async def test_one_that_was_started_without_an_app_is_not_taken_by_one_afterwards() -> None:
    alone = Crons(state_backend=MemoryStateBackend())
    alone.cron("0 0 1 1 *", name="job")(nothing)
    async with alone:
        pass
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    assert crons is not alone
    crons.cron("0 0 1 1 *", name="job")(nothing)
    async with app.router.lifespan_context(app):
        assert crons.running
        assert not alone.running
    assert Crons(FastAPI()) is not crons, "made for an app"


async def test_the_first_app_starts_it_and_the_last_one_stops_it() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    apps = [FastAPI(), FastAPI(), FastAPI()]
    assert all(Crons(app) is crons for app in apps)
    first, second = (app.router.lifespan_context(app) for app in apps[:2])
    await first.__aenter__()
    assert (crons.running, crons.app) == (True, apps[0])
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert crons.running
    async with crons as same:
        assert same is crons
    assert crons.running
    await second.__aexit__(None, None, None)
    assert not crons.running
    async with apps[2].router.lifespan_context(apps[2]):
        assert (crons.running, crons.app) == (True, apps[2])
    assert not crons.running


def test_apps_on_event_loops_of_their_own_do_not_hurt_each_other() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        Crons(app)
    with TestClient(apps[0]):
        with TestClient(apps[1]):
            assert crons.running
        assert crons.running
    assert not crons.running


def test_an_app_whose_start_failed_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    broken, fine = FastAPI(), FastAPI()
    Crons(broken)
    Crons(fine)
    crons.add_on_error_hook(lambda job, context: None, "late")
    with pytest.raises(ConfigurationError, match="'late'"), TestClient(broken):
        pass
    crons.cron("* * * * *", name="late")(nothing)
    with TestClient(fine):
        assert crons.running
    assert not crons.running


def test_a_factory_registers_the_same_jobs_and_hooks_again() -> None:
    crons = Crons()
    told: list[int] = []

    def make(number: int) -> FastAPI:
        app = FastAPI()
        assert Crons(app, state_backend=MemoryStateBackend()) is crons

        @crons.cron("0 0 1 1 *", name="made")
        def made() -> int:
            return number

        crons.add_after_run_hook(lambda job, context: told.append(number))
        app.include_router(get_cron_router(), prefix="/api")
        return app

    make(1)
    app = make(2)
    with TestClient(app) as client:
        assert client.post("/api/crons/made/run", json={}).json()["status"] == "success"
        assert client.get("/api/crons/made/runs").json()["runs"][0]["result"] == 2
    assert told == [2]
    make(3)
    assert [job.name for job in crons.jobs] == ["made"]
    with pytest.raises(DuplicateJobError):
        crons.cron("* * * * *", name="made")(nothing)


def test_a_loop_that_registers_one_name_twice_is_an_error() -> None:
    crons = Crons()
    Crons(FastAPI())
    Crons(FastAPI())

    def register() -> None:
        for _ in range(2):

            @crons.cron("* * * * *")
            def job() -> None: ...

    with pytest.raises(DuplicateJobError, match=r"job.*test_which_scheduler:.*register.<locals>.job"):
        register()


async def test_crons_of_an_app_inside_its_lifespan_is_an_error_that_says_so() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Crons(app)
        yield

    @asynccontextmanager
    async def of_a_router(app: FastAPI) -> AsyncIterator[None]:
        Crons(app)
        yield

    merged = FastAPI()
    merged.include_router(APIRouter(lifespan=of_a_router))
    for app in (FastAPI(lifespan=lifespan), merged):
        with pytest.raises(ConfigurationError, match=r"inside the running lifespan.*async with Crons\(\) as crons"):
            async with app.router.lifespan_context(app):
                pass
        with pytest.raises(ConfigurationError, match="inside the running lifespan"), TestClient(app):
            pass


def test_crons_of_an_app_that_serves_already_is_an_error_too() -> None:
    app = FastAPI()

    @app.get("/")
    async def late() -> str:
        with pytest.raises(ConfigurationError, match="inside the running lifespan"):
            Crons(app)
        return "refused"

    with TestClient(app) as client:
        assert client.get("/").json() == "refused"
    assert Crons(app).app is app


async def test_a_scheduler_may_be_held_by_a_lifespan() -> None:
    ran = asyncio.Event()
    seen: list[Crons] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Crons() as crons:
            seen.append(crons)
            yield
        assert not crons.running

    crons = Crons(state_backend=MemoryStateBackend())
    crons.cron("* * * * * *", name="job")(ran.set)
    app = FastAPI(lifespan=lifespan)
    app.include_router(get_cron_router(), prefix="/api")
    async with app.router.lifespan_context(app):
        assert crons.running
    assert seen == [crons]
    with TestClient(app) as client:
        assert [job["name"] for job in client.get("/api/crons").json()] == ["job"]
    assert not crons.running


async def test_a_start_with_no_jobs_beside_one_with_jobs_is_a_warning_that_names_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "fastapi_crons")
    with_jobs = Crons(state_backend=MemoryStateBackend())
    with_jobs.cron("* * * * *", name="mine")(nothing)
    without = Crons(state_backend=MemoryStateBackend())
    async with without:
        pass
    (warning,) = [record for record in caplog.records if "0 jobs" in record.getMessage()]
    assert warning.levelname == "WARNING"
    text = warning.getMessage()
    assert text.count("test_which_scheduler.py, line") == 2
    assert "has 1 ('mine') and is not running" in text
    caplog.clear()
    async with with_jobs:
        pass
    assert "0 jobs" not in caplog.text
    reset()
    async with Crons(state_backend=MemoryStateBackend()):
        pass
    assert not [record for record in caplog.records if "while the one" in record.getMessage()]


def test_settings_that_leave_out_loaded_plugins_are_refused_whole() -> None:
    crons = Crons()
    assert crons.plugins
    app = FastAPI()
    with pytest.raises(ConfigurationError, match="disabled_plugins"):
        Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(disabled_plugins=frozenset({"sqlite"})))
    assert crons.app is None
    with TestClient(app):
        pass
    plugin = _Plugin()
    crons.plugins.register(plugin)
    with pytest.raises(PluginError, match="registered already"):
        crons.plugins.register(plugin)


class _Plugin:
    def __init__(self) -> None:
        self.started = 0

    @hookimpl
    def scheduler_started(self) -> None:
        self.started += 1


def test_a_factory_registers_a_plugin_again() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    plugins = [_Plugin(), _Plugin(), _Plugin()]
    apps = [FastAPI(), FastAPI()]
    for app, plugin in zip(apps, plugins, strict=False):
        Crons(app)
        crons.plugins.register(plugin)
    # Another one of the same kind, which is no repetition.
    crons.plugins.register(plugins[2])
    with TestClient(apps[1]):
        pass
    assert [plugin.started for plugin in plugins] == [0, 1, 1]


@pytest.mark.parametrize("given", [APIRouter(), 5, "main:app", FastAPI])
def test_what_is_no_app_is_refused_with_what_to_give(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Crons takes the FastAPI app, not .*; give it like Crons\(app\)"):
        Crons(given)


def test_a_scheduler_that_is_included_as_a_router_is_refused_with_what_to_include() -> None:
    app = FastAPI()
    with pytest.raises(AttributeError, match=r"no router; include its endpoints: app.include_router\(get_cron_router"):
        app.include_router(Crons(app))  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"^'Crons' object has no attribute 'add_job'$"):
        Crons(app).add_job  # type: ignore[attr-defined]  # noqa: B018
