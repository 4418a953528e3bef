"""The settings of a scheduler, as texts for people, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons._util.hiding import HIDDEN, without_secrets
from fastapi_crons.config import CronConfig
from fastapi_crons.plugins.settings import SECRET_NAME, Field, fields_of, revealed

if TYPE_CHECKING:
    from fastapi_crons.scheduler.crons import Crons


class Setting(NamedTuple):
    """A setting, and its value in this process."""

    variable: str
    value: str
    changed: bool
    """Whether it is not the default."""
    meaning: str


def settings_of(crons: Crons) -> list[Setting]:
    """Those of the scheduler itself. Plugins read theirs when they open their stores, and keep them."""
    return [_setting(field, crons.config) for field in fields_of(crons.plugins) if field.owner is CronConfig]


def _setting(field: Field, config: CronConfig) -> Setting:
    value: object = getattr(config, field.name)
    changed = field.name in config.model_fields_set and value != field.default
    return Setting(field.variables[0], _text(field, value), changed, field.info.description or "")


def _text(field: Field, value: object) -> str:
    if field.is_secret or SECRET_NAME.search(field.name):
        return HIDDEN if value is not None and revealed(value) else "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(sorted(map(str, value))) or "–"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "–" if value is None or value == "" else without_secrets(str(value))
