"""Kept: what of a run's outcome goes on record, as far as the settings and the plugins let it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi_crons.active import ActiveRun
from fastapi_crons.logs import without_our_frames
from fastapi_crons.outcome import cut, error_of
from fastapi_crons.results import json_or_text, result_json
from fastapi_crons.run import Run, RunError
from fastapi_crons.run_log import longest_line

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.hooks import HookCaller

#: How many characters of a text are given to redaction hooks.
_REDACTED = 65_536


class Kept:
    """Makes of what a run returned, raised and logged what is kept of it."""

    def __init__(self, config: CronConfig, hooks: HookCaller) -> None:
        self._max_error_chars = config.max_error_chars
        self._max_line_chars = longest_line(config.max_log_chars)
        self._max_result_bytes = config.max_result_bytes
        self._hooks = hooks

    async def result(self, value: object) -> str | None:
        """What a function returned, as JSON text."""
        return await result_json(value, self._max_result_bytes)

    def error(self, run: ActiveRun, raised: BaseException) -> RunError:
        """What a function raised."""
        error = error_of(raised, self._cut_first(run, self._max_error_chars))
        return replace(error, traceback=without_our_frames(error.traceback))

    def line_chars(self, run: ActiveRun) -> int:
        """How much of a log record is held until the run has ended."""
        return self._cut_first(run, self._max_line_chars)

    def _cut_first(self, run: ActiveRun, limit: int) -> int:
        """The limit of a text as it comes: what is to be redacted is cut afterwards, so that no half of a secret slips by."""
        return max(limit, _REDACTED) if self._hooks.wanted("redact", run.job.name) else limit

    def outcome(self, run: ActiveRun, outcome: Run) -> Run:
        """A run's outcome with its log, redacted."""
        if run.log is not None:
            log, run.log.closed = run.log.lines, True
            if log:
                outcome = replace(outcome, log=log, log_dropped=run.log.dropped)
        return self._redacted(run, outcome) if self._hooks.wanted("redact", run.job.name) else outcome

    def _redacted(self, run: ActiveRun, outcome: Run) -> Run:
        def redacted(field: str, text: str) -> str:
            return self._hooks.redacted(run.job.name, field, text)

        error, result = outcome.error, outcome.result_json
        if error is not None:
            message = redacted("reason" if run.vetoed else "error", error.message)
            traceback = redacted("traceback", error.traceback) if error.traceback else ""
            limit = self._max_error_chars
            error = RunError(error.type, cut(message, limit), cut(traceback, limit))
        if result is not None:
            result = json_or_text(redacted("result", result))
        log = tuple(
            replace(line, message=cut(redacted("log", line.message), self._max_line_chars)) for line in outcome.log
        )
        return replace(outcome, error=error, result_json=result, log=log)
