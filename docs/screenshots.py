"""Makes the pictures of the dashboard in README and docs; `nox -s screenshots` runs it. Needs Chromium on PATH."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from fastapi_crons import Crons, JobContext
from tests.browser.past import make_a_day

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1280, 800
APP = """
import asyncio
from docs.screenshots import define
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
define(crons, asyncio.sleep)
app.include_router(get_cron_router(), prefix="/api")
"""


def define(crons: Crons, sleep: Callable[[float], Awaitable[None]]) -> None:
    """The jobs of a shop, which sleep by `sleep`: a day of them passes on a virtual clock."""

    @crons.cron("*/5 * * * *", name="orders.import", tags=["orders"])
    async def import_orders(
        context: JobContext, shop: Literal["all", "eu", "us"] = "all", since: date | None = None, dry_run: bool = False
    ) -> dict[str, int]:
        for part in range(1, 7):
            context.logger.info("part %d of 6", part)
            await sleep(_chance(context).uniform(5, 25))
        return {"orders": _chance(context).randrange(10, 90)}

    @crons.cron("*/10 * * * *", name="stock.sync", tags=["stock"], max_retries=1, retry_delay=10)
    async def sync_stock(context: JobContext) -> str:
        context.logger.info("asking the warehouse")
        await sleep(2)
        if _chance(context).random() < 0.2:
            context.logger.warning("no answer for 2 s")
            raise ConnectionError("the warehouse does not answer")
        return "in sync"

    @crons.cron("*/30 * * * *", name="stock.recount", tags=["stock"])
    async def recount(context: JobContext) -> None:
        await sleep(60 * _chance(context).uniform(10, 45))

    @crons.cron("0 * * * *", name="rates", timezone="Asia/Kolkata")
    async def rates() -> dict[str, float]:
        await sleep(1)
        return {"EUR": 101.2}

    @crons.cron("0 2 * * *", name="invoices", tags=["orders"], timezone="Europe/Berlin", misfire_grace_time=600)
    async def invoices() -> None:
        await sleep(900)

    @crons.cron("0 9 * * 1-5", name="reports.sales", tags=["reports"], timezone="America/New_York")
    async def sales() -> None:
        await sleep(120)

    @crons.cron("15 */3 * * *", name="cleanup")
    async def cleanup() -> str:
        await sleep(200)
        return "1,204 files deleted"

    @crons.cron("*/15 * * * *", name="newsletter", tags=["mail"])
    async def newsletter() -> None:
        await sleep(5)

    @crons.cron("0 5 * * *", name="search.index", tags=["stock"])
    async def index(context: JobContext) -> None:
        context.logger.info("reading 12,040 articles")
        context.logger.warning("3 articles have no text")
        if context.tick is None:  # by hand
            raise OSError("disk quota exceeded")

    async def close_tills() -> None:
        await sleep(20)

    for shop in range(1, 61):
        crons.cron("0 4 * * *", name=f"tills.shop-{shop:02}", tags=["tills"])(close_tills)


def _chance(context: JobContext) -> random.Random:
    return random.Random(f"{context.tick} {context.attempt}")


#: The pages, how far down they are shown, and under which conditions.
PICTURES: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("dashboard", "", 640, {}),
    ("dashboard-dark", "", 640, {"color_scheme": "dark"}),
    ("dashboard-phone", "", 740, {"viewport": {"width": 360, "height": 740}}),
    ("dashboard-runs", "/runs", 640, {}),
    ("dashboard-timeline", "/timeline?zoom=12h", 620, {}),
    ("dashboard-timeline-dark", "/timeline?zoom=12h", 620, {"color_scheme": "dark"}),
    ("dashboard-job", "/jobs/stock.sync", 1_160, {}),
    ("dashboard-why", "/jobs/invoices/why", HEIGHT, {}),
    ("dashboard-plan", "/plan", HEIGHT, {}),
    ("dashboard-instances", "/instances", HEIGHT, {}),
)


def _take(base: str, guarded: str) -> None:
    with sync_playwright() as started:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])

        def opened(address: str, **conditions: Any) -> Page:
            page = browser.new_context(**{"viewport": {"width": WIDTH, "height": HEIGHT}, **conditions}).new_page()
            page.goto(address)
            return page

        page = opened(f"{base}/jobs/search.index")
        page.get_by_text("Run now", exact=True).click()
        page.get_by_label("Note").first.fill("after the upgrade")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("heading", name="OSError").wait_for()
        # Pictures are the same wherever they are made.
        page.locator("#traceback code").evaluate(
            "(it, root) => { it.textContent = it.textContent.replace(root, '/shop') }", str(DOCS)
        )
        _picture(page, "dashboard-run", 900)
        for name, path, height, conditions in PICTURES:
            _picture(opened(f"{base}{path}", **conditions), name, height)
        page = opened(f"{base}/jobs/orders.import")
        page.get_by_text("Run now", exact=True).click()
        _picture(page, "dashboard-run-form", 840)
        _picture(opened(guarded), "dashboard-sign-in", 440)
        browser.close()


def _picture(page: Page, name: str, height: int) -> None:
    """What is seen of a page, without the empty rest, in a palette."""
    page.wait_for_timeout(1_000)
    bottom = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom")
    width = page.viewport_size["width"] if page.viewport_size else WIDTH
    png = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": min(height, bottom + 16)}, full_page=True)
    picture = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    picture.save(DOCS / f"{name}.png", optimize=True)
    print(f"{name}.png: {(DOCS / f'{name}.png').stat().st_size:,} bytes")


@contextmanager
def _serving(name: str, **settings: str) -> Iterator[str]:
    """The address of the dashboard of a server with these settings."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent), "CRON_INSTANCE_ID": name, **settings}
    with Path(f"{name}.log").open("w") as log:
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        while not (match := re.search(r"running on (\S+)", Path(f"{name}.log").read_text())):
            time.sleep(0.1)
        yield f"{match[1]}/api/dashboard"
    finally:
        server.kill()
        server.wait()


def main() -> None:
    """Make all of them."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        servers.callback(os.chdir, before)
        os.chdir(folder)
        logging.disable()
        os.environ["CRON_INSTANCE_ID"] = "shop-1"
        asyncio.run(make_a_day(define, pauses="newsletter", actor="ann", note="the template is being changed"))
        Path("app.py").write_text(APP)
        base = servers.enter_context(_serving("shop-1"))
        guarded = servers.enter_context(_serving("shop-2", CRON_API_TOKEN="a token of thirty-two characters"))
        time.sleep(15)  # so that something is running, and has been for a while
        _take(base, guarded)


if __name__ == "__main__":
    main()
