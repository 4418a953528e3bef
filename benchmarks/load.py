"""The work that every contender is given: so many jobs, each due every so many seconds."""

from __future__ import annotations

from dataclasses import dataclass

#: The period of jobs that are not due while anything is measured.
YEAR = 366 * 86_400


@dataclass(frozen=True)
class Load:
    """Jobs that are each due once in a period, spread evenly over its seconds, or all in the same `second` of it.

    `period` is in seconds: a divisor of 60, 60 times a divisor of 60 below it, or `YEAR`.
    """

    jobs: int
    period: int = 1
    second: int | None = None

    def phase(self, number: int) -> int:
        """The second of the period, counted from the Unix epoch, in which a job is due."""
        return number % self.period if self.second is None else self.second

    def expression(self, number: int) -> str:
        """When a job is due, as a cron expression; the sixth field is the second, as croniter has it."""
        if self.period == YEAR:
            return f"{number % 60} {number // 60 % 24} 1 1 *"
        minute, second = divmod(self.phase(number), 60)
        if self.period == 1:
            return "* * * * * *"
        if self.period < 60:
            return f"* * * * * {second}-59/{self.period}"
        minutes = "*" if self.period == 60 else f"{minute}-59/{self.period // 60}"
        return f"{minutes} * * * * {second}"
