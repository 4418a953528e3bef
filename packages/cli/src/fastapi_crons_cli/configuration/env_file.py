"""Changing one setting in a `.env` file."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values, set_key, unset_key
from pydantic_settings import BaseSettings

from fastapi_crons._util.hiding import without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.plugins.settings import Field, fields_of
from fastapi_crons_cli.configuration.all_settings import read_all

if TYPE_CHECKING:
    from fastapi_crons.plugins.registry import Plugins


_OTHER_KINDS = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISSOCK, "socket"),
)
#: What every reader of such files takes as it stands.
_NEEDS_NO_QUOTES = re.compile(r"[\w./:@%+,=-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class SettingChange:
    """What changing a `.env` file has done."""

    variable: str
    env_file: Path
    changed: bool
    """False where the file had this value already."""
    overridden: bool
    """True where the environment of this process sets the variable, too: it takes precedence over the file."""
    readable_by: str | None
    """Who may read the file besides its owner."""


def check_env_file(env_file: Path = Path(".env")) -> None:
    """Raises `ConfigurationError` for what is not a file: a folder, a device, or a pipe, which would block."""
    try:
        mode = env_file.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = next((kind for is_one, kind in _OTHER_KINDS if is_one(mode)), "special file")
        raise ConfigurationError(f"{env_file} can't be changed: it is a {kind}, not a file")


def _readable_by(env_file: Path) -> str | None:
    if os.name == "nt":  # where modes say nothing
        return None
    mode = stat.S_IMODE(env_file.stat().st_mode)
    who = "everybody" if mode & stat.S_IROTH else "its group" if mode & stat.S_IRGRP else None
    return None if who is None else f"{who} (mode {mode:04o})"


def change_setting(plugins: Plugins, name: str, value: str | None, env_file: Path = Path(".env")) -> SettingChange:
    """Write a value to a `.env` file, or with None take it out; every other variable stays as it is.

    `name` is a variable, or the name of a field that only one class of settings has. All settings are checked as they
    would be read from the changed file, and it is replaced as a whole. Raises `ConfigurationError`, and leaves the
    file alone, for a name that is unknown or means several, a value that can't be used or written, settings that
    contradict each other, and a file that can't be written.
    """
    check_env_file(env_file)
    field, variable = _find(plugins, name)
    if field.owner.model_config.get("env_file") is None:
        raise ConfigurationError(f"{variable} is read from the environment only, not from a file; set it there")
    if value is not None and any(char in "\n\r\0" or "\ud800" <= char <= "\udfff" for char in value):
        raise ConfigurationError(f"{variable} can't have line breaks, NUL or broken characters in a file")
    # The target of a link is replaced, not the link.
    target = Path(os.path.realpath(env_file))
    try:
        read = dotenv_values(target, interpolate=False, encoding="utf-8")
        said = {key: before for key, before in read.items() if field.is_read_from(key)}
        changed = said != ({} if value is None else {variable: value})
        if value is not None or changed:
            with _edited_copy(target, field, variable, value) as path:
                _check(plugins, field, variable, value, path, target)
                if changed:
                    _move(path, target)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{env_file} can't be changed: it is not UTF-8 ({error.reason})") from None
    except OSError as error:
        raise ConfigurationError(f"{env_file} can't be changed: {one_line(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{env_file} is left as it is: {error}") from None
    readable_by = _readable_by(target) if target.exists() else None
    return SettingChange(variable, env_file, changed, field.overridden(), readable_by)


def _find(plugins: Plugins, name: str) -> tuple[Field, str]:
    """The field of this name, and its variable. Raises `ConfigurationError` where there is none or several."""
    fields = list(fields_of(plugins))
    wanted = name.lower()
    for field in fields:
        for variable in field.variables:
            if variable.lower() == wanted:
                return field, variable
    named = {field.variables[0]: field for field in fields if field.name.lower() == wanted}
    if len(named) > 1:
        raise ConfigurationError(f"{name!r} can be any of {', '.join(sorted(named))}; name the variable")
    for variable, field in named.items():
        return field, variable
    known = {field.name.lower(): field.variables[0] for field in fields}
    known |= {variable.lower(): variable for field in fields for variable in field.variables}
    near = dict.fromkeys(known[word] for word in get_close_matches(wanted, known))
    hint = f"did you mean {' or '.join(near)}?" if near else "config-show lists them"
    raise ConfigurationError(f"there is no setting {name!r}; {hint}")


@contextmanager
def _edited_copy(target: Path, field: Field, variable: str, value: str | None) -> Iterator[Path]:
    """A copy beside the file, in which dotenv's own `set_key` has made this change. Gone at the end, unless it was moved.

    Other names of the same field are taken out. Lines end as they did, and what was exported still is.
    """
    before = target.read_bytes().decode() if target.exists() else ""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")  # with mode 0600
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(before.encode())
        for key in dotenv_values(path, interpolate=False, encoding="utf-8"):
            if field.is_read_from(key) and (value is None or key != variable):
                unset_key(path, key, encoding="utf-8")
        if value is not None:
            quotes = "never" if _NEEDS_NO_QUOTES.fullmatch(value) else "always"
            exported = re.search(rf"(?im)^\s*export\s+{re.escape(variable)}\b", before) is not None
            set_key(path, variable, value, quotes, export=exported, encoding="utf-8")
        if "\r\n" in before:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        yield path
    finally:
        path.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    """Put a file in the place of another one, with its owner and mode."""
    if target.exists():
        old = target.stat()
        # An app that runs as another user must still be able to read it.
        with suppress(AttributeError, PermissionError):
            os.chown(path, old.st_uid, old.st_gid)
        path.chmod(stat.S_IMODE(old.st_mode))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    path.replace(target)


def _check(plugins: Plugins, field: Field, variable: str, value: str | None, path: Path, before: Path) -> None:
    """Read everything with this file, and the field from nowhere else. What was wrong before does not count."""
    environment = {key: os.environ.pop(key) for key in list(os.environ) if field.is_read_from(key)}
    try:
        kept = [read for key, read in dotenv_values(path, encoding="utf-8").items() if field.is_read_from(key)]
        if kept != ([] if value is None else [value]):
            raise ConfigurationError(
                f"{variable} would not be read as it is written: ${{…}} stands for another variable, and a quote left open "
                "includes what follows; fix the file, or set the variable in the environment"
            )
        owners = plugins.settings_classes()
        known = _faults_in(owners, before)
        faults = [fault for fault in _faults_in(owners, path) if fault not in known or fault.startswith(variable)]
        faults += _unknown_backends(plugins, field, variable, value)
        if faults:
            raise ConfigurationError(f"settings can't be used: {'; '.join(faults)}")
    finally:
        os.environ.update(environment)


def _faults_in(owners: Iterable[type[BaseSettings]], env_file: Path) -> list[str]:
    """What is wrong with the settings as they would be read with this file, one by one."""
    try:
        read_all(owners, env_file)
    except ConfigurationError as error:
        return re.sub(r"(^|; )settings can't be used: ", "; ", str(error)).removeprefix("; ").split("; ")
    return []


def _unknown_backends(plugins: Plugins, field: Field, variable: str, value: str | None) -> list[str]:
    """A fault where the name of a backend is not one that a plugin brings, which the class of settings can't check."""
    backends = {"state_backend": plugins.state_backends, "lock_backend": plugins.lock_backends}.get(field.name)
    if field.owner is not CronConfig or backends is None or value is None or value in backends:
        return []
    there_are = ", ".join(sorted(backends))
    return [f"{variable}={without_secrets(value)!r}: no installed plugin brings this backend; there are {there_are}"]
