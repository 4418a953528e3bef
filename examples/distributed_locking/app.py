"""One run per tick, however many instances run this app: they share a database and the ticks.

`CRON_POSTGRES_URL` or `CRON_REDIS_URL` says which database.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from fastapi_crons import CronConfig, Crons, JobContext, get_cron_router

app = FastAPI(title="Distributed locking")
# Rather than run every tick in every instance, it does not start where the lock is not shared by all hosts.
crons = Crons(app, config=CronConfig(enable_distributed_locking=True))
app.include_router(get_cron_router(), prefix="/api")


@crons.cron("* * * * * *", name="poll")
async def poll() -> None:
    """Every second, on one of the instances."""


@crons.cron("* * * * * */4", name="settle_accounts", timeout=60)
async def settle_accounts(context: JobContext) -> dict[str, int]:
    """Takes two seconds. Where its instance dies, another one runs the tick again, with a greater token."""
    await asyncio.sleep(2)
    # Give the token along with what is written: a store that remembers the greatest one can refuse an instance that was
    # cut off, and does not know it yet.
    return {"token": context.fencing_token, "attempt": context.attempt}
