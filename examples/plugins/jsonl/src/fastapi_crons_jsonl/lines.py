"""Records as lines of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from fastapi_crons import LogLine, MissedTicks, Run, RunError
from fastapi_crons.state import Record


def line_of(record: Record) -> bytes:
    """The line that keeps a record. `kind` and `at` are there for those who read along."""
    values = record._asdict()
    if isinstance(record, Run):
        kind, ts = "run", record.ended_ts or record.started_ts
        values["error"] = None if record.error is None else record.error._asdict()
        values["log"] = [line._asdict() for line in record.log]
    else:
        kind, ts = "missed", record.recorded_ts
    at = datetime.fromtimestamp(ts, timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"kind": kind, "at": at, **values}, ensure_ascii=False).encode()


def record_of(values: Mapping[str, Any]) -> Record:
    """The record that a line keeps. Another version of ours may write more fields, or fewer."""
    kind = Run if values["kind"] == "run" else MissedTicks
    given = {name: values[name] for name in kind._fields if name in values}
    if given.get("error") is not None:
        given["error"] = RunError(**given["error"])
    if "log" in given:
        given["log"] = tuple(LogLine(**line) for line in given["log"])
    return kind(**given)
