"""Writes settings.md beside it from the classes of settings: `python docs/generate_settings.py`."""

from __future__ import annotations

from pathlib import Path

from fastapi_crons.plugins import Plugins
from fastapi_crons.settings import SettingInfo, default_settings

PAGE = Path(__file__).with_name("settings.md")
COMMAND = "python docs/generate_settings.py"

_INTRO = f"""<!-- Written by `{COMMAND}`; change the descriptions of the fields instead. -->

# Settings

Every setting is a variable. Its value comes from the first of these that has one:

1. code: `Crons(config=CronConfig(timezone="Europe/Berlin"))`, for the settings of `fastapi-crons-core`;
2. the environment of the process: `CRON_TIMEZONE=Europe/Berlin`;
3. a file `.env` in the folder that the process is started in, with lines of the same form;
4. the default.

Capitals and small letters are the same in names of variables. Durations are seconds unless said otherwise; *optional*
settings can be left unset. Settings that can't be used stop the start, with all faults in one message.

`fastapi-crons config-show` lists every setting with its value and where that comes from, without secrets.
`fastapi-crons config-set` changes `.env`; it refuses what could not be used, and keeps all other lines. What the
environment sets goes before the file.

Installed plugins can bring settings of their own; `config-show` lists them, too.

| Variable | Type | Default | Meaning | Distribution |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page. It depends on nothing that is set."""
    ours = [setting for setting in default_settings(Plugins()) if setting.distributions[0].startswith("fastapi-crons-")]
    return _INTRO + "".join(map(_row, ours))


def _row(setting: SettingInfo) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    distributions = ", ".join(f"`{name}`" for name in setting.distributions)
    cells = (f"`{setting.variable}`", setting.type, default, setting.meaning.replace("|", "\\|"), distributions)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
