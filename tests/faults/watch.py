"""Watches a fleet on a server while something breaks, and says what became of its ticks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from fastapi_crons.state import StateBackend
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.conftest import History, history, redis_state
from tests.faults.fleet import Fleet, Line, Sums

#: What the rules promise: a tick that is due so long (seconds) after the store's return runs on time.
RECOVERS_IN = 5.0
#: How long (seconds) a test looks on after the store's return.
LOOKS_ON = RECOVERS_IN + 2.5
SECRET = "not-for-logs-5531"


class Watch:
    """A fleet that has got going, watched from then on."""

    def __init__(self, fleet: Fleet, state: Callable[[], StateBackend]) -> None:
        self.fleet = fleet
        #: Makes the store that history is read from at the end.
        self._state = state
        self.since = time.time()
        self.seen_until = 0.0

    def ended(self, returned: float | None = None, looks_on: float = LOOKS_ON) -> tuple[Sums, float | None]:
        """Look on after the store's return, and end it all: what became of the ticks, and when they were in time again."""
        if returned is not None:
            time.sleep(max(0.0, returned + looks_on - time.time()))
        self.seen_until = self.fleet.decided_until()
        self.fleet.stop()
        recovery = None if returned is None else self.fleet.recovered_at(returned, until=self.seen_until)
        return self.fleet.sums(self.since, self.seen_until, self.history()), recovery

    def history(self) -> History:
        return history(self.fleet, self._state())

    def log(self) -> str:
        return self.fleet.log.read_text()

    def lines(self, event: str) -> list[Line]:
        return [line for line in self.fleet.lines() if line.event == event]

    def latest(self) -> float:
        """How late (seconds) the latest start was."""
        return max(line.at - line.tick for line in self.lines("start") if self.since <= line.tick < self.seen_until)


@contextmanager
def watched(
    url: str,
    count: int = 2,
    *,
    history_url: str | None = None,
    jobs: int = 10,
    seconds: float = 0.0,
    job: Mapping[str, object] | None = None,
    every: int = 1,
    extra: str = "",
    **settings: str,
) -> Iterator[Watch]:
    """A fleet on a server, got going. History is read where `history_url` says."""
    options = {"jobs": jobs, "seconds": seconds, "job": job, "every": every, "extra": extra}
    with Fleet({**setting_of(url), **settings}, **options) as fleet:  # type: ignore[arg-type]
        fleet.start(count)
        time.sleep(1.5)
        yield Watch(fleet, lambda: state_at(history_url or url))


def setting_of(url: str) -> dict[str, str]:
    """The setting that leads an app to a server."""
    return {"CRON_POSTGRES_URL" if url.startswith("postgresql:") else "CRON_REDIS_URL": url}


def state_at(url: str) -> StateBackend:
    """The state store on a server, not open yet."""
    return PostgresStateBackend(url) if url.startswith("postgresql:") else redis_state(url)


def assert_no_body_twice(watch: Watch) -> None:
    """No tick runs again whose body has come to its end."""
    ended = Counter((line.job, line.tick) for line in watch.lines("end"))
    assert [tick for tick, number in ended.items() if number > 1] == []


def assert_quiet(log: str) -> None:
    """Faults of a store are said in lines of ours."""
    assert "Traceback" not in log, log[-4000:]
    assert SECRET not in log


def assert_tokens_grow(watch: Watch) -> None:
    """A later run of a job has the larger token."""
    for number in range(watch.fleet.jobs):
        starts = [line for line in watch.lines("start") if line.job == f"job-{number}"]
        tokens = [line.token for line in sorted(starts, key=lambda line: line.at)]
        assert tokens == sorted(set(tokens))
