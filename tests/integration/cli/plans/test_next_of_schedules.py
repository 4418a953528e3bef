"""`next` and its kin for schedules besides cron expressions."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.commands import Cli, json_of, refused


def test_next_of_schedules(fastapi_crons: Cli) -> None:
    every = fastapi_crons("next", "Every(minutes=90)", "--count", "2").stdout.splitlines()
    assert every[0] == "Every(minutes=90) (UTC): Every 90 minutes, counted from 1970-01-01 00:00 UTC"
    assert len(every) == 3
    (found,) = json_of(fastapi_crons("next", "Once('2090-12-24T17:00')", "-z", "Europe/Berlin", "--json"))
    assert found["next"] == ["2090-12-24T16:00:00Z"]
    assert (found["expr"], found["timezone"]) == ("Once('2090-12-24T17:00')", "Europe/Berlin")
    assert found["description"] == "Once, at 2090-12-24 17:00+01:00"
    own = fastapi_crons("next", "Once('2090-12-24T17:00', timezone='Asia/Tokyo')").stdout
    assert "(Asia/Tokyo): Once, at 2090-12-24 17:00+09:00" in own
    assert fastapi_crons("next", "Once('2020-12-24T17:00')").stdout.endswith("never again\n")
    assert fastapi_crons("next", "AtStart()").stdout.endswith("not known from the clock\n")
    year = fastapi_crons("next", "0", "9", "1", "1", "*", "0", "2090").stdout
    assert "At 09:00, on day 1 of the month, in January, in the year 2090\n  2090-01-01 09:00:00+00:00" in year
    assert "the period of Every can't be 0 s" in refused(fastapi_crons("next", "Every(minutes=0)"))
    assert "'Evry' is none of Every, Once" in refused(fastapi_crons("next", "Evry(minutes=9)"))


def test_next_notes_what_is_hardly_meant(fastapi_crons: Cli) -> None:
    for what in ("*/90 * * * *", "AnyOf('*/90 * * * *', '0 9 * * *')"):
        result = fastapi_crons("next", what)
        assert "note: the step of '*/90' in the minute field is larger than its range" in result.stderr
        assert result.exit_code == 0
    assert "seconds are the last field here" in fastapi_crons("next", "0 0 12 * * *").stderr
    assert fastapi_crons("next", "*/45 * * * *").stderr == ""


def test_what_the_stores_know_of_schedules_is_shown_without_an_app(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(
        "from fastapi_crons import Crons\n"
        "from fastapi_crons.schedules import AnyOf, Every\n"
        "crons = Crons()\n"
        "schedule = AnyOf('0 9 * * *', Every(minutes=90, timezone='Asia/Tokyo'))\n"
        "crons.cron(schedule, name='mixed', timezone='Europe/Berlin')(list)\n"
    )
    assert fastapi_crons("run-job", "mixed").exit_code == 0
    with_app = fastapi_crons("next", "mixed").stdout
    assert "(Europe/Berlin): At 09:00, every day; or every 90 minutes, counted from" in with_app
    (known,) = json_of(fastapi_crons("list-jobs", "--json"))
    project.unlink()
    assert fastapi_crons("next", "mixed").stdout.splitlines()[0] == with_app.splitlines()[0]
    (again,) = json_of(fastapi_crons("list-jobs", "--json"))
    assert (again["expr"], again["next_run"]) == (known["expr"], known["next_run"])
    assert fastapi_crons("why", "mixed", "2090-01-01T09:00").exit_code == 0
