"""`plan`: what is due in the next hours, over all jobs."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.integration.cli.commands import Cli, json_of, refused

APP = """
from fastapi import FastAPI
from fastapi_crons import Crons
from fastapi_crons.schedules import Every

app = FastAPI()
crons = Crons(app)


async def work():
    pass


crons.cron("*/30 * * * *", name="half_hourly", tags=["a"], timezone="Asia/Kolkata")(work)
crons.cron(Every(seconds=5), name="often")(work)
crons.cron("0 * * * *", name="off", enabled=False)(work)
"""


@pytest.fixture
def planned(project: Path, fastapi_crons: Cli) -> None:
    project.write_text(APP)
    fastapi_crons("run-job", "half_hourly")
    assert fastapi_crons("pause", "often", "--note", "too much").exit_code == 0


@pytest.mark.usefixtures("planned")
def test_lines_by_time_with_what_stands_against_them(fastapi_crons: Cli) -> None:
    result = fastapi_crons("plan", "--hours", "2")
    assert result.exit_code == 0, result.output
    first, note, *rest, last = result.stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d[05]  often +every 5 seconds, 1,440 times, the last ", first)
    assert first.endswith(", not run (paused)")
    assert re.match(r"    ! paused since .* UTC by \w+ \(too much\): its ticks are not run", note)
    half = [line for line in rest if "half_hourly" in line]
    assert len(half) == 4
    assert all(re.search(r"  once  \((\d{4}-\d\d-\d\d )?\d\d:[03]0:00 IST\)  usually ", line) for line in half)
    assert sum("once, not run (disabled)" in line for line in rest) == 2
    assert sum("! disabled in code" in line for line in rest) == 1
    assert "! no running instance runs jobs: what is due waits until one starts" in rest
    assert re.fullmatch(r"3 jobs, 1446 ticks until .*, times in UTC", last)
    times = [line[:19] for line in result.stdout.splitlines() if re.match(r"\d{4}-", line)]
    assert times == sorted(times)


@pytest.mark.usefixtures("planned")
def test_json_is_what_the_endpoint_says(fastapi_crons: Cli) -> None:
    found = json_of(fastapi_crons("plan", "--hours", "1", "--json"))
    jobs = {job["job_name"]: job for job in found["jobs"]}
    assert (jobs["often"]["count"], jobs["often"]["every"], len(jobs["often"]["ticks"])) == (720, 5, 12)
    assert jobs["often"]["paused"]["note"] == "too much"
    assert [jobs[name]["standing"] for name in ("often", "half_hourly", "off")] == ["paused", "runs", "disabled"]
    assert (jobs["half_hourly"]["timezone"], jobs["half_hourly"]["count"]) == ("Asia/Kolkata", 2)
    assert jobs["half_hourly"]["ticks"][0] == jobs["half_hourly"]["first"]
    assert jobs["half_hourly"]["p95"] >= jobs["half_hourly"]["p50"] > 0
    assert [job["job_name"] for job in json_of(fastapi_crons("plan", "--tag", "a", "--json"))["jobs"]] == [
        "half_hourly"
    ]
    assert [job["job_name"] for job in json_of(fastapi_crons("plan", "--job", "off", "--json"))["jobs"]] == ["off"]


@pytest.mark.usefixtures("planned")
def test_csv_is_read_by_the_csv_module(fastapi_crons: Cli) -> None:
    result = fastapi_crons("plan", "--csv", "--hours", "1", "-z", "Europe/Berlin")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["count"] for row in rows if row["job"] == "often"] == ["720"]
    half = [row for row in rows if row["job"] == "half_hourly"]
    assert len(half) == 2
    for row in half:
        time, local = datetime.fromisoformat(row["time"]), datetime.fromisoformat(row["local_time"])
        assert time == local
        assert local.utcoffset() == timedelta(hours=5, minutes=30)
        assert time.utcoffset() in (timedelta(hours=1), timedelta(hours=2))
        assert float(row["p95"]) > 0
    (often,) = (row for row in rows if row["job"] == "often")
    assert (often["standing"], often["notes"].startswith("paused since ")) == ("paused", True)


@pytest.mark.usefixtures("planned")
def test_until_a_time(fastapi_crons: Cli) -> None:
    end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=30)
    found = json_of(fastapi_crons("plan", "--until", end.isoformat(), "--json"))
    assert datetime.fromisoformat(found["until"].replace("Z", "+00:00")) == end
    assert "a plan ends after now, and within 31 days" in refused(fastapi_crons("plan", "--until", "yesterday"))
    assert "hours can't be 0" in refused(fastapi_crons("plan", "--hours", "0"))
    assert "there is no job named 'oftn'; did you mean 'often'" in refused(fastapi_crons("plan", "--job", "oftn"))
    for wrong in (["--json", "--csv"], ["--hours", "1", "--until", "now"], ["--hours", "745"]):
        assert fastapi_crons("plan", *wrong).exit_code == 2


@pytest.mark.usefixtures("planned")
def test_without_an_app_the_jobs_are_those_that_the_store_knows(fastapi_crons: Cli, project: Path) -> None:
    project.unlink()
    result = fastapi_crons("plan", "--hours", "1")
    assert "half_hourly" in result.stdout
    assert "no app was found here, so the options of jobs" in result.stderr
