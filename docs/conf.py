"""How the documentation is built: `nox -s docs`."""

from pathlib import Path

from pygments.lexers.shell import BashLexer
from sphinx.highlighting import lexers

# Lines of NAME=value.
lexers["env"] = BashLexer()

project = "FastAPI Crons"
author = copyright = "The FastAPI Crons authors"
version = release = (Path(__file__).parents[1] / "VERSION").read_text(encoding="utf-8").strip()

extensions = ["myst_parser"]
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "furo"
html_title = "FastAPI Crons"
html_copy_source = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

linkcheck_anchors = True
