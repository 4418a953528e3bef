"""Names and modules of fastapi-crons 2.x that are elsewhere now, or not here: who imports them is told where they went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from fastapi_crons.errors import MovedNameError

_STATE = "write from fastapi_crons.state import {name}"
_LOCKING = "write from fastapi_crons.locking import {name}"
_RETRY = "give the job max_retries, retry_delay and retry_on instead"
_LOGGED = "leave it out: the logger fastapi_crons says the same"
_ERROR_HOOK = "add a function of your own by crons.add_on_error_hook"
_AFTER_HOOK = "add a function of your own by crons.add_after_run_hook"
_TIMED_OUT = "a run that took too long has the status 'timed_out'"
_OWN_DOING = "leave it out: the scheduler does that by itself"
_CRON_JOB = "write @crons.cron(…), or @Crons().cron(…), with the same arguments"
_SPANS = "write a plugin with the hook run_scope, which is held around the function"
_SQLALCHEMY = "use SQLite (the default), Redis (fastapi-crons[redis]) or a plugin with a store of your own"

#: What to do instead of importing these from `fastapi_crons`.
_NAMES = {
    "DistributedLockManager": _LOCKING,
    "LocalLockBackend": _LOCKING,
    "RedisLockBackend": _LOCKING,
    "RedisStateBackend": _STATE,
    "SQLiteStateBackend": _STATE,
    "cron_job": _CRON_JOB,
    "JobTimeoutError": _TIMED_OUT,
    "RetryConfig": _RETRY,
    "execute_with_retry": _RETRY,
    "retry_on_failure": _RETRY,
    "log_job_start": _LOGGED,
    "log_job_success": _LOGGED,
    "log_job_error": _LOGGED,
    "alert_on_failure": _ERROR_HOOK,
    "alert_on_long_duration": _AFTER_HOOK,
    "metrics_collector": _AFTER_HOOK,
    "webhook_notification": _AFTER_HOOK,
    "OpenTelemetryHooks": _SPANS,
    "is_otel_available": _SPANS,
}
#: What to do instead of importing these from modules that are still there.
_NAMES_OF = {
    "fastapi_crons.job": {"cron_job": _CRON_JOB},
    "fastapi_crons.scheduler": {"get_crons": "write Crons()"},
}
#: What to do instead of importing these modules.
_MODULES = {
    "fastapi_crons.dashboard": "use GET /crons, fastapi-crons list-jobs or fastapi-crons logs",
    "fastapi_crons.endpoints": "write from fastapi_crons import get_cron_router",
    "fastapi_crons.hooks": "add functions of your own by crons.add_before_run_hook, add_after_run_hook and add_on_error_hook",
    "fastapi_crons.locking.sqlalchemy": _SQLALCHEMY,
    "fastapi_crons.runner": "write await crons.run_job(name), and give the job timeout, max_retries, retry_delay and retry_on",
    "fastapi_crons.state.sqlalchemy": _SQLALCHEMY,
    "fastapi_crons.retry": _RETRY,
    "fastapi_crons.telemetry": _SPANS,
}


def refuse_former(name: str) -> None:
    """Raises `MovedNameError` for a name that `fastapi_crons` of 2.x had."""
    if name in _NAMES:
        raise _moved(f"fastapi_crons.{name}", _NAMES[name].format(name=name))


def former_names_of(module: str) -> Callable[[str], object]:
    """The `__getattr__` of a module of which 2.x had other names: raises `MovedNameError` for them."""

    def refuse(name: str) -> object:
        advice = _NAMES_OF[module].get(name)
        if advice is not None:
            raise _moved(f"{module}.{name}", advice)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse


def _moved(name: str, advice: str) -> MovedNameError:
    return MovedNameError(f"{name} of fastapi-crons 2.x is not there any more: {advice}", name=name)


class FormerModules:
    """The last of `sys.meta_path`: asked for modules that nobody else has found."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raises `MovedNameError` for a module that 2.x had, and finds nothing."""
        if fullname in _MODULES:
            raise _moved(fullname, _MODULES[fullname])
