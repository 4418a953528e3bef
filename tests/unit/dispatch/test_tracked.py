"""TrackedJob: which phase follows which, and what is refused."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastapi_crons
from fastapi_crons.engine.dispatch.lateness import Delay
from fastapi_crons.engine.dispatch.tracked import IllegalTransitionError, Phase, Skipped, TrackedJob
from fastapi_crons.run import MissedTicks
from tests.unit.dispatch.jobs import START, run_of, tracked_job


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


#: The phase after each, where that is one.
THEN = {
    "queue": Phase.QUEUED,
    "leave_queue": Phase.IDLE,
    "claim": Phase.CLAIMING,
    "look_again": Phase.CLAIMING,
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
        assert tracked.phase is THEN.get(step, tracked.phase)
    else:
        with pytest.raises(IllegalTransitionError, match=f"^job 'job' is {phase.value} and {REFUSALS[step]}$"):
            do(tracked)
        assert tracked.phase is phase


@pytest.mark.parametrize("phase", list(Phase))
def test_who_waits_or_is_queued_need_not_notice_further_ticks(phase: Phase) -> None:
    tracked = _reach(phase)
    waits = phase in (Phase.WAITING_FOR_RUN, Phase.WAITING_FOR_RUNS, Phase.WAITING_FOR_RELEASE)
    assert (tracked.waiting, tracked.pending) == (waits, waits or phase is Phase.QUEUED)


@pytest.mark.parametrize("phase", list(Phase))
def test_who_waits_for_a_release_waits_until_a_lease_is_released(phase: Phase) -> None:
    tracked = _reach(phase)
    assert tracked.lease_released() is (phase is Phase.WAITING_FOR_RELEASE)
    assert tracked.phase is (Phase.IDLE if phase is Phase.WAITING_FOR_RELEASE else phase)
    tracked = _reach(phase)
    waits = tracked.waiting
    tracked.wait_for_release()
    assert tracked.phase is (phase if waits else Phase.WAITING_FOR_RELEASE)


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.IDLE])
def test_only_a_claim_that_was_refused_is_made_again(phase: Phase) -> None:
    tracked = _reach(phase)
    tracked.retry()
    assert tracked.phase is (Phase.RETRYING if phase is Phase.CLAIMING else phase)


def test_where_nothing_is_due_nothing_is_claimed() -> None:
    tracked = tracked_job()
    tracked.noticed_late(START + 10)
    tracked.queue()
    tracked.claim(0)
    assert (tracked.phase, tracked.late, tracked.late_until) == (Phase.IDLE, False, START + 10)
    with pytest.raises(IllegalTransitionError):
        tracked.answered()


def test_nothing_is_claimed_while_other_claims_have_no_answer() -> None:
    tracked = tracked_job()
    tracked.queue()
    tracked.claim(2)
    tracked.retry()
    assert not tracked.answered()
    tracked.queue()
    with pytest.raises(
        IllegalTransitionError, match=r"^job 'job' is queued and can't claim while 1 claims have no answer$"
    ):
        tracked.claim(1)
    assert not tracked.answered()
    tracked.claim(1)
    assert not tracked.answered(), "what was to be looked at again belongs to claims of before"


def test_a_claim_forgets_what_was_to_be_looked_at_before_it() -> None:
    tracked = tracked_job()
    tracked.queue()
    tracked.claim(1)
    tracked.look_again()
    tracked.retry()
    assert (tracked.answered(), tracked.phase) == (False, Phase.RETRYING)
    tracked.queue()
    tracked.claim(1)
    assert (tracked.answered(), tracked.phase) == (False, Phase.IDLE)


def test_a_job_that_waits_already_waits_for_the_same_but_may_be_late() -> None:
    tracked = _reach(Phase.WAITING_FOR_RUN)
    tracked.wait_for_runs()
    assert (tracked.phase, tracked.late) == (Phase.WAITING_FOR_RUN, False)
    tracked.wait_for_runs(late=True)
    tracked.wait_for_runs()
    assert (tracked.phase, tracked.late) == (Phase.WAITING_FOR_RUN, True)


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
    assert (tracked.busy_until, tracked.late) == (0, False)


def test_it_waits_for_all_runs_and_knows_how_long_they_kept_it_busy() -> None:
    tracked = _reach(Phase.WAITING_FOR_RUNS)
    (first,) = tracked.runs
    second = run_of(tracked)
    tracked.run_started(second)
    assert not tracked.run_ended(first, _clock(5))
    assert tracked.run_ended(second, _clock(7))
    assert (tracked.phase, tracked.busy_until, tracked.runs) == (Phase.IDLE, START + 7, ())


def test_the_runs_that_are_left_are_known() -> None:
    tracked = tracked_job()
    first, second, third = (run_of(tracked, tick) for tick in (1, 2, 3))
    for run in (first, second, third):
        tracked.run_started(run)
    assert not tracked.run_ended(second, _clock())
    assert tracked.runs == (first, third)
    assert (tracked.phase, tracked.busy_until) == (Phase.IDLE, 0)


def test_what_is_told_of_a_job_is_known_of_it() -> None:
    tracked = tracked_job()
    assert (tracked.in_force, tracked.delay, tracked.late, tracked.runs) == (True, None, False, ())
    tracked.set_in_force(False)
    delay = Delay(START, START + 1, "of something")
    tracked.delayed(delay)
    assert (tracked.in_force, tracked.delay) == (False, delay)


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
    assert (tracked.claims_failed(), tracked.phase) == (False, Phase.IDLE)
    tracked.queue()
    tracked.claim(1)
    tracked.retry()
    assert (tracked.claims_failed(), tracked.phase) == (False, Phase.RETRYING)
    tracked.queue()
    tracked.claim(1)  # the first claim is not waited for any more


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
    changing = set(TrackedJob.__slots__) - {"job", "ticks", "policy"}
    assert {target.attr for target in inside} == changing, "this test sees assignments"


def _assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """The attributes that a module assigns to or deletes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield node
