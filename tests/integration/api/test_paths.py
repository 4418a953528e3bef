"""What all paths of the management API have in common, those of plugins included."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI

from fastapi_crons import ConfigurationError, Crons, get_cron_router, hookimpl
from fastapi_crons.state import MemoryStateBackend
from tests.conftest import MakeCrons
from tests.integration.api.client import client_of, problem


def test_everything_in_the_schema_is_described(crons: Crons) -> None:
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    schema = app.openapi()
    assert schema["paths"].keys() >= {
        "/api/crons",
        "/api/runs",
        "/api/missed",
        "/api/stats",
        "/api/plan",
        "/api/scheduler",
    }
    for where, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), where
            assert "200" in operation["responses"] or "202" in operation["responses"]
            assert all(answer.get("description") for answer in operation["responses"].values()), where
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, where, parameter["name"])
    for name, model in schema["components"]["schemas"].items():
        if name in ("HTTPValidationError", "ValidationError", "JsonValue"):
            continue  # not ours
        assert model.get("description"), name
        for field, described in model["properties"].items():
            assert described.get("description"), (name, field)
    run = schema["components"]["schemas"]["RunRequest"]
    assert run["examples"] == [{"force": False}]


async def test_an_endpoint_of_a_plugin_is_guarded_like_ours(make_crons: MakeCrons) -> None:
    class Plugin:
        @hookimpl
        def routes(self, router: APIRouter, crons: Crons) -> None:
            assert crons is not None

            @router.get("/extra")
            async def extra() -> str:
                return "more"

            @router.post("/extra")
            async def change() -> str:
                return "changed"

    crons = make_crons(api_token="hunter2-of-more-than-32-characters")
    crons.plugins.register(Plugin())
    async with client_of(crons) as api:
        assert problem(await api.get("/extra"))[0] == 401
        assert problem(await api.post("/extra"))[0] == 401
        api.headers["authorization"] = "Bearer hunter2-of-more-than-32-characters"
        assert (await api.get("/extra")).json() == "more"
        assert (await api.post("/extra")).json() == "changed"
        assert problem(await api.post("/extra", headers={"origin": "https://evil.example"}))[0] == 403


def test_a_prefix_is_no_scheduler() -> None:
    with pytest.raises(
        ConfigurationError, match=r"crons must be a Crons, not '/api'; a prefix is given to include_router"
    ):
        get_cron_router("/api")  # type: ignore[arg-type]


def test_every_path_with_a_job_calls_it_job_name() -> None:
    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend())
    app.include_router(get_cron_router(), prefix="/api")
    paths = [path for path in app.openapi()["paths"] if path.startswith("/api/crons/")]
    assert len(paths) >= 8
    assert all(path.startswith("/api/crons/{job_name}") for path in paths)
    assert "/api/crons/{job_name}/run" in paths
