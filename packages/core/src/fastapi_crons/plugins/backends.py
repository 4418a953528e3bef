"""Backend specs: how plugins offer stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from fastapi_crons._util.hiding import as_cause
from fastapi_crons._util.text import one_line
from fastapi_crons.errors import ConfigurationError, CronsError, PluginError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend  # noqa: F401 - named in a string below
    from fastapi_crons.state.base import StateBackend  # noqa: F401 - named in a string below

BackendT_co = TypeVar("BackendT_co", covariant=True)


@dataclass(frozen=True)
class BackendSpec(Generic[BackendT_co]):
    """How a backend is found and made. Making one of these must import nothing heavy."""

    class_path: str
    """`module:Class`"""
    create: Callable[[CronConfig], BackendT_co]
    """Makes a backend from the environment's settings, unopened."""
    settings: Callable[[], type[BaseSettings]] | None = None
    """Returns the class of the backend's own settings."""
    preference: int = -1
    """With no backend named in the settings, the one with the highest preference is used; below 0: only where it is named."""
    wanted: Callable[[], bool] | None = None
    """Says whether the environment points to this store: then it goes before stores that are only installed."""
    schemes: tuple[str, ...] = ()
    """What the places of such stores begin with, before the first colon: `redis` for `redis://host`."""
    at: Callable[[CronConfig, str], BackendT_co] | None = None
    """Makes a backend at a place that begins with one of `schemes`, unopened; otherwise as the environment's settings say."""
    _unusable: Callable[[str], PluginError] = field(init=False, repr=False, compare=False, default=PluginError)

    def brought_by(self, unusable: Callable[[str], PluginError]) -> BackendSpec[BackendT_co]:
        """The same spec, with errors made by `unusable`, which names the plugin."""
        spec = copy(self)
        object.__setattr__(spec, "_unusable", unusable)
        return spec

    @property
    def class_name(self) -> str:
        return self.class_path.rpartition(":")[2]

    @property
    def is_wanted(self) -> bool:
        """Whether the environment asks for this backend without naming it."""
        if self.wanted is None:
            return False
        with self._errors_named(f"failed to say whether {self.class_name} is wanted", self._unusable):
            return self.wanted()

    def make(self, config: CronConfig, place: str | None = None) -> BackendT_co:
        """A new backend, at a place for which there is `at`, or else where the environment's settings say.

        Raises `ConfigurationError` where it can't be made, without the values of its settings.
        """
        from fastapi_crons.locking.base import LockBackend
        from fastapi_crons.state.base import StateBackend

        with self._errors_named(f"{self.class_name} can't be made", ConfigurationError):
            made = self.create(config) if place is None or self.at is None else self.at(config, place)
        if not isinstance(made, (StateBackend, LockBackend)):
            raise self._unusable(f"makes an object of class {type(made).__name__} instead of {self.class_name}")
        return made

    def load_class(self) -> type[BackendT_co]:
        module, _, name = self.class_path.partition(":")
        with self._errors_named(f"brings {self.class_path!r}, which can't be imported", self._unusable):
            loaded: type[BackendT_co] = getattr(import_module(module), name)
            return loaded

    @contextmanager
    def _errors_named(self, what: str, unusable: Callable[[str], CronsError]) -> Iterator[None]:
        """Turn what the plugin's code raises into an error of ours that names it; our own errors stay as they are."""
        try:
            yield
        except (CronsError, KeyboardInterrupt):
            raise
        except BaseException as error:
            from pydantic import ValidationError
            from pydantic_settings import BaseSettings

            if not isinstance(error, ValidationError):
                raise unusable(f"{what}: {one_line(error)}") from as_cause(error)
            from fastapi_crons.plugins.settings import faults_of

            # Without values: only the plugin's author knows which are secret.
            if self.settings is not None:
                raise ConfigurationError(faults_of(self.settings(), error)) from None
            raise ConfigurationError(f"{self.class_name}: {faults_of(BaseSettings, error)}") from None


StateBackendSpec = BackendSpec["StateBackend"]
LockBackendSpec = BackendSpec["LockBackend"]
