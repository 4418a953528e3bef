"""Completion of job names in a shell: prints nothing, never fails, and imports only apps that a command has imported."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stderr, redirect_stdout


def job_names() -> list[str]:
    """The names of the jobs; none where they can't be read."""
    kept = sys.stdout, sys.stderr
    logging.disable()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return _job_names()
    except BaseException:  # whatever an app does on import
        return []
    finally:
        sys.stdout, sys.stderr = kept
        logging.disable(logging.NOTSET)


def _job_names() -> list[str]:
    from fastapi_crons_cli.apps import find_app

    if os.path.exists(".env") and not os.path.isfile(".env"):  # reading a pipe would block
        return []
    return [job.name for job in find_app(None, only_used=True).crons.get_jobs()]
