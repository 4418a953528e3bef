"""The jobs that the pages are tried with: they run, fail, are retried, overlap, are missed or paused, and have odd names."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi_crons import Crons

logger = logging.getLogger("shop.orders")
logger.setLevel(logging.INFO)

#: Names, texts and results may hold anything.
MARKUP = "<script>document.title = 'broken'</script><b>&amp;"
ODD = "a:b *%ü<script>"
NIGHTLY = "nightly report"
LONG = "long export"
#: Those that run by hand only.
TALKS, WAITS, TWICE, QUICK = "talks", "waits", "may run twice", "quick one"

Sleep = Callable[[float], Awaitable[None]]


def define(crons: Crons, sleep: Sleep) -> None:
    """Register them. They sleep by `sleep`, so that a history can be made for them on a virtual clock."""
    minutes = 0

    @crons.cron("*/5 * * * *", name="cleanup", tags=["maintenance"])
    async def cleanup() -> str:
        await sleep(0.4)
        return "42 files deleted"

    @crons.cron("*/10 * * * *", name="flaky sync", tags=["sync", "often"])
    async def flaky() -> str:
        nonlocal minutes
        minutes += 1
        logger.info("asking the other side")
        if minutes % 4 == 0:
            raise ConnectionError("the other side does not answer")
        return "in sync"

    @crons.cron("30 * * * *", name="retried", max_retries=2, retry_delay=20)
    async def retried() -> None:
        nonlocal minutes
        minutes += 1
        if minutes % 2:
            raise TimeoutError("first try")

    @crons.cron("*/20 * * * *", name=LONG, tags=["export"])
    async def export() -> None:
        for step in range(25):
            logger.info("step %d of 25", step)
            await sleep(60)

    @crons.cron("0 2 * * *", name=NIGHTLY, tags=["reports"], timezone="Europe/Berlin", misfire_grace_time=600)
    async def report() -> dict[str, int]:
        await sleep(30)
        return {"orders": 7}

    @crons.cron("*/15 * * * *", name=ODD, tags=[MARKUP])
    async def odd() -> str:
        """It has markup in everything."""
        logger.warning("logged %s", MARKUP)
        await sleep(1)
        if minutes % 3 == 0:
            raise ValueError(MARKUP)
        return MARKUP

    @crons.cron("0 */3 * * *", name="across the sea", timezone="America/New_York")
    def across_the_sea() -> None:
        pass

    @crons.cron("*/10 * * * *", name="paused job")
    def paused() -> None:
        pass

    @crons.cron("0 0 1 1 *", name=TALKS, tags=["by hand"])
    async def talks(lines: int = 20, pause: float = 0.3) -> str:
        for number in range(lines):
            logger.info("line %d", number)
            await sleep(pause)
        return "said all"

    @crons.cron("0 0 1 1 *", name=WAITS, tags=["by hand"])
    async def waits() -> None:
        logger.info("waiting for an hour")
        await sleep(3600)

    @crons.cron("0 0 1 1 *", name=TWICE, tags=["by hand"], overlap="allow")
    async def twice() -> None:
        await sleep(1)

    @crons.cron("0 0 1 1 *", name=QUICK, tags=["by hand"])
    def quick() -> None:
        pass
