"""ClaimClock: the time that ticks are claimed by, and what is odd about it."""

from __future__ import annotations

from fastapi_crons.clock import Clock
from fastapi_crons.locking.rule import MAX_AHEAD

#: For how long (seconds) it is taken for granted that the store's clock is behind ours.
_BEHIND_LASTS = 60.0


class ClaimClock:
    """Our wall clock, but not further ahead of the store's than the store allows. Instants in Unix seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: By how much (seconds) our clock is ahead of the store's, and until when (monotonic) that is taken for granted.
        self._ahead = self._ahead_until = 0.0
        #: When it was looked at last, on the wall clock and on the monotonic one.
        self._seen, self._seen_monotonic = clock.now(), clock.monotonic()
        #: When the store was asked for ticks last.
        self.asked_ts = 0.0

    def now(self) -> float:
        """The instant up to which ticks can be claimed."""
        if self._ahead and self._clock.monotonic() >= self._ahead_until:
            self._ahead = 0.0
        return self._clock.now() - self._ahead

    def refused_as_early(self, store_now: int) -> bool:
        """Learn from a claim that the store takes for too early; whether its clock is behind ours."""
        # From before the request was sent: the answer may have taken long. What the store allows for is nearly used up.
        ahead = self.asked_ts - store_now - 0.9 * MAX_AHEAD
        if ahead <= MAX_AHEAD / 2:
            return False
        self._ahead, self._ahead_until = ahead, self._clock.monotonic() + _BEHIND_LASTS
        return True

    def look(self) -> tuple[float, float]:
        """What our clock shows, and what it should show by what it showed when it was looked at last."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        expected = self._seen + monotonic - self._seen_monotonic
        self._seen, self._seen_monotonic = now, monotonic
        return now, expected

    def was_set_back(self) -> None:
        """What was known of the store's clock is not known any more."""
        self._ahead = 0.0

    def seconds_since_look(self) -> float:
        """For how long nobody has looked."""
        return self._clock.monotonic() - self._seen_monotonic
