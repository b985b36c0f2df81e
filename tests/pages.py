"""The pages of the documentation as examples: what they show, taken out of them, and run as it stands there.

A section of a page (from one `## ` to the next) is one example, in a folder of its own. Its blocks, in order:

- A block whose first line is a comment with a file's name (`# conftest.py`, `// Jenkinsfile`) is that file.
- Any other `python` block is a program. It is run and must end with status 0.
- The `$ ` lines of a `console` block are run in one shell, with the rest of the lines as what they print.
- A `text` block behind a program is what that prints.

In what is printed `…` stands for anything, alone on a line for any lines, and numbers may differ. Comments before a
block, which a reader does not see, say more: `needs: redis-server xdist` (programs and modules), `exit: 1` (the status
of the program, or of the shell), `not run: WHY` (compiled, if it is Python, and nothing more).
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"((?:^<!-- .*? -->\n\n?)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:#|//) ([\w./-]+\.\w+|(?:[\w./-]+/)?(?:Dockerfile|Jenkinsfile))$")
#: The tools of this interpreter come first; and pip, which may not ask any index, finds that all is there already.
TOOLS = {
    "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath))),
    "PIP_NO_INDEX": "1",
    "PIP_QUIET": "1",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class Block(NamedTuple):
    """One block of a page; `notes` are the comments before it."""

    kind: str
    text: str
    notes: dict[str, str]

    @property
    def file(self) -> str | None:
        found = FILE.match(self.text.partition("\n")[0])
        return found[1] if found else None


class Section(NamedTuple):
    """What stands between two headings of a page."""

    page: str
    title: str
    blocks: list[Block]

    def needs(self) -> list[str]:
        return [name for block in self.blocks for name in block.notes.get("needs", "").split()]


def sections(path: Path) -> list[Section]:
    """Those of a page that have examples; the first one is what stands above the first heading."""
    page = str(path.relative_to(ROOT))
    found = []
    for part in re.split(r"^## ", path.read_text("utf-8"), flags=re.MULTILINE):
        blocks = [Block(kind, text, notes_of(notes)) for notes, kind, text in BLOCK.findall(part)]
        if blocks:
            found.append(Section(page, part.partition("\n")[0].strip("# "), blocks))
    return found


def notes_of(comments: str) -> dict[str, str]:
    pairs = (comment.partition(":") for comment in re.findall(r"<!-- (.*?) -->", comments))
    return {name: value.strip() for name, _, value in pairs}


def is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class Folder:
    """Where one section is tried.

    Args:
        path: An empty directory.
        ports: What to write in place of a port that the page shows.
    """

    def __init__(self, path: Path, ports: dict[str, int]) -> None:
        self.path = path
        self._ports = ports
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        self._env |= TOOLS | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "SERVERMGR_LEDGER": str(path / ".ledger"),
            "PYTEST_ADDOPTS": f"--basetemp={path / '.base'} -p no:timeout -p no:cacheprovider",
            "NO_COLOR": "1",
            "VIRTUALENV_OVERRIDE_APP_DATA": str(path / ".virtualenv"),
        }

    def here(self, text: str) -> str:
        """With ports and paths that are free here."""
        for shown, free in self._ports.items():
            text = text.replace(shown, str(free))
        return text.replace("/tmp/example", str(self.path))

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text), encoding="utf-8")

    def program(self, text: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", self.here(text))

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        """The first command that fails is the last one."""
        return self.run("bash", "-ec", self.here(text))

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(  # type: ignore[call-overload]
            argv, **pipes, text=True, check=False, timeout=50, cwd=self.path, env=self._env
        )


def told(text: str) -> tuple[str, list[str]]:
    """The commands of a console, as a shell reads them, and the lines that they are said to print."""
    commands, lines = [], []
    for line in text.splitlines():
        if line.startswith("$ ") or (commands and commands[-1].endswith("\\")):
            commands.append(line.removeprefix("$ "))
        else:
            lines.append(line)
    return "\n".join(commands), lines


def differs(said: str, shown: list[str]) -> str | None:
    """None if it is what the page shows, else what to tell."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "…" else f"{pattern_of(line)}[ ]*\n" for line in shown)
    ended = said if said.endswith("\n") or not said else f"{said}\n"
    if re.fullmatch(pattern, ended):
        return None
    return f"--- it said\n{said}\n--- the page shows\n" + "\n".join(shown)


def pattern_of(line: str) -> str:
    pieces = (re.escape(piece) for piece in line.rstrip().split("…"))
    return ".*".join(re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", piece) for piece in pieces)
