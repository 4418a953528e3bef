"""Keeping the stores small: the history within its limits, and no records of jobs that nobody registers any more."""

from __future__ import annotations

import asyncio
import logging
from math import inf

from fastapi_crons.errors import StoreError
from fastapi_crons.outcome import one_line
from fastapi_crons.parts import Parts

logger = logging.getLogger(__name__)

#: How often (seconds) the history is cut back to its limits.
PRUNE_INTERVAL = 60.0
#: How often (seconds) it is looked for jobs that nobody registers any more.
FORGET_INTERVAL = 3_600.0
#: How many calls to the store that may take, of many small ones.
_STEPS = 12


async def prune_forever(parts: Parts) -> None:
    """Cut back what is kept, now and then. A store that fails is tried again the next time."""
    config, clock, state, locks = parts.config, parts.clock, parts.state, parts.locks
    patience, forgotten_at = _STEPS * config.store_timeout, -inf
    while True:
        try:
            await asyncio.wait_for(state.prune(clock.now()), patience)
            if clock.monotonic() - forgotten_at >= FORGET_INTERVAL:
                forgotten_at = clock.monotonic()
                names = await locks.forget(config.forget_after_days * 86_400)
                if names:
                    shown = ", ".join(names[:10])
                    logger.info("%d jobs that nobody has registered for long are forgotten: %s", len(names), shown)
                    await asyncio.wait_for(state.forget(names), patience)
        except (StoreError, asyncio.TimeoutError) as error:
            logger.warning("the history could not be cut back: %s", one_line(error))
        await clock.sleep(PRUNE_INTERVAL)
