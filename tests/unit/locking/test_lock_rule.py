"""The rule of claims, walked at random: what must hold after every step."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastapi_crons.job import Overlap
from fastapi_crons.locking import ClaimRequest, ClaimResult, Definition, Lease, LeaseRef, PauseRequest, ResumeRequest
from fastapi_crons.locking import rule as lock_rule
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons.run import MissedReason
from tests.support import examples

START = 1_000_000
instances = st.sampled_from(["a", "b", "c"])


class Claims(RuleBasedStateMachine):
    """Three instances claim, release, die and repeat themselves, on one job."""

    @initialize()
    def begin(self) -> None:
        self.now = float(START)
        self.records: dict[str, JobRecord] = {}
        lock_rule.register(self.records, Definition("job", "* * * * *", "UTC", "m:f"), "a", self.now, 300)
        self.record = self.records["job"]
        self.dead: set[str] = set()
        self.claimed: dict[int, str] = {}
        self.answers: list[tuple[ClaimRequest, str, ClaimResult]] = []
        self.highest_tick = self.record.last_handled
        self.highest_token = 0
        self.requests = 0
        #: The ticks in (after, tick] that are on record in the state store: who releases a lease has recorded its ticks.
        self.on_record: list[tuple[int, int]] = []

    def lives(self, owner: str, expires: float) -> bool:
        return owner not in self.dead and expires > self.now

    def alive(self, lease: Lease) -> bool:
        return self.lives(lease.instance, lease.expires)

    def ask(self, request: ClaimRequest, instance: str) -> ClaimResult:
        return lock_rule.claim(self.records, request, instance, self.now, 300, self.lives)

    def live(self) -> list[Lease]:
        """The leases of runs that are running."""
        leases = (self.record.leases or {}).values()
        return [lease for lease in leases if lease.missed is None and self.alive(lease)]

    @rule(seconds=st.integers(-5, 400))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        instance=instances,
        offset=st.integers(-30, 5),
        overlap=st.sampled_from(["skip", "queue", "allow"]),
        missed=st.sampled_from([None, None, "misfire_grace_time"]),
    )
    def claim(self, instance: str, offset: int, overlap: Overlap, missed: MissedReason | None) -> None:
        tick = int(self.now) + offset
        live = self.live()
        self.requests += 1
        request = ClaimRequest("job", f"run-{self.requests}", tick, "* * * * *", "UTC", overlap, False, missed)
        result = self.ask(request, instance)
        self.answers.append((request, instance, result))
        if tick > self.now + 1:
            assert result.outcome == "early"
        if result.skipped:
            assert result.token > self.highest_token
            self.highest_token = result.token
        if result.outcome == "granted":
            assert tick not in self.claimed, "a tick was claimed twice"
            assert tick > self.highest_tick
            assert tick <= self.now + 1
            self.claimed[tick] = request.run_id
            if missed is None:
                assert overlap == "allow" or not live, "two live leases on a job that must not overlap"
            assert result.token > self.highest_token, "a token did not grow"
            self.highest_token = result.token

    @rule(which=st.integers(0, 10_000))
    def ask_the_last_claim_again(self, which: int) -> None:
        if self.answers:
            request, instance, result = self.answers[-1]
            if request.run_id in (self.record.leases or {}):
                assert self.ask(request, instance) == result._replace(holder="", reset_from=0)

    @rule(which=st.integers(0, 10_000), right_token=st.booleans())
    def release(self, which: int, right_token: bool) -> None:
        leases = list((self.record.leases or {}).values())
        if leases:
            lease = leases[which % len(leases)]
            token = lease.token if right_token else lease.token - 1
            assert lock_rule.release(self.records, LeaseRef("job", lease.run_id, token)) is right_token
            assert (lease.run_id in (self.record.leases or {})) is not right_token
            if right_token and lease.tick is not None:
                self.on_record.append((lease.after, lease.tick))

    @rule(which=st.integers(0, 10_000), right_token=st.booleans())
    def renew(self, which: int, right_token: bool) -> None:
        leases = list((self.record.leases or {}).values())
        if leases:
            lease = leases[which % len(leases)]
            ref = LeaseRef("job", lease.run_id, lease.token if right_token else lease.token + 1)
            assert lock_rule.renew(self.records, ref, self.now, 300) is right_token
            expires = (self.record.leases or {})[lease.run_id].expires
            assert expires == (max(lease.expires, self.now + 300) if right_token else lease.expires)

    @rule(instance=instances)
    def die(self, instance: str) -> None:
        self.dead.add(instance)

    @rule(instance=instances)
    def come_back(self, instance: str) -> None:
        if not any(lease.instance == instance for lease in (self.record.leases or {}).values()):
            self.dead.discard(instance)

    @rule(instance=instances, which=st.integers(0, 10_000))
    def recover(self, instance: str, which: int) -> None:
        leases = list((self.record.leases or {}).values())
        if leases:
            lease = leases[which % len(leases)]
            others = [each for each in self.live() if each.run_id != lease.run_id]
            blocked = bool(others) or (self.alive(lease) and lease.instance != instance)
            self.requests += 1
            request = ClaimRequest(
                "job", f"run-{self.requests}", lease.tick, "* * * * *", "UTC", replaces=lease.run_id, attempt=2
            )
            result = self.ask(request, instance)
            assert (result.outcome == "granted") is not blocked
            if result.outcome == "granted":
                assert result.token > self.highest_token
                self.highest_token = result.token
                assert not lock_rule.release(self.records, LeaseRef("job", lease.run_id, lease.token)), (
                    "a zombie released a lease that was recovered"
                )

    @rule()
    def another_schedule_is_refused(self) -> None:
        request = ClaimRequest("job", "other", int(self.now), "0 * * * *", "UTC")
        result = self.ask(request, "b")
        assert result.outcome == "not_in_force"
        assert result.orphaned is ("a" in self.dead)

    @rule(seconds=st.integers(0, 100))
    def disable_and_enable(self, seconds: int) -> None:
        before = self.record.last_handled
        for enabled in (False, True):
            self.requests += 1
            definition = Definition("job", "* * * * *", "UTC", "m:f", 0, enabled, f"disabled-{self.requests}")
            replaced = lock_rule.register(self.records, definition, "a", self.now, 300).replaced
            assert replaced is not None
            assert (replaced.reason, replaced.last_handled) == ("disabled", before)
            assert (replaced.token > 0) is (int(self.now) > before)
            self.highest_token = max(self.highest_token, replaced.token)
            before = max(before, int(self.now))
            self.now += seconds

    @rule(instance=instances, catch_up=st.booleans())
    def pause_and_resume(self, instance: str, catch_up: bool) -> None:
        lock_rule.pause(self.records, PauseRequest("job", "ops", "why"), self.now)
        mark = self.record.last_handled
        asked = ClaimRequest("job", f"paused-{self.requests}", int(self.now), "* * * * *", "UTC")
        assert self.ask(asked, instance).outcome == "paused"
        assert self.record.last_handled == mark, "a pause counted ticks as handled"
        resumed = lock_rule.resume(
            self.records, ResumeRequest("job", f"resume-{self.requests}", catch_up), instance, self.now, 300
        )
        self.requests += 1
        assert resumed is not None
        assert (resumed.after, resumed.last_handled) == (mark, mark if catch_up else max(mark, int(self.now)))
        self.highest_token = max(self.highest_token, resumed.token)
        assert lock_rule.resume(self.records, ResumeRequest("job", "again"), instance, self.now, 300) is None

    @invariant()
    def the_last_handled_tick_never_goes_back(self) -> None:
        if hasattr(self, "record"):
            assert self.record.last_handled >= self.highest_tick
            self.highest_tick = self.record.last_handled

    @invariant()
    def every_handled_tick_is_on_record_or_has_a_lease_that_answers_for_it(self) -> None:
        if hasattr(self, "record"):
            leases = (self.record.leases or {}).values()
            answered = [(lease.after, lease.tick) for lease in leases if lease.tick is not None]
            reached = START
            for after, tick in sorted([*self.on_record, *answered]):
                assert after <= reached, f"nothing answers for the ticks in ({reached}, {after}]"
                reached = max(reached, tick)
            assert reached == self.record.last_handled, f"nothing answers for the ticks after {reached}"


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
