"""How Sphinx makes the site. `scripts/docs` runs it, with each warning an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import servermgr

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "servermgr"
author = "the servermgr authors"
copyright = author  # noqa: A001  # Sphinx's own name for it
release = version = servermgr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static"]

# ---- pages ------------------------------------------------------------------------------------------------------

myst_heading_anchors = 3  # links to headings are written as on GitHub, where the pages are read, too
# A word in single backquotes is a name of ours, which becomes a link where there is one, or just code.
default_role = "py:obj"

# ---- reference ---------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else an attribute that is a property, too, would be described twice

# ---- look --------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "servermgr"
html_static_path = ["_static"]
html_css_files = ["servermgr.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

if not (Path(__file__).parent.parent / "README.md").exists():  # some pages show a part of it
    raise FileNotFoundError("the documentation is built from a checkout, with README.md beside docs/")


# Napoleon takes what stands before the first colon of a property's docstring for its type. Ours are sentences.
_COLON = "\uf83a"


def _hide_colon(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    if what in ("attribute", "property"):
        lines[:1] = [line.replace(":", _COLON) for line in lines[:1]]


def _show_colon(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx. Napoleon itself has the priority 500."""
    app.connect("autodoc-process-docstring", _hide_colon, priority=400)
    app.connect("autodoc-process-docstring", _show_colon, priority=600)
