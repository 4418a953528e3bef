"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

_VERBOSE = "fastapi_crons_cli.verbose"


def _note_verbose(context: typer.Context, value: bool) -> bool:
    if value:
        context.meta[_VERBOSE] = True
    return value


def is_verbose(context: typer.Context) -> bool:
    """Whether `--verbose` was given, before the command or after it."""
    return bool(context.meta.get(_VERBOSE))


def _complete_job(incomplete: str) -> list[str]:
    from fastapi_crons_cli.completion import job_names

    return [name for name in job_names() if name.startswith(incomplete)]


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
SomeJobs = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", help="Only this job; may be repeated.", autocompletion=_complete_job),
]
Note = Annotated[str | None, typer.Option("--note", help="Why; stored with the request.")]
