"""Records of a lock store as text, for stores that keep each in one column: JSON, with fields by name."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, cast

from fastapi_crons.locking.base import Lease, LiveInstance, Pause
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.record import JobRecord

__all__ = [
    "instance_from_text",
    "instance_to_text",
    "lease_from_text",
    "lease_to_text",
    "record_from_text",
    "record_to_text",
]

_FIELDS = [field.name for field in fields(JobRecord)]


def record_to_text(record: JobRecord) -> str:
    """The record of a job with its leases."""
    values = {field: getattr(record, field) for field in _FIELDS}
    leases = record.leases.values() if record.leases else ()
    return _dump({**values, "leases": [lease._asdict() for lease in leases]})


def record_from_text(text: object) -> JobRecord:
    """The record that a text holds. Never raises: what can't be read makes a record that no backend accepts."""
    try:
        values = json.loads(cast("str", text))
        record = JobRecord(**{field: values[field] for field in _FIELDS if field in values})
        record.registrars = tuple(record.registrars)
        record.pause = None if record.pause is None else Pause(*cast("Any", record.pause))
        leases = [_lease(lease) for lease in values["leases"]]
        record.leases = {lease.run_id: lease for lease in leases} or None
    except _UNREADABLE:
        return JobRecord(*(cast("Any", None),) * 4, registrars=(), last_handled=0, since=0)
    return record


def lease_to_text(lease: Lease) -> str:
    """A lease, for stores that keep leases apart from their records."""
    return _dump(lease._asdict())


def lease_from_text(text: object) -> Lease:
    """The lease that a text holds. Never raises: what can't be read makes a lease that no backend accepts."""
    try:
        return _lease(json.loads(cast("str", text)))
    except _UNREADABLE:
        return Lease(*(cast("Any", None),) * 7)


def instance_to_text(found: LiveInstance) -> str:
    """An instance with its heartbeat."""
    return _dump({**found._asdict(), "instance": asdict(found.instance)})


def instance_from_text(text: object) -> LiveInstance:
    """The instance that a text holds. Never raises: what can't be read makes an instance that no backend accepts."""
    try:
        values = json.loads(cast("str", text))
        instance = Instance(**values["instance"])
        return LiveInstance(instance, values["heartbeat_ts"], values["running"], values["jobs"])
    except _UNREADABLE:
        return LiveInstance(Instance(*(cast("Any", None),) * 7), 0)


_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def _lease(values: dict[str, Any]) -> Lease:
    return Lease(**{field: values[field] for field in Lease._fields if field in values})


def _dump(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
