"""Settings that core and plugins declare: their variables, which of them are secret, and what is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, get_args

from pydantic import AliasChoices, AliasPath, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from fastapi_crons._util.hiding import know, know_address, without_secrets
from fastapi_crons.errors import CronsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


#: Names of fields, and of parts of their values, that hold secrets.
SECRET_NAME = re.compile(r"pass(word|wd|phrase)|secret|token", re.IGNORECASE)


class BringsSettings(Protocol):
    """What knows every class of settings: `Plugins`."""

    def settings_classes(self) -> Mapping[type[BaseSettings], tuple[str, ...]]: ...


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

    @property
    def is_secret(self) -> bool:
        """Whether its type says so."""
        return _is_secret(self.info.annotation)

    @property
    def is_of_a_place(self) -> bool:
        """A secret whose default is a URL says where something is: only the password in it is secret."""
        return "://" in revealed(self.default)

    def is_read_from(self, key: str) -> bool:
        """Whether this name in the environment or in a file is one of the field's variables."""
        return folded(self.owner, key) in {folded(self.owner, variable) for variable in self.variables}

    def is_filled_by(self, data: Mapping[str, object]) -> bool:
        """Whether a source gives a value for this field."""
        return any(key == self.name or key in _aliases(self.info) for key in data)

    def overridden(self) -> bool:
        ignore_empty = bool(self.owner.model_config.get("env_ignore_empty"))
        return any(self.is_read_from(key) and (value or not ignore_empty) for key, value in os.environ.items())


def know_secrets(plugins: BringsSettings) -> None:
    """Hide the secrets in the environment and in `.env` everywhere from now on.

    The classes of settings are not instantiated: they may read sources of their own, and faulty values are reported elsewhere.
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
        with suppress(Exception):  # values that are not JSON, a file that can't be read, unusual aliases
            yield source(owner)()


def _know(field: Field, name: str, value: object) -> None:
    """Remember the secrets in a value of a field, or in the part of it with this name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _know(field, str(key), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _know(field, name, item)
    else:
        text = revealed(value)
        if (field.is_secret or SECRET_NAME.search(name)) and not field.is_of_a_place:
            know(text)
        know_address(text)


def fields_of(plugins: BringsSettings) -> Iterator[Field]:
    """The fields of all classes of settings. Raises `PluginError` where a plugin fails to say what it brings."""
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
    """The name of a variable, as its class compares names."""
    return key if owner.model_config.get("case_sensitive") else key.lower()


def faults_of(owner: type[BaseSettings], error: ValidationError) -> str:
    """What is wrong, without values: only the author of the class knows which are secret."""
    variables = {name: _variables(owner, name, info)[0] for name, info in owner.model_fields.items()}
    variables |= {alias: alias for info in owner.model_fields.values() for alias in _aliases(info)}
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        place = [str(part) for part in fault["loc"]] or [owner.__name__]
        shown = ".".join([variables.get(place[0], place[0]), *place[1:]])
        faults.append(f"{shown}: {fault['msg'].removeprefix('Value error, ')}")
    return without_secrets("settings can't be used: " + "; ".join(faults))


def revealed(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    plain = value if reveal is None else reveal()
    return "" if plain is None else str(plain)


def _is_secret(annotation: object) -> bool:
    return hasattr(annotation, "get_secret_value") or any(map(_is_secret, get_args(annotation)))
