"""Plugins and a `.env` file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_crons.plugins import Plugins
from tests.unit.settings.pager import Pager, PagerSettings


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def pager(plugins: Plugins) -> Plugins:
    plugins.register(Pager([PagerSettings]), "pager")
    return plugins


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"
