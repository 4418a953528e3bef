"""StoreClock: the time by which ticks are claimed, and what is known of the lock store's clock."""

from __future__ import annotations

import logging

from fastapi_crons._util.damage import LATEST
from fastapi_crons.clock import Clock, utc_datetime
from fastapi_crons.locking.record import MAX_AHEAD, MAX_HANDLED_AHEAD

logger = logging.getLogger(__name__)

#: How long (seconds) the store's clock is taken to be behind ours, once it was found to be, before it is asked again.
_BEHIND_LASTS = 10.0


class StoreClock:
    """Our wall clock, at most as far ahead of the store's clock as the store allows. Instants in Unix seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: How far (seconds) our clock is ahead of the store's, and until when (monotonic) this is taken to be so.
        self._ahead = self._ahead_until = 0.0
        #: The last call of `look`, on the wall clock and on the monotonic clock.
        self._seen, self._seen_monotonic = clock.now(), clock.monotonic()
        #: When ticks were claimed last.
        self._asked_ts = 0.0

    def now(self) -> float:
        """The instant up to which ticks can be claimed."""
        return self._clock.now() - self._ahead

    @property
    def is_to_be_asked(self) -> bool:
        """Whether the store's clock was found to be behind ours, so long ago that it may have been set since."""
        return bool(self._ahead) and self._clock.monotonic() >= self._ahead_until

    def told(self, store_now: int | None) -> None:
        """Learn from what the store's clock showed when it was asked; None where that can't be told."""
        if store_now is None or not self.refused_as_early(store_now):
            self._ahead = 0.0

    def ask(self) -> float:
        """Note that ticks are claimed now; returns when that is, by our clock."""
        self._asked_ts = self._clock.now()
        return self._asked_ts

    def refused_as_early(self, store_now: int) -> bool:
        """Learn from a claim that the store refused as too early. Returns whether the store's clock is behind ours."""
        # Counted from before the request, since the answer may have taken long. Most of what the store allows is used.
        ahead = self._asked_ts - store_now - 0.9 * MAX_AHEAD
        if ahead <= MAX_AHEAD / 2:
            return False
        self._ahead, self._ahead_until = ahead, self._clock.monotonic() + _BEHIND_LASTS
        return True

    def look(self) -> tuple[float, float]:
        """What our clock shows, and what it should show, judging by the last call and the monotonic clock."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        expected = self._seen + monotonic - self._seen_monotonic
        self._seen, self._seen_monotonic = now, monotonic
        return now, expected

    def was_set_back(self, now: float, expected: float) -> None:
        """Our clock was set back. What that means for ticks which come a second time depends on the lock stores' bound."""
        self._ahead = 0.0  # how far it is ahead of the store's clock is unknown
        back, until = expected - now, utc_datetime(expected).isoformat(timespec="seconds")
        if back <= MAX_HANDLED_AHEAD:
            logger.warning(
                "the clock was set back by %.0f s; no tick runs a second time: jobs wait until the clock has passed %s",
                back,
                until,
            )
        else:
            logger.warning(
                "the clock was set back by %.0f s, which is more than an hour; if the lock store's clock was, too, jobs that "
                "are due while their last handled tick lies more than an hour ahead run again, and their ticks up to %s run "
                "a second time; the others run again when the clock has passed their last handled tick",
                back,
                until,
            )

    def seconds_since_look(self) -> float:
        """Seconds since the last call of `look`."""
        return self._clock.monotonic() - self._seen_monotonic


def warn_of_reset(job: str, was: int) -> None:
    """Say that a job's last handled tick was reset, because a wrong clock had set it."""
    logger.warning(
        "job %r: its last handled tick was %s, far ahead of the store's clock; a clock was wrong, and the tick is reset",
        job,
        utc_datetime(was).isoformat() if was <= LATEST else "beyond the year 9998",
        extra={"job": job},
    )
