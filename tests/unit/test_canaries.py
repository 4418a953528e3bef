"""What we use of other libraries beyond what they document: an upgrade that takes it away fails here, and names it.

Each test says which of our modules needs it. They stand in the place of upper bounds, which would hold up everybody's upgrades.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import aiosqlite
import fastapi.params
import fastapi.routing
import pluggy
import pydantic_settings
import pytest
import redis.asyncio as redis
import typer
import typer.main
import uvicorn.config
from croniter import croniter
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request, Security
from fastapi.encoders import ENCODERS_BY_TYPE
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.testclient import TestClient
from fastapi_cli.discover import ModuleData, get_app_name, get_default_path, get_module_data_from_path
from httpx2 import ASGITransport, AsyncClient
from pydantic.fields import FieldInfo
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from typer.core import TyperGroup


def test_fastapi_a_router_serves_by_its_middleware_stack_and_its_lifespan() -> None:
    """`scheduler.lifespan` puts its own in their places."""
    app, called = FastAPI(), list[str]()
    assert callable(app.router.lifespan_context)
    serve, live = app.router.middleware_stack, app.router.lifespan

    async def stack(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["type"])
        await serve(scope, receive, send)

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        called.append("lifespan protocol")
        await live(scope, receive, send)

    app.router.middleware_stack = stack
    app.router.lifespan = lifespan  # type: ignore[method-assign]
    with TestClient(app) as client:
        assert client.get("/nothing").status_code == 404
    assert called == ["lifespan", "lifespan protocol", "http"]


def test_fastapi_a_running_lifespan_is_known_by_its_frames() -> None:
    """`scheduler.lifespan`"""

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        yield

    router = FastAPI(lifespan=own).router
    assert inspect.unwrap(router.lifespan_context) is inspect.unwrap(own)
    code = type(router).lifespan.__code__
    assert (code.co_name, code.co_varnames[0]) == ("lifespan", "self")


def test_fastapi_an_included_router_can_be_looked_into_and_replaced() -> None:
    """`api.plugin_routes`: versions that keep included routers as such have all four; others keep routes only."""
    inner, outer = APIRouter(), APIRouter(dependencies=[Depends(_nothing)])
    inner.get("/x")(lambda: "x")
    outer.include_router(inner, prefix="/in")
    (included,) = outer.routes
    if isinstance(included, APIRoute):
        assert not hasattr(fastapi.routing, "_IncludedRouter")
        return
    found: Any = included
    assert found.original_router is inner
    assert [depends.dependency for depends in found.include_context.dependencies] == [_nothing]
    another = APIRouter()
    another.routes.append(APIRoute("/y", lambda: "y"))
    outer.routes[:] = [dataclasses.replace(found, original_router=another)]
    app = FastAPI()
    app.include_router(outer)
    client = TestClient(app)
    assert client.get("/in/y").json() == "y"
    assert client.get("/in/x").status_code == 404


def test_fastapi_a_frontend_is_kept_where_we_look(tmp_path: Path) -> None:
    """`api.plugin_routes`"""
    router = APIRouter()
    if hasattr(router, "frontend"):
        (tmp_path / "index.html").touch()
        router.frontend("/", directory=str(tmp_path))
        assert len(router._low_priority_routes) == 1
        assert router.routes == []


def test_fastapi_every_kind_of_include_asks_a_route_for_its_handler() -> None:
    """`api.problems` puts the guard there."""
    asked: list[str] = []

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Any:
                asked.append(request.url.path)
                return await handle(request)

            return handled

    inner, outer, app = APIRouter(route_class=Route), APIRouter(), FastAPI()
    inner.get("/x")(lambda: "x")
    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    assert TestClient(app).get("/api/x").json() == "x"
    assert asked == ["/api/x"]


def test_fastapi_what_a_route_depends_on_can_be_read() -> None:
    """`api.notices`"""

    def known(x_key: str = Header(), scheme: object = Depends(HTTPBearer())) -> None:
        """Depends on something."""

    dependant = APIRoute("/", _nothing, dependencies=[Depends(known)]).dependant
    (found,) = dependant.dependencies
    assert found.call is known
    assert len(found.header_params) == 1
    assert [found.path_params, found.query_params, found.cookie_params, found.body_params] == [[], [], [], []]
    assert isinstance(found.dependencies[0].call, SecurityBase)
    for scheme in (HTTPBearer, lambda **options: APIKeyHeader(name="x", **options)):
        assert scheme(auto_error=False).auto_error is False
        assert scheme().auto_error is True


def test_fastapi_the_encoders_of_types_are_a_table() -> None:
    """`engine.runs.results`"""
    assert all(isinstance(kind, type) for kind in ENCODERS_BY_TYPE)


def test_fastapi_its_markers_are_of_these_classes() -> None:
    """`_util.callables`"""
    assert isinstance(Depends(_nothing), fastapi.params.Depends)
    assert isinstance(Security(_nothing), fastapi.params.Depends)
    for marker, kind in (
        (Query(), fastapi.params.Param),
        (Header(), fastapi.params.Param),
        (Body(), fastapi.params.Body),
    ):
        assert isinstance(marker, kind)
        assert isinstance(marker, FieldInfo)


def _nothing() -> None:
    """A dependency or an endpoint."""


async def test_test_clients_call_themselves_as_we_know_them() -> None:
    """`api.locality`"""

    async def tells(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(f"{request.client} {'spec_version' in request.scope.get('asgi', {})}")

    app = FastAPI()
    app.add_route("/", tells)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/")).text == "Address(host='127.0.0.1', port=123) False"
    assert "'testclient'" in TestClient(app).get("/").text


def test_uvicorn_sets_up_a_logger_of_its_name_and_says_which_protocol_it_speaks() -> None:
    """`logs`, `api.locality`"""
    config = uvicorn.config.LOGGING_CONFIG
    assert config["loggers"]["uvicorn"]["handlers"]
    assert config["disable_existing_loggers"] is False
    assert "root" not in config
    from uvicorn.protocols.http import h11_impl

    assert '"spec_version"' in inspect.getsource(h11_impl)


async def test_asyncio_a_task_can_be_taken_from_the_list_of_all() -> None:
    """`engine.runs.runner`"""
    task = asyncio.ensure_future(asyncio.sleep(0.01))
    asyncio._unregister_task(task)
    assert task not in asyncio.all_tasks()
    await task


def test_logging_a_record_is_made_of_its_parts_and_shows_a_traceback_that_is_text() -> None:
    """`logs`"""
    logger, lines = logging.getLogger("canary"), StringIO()
    logger.addHandler(logging.StreamHandler(lines))
    record = logger.makeRecord("canary", logging.ERROR, "x.py", 7, "%s went", ("it",), None, "work", {"job": "nightly"})
    record.exc_text = "Traceback of ours"
    logger.handle(record)
    logger.handlers.clear()
    assert (record.filename, record.lineno, record.funcName, vars(record)["job"]) == ("x.py", 7, "work", "nightly")
    assert lines.getvalue() == "it went\nTraceback of ours\n"


def test_logging_a_logger_whose_class_is_changed_asks_that_which_records_it_makes() -> None:
    """`engine.runs.log`"""
    handled: list[str] = []

    class Eager(logging.Logger):
        def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
            return True

        def handle(self, record: logging.LogRecord) -> None:
            handled.append(record.getMessage())

    logger = logging.getLogger("canary of classes")
    logger.setLevel(logging.ERROR)
    logger.__class__ = Eager
    logger.info("it %s", "works")
    assert handled == ["it works"]


def test_python_keeps_what_a_class_can_not_hide() -> None:
    """`_util.exceptions`, `_util.callables`"""
    assert type.__dict__["__name__"].__get__(KeyError) == "KeyError"
    assert BaseException.__dict__["__traceback__"].__get__(KeyError()) is None
    cached = functools.cache(_nothing)
    assert type(cached) is type(functools.lru_cache(_nothing))
    assert cached.__wrapped__ is _nothing


async def test_redis_a_pool_tells_how_it_was_made() -> None:
    """`fastapi_crons_redis.connection`"""
    client = redis.from_url("redis://me:x@127.0.0.1:1/3", max_connections=7)
    pool = client.connection_pool
    assert {"host": "127.0.0.1", "port": 1, "db": 3, "username": "me"}.items() <= pool.connection_kwargs.items()
    assert issubclass(pool.connection_class, redis.Connection)
    assert pool.max_connections == 7
    assert redis.BlockingConnectionPool(max_connections=2).max_connections == 2
    pool.reset()  # type: ignore[no-untyped-call]
    await pool.disconnect(inuse_connections=False)
    await client.aclose()


async def test_redis_a_full_pool_says_so_in_words_that_we_know() -> None:
    """`fastapi_crons_redis.connection`"""
    pool: Any = redis.ConnectionPool(max_connections=1)
    pool._in_use_connections.add(pool.make_connection())
    with pytest.raises(redis.ConnectionError, match="Too many connections"):
        pool.get_available_connection()


async def test_redis_sentinels_and_clusters_tell_how_they_were_made() -> None:
    """`fastapi_crons_redis.connection`"""
    sentinel: Any = Sentinel([("127.0.0.1", 1)], sentinel_kwargs={"password": "x"}, db=2)  # type: ignore[no-untyped-call]
    pool = sentinel.master_for("mymaster").connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "mymaster"
    manager: Any = pool.sentinel_manager
    assert manager.sentinels[0].connection_pool.connection_kwargs["port"] == 1
    assert manager.connection_kwargs["db"] == 2
    assert manager.sentinel_kwargs["password"] == "x"
    cluster = redis.RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", 1)])
    nodes = getattr(cluster, "startup_nodes", None) or cluster.nodes_manager.startup_nodes.values()
    assert [node.port for node in nodes] == [1]
    assert isinstance(cluster.connection_kwargs, dict)


async def test_aiosqlite_a_function_reaches_the_connection_in_its_thread(tmp_path: Path) -> None:
    """`fastapi_crons_sqlite._connection`"""

    class Ours(sqlite3.Connection):
        def execute(self, sql: Any, parameters: Any = (), /) -> Any:
            return super().execute(sql(self) if callable(sql) else sql, parameters)

    connection = aiosqlite.connect(tmp_path / "x.db", factory=Ours)
    thread = connection if hasattr(connection, "daemon") else connection._thread
    assert thread.daemon is False
    thread.daemon = True
    async with connection:
        statement: Any = lambda ours: f"SELECT '{type(ours).__name__}'"  # noqa: E731
        assert list(await connection.execute_fetchall(statement)) == [("Ours",)]


def test_croniter_a_parsed_expression_is_a_pair() -> None:
    """`schedule._parser`"""
    values, nth = croniter.expand("0 12 * * 1#2")
    assert (values[0], values[1], nth) == ([0], [12], {1: {2}})


def test_pydantic_settings_a_source_tells_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plugins.settings`, `fastapi_crons_cli.configuration`"""

    class Ours(pydantic_settings.BaseSettings):
        model_config = pydantic_settings.SettingsConfigDict(env_prefix="CANARY_")
        word: str = "default"

    monkeypatch.setenv("CANARY_WORD", "env")
    assert pydantic_settings.EnvSettingsSource(Ours)() == {"word": "env"}
    Path("other.env").write_text("CANARY_WORD=file\n")
    assert pydantic_settings.DotEnvSettingsSource(Ours, env_file="other.env")() == {"word": "file"}
    monkeypatch.delenv("CANARY_WORD")
    read: Any = Ours
    assert read(_env_file="other.env").word == "file"


def test_pluggy_an_implementation_tells_what_it_is() -> None:
    """`plugins.registry`, `plugins.calls`"""
    manager, mark = pluggy.PluginManager("canary"), pluggy.HookimplMarker("canary")

    class Specs:
        @pluggy.HookspecMarker("canary")
        def go(self, a: int, b: int) -> None: ...

    class Plugin:
        @mark(trylast=True)
        def go(self, a: int) -> None: ...

    plugin = Plugin()
    manager.add_hookspecs(Specs)
    manager.register(plugin, "acme")
    (found,) = manager.hook.go.get_hookimpls()
    assert (found.plugin, found.plugin_name, list(found.argnames)) == (plugin, "acme", ["a"])
    assert (found.wrapper, found.hookwrapper, found.trylast) == (False, False, True)
    assert found.function == plugin.go


def test_typer_shows_wrong_usage_by_itself_and_tells_its_commands() -> None:
    """`fastapi_crons_cli.main`, `docs/generate.py`"""
    assert issubclass(typer.BadParameter.__bases__[0], Exception)
    assert hasattr(typer.BadParameter.__bases__[0], "exit_code")
    app = typer.Typer(cls=TyperGroup)
    app.command("one")(lambda: None)
    app.command("two")(lambda: None)
    found: Any = typer.main.get_command(app)
    assert list(found.commands) == ["one", "two"]


def test_fastapi_cli_finds_apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fastapi_crons_cli.apps`"""
    monkeypatch.syspath_prepend(tmp_path)
    Path("main.py").write_text("from fastapi import FastAPI\nbackend = FastAPI()\n")
    place = get_module_data_from_path(get_default_path())
    assert place.module_import_str == "main"
    assert place.extra_sys_path == Path.cwd()
    __import__("main")
    assert get_app_name(mod_data=ModuleData("main", Path.cwd(), [Path("main.py").resolve()])) == "backend"
