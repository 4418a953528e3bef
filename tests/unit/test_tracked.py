"""TrackedJob: which phase follows which, what is refused, and that no tick is forgotten on any way through the phases."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import fastapi_crons
from fastapi_crons import CronJob
from fastapi_crons.engine.dispatch.claims import Wanted, claims_of
from fastapi_crons.engine.dispatch.jitter import due_time
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.timeline import Timeline
from fastapi_crons.engine.dispatch.tracked import IllegalTransitionError, Phase, Skipped, TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import Overlap
from fastapi_crons.locking import Lease
from fastapi_crons.run import MissedTicks, RunIds
from fastapi_crons.schedule.due import Policy, SharedTicks, Step, TickRange, tick_source
from tests.support import nothing

START = 1_772_323_200
#: Room for whatever is queued.
PLENTY = Room(10**6, 10**6, {"loop": 10**6, "thread": 10**6, "process": 10**6})


def tracked_job(overlap: Overlap = "skip") -> TrackedJob:
    job = CronJob(nothing, "* * * * * *", "job", overlap=overlap)
    return TrackedJob(job, SharedTicks(tick_source(job.schedule)), Policy(True, None, 5), START)


def run_of(tracked: TrackedJob, tick: int | None = None, late: bool = False) -> ActiveRun:
    return ActiveRun(tracked.job, f"run of {tick}", tick, "catch_up" if late else "schedule")


def _clock(seconds: int = 0) -> Callable[[], float]:
    """A clock that shows so many seconds after the start."""
    return lambda: START + seconds


def _reach(phase: Phase) -> TrackedJob:
    """A job in this phase."""
    tracked = tracked_job()
    if phase is Phase.WAITING_FOR_RELEASE:
        tracked.wait_for_release()
    elif phase is not Phase.IDLE:
        tracked.queue()
        if phase is not Phase.QUEUED:
            tracked.claim(1)
        if phase is Phase.RETRYING:
            tracked.retry()
        elif phase is Phase.WAITING_FOR_RUN:
            tracked.run_started(run_of(tracked), more_due=True)
        elif phase is Phase.WAITING_FOR_RUNS:
            tracked.run_started(run_of(tracked))
            tracked.wait_for_runs()
    assert tracked.phase is phase
    return tracked


#: What a job does only in these phases.
LEGAL: dict[str, tuple[Callable[[TrackedJob], object], set[Phase]]] = {
    "queue": (TrackedJob.queue, {Phase.IDLE, Phase.RETRYING}),
    "leave_queue": (TrackedJob.leave_queue, {Phase.QUEUED}),
    "claim": (lambda tracked: tracked.claim(1), {Phase.QUEUED}),
    "look_again": (TrackedJob.look_again, {Phase.CLAIMING}),
    "retry": (TrackedJob.retry, set(Phase) - {Phase.IDLE}),
    "wait_for_runs": (
        TrackedJob.wait_for_runs,
        {Phase.WAITING_FOR_RUN, Phase.WAITING_FOR_RUNS},
    ),  # the others have none
    "answered": (TrackedJob.answered, {Phase.CLAIMING, Phase.RETRYING, Phase.WAITING_FOR_RUN, Phase.WAITING_FOR_RUNS}),
}


#: How the refusal of each ends.
REFUSALS = {
    "queue": "can't be queued",
    "leave_queue": "can't leave the queue",
    "claim": "can't claim before its turn",
    "look_again": "can't look again after its claims",
    "retry": "can't be tried again without a claim",
    "wait_for_runs": "can't wait for runs: there are none",
    "answered": "can't be answered without a claim",
}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("step", LEGAL)
def test_what_a_phase_does_not_allow_is_refused_and_changes_nothing(step: str, phase: Phase) -> None:
    do, phases = LEGAL[step]
    tracked = _reach(phase)
    if phase in phases:
        do(tracked)
    else:
        with pytest.raises(IllegalTransitionError, match=f"^job 'job' is {phase.value} and {REFUSALS[step]}$"):
            do(tracked)
        assert tracked.phase is phase


def test_a_run_starts_and_ends_once() -> None:
    tracked = tracked_job()
    run = run_of(tracked)
    tracked.run_started(run)
    with pytest.raises(IllegalTransitionError, match="twice"):
        tracked.run_started(run)
    assert tracked.runs == (run,)
    assert not tracked.run_ended(run, _clock())
    with pytest.raises(IllegalTransitionError, match="none of its"):
        tracked.run_ended(run, _clock())


def test_it_waits_for_one_run_whichever_others_end() -> None:
    tracked = _reach(Phase.WAITING_FOR_RUN)
    (awaited,) = tracked.runs
    manual = run_of(tracked)
    tracked.run_started(manual)
    assert (tracked.run_ended(manual, _clock()), tracked.phase) == (False, Phase.WAITING_FOR_RUN)
    assert (tracked.run_ended(awaited, _clock()), tracked.phase) == (True, Phase.IDLE)


def test_it_waits_for_all_runs_and_knows_how_long_they_kept_it_busy() -> None:
    tracked = _reach(Phase.WAITING_FOR_RUNS)
    (first,) = tracked.runs
    second = run_of(tracked)
    tracked.run_started(second)
    assert not tracked.run_ended(first, _clock(5))
    assert tracked.run_ended(second, _clock(7))
    assert (tracked.phase, tracked.busy_until) == (Phase.IDLE, START + 7)


def test_what_falls_due_while_claims_have_no_answer_is_looked_at_when_the_last_one_has() -> None:
    tracked = tracked_job()
    tracked.queue()
    tracked.claim(2)
    tracked.look_again()
    assert not tracked.answered()
    assert tracked.answered()
    assert tracked.phase is Phase.IDLE


def test_claims_that_get_no_answer_are_made_again() -> None:
    tracked = tracked_job()
    tracked.queue()
    tracked.claim(2)
    assert tracked.claims_failed()
    assert not tracked.claims_failed()
    assert tracked.phase is Phase.IDLE


def test_late_ticks_end_where_they_were_late_and_what_fell_due_since_overlapped() -> None:
    tracked = tracked_job()
    tracked.noticed_late(START + 10)
    tracked.noticed_late(START + 20)  # the first notice counts
    run = run_of(tracked)
    tracked.run_started(run)
    tracked.wait_for_runs()
    assert tracked.run_ended(run, _clock(25))
    assert tracked.steps(START + 30) == [Step(START + 10), Step(None, ((START + 25, "overlap"),))]


def test_a_late_run_leaves_what_waited_for_it_late() -> None:
    tracked = tracked_job()
    tracked.queue()
    tracked.claim(1)
    run = run_of(tracked, START + 1, late=True)
    tracked.run_started(run, more_due=True)
    assert tracked.run_ended(run, _clock(2))
    assert tracked.late


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("more_due", [False, True])
def test_a_job_that_allows_overlap_claims_further_ticks_at_once_and_only_where_there_are_any(
    late: bool, more_due: bool
) -> None:
    tracked = tracked_job("allow")
    tracked.queue()
    tracked.claim(1)
    tracked.run_started(run_of(tracked, START + 1, late), more_due=more_due)
    assert (tracked.answered(), tracked.phase) == (more_due, Phase.IDLE)
    assert tracked.late == (late and more_due)


def test_ticks_that_jitter_holds_back_are_due_later() -> None:
    job = CronJob(nothing, "* * * * * *", "job", overlap="skip", jitter=3)
    tracked = TrackedJob(job, SharedTicks(tick_source(job.schedule)), Policy(True, None, 5), START)
    now = START + 20.0
    oldest = next(tick for tick in range(START + 1, START + 21) if due_time(job, tick) > now)
    assert tracked.due_later(now) == due_time(job, oldest)
    assert tracked.step(now).run == oldest - 1
    assert tracked.is_due(START + 1)
    assert not tracked.is_due(START + 0.5)
    tracked.handled(START + 20)
    assert tracked.due_later(now) is None


@pytest.mark.parametrize("schedule", ["* * * * * *", "* * * * * */2"])
def test_a_lease_answers_for_ticks_of_the_schedule_under_which_it_was_claimed(schedule: str) -> None:
    tracked = tracked_job()
    lease = Lease("job", "run", START + 4, "other", 1, 1, START + 60, START, None, schedule, tracked.job.schedule_zone)
    step = 1 if schedule == "* * * * * *" else 2
    assert tracked.covered_by(lease, START + 4) == TickRange(START + step, START + 4, 4 // step)


def test_skipped_ticks_are_known_with_how_many_the_log_has_not_mentioned() -> None:
    tracked = tracked_job()
    tracked.all_skips_logged()
    assert tracked.skipped is None
    record = MissedTicks("id", "job", START, START + 1, 2, "overlap", START, "us")
    tracked.skip("run", record, 2)
    assert tracked.skipped == Skipped("run", record, 2)
    tracked.all_skips_logged()
    assert tracked.skipped == Skipped("run", record, 0)


def test_the_last_handled_tick_goes_back_only_where_it_is_reset() -> None:
    tracked = tracked_job()
    tracked.handled(START + 5)
    tracked.handled(START + 3)
    assert tracked.last_handled == START + 5
    tracked.reset_last_handled(START + 3)
    assert tracked.last_handled == START + 3


def test_no_other_module_changes_a_tracked_job() -> None:
    root = Path(fastapi_crons.__file__).parent
    changes = [
        f"{path.relative_to(root)}:{target.lineno} sets {ast.unparse(target)}"
        for path in root.rglob("*.py")
        if path.name != "tracked.py"
        for target in _assigned(ast.parse(path.read_text(encoding="utf-8")))
        if ast.unparse(target.value).rpartition(".")[2] == "tracked" or target.attr in ("phase", "last_handled_tick")
    ]
    assert changes == []
    inside = _assigned(ast.parse((root / "engine/dispatch/tracked.py").read_text(encoding="utf-8")))
    assert {target.attr for target in inside} == set(TrackedJob.__slots__), "this test sees assignments"


def _assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """The attributes that a module assigns to or deletes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield node


Answer = Literal["granted", "skipped", "busy", "stale", "paused", "early", "none"]
ANSWERS: list[Answer] = ["granted", "granted", "skipped", "busy", "stale", "paused", "early", "none"]


class Ways(RuleBasedStateMachine):
    """One job through all phases, as the dispatcher and a lock store that answers at random take it."""

    @initialize(overlap=st.sampled_from(["skip", "queue", "allow"]), coalesce=st.booleans(), slow=st.booleans())
    def begin(self, overlap: Overlap, coalesce: bool, slow: bool) -> None:
        self.now = START
        job = CronJob(nothing, "* * * * * *", "job", overlap=overlap)
        self.timeline = Timeline()
        self.tracked = TrackedJob(job, self.timeline.ticks_of(job, START), Policy(coalesce, None, 5), START)
        self.timeline.add(self.tracked, START)
        self.queue = JobQueue(lambda: slow, lambda: self.now)
        self.new_id = RunIds(lambda: self.now)
        self.asked: list[Wanted] = []
        self.timers = 0
        self.releases = 0
        #: Up to when the store keeps its ticks back: a pause.
        self.paused_at = START
        self.ids = count()

    # What happens to it.

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for tick, group in self.timeline.pop_due(self.now):
            for tracked in group.jobs:
                self.queue.put(tracked, late=self.now - tick > 5)

    @rule()
    def somebody_starts_a_run(self) -> None:
        self.tracked.run_started(ActiveRun(self.tracked.job, f"manual {next(self.ids)}", None, "code"))

    @rule()
    def its_pause_ends(self) -> None:
        self.queue.put(self.tracked, late=True)

    @rule()
    def the_release_of_a_rerun_is_awaited(self) -> None:
        self.releases += not self.tracked.waiting
        self.tracked.wait_for_release()

    @precondition(lambda self: self.queue and not self.asked)
    @rule()
    def it_has_its_turn(self) -> None:
        for tracked, _ in self.queue.take(PLENTY):
            if tracked.phase is not Phase.QUEUED:
                continue
            steps = tracked.steps(self.now)
            self.asked += [claim for step in steps for claim in claims_of(tracked, step, self.new_id)]
            tracked.claim(len(self.asked))

    @precondition(lambda self: self.asked)
    @rule(answer=st.sampled_from(ANSWERS))
    def a_claim_is_answered(self, answer: Answer) -> None:
        if answer == "none":
            late = self.asked[0].late
            self.asked = []
            if self.tracked.claims_failed():
                self.queue.put(self.tracked, late=late)
            return
        want = self.asked.pop(0)
        tick = want.request.tick
        assert tick is not None
        if answer == "granted":
            self.granted(want, tick)
        elif answer in ("skipped", "stale"):
            self.tracked.handled(tick)
            if self.tracked.is_due(self.now):
                self.queue.put(self.tracked, late=want.late)
        elif answer == "paused":
            self.paused_at = self.now
        elif answer == "busy" and self.tracked.runs:
            self.tracked.wait_for_runs(late=want.late)
        else:
            self.tracked.retry()
            self.timers += 1
        if self.tracked.answered():
            self.queue.put(self.tracked, late=self.tracked.late)

    def granted(self, want: Wanted, tick: int) -> None:
        self.tracked.handled(tick)
        if want.request.missed is None:
            run = run_of(self.tracked, tick, late=want.late)
            self.tracked.run_started(run, more_due=want.more)
        elif want.more:
            self.queue.put(self.tracked, late=want.late)

    @precondition(lambda self: any(not run.releasing for run in self.tracked.runs))
    @rule(newest=st.booleans())
    def a_function_ends(self, newest: bool) -> None:
        running = [run for run in self.tracked.runs if not run.releasing]
        running[-newest].releasing = True

    @precondition(lambda self: any(run.releasing for run in self.tracked.runs))
    @rule()
    def a_run_releases_its_lease(self) -> None:
        run = next(run for run in self.tracked.runs if run.releasing)
        if self.tracked.run_ended(run, lambda: self.now):
            self.queue.put(self.tracked, late=self.tracked.late)

    @precondition(lambda self: self.timers)
    @rule()
    def a_timer_fires(self) -> None:
        self.timers -= 1
        if self.tracked.phase is Phase.RETRYING:
            self.queue.put(self.tracked, late=False)

    @precondition(lambda self: self.releases)
    @rule()
    def the_lease_of_a_rerun_is_released(self) -> None:
        self.releases -= 1
        if self.tracked.lease_released():
            self.queue.put(self.tracked, late=False)

    # What holds all the time.

    @invariant()
    def each_phase_has_what_leads_out_of_it(self) -> None:
        tracked, phase = self.tracked, self.tracked.phase
        assert phase is not Phase.QUEUED or self.queue
        assert phase is not Phase.CLAIMING or self.asked
        assert phase is not Phase.RETRYING or self.timers
        assert phase is not Phase.WAITING_FOR_RUN or tracked._awaited in tracked.runs
        assert phase is not Phase.WAITING_FOR_RUNS or tracked.runs
        assert phase is not Phase.WAITING_FOR_RELEASE or self.releases

    @invariant()
    def a_job_that_is_idle_has_nothing_due(self) -> None:
        if self.tracked.phase is Phase.IDLE:
            assert not self.tracked.is_due(self.now) or self.paused_at == self.now

    def teardown(self) -> None:
        """However it came about: once everything is answered and has ended, all ticks are handled."""
        if not hasattr(self, "tracked"):
            return
        self.time_passes(1)
        for _ in range(500):
            if self.asked:
                self.a_claim_is_answered("granted")
            elif self.queue:
                self.it_has_its_turn()
            elif self.timers:
                self.a_timer_fires()
            elif self.releases:
                self.the_lease_of_a_rerun_is_released()
            elif self.tracked.runs:
                self.tracked.runs[0].releasing = True
                self.a_run_releases_its_lease()
            else:
                break
        assert self.tracked.phase is Phase.IDLE
        assert self.tracked.last_handled == self.now


TestWays = Ways.TestCase
TestWays.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
