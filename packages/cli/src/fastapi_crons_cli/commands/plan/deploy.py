"""What a deploy would do, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi_crons._util.text import counted
from fastapi_crons.clock import local_time, utc_datetime
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.plan.deploy import MANY_LATE_RUNS, Change, ChangedJob, Deploy
from fastapi_crons.management.plan.edits import TickEdit
from fastapi_crons.management.plan.planned import paused_in_words
from fastapi_crons.management.plan.renames import Renamed
from fastapi_crons.schedule.due import TickRange
from fastapi_crons_cli.commands.plan.lines import too_many_in_words
from fastapi_crons_cli.output import clock_time, say, shown, with_z

_COMMON = {"function": "the same function", "schedule": "the same schedule and a similar name"}


def print_deploy(deploy: Deploy, zone: str, where: str) -> None:
    """Print what a deploy does: a line for each job that it concerns, and whether that is safe."""
    instances = counted(deploy.instances, "instance") if deploy.instances else "no instance"
    runs = "runs" if deploy.instances < 2 else "run"
    say(f"{counted(deploy.jobs, 'job')} of this code, against {shown(where)}: {instances} {runs} jobs there")
    for mark, line in _lines(deploy, zone):
        say(f"{mark} {shown(line)}")
    if deploy.former:
        say(
            f"  {counted(len(deploy.former), 'former job')} on record that no instance has any more: {_some(deploy.former)}"
        )
    say(_verdict(deploy))


def _lines(deploy: Deploy, zone: str) -> Iterator[tuple[str, str]]:
    renamed = {pair.known.job: pair for pair in deploy.renamed}
    for known, edit in deploy.gone:
        pair = renamed.get(known.job)
        yield "✗", _gone(known, edit) if pair is None else _renamed(pair)
    for job, edit in deploy.new:
        rule = f"{job.schedule.text}{f' in {job.schedule_zone}' if job.schedule_zone else ''}"
        yield "+", f"new: {job.name}, {rule}{_first(edit, zone)}"
    for changed in deploy.changed:
        yield "✗" if changed.lost else "~", _changed(changed, zone)
    for job, pause in deploy.paused:
        yield " ", f"stays {paused_in_words(pause, zone, details=True)}: {job.name}"
    for job, late in deploy.late:
        runs = counted(late.runs, "run") if late.runs else "no run"
        missed = f", {late.missed:,} recorded as missed" if late.missed else ""
        ticks = counted(late.ticks.number, "late tick", more=late.ticks.more)
        yield "!", f"caught up with: {job.name}, {runs} for {ticks} since {local_time(late.ticks.first, zone)}{missed}"
    for job in deploy.at_start:
        yield "!", f"run at the start: {job.name}, {job.schedule.text}"
    for planned in deploy.overlapping:
        for note in planned.notes(details=True):
            yield "!", f"{planned.job.name}: {note}"
    for found in deploy.too_many:
        yield "!", too_many_in_words(found, zone)


def _gone(known: KnownJob, edit: TickEdit | None) -> str:
    ticks = "" if edit is None or not edit.before else f"; it has {counted(edit.before, 'tick')} in the next hours"
    paused = ", which is paused" if known.pause is not None else ""
    return f"gone: {known.job}{paused}, {known.schedule}{ticks}"


def _renamed(pair: Renamed) -> str:
    old, new = pair.known.job, pair.job.name
    if pair.known.pause is not None:
        kept = f"the pause of {old} does not go with it, so it will run"
    else:
        kept = "its history and its last handled tick stay behind"
    return f"perhaps renamed: {old} to {new} ({_COMMON[pair.common]}): {kept}; to keep the job, write name={old!r}"


def _changed(changed: ChangedJob, zone: str) -> str:
    parts = ", ".join(map(_part, changed.changes))
    text = f"changed: {changed.job.name}, {parts}"
    if changed.lost is not None:
        lost = counted(changed.lost.number, "late tick", more=changed.lost.more)
        text += f"; {lost} since {local_time(changed.lost.first, zone)} will be recorded as missed"
    edit = changed.edit
    if edit is None:
        return text
    if edit.removed is None:
        return f"{text}; {edit.before:,} {'tick becomes' if edit.before == 1 else 'ticks become'} {edit.after:,}"
    go, come = "tick goes" if edit.removed == 1 else "ticks go", "comes" if edit.added == 1 else "come"
    removed = f"{edit.removed:,} {go}{_from(edit.first_removed, zone)}" if edit.removed else ""
    added = f"{edit.added:,} {come}{_from(edit.first_added, zone)}" if edit.added else ""
    return f"{text}; {' and '.join(part for part in (removed, added) if part) or 'in the next hours its ticks stay the same'}"


def _part(change: Change) -> str:
    if change.part == "arguments":
        return "arguments differ"
    if change.part == "enabled":
        return f"{change.before} becomes {change.after}"
    return f"{change.part} {change.before or 'none'} becomes {change.after or 'none'}"


def _from(tick: int | None, zone: str) -> str:
    return "" if tick is None else f" (the first at {clock_time(utc_datetime(tick), zone)})"


def _first(edit: TickEdit | None, zone: str) -> str:
    return "" if edit is None or edit.first_added is None else f", first at {local_time(edit.first_added, zone)}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(map(shown, names[:5])) + (" …" if len(names) > 5 else "")


def _verdict(deploy: Deploy) -> str:
    if deploy.is_safe:
        return "Nothing is lost or in doubt."
    renamed, lost = len(deploy.renamed), sum(1 for changed in deploy.changed if changed.lost is not None)
    gone, said = len(deploy.gone) - renamed, []
    if gone:
        said.append(f"{counted(gone, 'job')} {'goes' if gone == 1 else 'go'}")
    if renamed:
        said.append(f"{counted(renamed, 'job')} perhaps renamed")
    if lost:
        said.append(f"late ticks of {counted(lost, 'job')} are lost")
    if deploy.late_runs > MANY_LATE_RUNS:
        said.append(f"{deploy.late_runs:,} late runs at the start, more than {MANY_LATE_RUNS}")
    return f"To be looked at: {'; '.join(said)}."


def deploy_json(deploy: Deploy) -> dict[str, Any]:
    """What a deploy does, as JSON. Times are UTC."""
    return {
        "safe": deploy.is_safe,
        "since": _time(deploy.since),
        "until": _time(deploy.until),
        "jobs": deploy.jobs,
        "instances": deploy.instances,
        "new": [
            {
                "job_name": job.name,
                "expr": job.schedule.text,
                "timezone": job.schedule_zone or None,
                "ticks": _edit(edit),
            }
            for job, edit in deploy.new
        ],
        "gone": [
            {
                "job_name": known.job,
                "expr": known.schedule,
                "timezone": known.timezone or None,
                "paused": known.pause is not None,
                "ticks": _edit(edit),
            }
            for known, edit in deploy.gone
        ],
        "renamed": [
            {"from": pair.known.job, "to": pair.job.name, "common": pair.common, "paused": pair.known.pause is not None}
            for pair in deploy.renamed
        ],
        "changed": [
            {
                "job_name": changed.job.name,
                "changes": [change._asdict() for change in changed.changes],
                "ticks": _edit(changed.edit),
                "lost": _range(changed.lost),
            }
            for changed in deploy.changed
        ],
        "paused": [{"job_name": job.name, "since": _time(int(pause.since))} for job, pause in deploy.paused],
        "late": [
            {"job_name": job.name, "ticks": _range(late.ticks), "runs": late.runs, "missed": late.missed}
            for job, late in deploy.late
        ],
        "late_runs": deploy.late_runs,
        "at_start": [job.name for job in deploy.at_start],
        "overlapping": [planned.job.name for planned in deploy.overlapping],
        "too_many": [
            {"what": found.what, "limit": found.limit, "time": _time(found.at), "due": found.due}
            for found in deploy.too_many
        ],
        "former": list(deploy.former),
    }


def _edit(edit: TickEdit | None) -> dict[str, Any] | None:
    if edit is None:
        return None
    return {
        **edit._asdict(),
        "first_removed": _time(edit.first_removed),
        "first_added": _time(edit.first_added),
    }


def _range(ticks: TickRange | None) -> dict[str, Any] | None:
    if ticks is None:
        return None
    return {"first": _time(ticks.first), "last": _time(ticks.last), "count": ticks.number, "more": ticks.more}


def _time(instant: int | None) -> str | None:
    return None if instant is None else with_z(utc_datetime(instant))
