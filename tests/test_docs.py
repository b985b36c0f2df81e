"""The documentation does what it says: each example of README and docs runs, each link leads somewhere."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pages
import pytest
from pages import ROOT, Block, Folder, Section, differs, sections, told

if TYPE_CHECKING:
    from collections.abc import Callable

#: Pages with examples that tests of their subject run.
ELSEWHERE = {"docs/cli.md": "test_cli.py", "docs/pytest.md": "test_pytest_plugin.py"}
#: What the pages show where any port would do.
PORTS = ("8123", "8124", "6390")
RUN = ("python", "console", "text")


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def examples() -> list[Section]:
    found = [section for path in all_pages() if page_name(path) not in ELSEWHERE for section in sections(path)]
    return [section for section in found if any(block.kind in RUN for block in section.blocks)]


# ---- examples -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the examples are those of a system that holds whole trees")
@pytest.mark.parametrize("section", examples(), ids=lambda section: f"{section.page}: {section.title}")
def test_an_example_does_what_the_page_says(
    section: Section, tmp_path: Path, free_ports: Callable[[int], list[int]], require_server: Callable[[str], str]
) -> None:
    for name in section.needs():
        if not pages.is_there(name):
            require_server(name)
    folder = Folder(tmp_path, dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    said = ""
    for block in section.blocks:
        said = tried(block, folder, said)


def tried(block: Block, folder: Folder, said: str) -> str:
    """Do with a block what is to be done with one of its kind; returns what a program has printed."""
    if "not run" in block.notes:
        if block.kind == "python":
            compile(block.text, "example", "exec")
    elif block.file is not None:
        folder.write(block.file, block.text)
    elif block.kind == "text":
        assert not (difference := differs(said, folder.here(block.text).splitlines())), difference
    elif block.kind == "python":
        return checked(block, folder.program(block.text)).stdout
    elif block.kind == "console":
        commands, shown = told(block.text)
        done = checked(block, folder.shell(commands))
        assert not (difference := differs(done.stdout, folder.here("\n".join(shown)).splitlines())), difference
    return said


def checked(block: Block, done: pages.subprocess.CompletedProcess[str]) -> pages.subprocess.CompletedProcess[str]:
    assert done.returncode == int(block.notes.get("exit", 0)), f"{block.text}\n--- said\n{done.stdout}"
    return done


@pytest.mark.parametrize("path", all_pages(), ids=page_name)
def test_no_block_is_left_out(path: Path) -> None:
    """Each block is one that is tried, or a file of its section; what is not run says why."""
    for section in sections(path) if page_name(path) not in ELSEWHERE else ():
        for block in section.blocks:
            known = block.kind in RUN or block.file is not None
            assert known or "not run" in block.notes, f"{section.title}:\n{block.text}"
            assert block.notes.get("not run", "for a reason"), f"{section.title}: say why"


def test_there_are_examples() -> None:
    assert {"README.md"} <= {section.page for section in examples()}
    for page, test in ELSEWHERE.items():
        assert page.rpartition("/")[2] in (ROOT / "tests" / test).read_text("utf-8")


def test_an_example_that_does_not_work_is_found(tmp_path: Path) -> None:
    """A program that fails, one that prints something else, a command that fails."""
    folder = Folder(tmp_path, {})
    with pytest.raises(AssertionError):
        tried(Block("python", "raise SystemExit(3)", {}), folder, "")
    with pytest.raises(AssertionError):
        tried(Block("text", "hello\n", {}), folder, tried(Block("python", "print('hi')", {}), folder, ""))
    with pytest.raises(AssertionError):
        tried(Block("console", "$ false\n", {}), folder, "")
    with pytest.raises(SyntaxError):
        tried(Block("python", "this is no Python", {"not run": "for a reason"}), folder, "")


@pytest.mark.parametrize(
    ("said", "shown", "same"),
    [
        ("12 passed in 0.25 s\n", ["1 passed in 3 s"], True),
        ("one\ntwo\nthree\n", ["one", "…", "three"], True),
        ("one\nthree\n", ["one", "…", "three"], True),
        ("ready: web [4711]\n", ["…: web [1]"], True),
        ("one\ntwo\n", ["one"], False),
        ("one\n", ["one", "two"], False),
        ("1 failed\n", ["1 passed"], False),
    ],
)
def test_what_is_shown_is_compared(said: str, shown: list[str], same: bool) -> None:
    """Numbers may differ, `…` stands for anything, and all else must be there."""
    assert (differs(said, shown) is None) == same


# ---- examples in docstrings -----------------------------------------------------------------------------------


def docstrings() -> list[tuple[str, str]]:
    """Those that the reference can show, each with where it stands."""
    found = []
    for path in sorted((ROOT / "servermgr").glob("[!_]*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                name = getattr(node, "name", "")
                found.append((f"{path.stem}.{name}" if name else path.stem, ast.get_docstring(node) or ""))
    return found


def code_blocks(docstring: str) -> list[str]:
    """What is indented behind a `::`."""
    blocks = re.findall(r"::\n\n((?:(?:[ ]{4}.*)?\n)+)", docstring + "\n")
    return [textwrap.dedent(block) for block in blocks]


def test_examples_in_docstrings_are_python() -> None:
    """They are part of a whole, and cannot be run by themselves."""
    blocks = [(where, block) for where, docstring in docstrings() for block in code_blocks(docstring)]
    assert len(blocks) > 10
    for where, block in blocks:
        compile(block, where, "exec")


def test_the_example_of_the_package_itself(tmp_path: Path, free_port: int) -> None:
    """As it stands in its docstring."""
    import servermgr

    program = f"""
import doctest
test = doctest.DocTestParser().get_doctest({servermgr.__doc__!r}, {{}}, "servermgr", None, 0)
result = doctest.DocTestRunner().run(test)
assert result.attempted > 1 and not result.failed
"""
    done = Folder(tmp_path, {"8123": str(free_port)}).program(program)
    assert done.returncode == 0, done.stdout


# ---- links ----------------------------------------------------------------------------------------------------


def targets(path: Path) -> list[str]:
    """Where the links of a page lead to, without those in its examples."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors(path: Path) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(path: Path) -> list[str]:
    dead = []
    for target in targets(path):
        if re.match(r"\w+:", target):  # elsewhere on the network: not looked at
            continue
        name, _, anchor = target.partition("#")
        goal = (path.parent / name).resolve() if name else path
        if not goal.exists() or (anchor and anchor not in anchors(goal)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("path", [*all_pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=page_name)
def test_each_link_within_the_checkout_leads_somewhere(path: Path) -> None:
    """To a file that is there, and to a heading of it."""
    assert dead_links(path) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `word`: or two\n[a](#a-word-or-two) [b](#gone) [c](gone.md) [d](page.md#gone) [e](page.md)")
    assert dead_links(page) == ["#gone", "gone.md", "page.md#gone"]


def test_every_page_is_part_of_the_site() -> None:
    """The navigation takes each page of docs/, by its name or with its folder; so a new one is not forgotten."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    entries = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split()]
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.relative_to(ROOT / "docs").with_suffix("")
        assert page.name == "index" or str(page) in entries or str(page.parent / "*").removeprefix("./") in entries


def test_each_error_has_its_section_in_troubleshooting() -> None:
    from servermgr import errors

    text = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text("utf-8")
    names = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    for name in {name for name in names if not name.startswith("_")}:
        assert f"\n## {name}\n" in text, name


def test_each_public_module_has_its_page_in_the_reference() -> None:
    """A server that is new needs a page like those that docs/reference has for the others."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    servers = {
        path.stem
        for path in (ROOT / "servermgr").glob("[!_]*.py")
        if re.search(r"^class Manager\(", path.read_text("utf-8"), re.MULTILINE)
    }
    assert {"nginx", "postgres"} <= servers
    for name in servers | {"command", "errors", "ports", "probes", "pytest_plugin", "stack", "trace"}:
        assert f"automodule:: servermgr.{name}\n" in text, f"docs/reference/{name}.md is missing"
