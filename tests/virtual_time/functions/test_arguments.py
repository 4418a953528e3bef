"""Jobs with arguments: checked when the job is defined, replaced by hand for one run, kept with each run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, FastAPI
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel, Field, SecretStr

from fastapi_crons import CronJob, InvalidArgumentError, JobContext, JobDefinitionError, get_cron_router, hookimpl
from fastapi_crons.plugins.markers import HookContext
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of


class Mode(Enum):
    QUICK = "quick"


class Window(BaseModel):
    first: date
    last: date


async def report(
    region: Literal["eu", "us"],
    context: JobContext,
    limit: Annotated[int, Field(ge=1)] = 10,
    mode: Mode = Mode.QUICK,
    window: Window | None = None,
    api_key: str = "",
) -> str:
    return f"{region} {limit} {mode.value} {window and window.first} {len(api_key)} {context.job}"


async def test_one_function_has_many_schedules_each_with_its_arguments(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
    crons.cron("0 * * * *", name="eu", kwargs={"region": "eu"})(report)
    crons.cron(
        "30 * * * *",
        name="us",
        kwargs={"region": "us", "limit": "5", "window": {"first": "2026-03-01", "last": date(2026, 3, 2)}},
    )(report)
    await crons.start()
    await clock.advance(crons, hours=1)
    (eu,), (us,) = await runs_of(crons, "eu"), await runs_of(crons, "us")
    assert eu.result == "eu 10 quick None 0 eu"
    assert us.result == "us 5 quick 2026-03-01 0 us"
    assert us.arguments_json == (
        '{"region": "us", "limit": 5, "window": {"first": "2026-03-01", "last": "2026-03-02"}}'
    )


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({}, "no value is given for parameter 'region'"),
        (None, "no value is given for parameter 'region'"),
        ({"region": "asia"}, "argument 'region' can't be 'asia': Input should be 'eu' or 'us'"),
        ({"region": "eu", "limit": 0}, "argument 'limit' can't be 0"),
        ({"region": "eu", "window": {"first": "2026-03-01"}}, "argument 'window.last' can't be"),
        ({"regoin": "eu"}, "no parameter named 'regoin'; did you mean 'region'?"),
        ({"region": "eu", "colour": 1}, "no parameter named 'colour'; the function takes 'region', 'limit'"),
        ({"region": "eu", "context": 1}, "argument 'context' can't be given: it is filled in by the scheduler"),
        ({"region": "eu", "api_key": ["s3cret"]}, "argument 'api_key' can't be ***"),
        (["eu"], "kwargs of job 'job' can't be ['eu']; give a mapping"),
        ({"region": "eu", "window": {"first": 1, "password": "s3cret"}}, "argument 'window."),
    ],
)
def test_wrong_arguments_are_refused_when_the_job_is_defined(kwargs: Any, said: str) -> None:
    with pytest.raises(JobDefinitionError) as refused:
        CronJob(report, "0 * * * *", "job", kwargs=kwargs)
    assert said in str(refused.value)
    assert "'job'" in str(refused.value)
    assert "s3cret" not in str(refused.value)


class Client:
    """Not known to pydantic, and nothing that JSON could hold."""


def test_what_can_not_be_stored_and_shown_is_refused() -> None:
    async def anything(value: Any = None, **more: Any) -> None: ...

    async def unknown(client: Client) -> None: ...

    with pytest.raises(JobDefinitionError, match="'value' must be what JSON can hold"):
        CronJob(anything, "0 * * * *", "job", kwargs={"value": Client()})
    for number in (float("nan"), float("inf")):
        with pytest.raises(JobDefinitionError, match="'value' must be what JSON can hold"):
            CronJob(anything, "0 * * * *", "job", kwargs={"value": [number]})
    with pytest.raises(JobDefinitionError, match="'value' is too long: 10003 bytes"):
        CronJob(anything, "0 * * * *", "job", kwargs={"value": "x" * 10_001})
    with pytest.raises(JobDefinitionError, match="pydantic does not know its annotation"):
        CronJob(unknown, "0 * * * *", "job", kwargs={"client": Client()})
    assert CronJob(anything, "0 * * * *", "job", kwargs={"value": {"n": Decimal("1.5")}, "other": 1}).kwargs == {
        "value": {"n": Decimal("1.5")},
        "other": 1,
    }


async def test_a_run_changes_its_own_copy_only(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", kwargs={"items": ["a"]}, max_retries=1, retry_delay=1)
    async def job(items: list[str], context: JobContext) -> list[str]:
        items.append("b")
        if context.attempt == 1:
            raise ValueError("again")
        return items

    await crons.start()
    await clock.advance(crons, hours=2, minutes=1)
    assert [run.result for run in await runs_of(crons, "job")] == [["a", "b"], ["a", "b"]]


async def test_a_run_by_hand_may_have_other_arguments(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    seen: list[Mapping[str, object]] = []

    class Watching:
        @hookimpl
        def after_run(self, job_name: str, context: HookContext) -> None:
            seen.append(context["arguments"])

    crons.plugins.register(Watching())
    crons.cron("0 * * * *", name="job", kwargs={"region": "eu", "api_key": "s3cret-of-eu"})(report)
    await crons.start()
    run = await crons.run_job("job", kwargs={"region": "us", "limit": "7"})
    assert run.result == "us 7 quick None 12 job"
    assert run.arguments_json == '{"region": "us", "api_key": "***", "limit": 7}'
    with pytest.raises(InvalidArgumentError, match="argument 'limit' can't be 'many'"):
        await crons.run_job("job", kwargs={"limit": "many"})
    with pytest.raises(InvalidArgumentError, match="kwargs can't be"):
        await crons.run_job("job", kwargs=[1])  # type: ignore[arg-type]
    await clock.advance(crons, hours=1)
    by_hand, by_tick = await runs_of(crons, "job")
    assert by_hand.id == run.id
    assert by_tick.arguments_json == '{"region": "eu", "api_key": "***"}'
    assert seen == [{"region": "us", "api_key": "***", "limit": 7}, {"region": "eu", "api_key": "***"}]


async def test_the_api_shows_and_replaces_arguments(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job", kwargs={"region": "eu", "api_key": "s3cret-of-eu"})(report)
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    await crons.start()
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
        shown = await client.get("/api/crons/job")
        assert shown.json()["kwargs"] == {"region": "eu", "api_key": "***"}
        answer = await client.post("/api/crons/job/run", json={"kwargs": {"region": "us"}})
        assert answer.status_code == 200
        run = await client.get(f"/api/crons/job/runs/{answer.json()['run_id']}")
        assert run.json()["kwargs"] == {"region": "us", "api_key": "***"}
        for kwargs, said in (({"region": "asia"}, "'region' can't be 'asia'"), ({"no": 1}, "no parameter named 'no'")):
            refused = await client.post("/api/crons/job/run", json={"kwargs": kwargs})
            assert refused.status_code == 422
            assert said in refused.json()["detail"]
        assert len(await runs_of(crons, "job")) == 1
    assert "s3cret" not in shown.text + run.text


async def test_secrets_of_any_kind_are_stored_nowhere(
    make_crons: MakeCrons, clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))

    @crons.cron(
        "0 * * * *",
        name="job",
        kwargs={
            "password": "hunter2-hunter2",
            "headers": {"X-API-Key": "hyphen-hyphen", "Cookie": "crumbs-crumbs"},
            "key": SecretStr("sesame-sesame"),
            "of": {"access_key": ["nested-nested"], "url": "postgres://me:at-home-at@host/db"},
        },
    )
    async def job(password: str, headers: dict[str, str], key: SecretStr, of: dict[str, Any]) -> int:
        return len(password) + len(key.get_secret_value()) + len(of["access_key"][0])

    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, "job")
    assert run.result == 41
    stored = (tmp_path / "jobs.db").read_bytes() + (tmp_path / "jobs.db-wal").read_bytes() + caplog.text.encode()
    for secret in (b"hunter2", b"sesame", b"nested", b"at-home", b"hyphen", b"crumbs"):
        assert secret not in stored


async def test_arguments_and_dependencies_meet_in_one_call(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", kwargs={"region": "eu"})
    def job(region: str, db: Annotated[str, Depends(lambda: "session")], context: JobContext) -> list[str]:
        return [region, db, context.job]

    with pytest.raises(JobDefinitionError, match="'db' can't be given: it is filled in"):
        CronJob(job, "0 * * * *", "other", kwargs={"region": "eu", "db": "mine"})
    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, "job")
    assert run.result == ["eu", "session", "job"]
