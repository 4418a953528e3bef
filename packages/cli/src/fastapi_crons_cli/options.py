"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer
from typer.models import OptionInfo

from fastapi_crons_cli.times import FORMS, Time

_VERBOSE = "fastapi_crons_cli.verbose"


def _note_verbose(context: typer.Context, value: bool) -> bool:
    if value:
        context.meta[_VERBOSE] = True
    return value


def is_verbose(context: typer.Context) -> bool:
    """Whether `--verbose` was given, before the command or after it."""
    return bool(context.meta.get(_VERBOSE))


def _complete_job(incomplete: str) -> list[str]:
    from fastapi_crons_cli.completion.jobs import job_names

    return [name for name in job_names() if name.startswith(incomplete)]


def complete_time(incomplete: str) -> list[tuple[str, str]]:
    from fastapi_crons_cli.times import EXAMPLES

    return [(text, meaning) for text, meaning in EXAMPLES.items() if text.startswith(incomplete)]


def _complete_tag(incomplete: str) -> list[str]:
    from fastapi_crons_cli.completion.jobs import tags

    return [tag for tag in tags() if tag.startswith(incomplete)]


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """The runs that a shell offers: their short ids, newest first."""
    from fastapi_crons_cli.completion.runs import newest_runs

    return [(run_id, about) for run_id, about in newest_runs() if run_id.startswith(incomplete.lower())]


def _known_zone(name: str | None) -> str | None:
    from fastapi_crons.errors import ScheduleError
    from fastapi_crons.schedule._zones import zone

    if name is not None:
        try:
            zone(name)
        except ScheduleError as error:
            raise typer.BadParameter(str(error)) from None
    return name


class RunStatus(str, Enum):
    """The statuses of runs, as values of an option."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class JobStatus(str, Enum):
    """The statuses of jobs, as values of an option."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    PENDING = "pending"
    PAUSED = "paused"


App = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        help="The FastAPI app, the Crons, or a factory; else CRON_APP, pyproject.toml, or what `fastapi dev` would find.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON, and nothing else, to standard output; what the app prints goes to standard error."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_note_verbose, help="Show more, and tracebacks of what goes wrong."),
]
JobName = Annotated[str, typer.Argument(help="The job's name.", autocompletion=_complete_job)]
SomeJobNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these jobs.", autocompletion=_complete_job)
]
SomeJobs = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", help="Only this job; may be repeated.", autocompletion=_complete_job),
]
Note = Annotated[str | None, typer.Option("--note", help="Why; stored with the request.")]
SomeTags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Only jobs with this tag; with several, jobs that have all of them.",
        autocompletion=_complete_tag,
    ),
]
RunId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The run's id, or the beginning or end of it.", autocompletion=complete_run),
]
SomeRun = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Only this run, with what it logged: its id, or the end of it.",
        autocompletion=complete_run,
    ),
]
Before = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="ID",
        help="Only runs before this one, as the last line says.",
        autocompletion=complete_run,
    ),
]
GivenTime = Annotated[
    Time,
    typer.Argument(
        metavar="TIME",
        parser=Time.given,
        help=f"{FORMS}; without an offset it is read in the job's zone.",
        autocompletion=complete_time,
    ),
]


def _time(option: str, text: str) -> OptionInfo:
    made: OptionInfo = typer.Option(option, metavar="TIME", parser=Time.given, help=text, autocompletion=complete_time)
    return made


Since = Annotated[Time | None, _time("--since", f"From this time on: {FORMS}.")]
Until = Annotated[Time | None, _time("--until", "Up to this time.")]
RunsSince = Annotated[
    Time | None, _time("--since", f"Only runs that ended at this time or later, or have not ended: {FORMS}.")
]
RunsUntil = Annotated[Time | None, _time("--until", "Only runs that began before this time.")]
Zone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        "-z",
        callback=_known_zone,
        help="Of times that are given and shown. Default: that of the scheduler.",
    ),
]
#: The exit code where something is found, with `--exit-code`.
FOUND = 3
ExitCode = Annotated[bool, typer.Option("--exit-code", help="Exit with 3 where anything is found.")]
