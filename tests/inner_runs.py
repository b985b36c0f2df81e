"""Runs of pytest within a test: real ones, in processes of their own, with a ledger of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
from stand_ins import PATIENCE, is_living, until

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

#: Plugins that only cost time here.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:xdist", "-p", "no:timeout")


class Inner:
    """A directory with tests in it, and the processes that these say they have started.

    A test in it says so by a line `pid` or `pid word` in the file that `PIDS` in its environment names; `note` is there
    for it, in a module of that name.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.pids_file = pytester.path / "pids"
        self.ledger = pytester.path / "ledger"
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIDS", str(self.pids_file))
        monkeypatch.setenv("SERVERMGR_LEDGER", str(self.ledger))
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        pytester.makefile(".ini", pytest="[pytest]\n")
        pytester.makepyfile(
            note="""
import os

def note(pid, word="x"):
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{pid} {word}\\n")

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

def noted(word="x"):
    with open(os.environ["PIDS"]) as file:
        return [int(line.split()[0]) for line in file if line.split()[1] == word]
"""
        )

    def run(self, *options: str, without: tuple[str, ...] = WITHOUT) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*without, *options, timeout=PATIENCE * 2)

    def write(self, **modules: str) -> None:
        self.pytester.makepyfile(**modules)

    @contextlib.contextmanager
    def running(self, *options: str, without: tuple[str, ...] = WITHOUT) -> Iterator[subprocess.Popen[str]]:
        """A run that goes on meanwhile; its output is one text."""
        command = [sys.executable, "-m", "pytest", f"--basetemp={self.pytester.path / 'base'}", *without, *options]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        settings = {"cwd": self.pytester.path, "text": True, "start_new_session": True}
        with subprocess.Popen(command, **pipes, **settings) as run:  # type: ignore[call-overload]
            try:
                yield run
            finally:
                run.kill()

    def noted(self, count: int = 1, word: str = "x") -> list[int]:
        """The first pids that tests have noted, waited for."""

        def look() -> list[int]:
            lines = self.pids_file.read_text().splitlines() if self.pids_file.exists() else []
            found = [int(line.split()[0]) for line in lines if line.split()[1] == word]
            return found if len(found) >= count else []

        return until(look, f"{count} notes {word!r}")

    def all_noted(self, word: str = "x") -> list[int]:
        return self.noted(0, word) if self.pids_file.exists() and word in self.pids_file.read_text().split() else []

    def records(self) -> list[str]:
        """Names of the servers in the ledger of the runs."""
        return [record.name for record in servermgr.recorded()]

    def files(self) -> list[str]:
        """What is in the ledger; places for ports and for runs may stay."""
        found = [str(path.relative_to(self.ledger)) for path in self.ledger.rglob("*") if path.is_file()]
        return [name for name in found if not name.startswith("ports")]


def processes_of(pids: list[int]) -> list[psutil.Process]:
    """By identity, those that are alive now."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def gone(pids: list[int], seconds: float = PATIENCE) -> bool:
    """Whether nobody of them lives, soon."""
    return until(lambda: not any(map(is_living, processes_of(pids))), f"the end of {pids}", seconds)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
