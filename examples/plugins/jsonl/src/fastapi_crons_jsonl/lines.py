"""Records as lines of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime, timezone
from typing import Any

from fastapi_crons import LogLine, MissedTicks, Run, RunError
from fastapi_crons.state import Record


def line_of(record: Record) -> bytes:
    """The line that keeps a record. `kind` and `at` are there for those who read along."""
    run = isinstance(record, Run)
    ts = (record.ended_ts or record.started_ts) if isinstance(record, Run) else record.recorded_ts
    at = datetime.fromtimestamp(ts, timezone.utc).isoformat(timespec="milliseconds")
    values = {"kind": "run" if run else "missed", "at": at, **asdict(record)}
    return json.dumps(values, ensure_ascii=False).encode()


def record_of(values: Mapping[str, Any]) -> Record:
    """The record that a line keeps. Another version of ours may write more fields, or fewer."""
    kind = Run if values["kind"] == "run" else MissedTicks
    given = _known(kind, values)
    if given.get("error") is not None:
        given["error"] = RunError(**_known(RunError, given["error"]))
    if "log" in given:
        given["log"] = tuple(LogLine(**_known(LogLine, line)) for line in given["log"])
    return kind(**given)


def _known(kind: type[Run | MissedTicks | RunError | LogLine], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
