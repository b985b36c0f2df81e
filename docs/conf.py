"""How Sphinx makes the site. `scripts/docs` runs it, with each warning an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import servermgr
import servermgr.base

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

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
autodoc_default_options = {"members": True}
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


# Napoleon takes what stands before the first colon of a docstring of these for a type. Ours are sentences.
_COLON = "\uf83a"


def _hide_colon(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        lines[:1] = [line.replace(":", _COLON) for line in lines[:1]]


def _show_colon(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _leave_out(_app: Sphinx, _what: str, _name: str, obj: object, _skip: bool, _options: object) -> bool | None:
    """The fields of a named tuple: its own docstring has said what they are."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def _show_bases(_app: Sphinx, _name: str, _obj: type, _options: object, bases: list[type]) -> None:
    """In place of a base that is not public those that it has."""
    for number, base in reversed(list(enumerate(bases))):
        if isinstance(base, type) and ("._" in base.__module__ or base.__name__.startswith("_")):
            bases[number : number + 1] = base.__bases__


def _find(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """A name that is documented in another module than the one that speaks of it, `servermgr.Stack` for example."""
    if node.get("refdomain") != "py":
        return None
    python = env.domains.python_domain
    name = node["reftarget"].removesuffix("()").rpartition(".")[2] if node["reftarget"] in _SHORT else ""
    home = next((home for home in _HOMES if f"{home}.{name}" in python.objects), None)
    if not name or home is None:
        return None
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"{home}.{name}", node, content)


_HOMES = ("servermgr.base", "servermgr.errors", "servermgr.command", "servermgr.stack", "servermgr")
_SHORT = {
    f"{prefix}{name}"
    for module in (servermgr, servermgr.base, servermgr.errors)
    for name in getattr(module, "__all__", vars(module))
    for prefix in ("", "servermgr.", "servermgr.base.")
    if name[0].isupper()
}


def setup(app: Sphinx) -> None:
    """Called by Sphinx. Napoleon itself has the priority 500."""
    app.connect("autodoc-process-docstring", _hide_colon, priority=400)
    app.connect("autodoc-process-docstring", _show_colon, priority=600)
    app.connect("autodoc-skip-member", _leave_out)
    app.connect("autodoc-process-bases", _show_bases)
    app.connect("missing-reference", _find)
