"""Completion of the names and tags of jobs: imports only apps that a command has imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi_crons_cli.completion.quietly import quietly

if TYPE_CHECKING:
    from fastapi_crons.job import CronJob


def job_names() -> list[str]:
    """The names of the jobs; none where they can't be read."""
    return [job.name for job in quietly(jobs_of_app)]


def tags() -> list[str]:
    """The tags of the jobs, each once; none where they can't be read."""
    return sorted({tag for job in quietly(jobs_of_app) for tag in job.tags})


def jobs_of_app() -> list[CronJob]:
    """The jobs of an app that a command has imported before."""
    from fastapi_crons_cli.apps import find_app

    if os.path.exists(".env") and not os.path.isfile(".env"):  # reading a pipe would block
        return []
    return find_app(None, only_used=True).crons.get_jobs()
