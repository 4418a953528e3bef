"""When a job is due. Pure: nothing here waits, logs, asks a store or reads the time of day."""

from fastapi_crons.schedule.base import Schedule
from fastapi_crons.schedule.cron import CronSchedule

__all__ = ["CronSchedule", "Schedule"]
