"""How the documentation is built: `nox -s docs`."""

from pathlib import Path

from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexers

# Lines of NAME=value.
lexers["env"] = BashLexer()

project = "FastAPI Crons"
author = copyright = "The FastAPI Crons authors"
version = release = (Path(__file__).parents[1] / "VERSION").read_text(encoding="utf-8").strip()

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "furo"
html_title = "FastAPI Crons"
html_copy_source = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

# Docstrings say `name` for code, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
linkcheck_anchors = True
autodoc_typehints_format = "short"


def _without_aliases(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Fields of named tuples that say nothing of themselves are described as "Alias for field number 3"."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _without_aliases)
