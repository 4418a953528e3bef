"""Plugins that bring commands, and plugins that are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.cli.commands import call
from tests.system.conftest import ROOT
from tests.system.pages.pages import blocks

pytestmark = pytest.mark.slow


def install_plugin(text: str) -> None:
    """A distribution in the current folder, whose plugin has this text."""
    Path("shop.py").write_text(text)
    information = Path("shop-1.0.dist-info")
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fastapi_crons]\nshop = shop\n")


def test_plugins_bring_commands() -> None:
    install_plugin(
        "from fastapi_crons import hookimpl\n"
        "@hookimpl\n"
        "def cli_commands(cli):\n"
        "    @cli.command('open-shop')\n"
        "    def open_shop(): print('open')\n"
    )
    assert "open-shop" in call("--help").stdout
    assert call("open-shop").stdout == "open\n"
    assert call("open-shop", CRON_DISABLED_PLUGINS="shop").returncode == 2
    Path(".env").write_text("CRON_DISABLED_PLUGINS=shop\n")
    assert "open-shop" not in call("--help").stdout


def test_the_command_that_the_documentation_adds_finds_the_app() -> None:
    (text,) = (block.text for block in blocks(ROOT / "docs/plugins/hooks.md") if "def cli_commands" in block.text)
    install_plugin(text)
    Path("main.py").write_text(
        "from fastapi_crons import Crons\ncrons = Crons()\ncrons.cron('@daily', name='a')(lambda: None)\n"
    )
    assert call("count-jobs", "--app", "main:crons").stdout == "1\n"
    assert call("count-jobs", CRON_APP="main:crons").stdout == "1\n"
    failed = call("count-jobs", "--app", "main:nothing")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('broken')\n",
        "from fastapi_crons import hookimpl\n@hookimpl\ndef cli_commands(cli): raise RuntimeError('broken')\n",
    ],
)
def test_a_broken_plugin_stands_in_nobody_s_way(text: str) -> None:
    install_plugin(text)
    shown = call("--help")
    assert (shown.returncode, "list-jobs" in shown.stdout) == (0, True)
    (warning,) = shown.stderr.splitlines()
    assert warning.startswith("Warning: ")
    assert "RuntimeError: broken" in warning
    assert call("next", "* * * * *").returncode == 0
    wanted = call("open-shop")
    assert wanted.returncode == 2
    assert "RuntimeError: broken" in wanted.stderr
