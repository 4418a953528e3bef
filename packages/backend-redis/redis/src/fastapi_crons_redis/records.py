"""Records as they are kept in Redis, and published: JSON lists, whose fields are append only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi_crons._util.damage import Damage
from fastapi_crons._util.damage import text as checked_text
from fastapi_crons.run import MissedTicks, Run, RunError, first_id_at
from fastapi_crons.state.base import Event, JobState, Record, Signal
from fastapi_crons.state.checks import checked_missed, checked_run
from fastapi_crons.state.figures import Figures, bucket_of, day_of, durations_of
from fastapi_crons.state.figures import text_of as text_of_sketch

from .connection import text_of

# Later versions may add fields at the end; earlier ones lack some of those of a run.
_RUN_FIELDS, _MISSED_FIELDS = 16, 6
_LATER_FIELDS = (None, 0.0, None)
as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def parsed(text: bytes | None) -> Any:
    """What a text of the server says as JSON."""
    return json.loads(text_of(text))


def lines_of(record: Record) -> tuple[str, str, str, str]:
    """A record as `scripts/history/write.lua` takes it, in lines of JSON: what the script reads, head, whole, and log."""
    if isinstance(record, MissedTicks):
        head = as_json((record.id, "missed", record.job, record.instance, record.recorded_ts))
        rest = (record.first_ts, record.last_ts, record.count, record.reason, record.more, record.detail)
        facts = f"{head[:-1]},{record.first_ts},{record.last_ts},{record.count}]"
        return facts, head, f"[{head},{as_json(rest)}]", ""
    error = record.error
    head = as_json((record.id, record.status, record.job, record.instance, record.started_ts))
    more = (
        record.tick_ts,
        record.trigger,
        record.attempt,
        record.token,
        record.ended_ts,
        None if error is None else (error.type, error.message, error.traceback),
        record.result_json,
        record.missed_ticks,
        record.missed_since_ts,
        record.actor,
        record.note,
        record.beside,
        record.log_dropped,
        record.delay,
        record.waited,
        record.arguments_json,
    )
    log = [(line.ts, line.level, line.logger, line.message) for line in record.log]
    return _facts_of(record, head), head, f"[{head},{as_json(more)}]", as_json(log) if log else ""


def _facts_of(run: Run, head: str) -> str:
    """The head of a run, and whether it runs a tick again.

    Of one that has ended also its day and end, and of one that completed how long it took.
    """
    head = f"{head[:-1]},{'true' if run.trigger == 'again' else 'false'}"
    if run.ended_ts is None:
        return f"{head}]"
    ended = f'{head},{day_of(run.started_ts)},"{run.ended_ts!r}"'
    if run.status != "completed":
        return f"{ended}]"
    taken = max(0.0, run.ended_ts - run.started_ts)
    return f'{ended},"{taken:.6f}",{bucket_of(taken)}]'


def run_of(head: Sequence[Any], more: Sequence[Any]) -> Run:
    """A run without its log, from the first two lines."""
    run_id, status, job, instance, started = head
    lacking = _RUN_FIELDS - len(more)
    tick, trigger, attempt, token, ended, raised, *about = (*more, *_LATER_FIELDS[-lacking:])[:_RUN_FIELDS]
    error = None if raised is None else RunError(*raised)
    began = (run_id, job, tick, trigger, attempt, instance, token, status, started, ended, error)
    # In between is the field of the log, which has a key of its own.
    return Run(*(*began, *about[:6], (), *about[6:]))


def missed_of(head: Sequence[Any], more: Sequence[Any]) -> MissedTicks:
    """Missed ticks, from the first two lines."""
    record_id, _, job, instance, recorded = head
    first, last, count, reason, and_more, detail = more[:_MISSED_FIELDS]
    return MissedTicks(record_id, job, first, last, count, reason, recorded, instance, and_more, detail)


def figures_of(job: str, day: int, text: bytes) -> Figures:
    """The figures of a job and day, as `scripts/history/counting.lua` keeps them."""
    runs, failed, missed, longest, sketch = f"{text_of(text)} ".split(" ", 4)
    return Figures(job, day, int(runs), int(failed), int(missed), float(longest), durations_of(sketch))


def with_success(state: JobState, text: bytes | None) -> JobState:
    """The state of a job with what is kept of its last success."""
    if text is None:
        return state
    failures, *success = text_of(text).split(" ")
    if not success:
        return state._replace(failures=int(failures))
    run_id, ended, took = success
    return JobState(*state[:4], float(ended), run_id, float(took), int(failures))


def restored_state(state: JobState) -> tuple[str, str, str]:
    """A state as `scripts/history/upkeep.lua` takes it: the job, a head for where its latest run is gone, and its success."""
    head = as_json((first_id_at(state.last_run_ts), state.status, state.job, state.instance, state.last_run_ts))
    success = str(state.failures)
    if state.last_success_run is not None and state.last_success_ts is not None:
        success += f" {state.last_success_run} {state.last_success_ts:.6f} {state.last_success_took or 0.0:.6f}"
    return state.job, head, success


def restored_figures(figures: Figures) -> tuple[str, int, str]:
    """The figures of a job and day, as `scripts/history/upkeep.lua` takes them."""
    counts = f"{figures.runs} {figures.failed} {figures.missed} {figures.longest:.6f}"
    return figures.job, figures.day, f"{counts} {text_of_sketch(figures.durations)}".rstrip()


def events_in(text: str | bytes, damage: Damage) -> Iterator[Event]:
    """The events in a message, of the kinds that this version knows; those that can't be read are passed over."""
    what = "a published event"
    readers: dict[str, Callable[..., Event]] = {
        "runs": lambda *parts: checked_run(run_of(*parts)),
        "missed": lambda *parts: checked_missed(missed_of(*parts)),
        "signals": _signal,
    }
    message = damage.noted(what, lambda: parsed(text if isinstance(text, bytes) else text.encode()))
    kinds = message if isinstance(message, dict) else {}
    for kind, reader in readers.items():
        parts = kinds.get(kind)
        for part in parts if isinstance(parts, list) else ():
            event = damage.noted(what, lambda: reader(*part))  # noqa: B023 - called at once
            if event is not None:
                yield event


def _signal(*parts: Any) -> Signal:
    signal = Signal(*parts)
    for field in (signal.job, signal.run_id, signal.actor):
        if field is not None:
            checked_text(field, "a signal's field")
    return signal
