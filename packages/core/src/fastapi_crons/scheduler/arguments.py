"""Arguments: the arguments of `Crons(…)` besides the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi_crons.clock import Clock
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.state.base import StateBackend


class Arguments(NamedTuple):
    """None stands for what was left out."""

    state_backend: StateBackend | None = None
    lock_manager: DistributedLockManager | None = None
    config: CronConfig | None = None
    clock: Clock | None = None

    @property
    def anything(self) -> bool:
        """Whether anything was given."""
        return any(value is not None for value in self)

    @property
    def settings(self) -> CronConfig | None:
        """The given settings; else those of the given lock manager."""
        return self.config or (self.lock_manager.config if self.lock_manager else None)

    def with_newer(self, newer: Arguments) -> Arguments:
        """Both together; a newer value replaces an older one."""
        return self._replace(**{name: new for name, new in newer._asdict().items() if new is not None})

    def check_same(self, newer: Arguments, scheduler: str) -> None:
        """Raises `ConfigurationError` where a newer value differs from one that was given before."""
        for name, old, new in zip(self._fields, self, newer, strict=True):
            if old is not None and new is not None and old is not new and not (name == "config" and old == new):
                raise ConfigurationError(
                    f"{scheduler} was given a {name} already ({type(old).__name__}), and this call has another "
                    f"({type(new).__name__}); give it once"
                )

    def check_includes(self, newer: Arguments) -> None:
        """Raises `ConfigurationError` where the newer one has a value that this one does not have."""
        if any(new is not None and old is not new for old, new in zip(self, newer, strict=True)):
            raise ConfigurationError(
                "this app has a scheduler already; give stores and settings to its first Crons(app, …)"
            )
