"""TrackedJob: no tick is forgotten on any way through the phases."""

from __future__ import annotations

from itertools import count
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastapi_crons import CronJob
from fastapi_crons.engine.dispatch.claims import Wanted, claims_of
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.timeline import Timeline
from fastapi_crons.engine.dispatch.tracked import Phase, TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import Overlap
from fastapi_crons.run import RunIds
from fastapi_crons.schedule.due import Policy
from tests.support import nothing
from tests.unit.dispatch.jobs import START, run_of

#: Room for whatever is queued.
PLENTY = Room(10**6, 10**6, {"loop": 10**6, "thread": 10**6, "process": 10**6})


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
