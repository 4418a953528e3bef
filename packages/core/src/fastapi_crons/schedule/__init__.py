"""When a job is due. Pure: nothing here waits, reads a clock or asks a store."""

from fastapi_crons.schedule.cron import CronSchedule, Schedule

__all__ = ["CronSchedule", "Schedule"]
