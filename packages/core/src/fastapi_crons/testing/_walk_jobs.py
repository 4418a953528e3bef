"""Jobs as another store may have them on record, for a random walk that restores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from fastapi_crons.locking import KnownJob, Lease, Pause
from fastapi_crons.run import MissedReason

#: Seconds before now, or after it.
_seconds = st.integers(-60, 120)


@dataclass(frozen=True)
class LeaseElsewhere:
    """A lease that another store has on record; instants and ticks are counted from now, tokens from the job's."""

    tick: int | None
    expires: int
    token: int
    attempt: int
    after: int
    missed: MissedReason | None
    cancelled: bool
    cancelled_by: str | None
    holder: int


@dataclass(frozen=True)
class JobElsewhere:
    """A job that another store has on record."""

    job: str
    schedule: str | None
    enabled: bool
    handled: int
    since: int
    pause: tuple[int, str | None, str | None] | None
    leases: Sequence[LeaseElsewhere]
    arguments: str | None
    registrars: Sequence[int]
    token: int

    def known(
        self, schedule: str, now: float, token: int, owners: Sequence[str], new_id: Callable[[], str]
    ) -> KnownJob:
        """The job now: with its usual schedule unless it has another one, and a token near this one."""
        second, token = int(now), max(0, token + self.token)
        pause = self.pause and Pause(round(now + self.pause[0], 3), *self.pause[1:])
        leases = tuple(
            Lease(
                self.job,
                new_id(),
                None if each.tick is None else second + each.tick,
                owners[each.holder % len(owners)],
                max(0, token - each.token),
                each.attempt,
                round(now + each.expires, 3),
                second + each.after,
                None if each.tick is None else each.missed,
                schedule,
                "UTC",
                each.cancelled,
                each.cancelled_by if each.cancelled else None,
            )
            for each in self.leases
        )
        registrars = tuple(dict.fromkeys(owners[each % len(owners)] for each in self.registrars))
        return KnownJob(
            self.job,
            self.schedule or schedule,
            "UTC",
            "m:elsewhere",
            self.enabled,
            second + self.handled,
            round(now + self.since, 3),
            pause,
            leases,
            self.arguments,
            registrars,
            token,
        )


def jobs_elsewhere(
    names: st.SearchStrategy[str], schedules: st.SearchStrategy[Any], arguments: st.SearchStrategy[str | None]
) -> st.SearchStrategy[list[JobElsewhere]]:
    """One job or several, of these names, with these schedules and arguments."""
    texts = st.sampled_from([None, "ops", "why 🚀"])
    leases = st.builds(
        LeaseElsewhere,
        st.one_of(st.none(), st.integers(-30, 1)),
        _seconds,
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(-60, 1),
        st.sampled_from([None, None, "paused"]),
        st.booleans(),
        texts,
        st.integers(0, 9),
    )
    return st.lists(
        st.builds(
            JobElsewhere,
            names,
            schedules,
            st.sampled_from([True, True, True, False]),
            # Also one that only a wrong clock can have set.
            st.one_of(st.integers(-60, 2), st.just(7_200)),
            st.integers(-200, 0),
            st.one_of(st.none(), st.tuples(st.integers(-100, 0), texts, texts)),
            st.lists(leases, max_size=2),
            arguments,
            st.lists(st.integers(0, 9), max_size=3),
            st.integers(-3, 3),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda each: each.job,
    )
