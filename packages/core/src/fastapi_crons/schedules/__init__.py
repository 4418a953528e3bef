"""Schedules besides cron expressions; each is given to a job in the place of an expression.

from fastapi_crons.schedules import AnyOf, AtStart, Every, Except, Once, Within

@crons.cron(Every(minutes=90))
async def poll(): ...
"""

from fastapi_crons.schedules.combined import AnyOf
from fastapi_crons.schedules.limited import Except, Within
from fastapi_crons.schedules.single import AtStart, Every, Once

__all__ = ["AnyOf", "AtStart", "Every", "Except", "Once", "Within"]
