"""CronConfig: the scheduler's settings, from the environment (`CRON_…`), a `.env` file, or code."""

from __future__ import annotations

import os
import platform
import secrets
from typing import Annotated, Any, Literal
from unicodedata import category
from weakref import WeakValueDictionary

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fastapi_crons._util.hiding import HIDDEN, know, without_secrets
from fastapi_crons._util.text import counted
from fastapi_crons.errors import ConfigurationError, ScheduleError
from fastapi_crons.schedule.cron import check_timezone, zone_name

PREFIX = "CRON_"
_SHORTEST_TOKEN = 16
_ADVISED_TOKEN = 32
#: Stores take a lease that lasts longer than a leap year (`locking.checks`) for damaged.
_LONGEST_LEASE = 365 * 86_400

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


#: The name that was made up for this process; a child that was forked from it has another pid.
_MADE_UP: dict[int, str] = {}


def made_up_id() -> str:
    """The name of this process where none was set: the same as long as it lives, and another one in a forked child."""
    pid = os.getpid()
    return _MADE_UP.setdefault(pid, f"{platform.node() or 'localhost'}-{pid}-{secrets.token_hex(3)}")


def _int_where_whole(value: float) -> float:
    return int(value) if value == int(value) else value


#: A whole number is shown as one: 300, not 300.0.
LeaseSeconds = Annotated[float, Field(ge=0.05, allow_inf_nan=False), AfterValidator(_int_where_whole)]
#: How long other instances wait before they recover runs: shorter, a process that is busy for a moment would count as dead.
Patience = Annotated[float, Field(ge=1, allow_inf_nan=False), AfterValidator(_int_where_whole)]


class CronConfig(BaseSettings):
    """Settings of one scheduler. Durations are seconds.

    Each is read from the variable `CRON_` and its name in capitals, else from a `.env` file in the current folder.
    Raises `ConfigurationError`, which lists every fault with its variable.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, validate_default=False
    )

    enabled: bool = Field(True, description="False registers every job and runs none.")
    instance_id: str = Field(
        default_factory=made_up_id,
        min_length=1,
        max_length=200,
        description="Unique name of this instance; unset: one that is made up for the process.",
    )
    namespace: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Keeps schedulers apart that share a store: letters, digits, . _ -",
    )
    timezone: str = Field("UTC", description="Time zone of cron expressions that do not name one.")

    state_backend: str | None = Field(
        None,
        description="Name of the state store; by default that of CRON_POSTGRES_URL or CRON_REDIS_URL, else SQLite where "
        "installed, else memory. Where both are set: as CRON_LOCK_BACKEND, or one has to be named.",
    )
    lock_backend: str | None = Field(
        None,
        description="Name of the lock store; by default that of CRON_POSTGRES_URL or CRON_REDIS_URL, else the state store's "
        "own. Where both are set: as CRON_STATE_BACKEND.",
    )
    enable_distributed_locking: bool = Field(
        False, description="True takes a lock that reaches further than one host, and refuses to start without one."
    )
    start_without_store: bool = Field(
        False, description="True starts the app also while a store can't be reached; the scheduler waits for it."
    )
    disabled_plugins: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), description="Names of plugins that are not loaded, separated by commas."
    )

    coalesce: bool = Field(True, description="True runs the newest of several late ticks once; False runs each.")
    misfire_grace_time: Seconds | None = Field(None, description="A tick later than this is not run; unset: no limit.")
    max_catch_up: int = Field(100, ge=1, description="With coalesce false, how many late ticks of a job are run.")
    catch_up_concurrency: int = Field(5, ge=1, description="How many late ticks run at a time.")
    rerun_interrupted: bool = Field(True, description="True reruns a tick whose run was interrupted by a crash.")
    max_reruns: int = Field(1, ge=0, description="How often an interrupted tick is rerun, at most.")

    default_timeout: Seconds | None = Field(None, description="Time limit of runs whose job has none of its own.")
    default_max_retries: int = Field(
        0, ge=0, description="How often a failed run is retried whose job has no max_retries of its own."
    )
    default_retry_delay: NotNegative = Field(
        1.0, description="Seconds before the first retry of runs whose job has no retry_delay of its own."
    )
    max_concurrent_runs: int = Field(
        1000, ge=1, description="How many runs this instance has at a time, not counting manual ones."
    )
    max_threads: int = Field(40, ge=1, description="How many sync functions run at a time.")
    max_processes: int = Field(
        os.cpu_count() or 1,
        ge=1,
        description="How many jobs with run_in=process run at a time. Default: the number of CPUs.",
    )
    max_retry_delay: Seconds = Field(300.0, description="No delay between retries is longer.")
    hook_timeout: Seconds = Field(10.0, description="Time limit of one hook.")
    shutdown_timeout: NotNegative = Field(30.0, description="How long a stop waits for running jobs.")

    history_keep: int = Field(1_000, ge=1, description="The newest so many runs of each job are kept.")
    history_days: Seconds = Field(30.0, description="For how many days runs and missed ticks are kept.")
    history_keep_failed: int = Field(
        10_000,
        ge=0,
        description="The newest so many runs of each job that did not complete are kept beyond history_keep, and so many "
        "records of missed ticks. Default: 10,000; where only history_keep is set, no more than that.",
    )
    history_keep_always: int = Field(
        100,
        ge=0,
        description="The newest so many runs of each job are kept however old they are. Default: 100, and at most "
        "history_keep; where only history_days is set, none.",
    )
    figures_days: Seconds = Field(
        365.0, description="For how many days the figures of each job and day are kept, from which stats answers."
    )
    forget_after_days: Seconds = Field(
        30.0,
        description="A job that no instance has registered for so many days is deleted from the stores, with its history.",
    )
    max_result_bytes: int = Field(65_536, ge=0, description="A larger result is not kept.")
    max_log_chars: int = Field(16_384, ge=0, description="How much of a run's log is kept with it; 0: nothing.")
    log_tracebacks: Literal["full", "short", "off"] = Field(
        "full", description="How much of a failed run's traceback goes into the log; short: the innermost frame."
    )
    max_error_chars: int = Field(8_192, ge=100, description="Longer error messages and tracebacks are cut.")
    max_buffered_records: int = Field(
        100_000,
        ge=1,
        description="How many records wait in memory while the state store is down, before the oldest are dropped.",
    )

    lock_timeout: Annotated[Patience, Field(le=_LONGEST_LEASE)] = Field(
        300, description="How long a lease lasts unless it is renewed; at least 1, at most 31,536,000 (a year)."
    )
    lock_renewal_interval: LeaseSeconds = Field(
        60, description="How often leases are renewed; at most half of lock_timeout."
    )
    heartbeat_interval: LeaseSeconds = Field(
        5, description="How often an instance reports that it is alive; at most half of instance_timeout."
    )
    instance_timeout: Patience = Field(
        30, description="An instance that has not reported for so long counts as dead; at least 1."
    )
    api_token: SecretStr | None = Field(
        None, description="Bearer token that every management endpoint requires: 16 characters at least, better 32."
    )
    api_open: bool = Field(False, description="True opens the management API to everyone, from anywhere.")
    max_event_streams: int = Field(
        100, ge=0, description="How many clients of this process may follow its events at a time."
    )

    store_timeout: Seconds = Field(5.0, description="Deadline of every call to a store.")

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - type(self).model_fields.keys() - {key for key in values if key.startswith("_")}
        if unknown:
            raise ConfigurationError(
                f"CronConfig has no setting {', '.join(map(repr, sorted(unknown)))}; check the spelling"
            )
        if values.get("instance_id", "") is None:
            del values["instance_id"]  # as where it is not given
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(describe_faults(error, PREFIX)) from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f".env can't be read: it is not UTF-8 ({error.reason} at byte {error.start})"
            ) from None
        if self.api_token is not None:
            know(self.api_token.get_secret_value())

        if self.given_instance_id is None:
            _WITH_MADE_UP_ID[id(self)] = self

    @property
    def given_instance_id(self) -> str | None:
        """The `instance_id` that was set; None where it was made up."""
        return self.instance_id if "instance_id" in self.model_fields_set else None

    @field_validator("timezone", mode="before")
    @classmethod
    def _name_of_zone(cls, value: object) -> str:
        try:
            name = zone_name(value)
            check_timezone(name)
        except ScheduleError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("api_token")
    @classmethod
    def _good_token(cls, value: SecretStr | None) -> SecretStr | None:
        token = "" if value is None else value.get_secret_value()
        without_quotes(token)
        if token.strip() != token:
            raise ValueError("can't begin or end with spaces: in a header they would be lost")
        if any(category(character)[0] == "C" for character in token):
            raise ValueError("can't have control characters: a header has none")
        if value is not None and len(token) < _SHORTEST_TOKEN:
            raise ValueError(
                f"has {counted(len(token), 'character')}, and could be guessed: use {_SHORTEST_TOKEN} at least, "
                f"better {_ADVISED_TOKEN} (`openssl rand -hex 32` makes a good one)"
            )
        return value

    @field_validator("disabled_plugins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            without_quotes(value)
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("lock_renewal_interval")
    @classmethod
    def _renewed_in_time(cls, value: float, info: ValidationInfo) -> float:
        lease = info.data.get("lock_timeout")
        if lease is not None and value > lease / 2:
            raise ValueError(
                f"must be at most half of lock_timeout ({lease:g}), or a lease can run out while it is held"
            )
        return value

    @field_validator("instance_timeout")
    @classmethod
    def _outlives_heartbeats(cls, value: float, info: ValidationInfo) -> float:
        beat = info.data.get("heartbeat_interval")
        left_open = beat == cls.model_fields["heartbeat_interval"].default
        if beat is not None and value < 2 * beat and not left_open:
            raise ValueError(
                f"must be at least twice heartbeat_interval ({beat:g}), or a living instance counts as dead"
            )
        return value

    @field_validator("instance_id")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be printable characters")
        return without_quotes(value)

    def token_advice(self) -> str | None:
        """What to say about a token that is accepted, and could be better."""
        length = 0 if self.api_token is None else len(self.api_token.get_secret_value())
        if not 0 < length < _ADVISED_TOKEN:
            return None
        return (
            f"CRON_API_TOKEN has {length} characters, and {_ADVISED_TOKEN} or more are advised: `openssl rand -hex 32` makes a "
            "good one"
        )

    @model_validator(mode="after")
    def _fit_unset_intervals(self) -> CronConfig:
        """Fit intervals that were not set to the limits that were."""
        given = self.model_fields_set
        if "lock_renewal_interval" not in given:
            self._follow("lock_renewal_interval", min(self.lock_renewal_interval, self.lock_timeout / 3))
        if "instance_timeout" in given:
            self._follow("heartbeat_interval", min(self.heartbeat_interval, self.instance_timeout / 2))
        else:
            self._follow("instance_timeout", max(self.instance_timeout, self.heartbeat_interval * 3))
        return self

    @model_validator(mode="after")
    def _keep_to_limits_of_history(self) -> CronConfig:
        """Let a limit that was set hold for all, unless the others were set, too."""
        given = self.model_fields_set
        if "history_keep_failed" not in given and "history_keep" in given:
            object.__setattr__(self, "history_keep_failed", 0)
        if "history_keep_always" not in given:
            always = 0 if "history_days" in given else min(self.history_keep_always, self.history_keep)
            object.__setattr__(self, "history_keep_always", always)
        return self

    def _follow(self, name: str, value: float) -> None:
        object.__setattr__(self, name, _int_where_whole(value))


#: Settings objects whose `instance_id` was made up: in a forked child they get another one.
_WITH_MADE_UP_ID: WeakValueDictionary[int, CronConfig] = WeakValueDictionary()


def _name_forked_child() -> None:
    for config in list(_WITH_MADE_UP_ID.values()):
        object.__setattr__(config, "instance_id", made_up_id())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_name_forked_child)


def without_quotes(value: str) -> str:
    """The value; raises `ValueError` where quotes stand around it, which not every reader of `.env` files removes."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        raise ValueError("the quotes around it would be part of it (docker's --env-file keeps them): leave them out")
    return value


def describe_faults(error: ValidationError, prefix: str) -> str:
    """All faults of some settings in one text, each with its variable and value; secrets are not shown."""
    faults = []
    for fault in error.errors(include_url=False, include_context=False):
        # Where a field has a variable of its own, that stands here.
        name = "_".join(str(part) for part in fault["loc"]).upper().removeprefix(prefix)
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{prefix}{name}={_shown(name, fault.get('input'))}: {message}")
    return without_secrets("settings can't be used: " + "; ".join(faults))


def _shown(name: str, value: object) -> str:
    secret = any(word in name.lower() for word in ("password", "token", "secret", "url"))
    text = HIDDEN if secret else ascii(without_secrets(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
