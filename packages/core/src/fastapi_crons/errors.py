"""Every error that FastAPI Crons raises, in one hierarchy.

    CronsError
    ├── ScheduleError (ValueError)            a cron expression or a time zone that can't be used
    ├── JobDefinitionError (ValueError)       a job that can't be defined as asked
    │   └── DuplicateJobError                 a second job of the same name
    ├── UnknownJobError (LookupError)         no job of that name
    ├── UnknownRunError (LookupError)         no run of that id on record
    ├── RunEndedError                         a run can't be cancelled: it has ended
    ├── JobLockedError                        a manual run was refused: the job is running
    ├── TickRefusedError                      a tick is not run again: it ran, is no tick, or is still to be run
    ├── BackfillError (ValueError)            a span of ticks can't be made up for as asked
    ├── UnknownBackfillError (LookupError)    no backfill of that id on record
    ├── UnknownInstanceError (LookupError)    no living instance of that name
    ├── DrainError                            an instance that was asked to drain goes on as before
    ├── NotInForceError                       a manual run was refused: other instances have another definition of the job
    ├── ConfigurationError (ValueError)       settings that can't be used
    ├── PluginError                           a plugin that can't be loaded or used
    ├── MissingDistributionError (ImportError)  a class of a distribution that is not installed
    ├── MovedNameError (ImportError)          a name of fastapi-crons 2.x that has moved or gone
    ├── TooManyListenersError                 no further event stream is allowed
    ├── NotRunningError                       the scheduler has not started, or has stopped
    └── StoreError                            a state or lock store
        ├── StoreUnavailableError             it does not answer now; trying again makes sense
        └── StoreUnusableError                it answers, but can't be used as it is

`SkipRun` is not an error: a before-run hook raises it to veto a run.
`without_secrets` is for the texts of errors, those of a driver for example.
"""

from __future__ import annotations

from fastapi_crons._util import hiding


def without_secrets(text: str) -> str:
    """A text, as that of a driver's error, with `***` in place of every secret in it.

    These are passwords in addresses, values behind names such as `password=`, and the secrets of the settings.
    """
    return hiding.without_secrets(text)


class CronsError(Exception):
    """Base of all errors raised by FastAPI Crons and its distributions."""


class ScheduleError(CronsError, ValueError):
    """A cron expression or a time zone that can't be used; the message names the field and the value."""


class JobDefinitionError(CronsError, ValueError):
    """A job that can't be defined as asked; the message names the parameter and the value."""


class InvalidArgumentError(CronsError, ValueError):
    """An argument that a job's function does not take; the message names it and its value."""


class DuplicateJobError(JobDefinitionError):
    """A job with this name is registered already."""


class UnknownJobError(CronsError, LookupError):
    """No job has this name."""


class UnknownRunError(CronsError, LookupError):
    """No run of this job has this id, or its record was deleted with old history."""


class RunEndedError(CronsError):
    """A run can't be cancelled, because it has ended."""


class JobLockedError(CronsError):
    """A manual run was refused because the job is running and `force` was not given."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        #: The run that is in the way, where that is known.
        self.run_id = run_id


class TickRefusedError(CronsError):
    """A tick was not run again, because it ran already, is no tick of the job, or has yet to be run.

    The message says which, and by which run.
    """


class BackfillError(CronsError, ValueError):
    """A span of ticks can't be made up for as asked; the message says why, and what to do."""


class UnknownBackfillError(CronsError, LookupError):
    """No backfill of this job with this id is on record."""


class UnknownInstanceError(CronsError, LookupError):
    """No living instance has this name."""


class DrainError(CronsError):
    """An instance that was asked to drain goes on as before; the message names it, and says what to do."""


class NotInForceError(CronsError):
    """A manual run was refused because running instances have registered a newer definition of the job."""


class DependencyError(CronsError):
    """A dependency of a job asks for what only a client's request has; the message names it."""


class ProcessError(CronsError):
    """A run in a process of its own that has no result: the process died, or what it takes or raised can't be passed on."""


class ConfigurationError(CronsError, ValueError):
    """Settings that can't be used; the message lists every fault with its variable."""


class PluginError(CronsError):
    """A plugin that can't be loaded or used; the message names its distribution and entry point."""


class MissingDistributionError(CronsError, ImportError):
    """A name that belongs to a distribution which is not installed; the message says which."""


class MovedNameError(CronsError, ImportError):
    """A name of fastapi-crons 2.x that has moved or gone; the message says what to write instead."""


class StoreError(CronsError):
    """Base of the errors of state and lock stores. Messages never hold a password."""


class StoreUnavailableError(StoreError):
    """The store does not answer at the moment; the same call may succeed later."""


class StoreUnusableError(StoreError):
    """The store can't be used as it is (not a database, read-only, written by a newer version)."""


class SkipRun(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a before-run hook to veto the run; `reason` is kept with the tick's record."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class TooManyListenersError(CronsError):
    """There are as many event streams as `CRON_MAX_EVENT_STREAMS` allows."""


class NotRunningError(CronsError):
    """The scheduler is not running, because it has not started or has stopped; the message says what that keeps from."""
