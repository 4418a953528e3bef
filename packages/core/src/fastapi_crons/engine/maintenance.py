"""Keeping the stores small: the history within its limits, and no records of jobs that nobody registers any more."""

from __future__ import annotations

import logging
from math import inf

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.text import counted, one_line, printable
from fastapi_crons.engine.parts import Parts
from fastapi_crons.errors import StoreError
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)

#: How often (seconds) the history is cut back to its limits.
PRUNE_INTERVAL = 60.0
#: How often (seconds) it is looked for jobs that nobody registers any more.
FORGET_INTERVAL = 3_600.0
#: How many calls to the store that may take, of many small ones.
_STEPS = 12


async def prune_forever(parts: Parts) -> None:
    """Cut back what is kept, now and then. A store that fails is tried again the next time."""
    config, clock = parts.config, parts.clock
    patience, looked_at = _STEPS * config.store_timeout, -inf
    forgotten: set[str] = set()
    failures = Meter()
    while True:
        try:
            await answer_of(parts.state.prune(clock.now()), patience)
            if clock.monotonic() - looked_at >= FORGET_INTERVAL:
                forgotten |= set(await parts.locks.forget(config.forget_after_days * 86_400))
                looked_at = clock.monotonic()
            failures.works(clock.monotonic())
            if forgotten:
                # The lock store names them once.
                await answer_of(parts.state.forget(sorted(forgotten)), patience)
                shown = ", ".join(map(printable, sorted(forgotten)[:10]))
                number = counted(len(forgotten), "job")
                logger.info("forgot %s that no instance has registered for long: %s", number, shown)
                forgotten.clear()
        except StoreError as error:
            lasting = failures.failed(clock.monotonic())
            # Where a store does not answer at all, that is logged already.
            if lasting is not None and parts.locks.fault is None and parts.recorder.fault is None:
                logger.warning(
                    "old history could not be deleted, %s so far; it is tried again each minute: %s",
                    counted(lasting.times, "time"),
                    one_line(error),
                )
        await clock.sleep(PRUNE_INTERVAL)
