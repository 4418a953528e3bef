"""The dashboard in other places than below the management API's prefix."""

from __future__ import annotations

import pytest
from fastapi import Depends, FastAPI, HTTPException
from httpx2 import ASGITransport, AsyncClient

from fastapi_crons import Crons
from fastapi_crons_dashboard import get_dashboard_router
from tests.integration.dashboard.browsing import path
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing


@pytest.mark.parametrize("root_path", ["", "/behind"])
@pytest.mark.parametrize("prefix", ["/ops", "/deeply/nested"])
async def test_it_can_be_mounted_under_any_prefix(crons: Crons, prefix: str, root_path: str) -> None:
    crons.cron("0 0 1 1 *", name=ODD)(nothing)
    await crons.start()
    app = FastAPI()
    app.include_router(get_dashboard_router(crons), prefix=prefix)
    transport = ASGITransport(app, root_path=root_path)
    headers = {"sec-fetch-site": "same-origin"}
    async with AsyncClient(transport=transport, base_url="http://localhost:8000", headers=headers) as client:
        page = Page(await client.get(prefix))
        below = f"{root_path}{prefix}"
        assert page.href("/jobs/") == f"{below}{path(ODD)}"
        assert {link for link, _ in page.links if not link.startswith((below, "#"))} == set()
        for asset in [*page.all("script"), *page.all("link", rel="stylesheet")]:
            where = str(asset.get("src") or asset.get("href")).removeprefix(root_path)
            assert (await client.get(where)).status_code == 200
        answer = await client.post(f"{prefix}{path(ODD)}/pause", data={"note": "x"})
        assert answer.headers["location"] == f"{below}{path(ODD)}?said=paused"
        assert "there is no page 'nope'" in Page(await client.get(f"{prefix}/nope"), 404).text.lower()


async def test_its_dependencies_guard_it_there(crons: Crons) -> None:
    def refuse() -> None:
        raise HTTPException(499, "not for you")

    await crons.start()
    app = FastAPI()
    app.include_router(get_dashboard_router(crons, dependencies=[Depends(refuse)]), prefix="/ops")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost:8000") as client:
        assert (await client.get("/ops")).status_code == 499
        refused = Page(await client.get("/ops/plan", headers={"accept": "text/html"}), 499)
        assert "Not shown Not for you" in refused.text
