"""JobQueue: who waits for room, who needs none, and who goes first."""

from __future__ import annotations

from math import inf

import pytest

from fastapi_crons import CronJob
from fastapi_crons.engine.dispatch.claims import rerun_of
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.tracked import Phase, TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import Overlap
from fastapi_crons.locking import Lease
from fastapi_crons.schedule.due import Policy, SharedTicks, tick_source

NOW = 1_772_323_200.5


async def on_the_loop() -> None: ...


def tracked_job(name: str = "job", *, threaded: bool = False, overlap: Overlap = "skip") -> TrackedJob:
    job = CronJob((lambda: None) if threaded else on_the_loop, "* * * * *", name, overlap=overlap)
    return TrackedJob(job, SharedTicks(tick_source(job.schedule)), Policy(True, None, 5), int(NOW))


def queue_of(*, slow_releases: bool = False) -> JobQueue:
    return JobQueue(lambda: slow_releases, lambda: NOW)


def room_for(runs: int, threads: int, late: int) -> Room:
    return Room(runs, late, {"loop": inf, "thread": threads, "process": 0})


def run(tracked: TrackedJob, *, releasing: bool = False) -> ActiveRun:
    """A run of the job starts here."""
    started = ActiveRun(tracked.job, f"run {len(tracked.runs)}", None, "code")
    started.releasing = releasing
    tracked.run_started(started)
    return started


def names(queue: JobQueue, runs: int = 9, threads: int = 9, late: int = 9) -> list[tuple[str, bool | None]]:
    """The jobs that are taken, one by one: each takes the room that it needs."""
    room, taken = room_for(runs, threads, late), []
    for tracked, is_late in queue.take(room):
        taken.append((tracked.job.name, is_late))
        if is_late is not None:
            room.take(tracked.job.run_in, late=is_late)
    return taken


@pytest.mark.parametrize(
    ("room", "late", "on_loop", "has"),
    [
        (room_for(1, 1, 1), True, False, True),
        (room_for(0, 1, 1), False, True, False),
        (room_for(1, 0, 1), False, False, False),
        (room_for(1, 0, 1), True, True, True),
        (room_for(1, 1, 0), True, True, False),
        (room_for(1, 1, 0), False, False, True),
    ],
)
def test_only_what_is_needed_has_to_be_free(room: Room, late: bool, on_loop: bool, has: bool) -> None:
    assert room.has("loop" if on_loop else "thread", late=late) is has


@pytest.mark.parametrize(
    ("late", "on_loop", "left"),
    [
        (True, True, room_for(4, 5, 4)),
        (True, False, room_for(4, 4, 4)),
        (False, True, room_for(4, 5, 5)),
        (False, False, room_for(4, 4, 5)),
    ],
)
def test_a_run_takes_the_room_that_it_needs(late: bool, on_loop: bool, left: Room) -> None:
    room = room_for(5, 5, 5)
    room.take("loop" if on_loop else "thread", late=late)
    assert room == left


def test_ordinary_ticks_go_before_late_ones_and_jobs_that_run_already_before_all() -> None:
    queue = queue_of()
    assert not queue
    running = tracked_job("running")
    run(running)
    for tracked, late in [
        (tracked_job("late thread", threaded=True), True),
        (tracked_job("late"), True),
        (tracked_job("thread", threaded=True), False),
        (tracked_job("job"), False),
        (tracked_job("second"), False),
        (running, True),
    ]:
        queue.put(tracked, late=late)
        assert (tracked.phase, tracked.late, tracked.late_until) == (Phase.QUEUED, late, int(NOW) if late else 0)
    assert queue.waiting_for("thread") == 2
    assert names(queue) == [
        ("running", None),
        ("job", False),
        ("second", False),
        ("thread", False),
        ("late", True),
        ("late thread", True),
    ]
    assert not queue


def test_what_finds_no_room_stays_in_its_lane() -> None:
    queue = queue_of()
    for name, threaded, late in [
        ("job", False, False),
        ("thread", True, False),
        ("other thread", True, False),
        ("late", False, True),
        ("other late", False, True),
    ]:
        queue.put(tracked_job(name, threaded=threaded), late=late)
    assert names(queue, threads=1, late=1) == [("job", False), ("thread", False), ("late", True)]
    assert (bool(queue), queue.waiting_for("thread")) == (True, 1)
    assert names(queue, runs=1) == [("other thread", False)]
    assert names(queue, runs=0) == []
    assert names(queue) == [("other late", True)]


def test_who_waits_already_is_not_queued_again() -> None:
    queue, tracked = queue_of(), tracked_job()
    queue.put(tracked, late=False)
    queue.put(tracked, late=True)
    assert not tracked.late
    assert names(queue) == [("job", False)]
    waiting = tracked_job()
    waiting.wait_for_release()
    queue.put(waiting, late=True)
    assert (waiting.phase, waiting.late, bool(queue)) == (Phase.WAITING_FOR_RELEASE, False, False)


def test_what_falls_due_while_claims_have_no_answer_is_looked_at_after_the_answer() -> None:
    queue, tracked = queue_of(), tracked_job()
    tracked.queue()
    tracked.claim(1)
    queue.put(tracked, late=True)
    assert (tracked.phase, tracked.late, bool(queue)) == (Phase.CLAIMING, True, False)
    assert tracked.answered()


@pytest.mark.parametrize("slow_releases", [False, True])
def test_a_job_whose_runs_have_all_ended_waits_for_their_release_unless_that_takes_long(slow_releases: bool) -> None:
    queue, tracked = queue_of(slow_releases=slow_releases), tracked_job()
    run(tracked, releasing=True)
    queue.put(tracked, late=False)
    assert tracked.phase is (Phase.QUEUED if slow_releases else Phase.WAITING_FOR_RUNS)
    assert names(queue) == ([("job", None)] if slow_releases else [])


def test_a_job_of_whose_runs_one_has_not_ended_asks_the_store() -> None:
    queue, tracked = queue_of(), tracked_job()
    run(tracked, releasing=True)
    run(tracked)
    queue.put(tracked, late=False)
    assert names(queue) == [("job", None)]


def test_a_job_that_allows_overlap_needs_room_although_it_runs() -> None:
    queue, tracked = queue_of(), tracked_job(overlap="allow")
    run(tracked, releasing=True)
    queue.put(tracked, late=False)
    assert names(queue, runs=0) == []
    assert names(queue) == [("job", False)]


def test_reruns_take_the_room_of_late_ticks_and_each_is_queued_once() -> None:
    queue = queue_of()
    lease = Lease("job", "r1", int(NOW), "other", 1, 1, NOW + 60)
    first, on_thread = (rerun_of(tracked_job(threaded=threaded), lease, "r2", 0) for threaded in (False, True))
    third = rerun_of(tracked_job(), lease, "r3", 0)
    queue.put_rerun("r1", first)
    queue.put_rerun("r1", third)
    queue.put_rerun("thread", on_thread)
    queue.put_rerun("r3", third)
    room = room_for(9, 0, 1)
    assert queue.take_reruns(room) == [first]
    assert room == room_for(8, 0, 0)
    assert queue
    room = room_for(9, 1, 2)
    assert queue.take_reruns(room) == [on_thread, third]
    assert room == room_for(7, 0, 0)
    assert not queue
