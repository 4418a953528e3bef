"""Every setting, its value in this process, and where that comes from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from fastapi_crons._util.hiding import HIDDEN, without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.plugins import Plugins
from fastapi_crons.plugins.settings import SECRET_NAME, Field, faults_of, fields_of, revealed

Source = Literal["default", "environment", ".env", "code"]

#: Hosts with their ports: nothing in them can be a password.
_HOSTS = re.compile(r"(?:(?:[\w.-]+|\[[\w:.%]+\])(?::[0-9]+)?(?:,|\Z))*")
_UP_TO_PATH = re.compile(r"[^/?#]*")
_TYPE_NAMES = {Path: "path", timedelta: "duration"}


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting, and its value in this process, as texts for people, without passwords."""

    name: str
    """The name of the field."""
    variable: str
    type: str
    default: str
    """Empty where there is none."""
    meaning: str
    distributions: tuple[str, ...]
    """The distributions that bring it."""
    value: str
    source: Source
    """Where the value comes from."""


def default_settings(plugins: Plugins) -> list[SettingInfo]:
    """Every setting with its default. Raises `PluginError` as `describe_settings`."""
    return _merged(_described(field, field.default, "default") for field in fields_of(plugins))


def describe_settings(plugins: Plugins, config: CronConfig | None = None) -> list[SettingInfo]:
    """Every setting with its value in this process, and where that comes from.

    `config` is that of an app: what differs in it from environment and file comes from code. Raises `ConfigurationError`
    with all faults of the settings, and `PluginError` where a plugin fails to say what it brings.
    """
    settings = read_all(plugins.settings_classes())
    from_environment = {owner: EnvSettingsSource(owner)() for owner in settings}
    from_file = {owner: DotEnvSettingsSource(owner)() for owner in settings}

    def with_source(field: Field) -> SettingInfo:
        owner = field.owner
        value: object = getattr(settings[owner], field.name)
        if config is not None and owner is CronConfig and getattr(config, field.name) != value:
            return _described(field, getattr(config, field.name), "code")
        if field.is_filled_by(from_environment[owner]):
            return _described(field, value, "environment")
        if field.is_filled_by(from_file[owner]):
            return _described(field, value, ".env")
        # The class may have sources of its own.
        return _described(field, value, "code" if field.name in settings[owner].model_fields_set else "default")

    return _merged(with_source(field) for field in fields_of(plugins))


def _described(field: Field, value: object, source: Source) -> SettingInfo:
    return SettingInfo(
        name=field.name,
        variable=field.variables[0],
        type=_type_text(field.info.annotation),
        default=_shown(field, field.default),
        meaning=field.info.description or "",
        distributions=field.distributions,
        value=_shown(field, value),
        source=source,
    )


def _shown(field: Field, value: object) -> str:
    """A value of this field as text, without secrets."""
    if not field.is_secret:
        return _text(value, field.name)
    text = without_passwords(revealed(value))
    is_place = field.is_of_a_place and _is_place(text)
    return text if is_place or not text else HIDDEN


def without_passwords(value: str) -> str:
    """The value of a setting without secrets, also in an address that has no scheme: `user:password@host`."""
    first, separator, rest = without_secrets(value).partition("//")
    user, at, place = first.rpartition("@")
    return f"{HIDDEN if ':' in user else user}{at}{place}{separator}{rest}"


def _is_place(url: str) -> bool:
    """Whether a URL whose user part is hidden has hosts where hosts belong, so that nothing in it can be a password."""
    _, separator, rest = url.partition("://")
    hosts = _UP_TO_PATH.match(rest.removeprefix(f"{HIDDEN}@"))
    return bool(separator and hosts and _HOSTS.fullmatch(hosts.group()))


def read_all(
    owners: Iterable[type[BaseSettings]], env_file: Path | None = None
) -> dict[type[BaseSettings], BaseSettings]:
    """An instance of each class; where a file is given, it is read instead of `.env`."""
    found: dict[type[BaseSettings], BaseSettings] = {}
    faults: dict[str, None] = {}  # two classes may report the same fault of one variable
    for owner in owners:
        try:
            usual = env_file is None or owner.model_config.get("env_file") is None
            found[owner] = owner() if usual else owner(_env_file=env_file)
        except ConfigurationError as error:
            faults[str(error)] = None
        except ValidationError as error:
            faults[faults_of(owner, error)] = None
        except ValueError as error:  # values that are not JSON, as pydantic-settings reports them
            faults[f"settings can't be used: {owner.__name__}: {one_line(error)}"] = None
    if faults:
        raise ConfigurationError("; ".join(faults))
    return found


def _merged(described: Iterable[SettingInfo]) -> list[SettingInfo]:
    """The settings, with those that differ only in the distribution merged into one."""
    alike: dict[SettingInfo, list[str]] = {}
    for info in described:
        alike.setdefault(replace(info, distributions=()), []).extend(info.distributions)
    return [replace(info, distributions=tuple(dict.fromkeys(names))) for info, names in alike.items()]


def _type_text(annotation: object) -> str:
    """A type for people who set it: `float, optional`."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return _type_text(parts[0])
    if kind in (Union, UnionType):
        given = " or ".join(_type_text(part) for part in parts if part is not type(None))
        return f"{given}, optional" if type(None) in parts else given
    if kind is Literal:
        return "one of " + ", ".join(map(str, parts))
    annotation = kind or annotation
    if not isinstance(annotation, type):
        return str(annotation)
    if hasattr(annotation, "get_secret_value"):
        return "secret"
    if issubclass(annotation, Enum):
        return "one of " + ", ".join(str(member.value) for member in annotation)
    if issubclass(annotation, (list, tuple, set, frozenset)):
        item = _type_text(parts[0]) if parts else "str"
        return f"list of {'names' if item == 'str' else item}"
    if issubclass(annotation, (Mapping, BaseModel)):
        return "JSON object"
    return _TYPE_NAMES.get(annotation, annotation.__name__)


def _text(value: object, name: str = "") -> str:
    """A value as it would be written to a variable, or nearly so; `name` tells whether it is secret."""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(item, str(key))}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_text(item, name) for item in value]
        return ", ".join(items if isinstance(value, (list, tuple)) else sorted(items))
    if hasattr(value, "get_secret_value") or (isinstance(value, (str, bytes)) and SECRET_NAME.search(name)):
        return HIDDEN if revealed(value) else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else without_passwords(str(value))
