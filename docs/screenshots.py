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
from collections.abc import Awaitable, Callable
from pathlib import Path

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
    async def import_orders(context: JobContext) -> dict[str, int]:
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


def _chance(context: JobContext) -> random.Random:
    return random.Random(f"{context.tick} {context.attempt}")


def _take(base: str) -> None:
    with sync_playwright() as started:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        page.goto(base)
        _picture(page, "dashboard")
        page.goto(f"{base}/timeline?zoom=12h")
        _picture(page, "dashboard-timeline")
        page.goto(f"{base}/jobs/stock.sync")
        _picture(page, "dashboard-job")
        page.goto(f"{base}/jobs/invoices/why")
        _picture(page, "dashboard-why")
        browser.close()


def _picture(page: Page, name: str) -> None:
    """What is seen of a page, without the empty rest, in a palette."""
    page.wait_for_timeout(1_000)
    bottom = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom")
    png = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": min(HEIGHT, bottom + 16)}, full_page=True)
    picture = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    picture.save(DOCS / f"{name}.png", optimize=True)
    print(f"{name}.png: {(DOCS / f'{name}.png').stat().st_size:,} bytes")


def main() -> None:
    """Make all of them."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        logging.disable()
        asyncio.run(make_a_day(define, pauses="newsletter", actor="ann", note="the template is being changed"))
        Path("app.py").write_text(APP)
        environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
        with Path("log").open("w") as log:
            command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
            server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while not (match := re.search(r"running on (\S+)", Path("log").read_text())):
                time.sleep(0.1)
            time.sleep(15)  # so that something is running, and has been for a while
            _take(f"{match[1]}/api/dashboard")
        finally:
            server.kill()
            server.wait()
            os.chdir(before)


if __name__ == "__main__":
    main()
