"""Settings: what can be set, and where each value comes from."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from fastapi_crons._util.hiding import HIDDEN, know, know_address, without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError, CronsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from fastapi_crons.plugins.registry import Plugins

Source = Literal["default", "environment", ".env", "code"]

_SECRET_NAME = re.compile(r"pass(word|wd|phrase)|secret|token", re.IGNORECASE)
#: Hosts with their ports, behind which nothing but a user part could hold a password.
_HOSTS = re.compile(r"(?:(?:[\w.-]+|\[[\w:.%]+\])(?::[0-9]+)?(?:,|\Z))*")
_UP_TO_PATH = re.compile(r"[^/?#]*")
_TYPE_NAMES = {Path: "path", timedelta: "duration"}


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting, and its value in this process. Texts are for people; none holds a password."""

    name: str
    """Of the field."""
    variable: str
    type: str
    default: str
    """Empty where there is none."""
    meaning: str
    distributions: tuple[str, ...]
    """Those that bring it."""
    value: str
    source: Source
    """Where the value comes from."""


class Field(NamedTuple):
    """One field of a class of settings."""

    owner: type[BaseSettings]
    name: str
    info: FieldInfo
    variables: tuple[str, ...]
    """Those it is read from; the first that is set counts."""
    distributions: tuple[str, ...]

    @property
    def default(self) -> object:
        return None if self.info.is_required() else self.info.get_default()

    def described(self, value: object, source: Source) -> SettingInfo:
        return SettingInfo(
            name=self.name,
            variable=self.variables[0],
            type=_type_text(self.info.annotation),
            default=self.shown(self.default),
            meaning=self.info.description or "",
            distributions=self.distributions,
            value=self.shown(value),
            source=source,
        )

    def shown(self, value: object) -> str:
        """A value of this field as text, without secrets."""
        if not self.is_secret:
            return _text(value, self.name)
        text = without_passwords(_revealed(value))
        is_place = self.is_of_a_place and _is_place(text)
        return text if is_place or not text else HIDDEN

    @property
    def is_secret(self) -> bool:
        """Whether its type says so."""
        return "secret" in _type_text(self.info.annotation)

    @property
    def is_of_a_place(self) -> bool:
        """A secret whose default is a URL is the place of something: what is secret is the password in it."""
        return "://" in _revealed(self.default)

    def is_read_from(self, key: str) -> bool:
        """Whether this name in the environment or in a file is one of the field's variables."""
        return folded(self.owner, key) in {folded(self.owner, variable) for variable in self.variables}

    def is_filled_by(self, data: Mapping[str, object]) -> bool:
        """Whether what a source gives says something of this field."""
        return any(key == self.name or key in _aliases(self.info) for key in data)

    def overridden(self) -> bool:
        ignore_empty = bool(self.owner.model_config.get("env_ignore_empty"))
        return any(self.is_read_from(key) and (value or not ignore_empty) for key, value in os.environ.items())


def default_settings(plugins: Plugins) -> list[SettingInfo]:
    """Everything that can be set, as it is where nothing is. Raises `PluginError` as `describe_settings`."""
    return _merged(field.described(field.default, "default") for field in fields_of(plugins))


def describe_settings(plugins: Plugins, config: CronConfig | None = None) -> list[SettingInfo]:
    """Everything that can be set, with its value in this process and where that comes from.

    `config` is the one that an app has made: what in it differs from environment and file comes from code. Raises
    `ConfigurationError` with all faults of what is set, and `PluginError` where a plugin can't say what it brings.
    """
    settings = read_all(plugins.settings_classes())
    from_environment = {owner: EnvSettingsSource(owner)() for owner in settings}
    from_file = {owner: DotEnvSettingsSource(owner)() for owner in settings}

    def described(field: Field) -> SettingInfo:
        owner = field.owner
        value: object = getattr(settings[owner], field.name)
        if config is not None and owner is CronConfig and getattr(config, field.name) != value:
            return field.described(getattr(config, field.name), "code")
        if field.is_filled_by(from_environment[owner]):
            return field.described(value, "environment")
        if field.is_filled_by(from_file[owner]):
            return field.described(value, ".env")
        # A class can have sources of its own.
        return field.described(value, "code" if field.name in settings[owner].model_fields_set else "default")

    return _merged(described(field) for field in fields_of(plugins))


def know_secrets(plugins: Plugins) -> None:
    """Have the secrets that environment and file hold hidden everywhere from now on.

    The classes of settings are not made: they may ask sources of their own, and what is wrong with a value is said elsewhere.
    """
    given: dict[type[BaseSettings], list[Mapping[str, object]]] = {}
    with suppress(CronsError):
        for field in fields_of(plugins):
            if field.owner not in given:
                given[field.owner] = list(_raw_values(field.owner))
            for data in given[field.owner]:
                for key in {field.name, *_aliases(field.info)} & data.keys():
                    _know(field, field.name, data[key])


def _raw_values(owner: type[BaseSettings]) -> Iterator[Mapping[str, object]]:
    for source in (EnvSettingsSource, DotEnvSettingsSource):
        with suppress(Exception):  # values that are no JSON, a file that can't be read, aliases of some kind
            yield source(owner)()


def _know(field: Field, name: str, value: object) -> None:
    """Learn what is secret in a value of a field; `name` is that of the part of it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _know(field, str(key), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _know(field, name, item)
    else:
        text = _revealed(value)
        if (field.is_secret or _SECRET_NAME.search(name)) and not field.is_of_a_place:
            know(text)
        know_address(text)


def without_passwords(value: str) -> str:
    """The value of a setting without secrets, also in an address that has no scheme: `user:password@host`."""
    first, separator, rest = without_secrets(value).partition("//")
    user, at, place = first.rpartition("@")
    return f"{HIDDEN if ':' in user else user}{at}{place}{separator}{rest}"


def _is_place(url: str) -> bool:
    """Whether nothing in a URL whose user part is hidden can be a password: where its hosts stand are hosts."""
    _, separator, rest = url.partition("://")
    hosts = _UP_TO_PATH.match(rest.removeprefix(f"{HIDDEN}@"))
    return bool(separator and hosts and _HOSTS.fullmatch(hosts.group()))


def fields_of(plugins: Plugins) -> Iterator[Field]:
    """The fields of all classes of settings. Raises `PluginError` where a plugin can't say what it brings."""
    for owner, distributions in plugins.settings_classes().items():
        for name, info in owner.model_fields.items():
            yield Field(owner, name, info, _variables(owner, name, info), distributions)


def _variables(owner: type[BaseSettings], name: str, info: FieldInfo) -> tuple[str, ...]:
    config = owner.model_config
    names = _aliases(info)
    if not names or config.get("populate_by_name") or config.get("validate_by_name"):
        names.append(config.get("env_prefix", "") + name)
    return tuple(name if config.get("case_sensitive") else name.upper() for name in names)


def _aliases(info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(path[0]) for path in alias.convert_to_aliases()]
    if isinstance(alias, AliasPath):
        return [str(alias.path[0])]
    return [] if alias is None else [alias]


def folded(owner: type[BaseSettings], key: str) -> str:
    """A variable's name as its class compares it."""
    return key if owner.model_config.get("case_sensitive") else key.lower()


def read_all(
    owners: Iterable[type[BaseSettings]], env_file: Path | None = None
) -> dict[type[BaseSettings], BaseSettings]:
    """An instance of each class, from this file instead of the usual one where it is given."""
    found: dict[type[BaseSettings], BaseSettings] = {}
    faults: dict[str, None] = {}  # what two classes say of the same variable is said once
    for owner in owners:
        try:
            usual = env_file is None or owner.model_config.get("env_file") is None
            found[owner] = owner() if usual else owner(_env_file=env_file)
        except ConfigurationError as error:
            faults[str(error)] = None
        except ValidationError as error:
            faults[faults_of(owner, error)] = None
        except ValueError as error:  # what pydantic-settings says of values that are no JSON
            faults[f"settings can't be used: {owner.__name__}: {one_line(error)}"] = None
    if faults:
        raise ConfigurationError("; ".join(faults))
    return found


def faults_of(owner: type[BaseSettings], error: ValidationError) -> str:
    """What is wrong, without values: what is secret among them only the class's author knows."""
    variables = {name: _variables(owner, name, info)[0] for name, info in owner.model_fields.items()}
    variables |= {alias: alias for info in owner.model_fields.values() for alias in _aliases(info)}
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        place = [str(part) for part in fault["loc"]] or [owner.__name__]
        shown = ".".join([variables.get(place[0], place[0]), *place[1:]])
        faults.append(f"{shown}: {fault['msg'].removeprefix('Value error, ')}")
    return without_secrets("settings can't be used: " + "; ".join(faults))


def _merged(described: Iterable[SettingInfo]) -> list[SettingInfo]:
    """The same without what differs in nothing but the distribution; the first stands for the others."""
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


def _revealed(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    plain = value if reveal is None else reveal()
    return "" if plain is None else str(plain)


def _text(value: object, name: str = "") -> str:
    """A value as it would be written to a variable, or nearly so; `name` tells whether it is secret."""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(item, str(key))}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_text(item, name) for item in value]
        return ", ".join(items if isinstance(value, (list, tuple)) else sorted(items))
    if hasattr(value, "get_secret_value") or (isinstance(value, (str, bytes)) and _SECRET_NAME.search(name)):
        return HIDDEN if _revealed(value) else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else without_passwords(str(value))
