"""Writes the reference pages that follow from the code: `python docs/generate.py`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi_crons.plugins import Plugins
from fastapi_crons_cli.configuration.all_settings import SettingInfo, default_settings

COMMAND = "python docs/generate.py"
DOCS = Path(__file__).parent

_SETTINGS = """# Settings

Every setting is a variable. Its value comes from the first of these that has one:

1. code: `Crons(config=CronConfig(timezone="Europe/Berlin"))`, for the settings of `fastapi-crons-core`;
2. the environment of the process: `CRON_TIMEZONE=Europe/Berlin`;
3. a file `.env` in the folder that the process is started in, with lines of the same form;
4. the default.

Capitals and small letters are the same in names of variables. Durations are seconds unless said otherwise; *optional*
settings can be left unset. Settings that can't be used stop the start; the message lists all faults of one distribution.

`fastapi-crons config-show` lists every setting with its value and where that comes from, without secrets.
`fastapi-crons config-set` changes `.env`; it refuses what could not be used, and keeps all other variables, and comments
on lines of their own. What the environment sets takes precedence over the file.

Installed plugins can bring settings of their own; `config-show` lists them, too.

| Variable | Type | Default | Meaning | Distribution |
|---|---|---|---|---|
"""

_COMMANDS = """# Commands

The command line comes with `fastapi-crons-cli`, as `fastapi-crons`; `python -m fastapi_crons` and
`python -m fastapi_crons.cli` are the same program. A command that fails says so in one sentence, and its exit code is not 0.
Commands that need the app find it in the current folder, or by `--app module:attribute`, the variable `CRON_APP`, or `app`
under `[tool.fastapi-crons]` in `pyproject.toml`. Plugins can add commands.

Many commands take these:

| | |
|---|---|
"""

_HTTP = """# HTTP API

`app.include_router(get_cron_router(), prefix="/api")` adds these endpoints. The app's own OpenAPI schema (`/docs`)
describes them with every field and examples. Times end in `Z`. Names of jobs are percent-encoded in paths. Errors are
problem details objects (RFC 9457), `application/problem+json`.

## Who may

| Where | Who may read lists and states | Who sees results, error texts, notes and logs, and may change anything |
|---|---|---|
| `CRON_API_TOKEN` is set | who sends it: `Authorization: Bearer …` | the same |
| `get_cron_router(dependencies=[…])` | whom these dependencies let pass | the same |
| both | who passes both | the same |
| `change_dependencies=[…]`, too | the same | the same, but changes are made only by who passes these as well |
| neither | everybody who reaches the app | local clients |
| `CRON_API_OPEN=true`, and neither | everybody who reaches the app | the same |

- A client is *local* where its process belongs to the same user of this operating system as the server, its `Host` is exactly
  `localhost`, an address `127.x.x.x` or `[::1]`, and its request has no mark of a proxy: `Forwarded`, `Via`, `X-Forwarded-…`,
  `X-Real-IP`, `X-Client-IP`, `CF-…`, `True-Client-IP`, `Fastly-…`, `X-Envoy-…`, `X-Original-…`, `Cdn-Loop` or kin of theirs, or
  HTTP/1.0. Where the system does not say whose a connection is, nobody is local: a socket file, a published port of a
  container, a server that does not tell its own address, or that runs as `nobody` in a container with users of its own.
- A proxy that runs as the same user as the server, and leaves no mark, looks like that user: set the token. In a pod or a
  container that is often the case, as all run as root.
- Test clients in the same process (`TestClient`, `httpx.ASGITransport`) are local, by the names they use for an app, such as
  `testserver`.
- Whoever is not shown details gets null in their place, and reasons and findings without the texts of errors; events are told
  to nobody else.
- Endpoints of plugins, websockets among them, are for the same clients as ours; a websocket counts as a change.
- A browser that has signed in on the login page of a plugin has a cookie for 12 hours, which counts as the token in requests
  that don't come from other sites; a new token ends it.
- A token and `change_dependencies` are asked before anything of a body is read; with `change_dependencies`, `dependencies` are
  asked before and after it, without them when FastAPI has read it, 64 KiB at most.
- FastAPI's security schemes (`HTTPBearer()` and its kin) find credentials and do not look whether they are right: a dependency
  has to do that. The start warns where nothing but such a scheme, or nothing at all, stands before the API.
- After ten wrong tokens in a minute from one address (IPv6: one network) answers to its tokens come a second later. Behind a
  proxy, let the server know the addresses of clients (uvicorn: `--forwarded-allow-ips`), or one of them slows down all.
- A browser's request from the page of another site changes nothing, whoever sends it, and with neither (the fifth row) is
  shown no details.
- Behind a token or dependencies, the header `X-Actor` (200 characters at most) says who asks for a change, else the name that
  was given when a browser signed in; it is kept with runs and pauses. From others it is ignored.

## Answers of all endpoints

| Answer | When |
|---|---|
| 400 | `Content-Length` is not a number, or the body is not UTF-8 |
| 401 | The token is wanted, and was not given; `WWW-Authenticate: Bearer` |
| 403 | A change by a client that may only read, or by the page of another site |
| 404 | There is no such job, no such run of it, or no such tick |
| 413 | The body is larger than 64 KiB |
| 415 | A change whose body is not `Content-Type: application/json`; endpoints of plugins take forms of the same site, too |
| 422 | A parameter or a field of the body can't be used, or the body is no JSON; `detail` says which, and why |
| 429 | Too many wrong tokens came from this address; `Retry-After` |
| 503 | A store does not answer, the scheduler is not running, or as many listen to events as may (`Retry-After`) |
"""

_SHARED = ("`--app`", "`--json`", "`--verbose`, `-v`")

#: What any endpoint can answer besides.
_COMMON = {"400", "401", "403", "404", "413", "422", "429", "503"}

#: How bounds of a schema are said.
_BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "up to {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
}


def settings() -> str:
    """All settings of our distributions. It depends on nothing that is set."""
    ours = [setting for setting in default_settings(Plugins()) if setting.distributions[0].startswith("fastapi-crons-")]
    return _written(_SETTINGS + "".join(map(_setting, ours)))


def _setting(setting: SettingInfo) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    distributions = ", ".join(f"`{name}`" for name in setting.distributions)
    return _row(f"`{setting.variable}`", setting.type, default, setting.meaning, distributions)


def commands() -> str:
    """All commands with their options."""
    import typer

    from fastapi_crons_cli.main import app
    from fastapi_crons_postgres.commands import app as of_postgres

    found = dict(_named_commands(typer.main.get_command(app)))
    found |= _named_commands(typer.main.get_command(of_postgres), "postgres ")
    in_reverse = [parameter for command in found.values() for parameter in command.params][::-1]
    shared = {_names(parameter): parameter.help for parameter in in_reverse}  # the first one's help
    parts = [_COMMANDS, *(_row(names, shared[names]) for names in _SHARED)]
    for name, command in found.items():
        options = {_names(parameter): f"{parameter.help}{_default(parameter)}" for parameter in command.params}
        parts.append(f"\n## {name}\n\n{_sentence(command.help)}\n\n| | |\n|---|---|\n")
        parts += [_row(names, about) for names, about in options.items() if names not in _SHARED]
        common = [names for names in options if names in _SHARED]
        parts += [_row(", ".join(common), "")] if common else []
    return _written("".join(parts))


def _named_commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All commands of a group by name, and behind each those that it has itself."""
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from _named_commands(command, f"{prefix}{name} ")


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    """What holds without it; a flag that is not given says that by itself."""
    if parameter.param_type_name == "argument" or parameter.default in (None, False):
        return ""
    return f" Default: `{parameter.opts[0] if parameter.default is True else parameter.default}`."


def http() -> str:
    """All endpoints of the management API, and their models."""
    from fastapi import FastAPI

    from fastapi_crons import get_cron_router

    app = FastAPI()
    app.include_router(get_cron_router(), prefix="/api")
    schema = app.openapi()
    parts = [_HTTP]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    models = schema["components"]["schemas"]
    parts += [
        "\n## Models\n",
        *(_model(name, model) for name, model in sorted(models.items()) if "properties" in model),
    ]
    return _written("".join(parts))


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n\n{operation['description'].strip()}\n"
    parameters = operation.get("parameters", [])
    body = operation.get("requestBody")
    if parameters or body:
        yield "\n| Parameter | In | |\n|---|---|---|\n"
        for parameter in parameters:
            about = f"{parameter.get('description', '')}{_bounds(parameter['schema'])}"
            yield _row(f"`{parameter['name']}`", parameter["in"], about)
        if body:
            yield _row("", "body", _type(body["content"]["application/json"]["schema"]))
    yield "\n| Answer | |\n|---|---|\n"
    for status, answer in sorted(operation["responses"].items()):
        shown = answer.get("content", {})
        what = _type(shown["application/json"]["schema"]) if "application/json" in shown else ""
        said = (
            ""
            if answer["description"] in ("Successful Response", HTTPStatus(int(status)).phrase)
            else answer["description"]
        )
        if status not in _COMMON or said:
            yield _row(status, ": ".join(filter(None, (said or HTTPStatus(int(status)).phrase, what))))
    yield "\n"


def _model(name: str, model: Mapping[str, Any]) -> str:
    rows = (
        _row(f"`{field}`", _type(schema), f"{schema.get('description', '')}{_bounds(schema)}")
        for field, schema in model["properties"].items()
    )
    about = f"{_sentence(model['description'])}\n\n" if "description" in model else ""
    return f"\n### {name}\n\n{about}| Field | Type | |\n|---|---|---|\n{''.join(rows)}"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "any JSON" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format", schema.get("type", "any JSON")))


def _bounds(schema: Mapping[str, Any]) -> str:
    """Which values can be given, and what holds where none is."""
    kinds = [schema, *schema.get("anyOf", ())]
    found = {name: value for kind in kinds for name, value in kind.items()}
    said = [text.format(int(found[name])) for name, text in _BOUNDS.items() if name in found]
    if schema.get("default") is not None:
        said.append(f"default `{json.dumps(schema['default'])}`")
    return f" ({', '.join(said)})" if said else ""


def python() -> str:
    """What `fastapi_crons` exports."""
    from docs import python_pages

    return _written(python_pages.python())


def stores() -> str:
    """Stores and testing."""
    from docs import python_pages

    return _written(python_pages.stores())


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _row(*cells: str) -> str:
    return f"| {' | '.join(_sentence(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"


def _written(text: str) -> str:
    return f"<!-- Written by `{COMMAND}`; change the descriptions in the code instead. -->\n\n{text}"


#: The pages, and what writes them.
PAGES: Mapping[str, Callable[[], str]] = {
    "reference/settings.md": settings,
    "reference/commands.md": commands,
    "reference/http.md": http,
    "reference/python.md": python,
    "reference/stores.md": stores,
}


def main(pages: Sequence[str] = tuple(PAGES)) -> None:
    """Write the pages."""
    for page in pages:
        (DOCS / page).write_text(PAGES[page](), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))
    main()
