"""What forms do: each change is made, and answered with a page that says so. What is refused is said on a page, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Depends
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import ImmutableMultiDict

from fastapi_crons.api import form, local_path
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import CronsError, InvalidArgumentError
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons_dashboard.serving.page import (
    ChangesRefusedError,
    Showing,
    Shown,
    run_in_the_way,
    status_of,
    words_of,
)
from fastapi_crons_dashboard.words import said
from fastapi_crons_dashboard.words.arguments import arguments_of, given_arguments
from fastapi_crons_dashboard.words.refusals import on_a_page, takes_force
from fastapi_crons_dashboard.words.times import zone

if TYPE_CHECKING:
    from fastapi_crons_dashboard.serving.page import Pages

Fields = Annotated[ImmutableMultiDict[str, str], Depends(form)]

#: How many characters a note may have.
NOTE_CHARS = 1000
#: How many jobs can be chosen at a time: those of one page.
MOST_JOBS = 50
#: What can be done with many jobs: the sentence that says it was done, and the verb of what was refused.
_OF_MANY = {"run": ("ran-many", "run"), "pause": ("paused-many", "paused"), "resume": ("resumed-many", "resumed")}


def add_actions(pages: Pages) -> None:
    @pages.post("/jobs/{job_name}/run", "run-job")
    async def run_job(shown: Showing, job_name: str, fields: Fields) -> Response:
        job, tick = shown.management.definition(job_name), _tick(fields)
        try:
            run = await _run(shown, job, fields)
        except CronsError as error:
            if "form" not in fields and tick is None:
                raise
            return _form_again(shown, job, tick, fields, error)
        run_page = shown.links.to("run", job_name=job_name, run_id=run)
        return _answer(fields.get("back"), run_page, "started")

    @pages.post("/jobs/{job_name}/pause", "pause-job")
    async def pause(shown: Showing, job_name: str, fields: Fields) -> RedirectResponse:
        await shown.management.pause(job_name, actor=shown.asked.actor, note=_note(fields))
        return _answer(fields.get("back"), shown.links.to("job", job_name=job_name), "paused")

    @pages.post("/jobs/{job_name}/resume", "resume-job")
    async def resume(shown: Showing, job_name: str, fields: Fields) -> RedirectResponse:
        catch_up = "catch_up" in fields
        was_paused = await shown.management.resume(job_name, catch_up=catch_up)
        code = ("caught-up" if catch_up else "resumed") if was_paused else "not-paused"
        return _answer(fields.get("back"), shown.links.to("job", job_name=job_name), code)

    @pages.post("/jobs/{job_name}/runs/{run_id}/cancel", "cancel-run")
    async def cancel(shown: Showing, job_name: str, run_id: str, fields: Fields) -> RedirectResponse:
        cancelled = await shown.management.cancel_run(job_name, run_id, actor=shown.asked.actor)
        run_page = shown.links.to("run", job_name=job_name, run_id=cancelled)
        return _answer(fields.get("back"), run_page, "cancelling")

    @pages.post("/many", "many")
    async def many(shown: Showing, fields: Fields) -> RedirectResponse:
        code, number = await _to_many(shown, fields)
        return _answer(fields.get("back"), shown.links.to("overview"), code, number)


def _form_again(
    shown: Shown, job: CronJob, tick: int | None, fields: ImmutableMultiDict[str, str], error: CronsError
) -> HTMLResponse:
    """The form that runs a job, or a tick of it, with what was typed into it, and why it is refused."""
    return shown.page(
        "parts/run_refused.html",
        status_of(error, shown.request),
        live=None,
        job=job,
        tick=None if tick is None else utc_datetime(tick),
        zone=zone(job.schedule_zone),
        takes_force=takes_force(str(error)),
        arguments=arguments_of(job),
        typed=fields,
        refused=words_of(error, "below"),
        other_run=run_in_the_way(error, shown.request),
    )


async def _run(shown: Shown, job: CronJob, fields: ImmutableMultiDict[str, str]) -> str:
    """Start a run as a form says, and return its id."""
    wanted = ManualRun(
        job,
        force="force" in fields,
        timeout=_seconds(fields.get("timeout", "")),
        actor=shown.asked.actor,
        note=_note(fields),
        trigger="api",
        kwargs=given_arguments(job, fields),
        tick=_tick(fields),
        texts=True,
    )
    return (await shown.management.run_job(wanted, wait=False)).id


async def _to_many(shown: Shown, fields: ImmutableMultiDict[str, str]) -> tuple[str, int]:
    """Do one thing with each job that was chosen. What some refuse does not keep the others from it."""
    names = list(dict.fromkeys(fields.getlist("job")))
    if fields.get("do") not in _OF_MANY:
        raise InvalidArgumentError("choose what to do with the jobs: run, pause or resume them")
    if not names:
        raise InvalidArgumentError("no job is chosen: tick the box of each that this is for")
    if len(names) > MOST_JOBS:
        raise InvalidArgumentError(f"choose at most {MOST_JOBS} jobs at a time; {len(names)} are chosen")
    code, verb = _OF_MANY[fields["do"]]
    calls: dict[str, Callable[[str], Awaitable[object]]] = {
        "run": lambda name: _run(shown, shown.management.definition(name), fields),
        "pause": lambda name: shown.management.pause(name, actor=shown.asked.actor, note=_note(fields)),
        "resume": lambda name: shown.management.resume(name, catch_up="catch_up" in fields),
    }
    refused = {}
    for name in names:
        try:
            await calls[fields["do"]](name)
        except CronsError as error:
            refused[name] = f"{name}: {on_a_page(str(error))}"
    if refused:
        done = len(names) - len(refused)
        raise ChangesRefusedError(
            f"{done} of {len(names)} jobs {'was' if done == 1 else 'were'} {verb}; refused: {'; '.join(refused.values())}",
            tuple(refused),
        )
    return code, len(names)


def _tick(fields: ImmutableMultiDict[str, str]) -> int | None:
    tick = fields.get("tick")
    if tick and not (tick.isascii() and tick.isdecimal() and len(tick) < 12):
        raise InvalidArgumentError(f"tick can't be {tick[:50]!r}; give Unix seconds")
    return int(tick) if tick else None


def _note(fields: ImmutableMultiDict[str, str]) -> str | None:
    note = fields.get("note", "").strip()
    if len(note) > NOTE_CHARS:
        raise InvalidArgumentError(f"a note has at most {NOTE_CHARS} characters, not {len(note)}")
    return note or None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text) if text.strip() else None
    except ValueError:
        seconds = -1.0
    if seconds is not None and not 0 < seconds <= 1e9:
        raise InvalidArgumentError(f"the time limit can't be {text[:50]!r}; give seconds, more than 0")
    return seconds


def _answer(back: str | None, default: str, code: str, number: int | None = None) -> RedirectResponse:
    """Leads to the page that a form came from, or else to another, which says what was done."""
    to = urlsplit(said.left_out(local_path(back, default)))
    given = [*parse_qsl(to.query), ("said", code), *([] if number is None else [("n", str(number))])]
    return RedirectResponse(f"{to.path}?{urlencode(given)}", 303)
