"""Outcome: truncates and redacts a run's result, error and log before they are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi_crons._util.exceptions import formatted
from fastapi_crons._util.hiding import without_known_secrets
from fastapi_crons._util.text import FRAMES, cut, safe_text, type_name
from fastapi_crons.engine.runs.log import RunLog, longest_line
from fastapi_crons.engine.runs.result_json import REASON_CHARS, json_or_text, result_json
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.errors import SkipRun
from fastapi_crons.logs import without_our_frames
from fastapi_crons.run import Run, RunError

if TYPE_CHECKING:
    from fastapi_crons.clock import Clock
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins.calls import HookCaller

#: Redaction hooks are given at least so many characters of a text, and at least so many more than are stored of it.
_REDACTED = 65_536
_MORE = 4_096
#: The end of a text that was cut before it was redacted.
_CUT = re.compile(r"… \([0-9]+ characters\)\n?\Z")
_CUT_MARK = 40
#: The longest secret: half of one may be left at the end of a text that was cut before it was redacted.
_HALF = 256
_REASON_CHARS = 200
_NOTE_CHARS = 1_000


class OutcomeFilter:
    """Turns what a run returned, raised and logged, and people's notes, into what is stored."""

    def __init__(self, config: CronConfig, hooks: HookCaller, clock: Clock, on_log_growth: Callable[[], None]) -> None:
        self._max_error_chars = config.max_error_chars
        self._max_log_chars, self._max_line_chars = config.max_log_chars, longest_line(config.max_log_chars)
        self._max_result_bytes = config.max_result_bytes
        self._hooks = hooks
        self._clock = clock
        self._on_log_growth = on_log_growth

    async def result(self, run: ActiveRun, value: object) -> str | None:
        return await result_json(value, self._max_result_bytes, self._cut_first(run.job.name, REASON_CHARS))

    def error(self, run: ActiveRun, raised: BaseException) -> RunError:
        error = error_of(raised, self._cut_first(run.job.name, self._max_error_chars))
        return replace(error, traceback=without_our_frames(error.traceback))

    def veto(self, run: ActiveRun, raised: BaseException) -> RunError:
        try:
            reason = safe_text(getattr(raised, "reason", ""), self._cut_first(run.job.name, _REASON_CHARS))
        except BaseException:  # the plugin's own subclass of `SkipRun`
            reason = ""
        return RunError(SkipRun.__name__, reason)

    def note(self, job_name: str, text: str | None) -> str | None:
        if text is None or not self._hooks.implemented("redact", job_name):
            return None if text is None else safe_text(text, _NOTE_CHARS)
        return self._redacted(job_name, "note", safe_text(text, self._cut_first(job_name, _NOTE_CHARS)), _NOTE_CHARS)

    def new_log(self, run: ActiveRun) -> RunLog:
        """A log for a run."""
        name, limit = run.job.name, self._max_line_chars
        redact = None
        if self._hooks.implemented("redact", name):

            def redact(text: str) -> str:
                return self._redacted(name, "log", text, limit)

        return RunLog(self._max_log_chars, self._cut_first(name, limit), redact, self._clock, self._on_log_growth)

    def outcome(self, run: ActiveRun, outcome: Run) -> Run:
        """A run's outcome with its log, redacted."""
        if run.log is not None:
            run.log.close()
            log, dropped = run.log.read()
            outcome = replace(outcome, log=log, log_dropped=dropped)
        if outcome.result_json is not None and without_known_secrets(outcome.result_json) != outcome.result_json:
            outcome = replace(outcome, result_json=_with_strings(outcome.result_json, without_known_secrets))
        return self._redacted_outcome(run, outcome) if self._hooks.implemented("redact", run.job.name) else outcome

    def _redacted_outcome(self, run: ActiveRun, outcome: Run) -> Run:
        name, error, result = run.job.name, outcome.error, outcome.result_json
        if error is not None:
            field, limit = ("reason", _REASON_CHARS) if run.vetoed else ("error", self._max_error_chars)
            message = self._redacted(name, field, error.message, limit)
            traceback = error.traceback
            if traceback:
                traceback = self._redacted(name, "traceback", traceback, self._max_error_chars)
            error = RunError(error.type, message, traceback)
        if result is not None:
            result = self._redacted_result(name, result)
        return replace(outcome, error=error, result_json=result)

    def _redacted_result(self, job_name: str, result: str) -> str:
        """A result, redacted in the form in which people write it: a text as it is, anything else as JSON without escapes.

        Texts in it that JSON escapes (quotation marks, backslashes, line breaks) are redacted one by one before.
        """

        def redacted(text: str) -> str:
            return self._hooks.redacted(job_name, "result", text)

        def if_escaped(text: str) -> str:
            return text if _readable_json(text)[1:-1] == text else redacted(text)

        if isinstance(json.loads(result), str):
            return _with_strings(result, redacted)
        shown = _readable_json(json.loads(_with_strings(result, if_escaped)))
        kept = json.loads(json_or_text(redacted(shown)))
        if isinstance(kept, dict) and kept.keys() == {"type", "stored", "reason"} and isinstance(kept["reason"], str):
            kept["reason"] = cut(kept["reason"], REASON_CHARS)
        return json.dumps(kept)

    def _cut_first(self, job_name: str, limit: int) -> int:
        """The limit of a text before redaction: it is cut to `limit` afterwards, so that no half of a secret slips by."""
        return max(limit + _MORE, _REDACTED) if self._hooks.implemented("redact", job_name) else limit

    def _redacted(self, job_name: str, field: str, text: str, limit: int) -> str:
        """A text that was cut by `_cut_first`, redacted and cut to what is stored of it."""
        kept = self._hooks.redacted(job_name, field, text)
        if len(kept) <= limit + _HALF and len(text) > limit + _HALF and _CUT.search(text, len(text) - _CUT_MARK):
            # Redaction made it shorter, so that the place of the first cut is stored: half of a secret may stand there.
            kept = f"{kept[: max(0, len(kept) - _HALF)]}…"
        return cut(kept, limit)


def _readable_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _with_strings(text: str, change: Callable[[str], str]) -> str:
    """JSON text with each string in it changed, names too."""

    def changed(value: object) -> object:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [changed(item) for item in value]
        if isinstance(value, dict):
            return {change(key): changed(item) for key, item in value.items()}
        return value

    return json.dumps(changed(json.loads(text)))


def error_of(error: BaseException, limit: int) -> RunError:
    """An exception's type, message and traceback, each cut to `limit` characters."""
    return RunError(type_name(error), safe_text(error, limit), cut(f"{formatted(error, FRAMES)}\n", limit))
