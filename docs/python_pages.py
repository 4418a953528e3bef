"""The pages about Python: which names stand on them, and what is said beside their docstrings."""

from __future__ import annotations

from docs.code_pages import Entry, Section, classes_of, page

_ERRORS = (
    "CronsError",
    "ConfigurationError",
    "PluginError",
    "MissingDistributionError",
    "MovedNameError",
    "JobDefinitionError",
    "InvalidArgumentError",
    "ScheduleError",
    "DuplicateJobError",
    "UnknownJobError",
    "UnknownRunError",
    "RunEndedError",
    "JobLockedError",
    "NotInForceError",
    "TickRefusedError",
    "BackfillError",
    "UnknownBackfillError",
    "UnknownInstanceError",
    "NotRunningError",
    "DependencyError",
    "ProcessError",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnusableError",
)
_ROLE = """The `role` of `Crons.start`: `"scheduler"` runs jobs; `"operator"` runs no ticks, and runs jobs by hand, pauses,
resumes and cancels; `"observer"` only reads."""
_CONFIG = """Its fields are the [settings](settings.md) of `fastapi-crons-core`: `CRON_TIMEZONE` is
`CronConfig(timezone=…)`. What is not given comes from the environment and `.env`."""
_OPTIONS = """The options of `Crons.cron` are those of `CronJob`, from `timezone` on, and have the same defaults; `coalesce`
takes that of the settings."""
_REGISTRY = "`crons.jobs` of a scheduler; not made by users."
_SCHEDULES = """They are given to a job in the place of a cron expression; see [schedules](../how-to/schedules.md). Each is a
`Schedule`, immutable, and equal to another one of the same text and time zone."""
_INTERNAL = (
    "next_tick",
    "ticks_between",
    "count_ticks",
    "has_zone",
    "in_zone",
    "is_clocked",
    "foreign",
    "expressions",
    "depth",
    "nested_text",
)
_EXPORTS = """What `fastapi_crons` exports. These names are kept stable, as are those of [stores and testing](stores.md);
everything else is private. Times are aware datetimes in UTC, durations are seconds."""
_TESTING = """`fastapi_crons.testing` offers virtual time, a fresh start between tests, and the contracts of stores. How tests
of jobs are written: [testing](../how-to/testing.md)."""
_HOOK_CONTEXT = "[Hooks](../plugins/hooks.md) lists its keys."


def python() -> str:
    """What `fastapi_crons` exports."""
    return page(
        "Python",
        _EXPORTS,
        (
            Section(
                "The scheduler",
                (
                    Entry(
                        "fastapi_crons.scheduler.crons:Crons",
                        without=(
                            "engine",
                            "begin_for",
                            "end_for",
                            "check_hooks",
                            "jobs_missing_for_hooks",
                            "started_alone",
                            "placements",
                            "place",
                            "check_group_hook",
                            "add_group_hook",
                            "drop_group_hook",
                        ),
                        bases=(
                            "fastapi_crons.scheduler.decorators:Decorators",
                            "fastapi_crons.scheduler.registering:Registers",
                        ),
                    ),
                    Entry(
                        "fastapi_crons.registry:JobRegistry",
                        only=("append", "extend", "remove", "replace", "get", "named", "names"),
                        about=_REGISTRY,
                    ),
                    Entry(
                        "fastapi_crons.scheduler.groups:JobGroup",
                        without=("place_in", "hooks", "made_at"),
                        bases=("fastapi_crons.scheduler.decorators:Decorators",),
                    ),
                    Entry("fastapi_crons.engine.engine:Role", about=_ROLE),
                    Entry("fastapi_crons.engine.health:Health"),
                    Entry("fastapi_crons.api.router:get_cron_router"),
                    Entry("fastapi_crons.config:CronConfig", members=False, about=_CONFIG),
                ),
            ),
            Section(
                "Jobs and schedules",
                (
                    Entry("fastapi_crons.job:CronJob", without=("counts_from_end", "with_defaults", "renamed")),
                    Entry(
                        "fastapi_crons.schedule.cron:CronSchedule",
                        without=_INTERNAL,
                        bases=("fastapi_crons.schedule.base:ZonedSchedule",),
                    ),
                    Entry("fastapi_crons.schedule.base:Schedule"),
                    Entry("fastapi_crons.engine.runs.context:JobContext"),
                ),
                _OPTIONS,
            ),
            Section(
                "Schedules besides cron",
                tuple(
                    Entry(f"fastapi_crons.schedules.{module}:{name}", members=False, package="fastapi_crons.schedules")
                    for module, names in (
                        ("single", ("Every", "Once")),
                        ("combined", ("AnyOf",)),
                        ("limited", ("Within", "Except")),
                    )
                    for name in names
                ),
                _SCHEDULES,
            ),
            Section(
                "Runs and their records",
                (
                    *(
                        Entry(f"fastapi_crons.run:{name}")
                        for name in ("Run", "RunError", "LogLine", "MissedTicks", "RunStatus")
                    ),
                    Entry("fastapi_crons.engine.drain:RunLeft", about="What `Crons.drain` returns."),
                ),
            ),
            Section(
                "Log lines",
                (Entry("fastapi_crons.logs:RunFilter"), Entry("fastapi_crons.logs:JsonFormatter")),
                "[Logging](../how-to/logging.md) shows how they are used.",
            ),
            Section(
                "Plugins",
                (
                    Entry(
                        "fastapi_crons.plugins.markers:hookimpl",
                        about="Marks a function as the implementation of a hook; see [hooks](../plugins/hooks.md).",
                    ),
                    Entry("fastapi_crons.plugins.markers:HookContext", about=_HOOK_CONTEXT),
                    Entry("fastapi_crons.errors:SkipRun"),
                ),
            ),
            Section("Errors", tuple(Entry(f"fastapi_crons.errors:{name}") for name in (*_ERRORS, "without_secrets"))),
        ),
    )


def stores() -> str:
    """Stores, what goes in and out of them, and what tests them."""
    return page(
        "Stores and testing",
        "What authors of stores and of tests need, and those who choose a store in code.",
        (
            Section(
                "State stores",
                (
                    Entry("fastapi_crons.state.base:StateBackend"),
                    Entry("fastapi_crons.state.memory:MemoryStateBackend", members=False),
                    Entry(
                        "fastapi_crons_sqlite.state:SQLiteStateBackend", members=False, package="fastapi_crons.state"
                    ),
                    Entry(
                        "fastapi_crons_postgres.state:PostgresStateBackend",
                        members=False,
                        package="fastapi_crons.state",
                    ),
                    Entry(
                        "fastapi_crons_redis.state:RedisStateBackend",
                        members=False,
                        package="fastapi_crons.state",
                    ),
                ),
            ),
            Section(
                "Lock stores",
                (
                    Entry("fastapi_crons.locking.base:LockBackend"),
                    Entry("fastapi_crons.locking.local:LocalLockBackend", members=False),
                    Entry(
                        "fastapi_crons_sqlite.lock:SQLiteLockBackend", members=False, package="fastapi_crons.locking"
                    ),
                    Entry(
                        "fastapi_crons_postgres.lock:PostgresLockBackend",
                        members=False,
                        package="fastapi_crons.locking",
                    ),
                    Entry("fastapi_crons_redis.lock:RedisLockBackend", members=False, package="fastapi_crons.locking"),
                    Entry("fastapi_crons.locking.manager:DistributedLockManager", members=False),
                ),
            ),
            Section(
                "The rule of lock stores",
                (
                    Entry("fastapi_crons.locking.record:JobRecord", package="fastapi_crons.locking.rule"),
                    *(
                        Entry(f"fastapi_crons.locking.rule:{name}")
                        for name in (
                            "register",
                            "claim",
                            "asks_who_is_alive",
                            "pause",
                            "resume",
                            "release",
                            "renew",
                            "cancel",
                            "is_credible",
                        )
                    ),
                    Entry("fastapi_crons.locking.rule:Alive"),
                    Entry("fastapi_crons.locking.record:LIMITS", package="fastapi_crons.locking.rule"),
                ),
                "Pure functions of records and the store's clock. `from fastapi_crons.locking import rule`.",
            ),
            Section(
                "A base for lock stores with transactions",
                (
                    Entry("fastapi_crons.locking.transactional:TransactionalLockBackend", only=("connect", "transact")),
                    Entry("fastapi_crons.locking.transactional:LockTransaction"),
                    Entry("fastapi_crons.locking.transactional:without_waiting"),
                    *(
                        Entry(f"fastapi_crons.locking.text:{name}")
                        for name in (
                            "record_to_text",
                            "record_from_text",
                            "lease_to_text",
                            "lease_from_text",
                            "instance_to_text",
                            "instance_from_text",
                        )
                    ),
                ),
            ),
            Section(
                "What goes in and out of lock stores",
                (
                    *classes_of("fastapi_crons.locking.base", without="LockBackend"),
                    Entry("fastapi_crons.locking.base:Reach"),
                    Entry("fastapi_crons.locking.base:Outcome", about="What became of a claim; see `ClaimResult`."),
                    Entry("fastapi_crons.run:MissedReason", about="Why ticks were missed."),
                    Entry("fastapi_crons.job:Overlap", about="What becomes of a tick while its job is still running."),
                    Entry("fastapi_crons.locking.instance:LiveInstance"),
                    Entry("fastapi_crons.locking.instance:LeaseTerms"),
                    Entry("fastapi_crons.locking.instance:Instance"),
                    Entry("fastapi_crons.clock:Clock"),
                ),
            ),
            Section(
                "What goes in and out of state stores",
                (
                    *classes_of("fastapi_crons.state.base", without="StateBackend"),
                    Entry("fastapi_crons.state.figures:Figures", package="fastapi_crons.state"),
                    Entry("fastapi_crons.state.backfills:BackfillRecord", package="fastapi_crons.state"),
                    Entry("fastapi_crons.state.backfills:backfill_to_text"),
                    Entry("fastapi_crons.state.backfills:backfill_from_text"),
                    Entry("fastapi_crons.state.base:Record", about="What is written: `Run` or `MissedTicks`."),
                    Entry("fastapi_crons.state.base:Event"),
                ),
            ),
            Section(
                "Endpoints of plugins",
                (
                    Entry("fastapi_crons.api.guard:asked"),
                    Entry("fastapi_crons.api.guard:Asked"),
                    Entry("fastapi_crons.api.doors.forms:form"),
                    Entry("fastapi_crons.api.doors.routers:get_guarded_router"),
                    Entry("fastapi_crons.api.doors.entry:open_route"),
                    Entry("fastapi_crons.api.doors.entry:login_page"),
                    Entry("fastapi_crons.api.doors.entry:refusal_page"),
                    Entry("fastapi_crons.api.doors.entry:path_of"),
                    Entry("fastapi_crons.api.doors.entry:local_path"),
                    Entry("fastapi_crons.management.management:Management"),
                ),
                "For plugins with [endpoints and pages](../plugins/routes.md).",
            ),
            Section(
                "The dashboard",
                (Entry("fastapi_crons_dashboard.router:get_dashboard_router", package="fastapi_crons_dashboard"),),
                "From the distribution `fastapi-crons-dashboard`: [how it is used](../how-to/dashboard.md).",
            ),
            Section(
                "Plugins, and the stores they bring",
                (
                    Entry(
                        "fastapi_crons.plugins.backends:StateBackendSpec",
                        about="A `BackendSpec` that makes state stores.",
                    ),
                    Entry(
                        "fastapi_crons.plugins.backends:LockBackendSpec",
                        about="A `BackendSpec` that makes lock stores.",
                    ),
                    Entry(
                        "fastapi_crons.plugins.backends:BackendSpec",
                        without=("brought_by", "class_name", "is_wanted", "make", "load_class"),
                    ),
                    Entry("fastapi_crons.plugins.registry:Plugins", only=("register", "unregister", "list")),
                    Entry("fastapi_crons.plugins.registry:PluginInfo"),
                ),
            ),
            Section(
                "Testing",
                (
                    Entry("fastapi_crons.testing.clock:VirtualClock"),
                    Entry("fastapi_crons.scheduler.crons:reset"),
                    Entry("fastapi_crons.testing.state_contract:StateContract", members=False),
                    Entry("fastapi_crons.testing.lock_contract:LockContract", members=False),
                    Entry("fastapi_crons.testing.lock_walk:LockWalk", members=False),
                ),
                _TESTING,
            ),
        ),
    )
