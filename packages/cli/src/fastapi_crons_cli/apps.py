"""Finds the app of a command: named by option, variable or pyproject.toml, else as `fastapi dev` finds it."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from fastapi_crons.errors import ConfigurationError, CronsError
from fastapi_crons_cli.completion.used import is_remembered, remember

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.scheduler import Crons

__all__ = ["AppError", "FoundApp", "NoAppError", "find_app"]

T = TypeVar("T")

_HOW_TO_NAME_IT = (
    "name it with --app module:attribute, with CRON_APP, or with app under [tool.fastapi-crons] in pyproject.toml"
)


class AppError(CronsError):
    """The named or found app can't be used."""


class NoAppError(CronsError):
    """No app was named, and none was found."""


@dataclass(frozen=True, slots=True)
class FoundApp:
    """A scheduler, and its app, where it has one."""

    name: str
    """As `module:attribute`."""
    crons: Crons
    app: FastAPI | None


def find_app(option: str | None, *, only_used: bool = False) -> FoundApp:
    """Import the app. `option` is the value of `--app`; `only_used` refuses an app that no command has imported before.

    Raises `AppError` for an app that can't be used, and `NoAppError` where none is named and none is found.
    """
    for name, named_by in _names(option):
        if name is not None:
            return _named(name, named_by, only_used=only_used)
    return _discovered(only_used=only_used)


def _names(option: str | None) -> Iterator[tuple[str | None, str]]:
    """The possible names of the app and their origins, in order of precedence."""
    yield option, "--app"
    from pydantic import ValidationError

    from fastapi_crons_cli.settings import CliSettings

    try:
        yield CliSettings().app, "CRON_APP"
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise AppError(f"CRON_APP says {fault['input']!r}; {fault['msg'].removeprefix('Value error, ')}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f".env can't be read: it is not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    yield _in_pyproject("fastapi-crons", "app"), "[tool.fastapi-crons] in pyproject.toml"
    yield _in_pyproject("fastapi", "entrypoint"), "[tool.fastapi] in pyproject.toml"


def _in_pyproject(tool: str, key: str) -> str | None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    path = Path("pyproject.toml")
    if not path.is_file():
        return None
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get(tool, {}).get(key)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"pyproject.toml can't be read: {error}") from error
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{key} under [tool.{tool}] in pyproject.toml must be text, not {value!r}")
    return value


def _named(name: str, named_by: str, *, only_used: bool) -> FoundApp:
    from fastapi_crons_cli.settings import check_app_name

    try:
        check_app_name(name)
    except ValueError as error:
        raise AppError(f"{named_by} says {name!r}; {error}") from None
    module_name, _, attribute = name.partition(":")
    module = _imported(module_name, Path.cwd(), only_used=only_used)
    if not attribute:
        return _resolved(*_app_in(module, Path(f"{module_name}.py")))
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            there = _schedulers_in(module)
            hint = f"it has {', '.join(there)}" if there else "check the spelling"
            raise AppError(f"{named_by} says {name!r}, but {module_name} has no {attribute!r}; {hint}") from None
    return _resolved(found, name)


def _schedulers_in(module: ModuleType) -> list[str]:
    from fastapi import FastAPI

    from fastapi_crons.scheduler import Crons

    return [name for name, value in vars(module).items() if isinstance(value, (FastAPI, Crons))]


def _discovered(*, only_used: bool) -> FoundApp:
    from fastapi_cli.discover import get_default_path, get_module_data_from_path
    from fastapi_cli.exceptions import FastAPICLIException

    try:
        path = get_default_path()
    except FastAPICLIException:
        raise NoAppError(f"no app was found here (main.py, app.py, …): {_HOW_TO_NAME_IT}") from None
    place = get_module_data_from_path(path)
    module = _imported(place.module_import_str, place.extra_sys_path, only_used=only_used)
    try:
        return _resolved(*_app_in(module, path))
    except AppError as error:
        raise NoAppError(f"{error}; or {_HOW_TO_NAME_IT}") from None


def _app_in(module: ModuleType, path: Path) -> tuple[object, str]:
    """The app in a module and its name, as `fastapi dev` finds it; else the scheduler that the module made."""
    from fastapi_cli.discover import ModuleData, get_app_name
    from fastapi_cli.exceptions import FastAPICLIException

    from fastapi_crons.scheduler import Crons

    try:
        name = get_app_name(mod_data=ModuleData(module.__name__, Path.cwd(), [path]))
        return getattr(module, name), f"{module.__name__}:{name}"
    except FastAPICLIException:
        crons = Crons.current()
    if crons is None:
        raise AppError(f"{path} has neither a FastAPI app nor a Crons")
    return crons, module.__name__


def _resolved(found: object, name: str) -> FoundApp:
    """The scheduler of a FastAPI app, a Crons, or a factory of either."""
    from fastapi import FastAPI

    from fastapi_crons.scheduler import Crons

    if callable(found) and not isinstance(found, (FastAPI, Crons, type)):
        found = _made_by(found, name)
    if isinstance(found, Crons):
        return FoundApp(name, found, found.app)
    if not isinstance(found, FastAPI):
        raise AppError(
            f"{name} is neither a FastAPI app nor a Crons, nor a function that makes one: {type(found).__name__}"
        )
    crons = Crons.of_app(found) or Crons.current()
    if crons is None:
        raise AppError(f"{name} has no scheduler: make one with Crons(app) where the app is made")
    return FoundApp(name, crons, found)


def _made_by(factory: Callable[..., object], name: str) -> object:
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError):
        raise AppError(
            f"{name} can't be called without arguments; name an app, a Crons, or a factory that can"
        ) from None
    return _guarded(factory, f"{name}()", "failed")


def _imported(name: str, folder: Path, *, only_used: bool) -> ModuleType:
    if only_used and not is_remembered(folder, name):
        raise AppError(f"no command has imported {name} of {folder} yet")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = _guarded(lambda: importlib.import_module(name), name)
    except AppError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
            raise AppError(f"there is no module {name!r} in {folder}; check the name, or the folder") from cause
        raise
    if not only_used:
        remember(folder, name)
    return module


def _guarded(call: Callable[[], T], what: str, failed: str = "can't be imported") -> T:
    """The result of a call of the user's code; its errors become one sentence with file and line."""
    from fastapi_crons._util.text import one_line

    try:
        return call()
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except BaseException as error:  # SystemExit too
        # The text of a SyntaxError contains its place already.
        said = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) else one_line(error)
        raise AppError(f"{what} {failed}: {said} ({_where(error)})") from error


def _where(error: BaseException) -> str:
    """File and line of the user's own code that raised an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return _short(error.filename, error.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)] or frames
    return _short(own[-1].filename, own[-1].lineno)


def _is_library(filename: str) -> bool:
    paths = sysconfig.get_paths()
    ours = (str(Path(__file__).parent), str(Path(sys.modules["fastapi_crons"].__path__[0])))
    return filename.startswith(("<", paths["stdlib"], paths["purelib"], paths["platlib"], *ours))


def _short(filename: str, line: int | None) -> str:
    path = Path(filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}"
