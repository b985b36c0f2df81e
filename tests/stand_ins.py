"""Small programs that stand in for servers, and how tests wait for them.

Each lives for a minute at most, so that nothing stays for ever whatever a test does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest

from servermgr.base import Manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
#: Seconds within which anything that is going to happen has happened, on the slowest machine.
PATIENCE = 20.0
SLEEP = ["sleep", "60"]

#: A worker with one child; it ends with status 3 when it is asked to, and leaves the child behind. It forks before it
#: sets its trap: a signal that comes between fork and exec would be taken by the trap's handler, and lost.
FAMILY = 'sleep 60 & trap "exit 3" TERM; echo up >"$1"; wait'
#: A worker whose child does not hear SIGTERM.
DEAF_CHILD = '(trap "" TERM; echo up >"$1"; exec sleep 60) & wait'
#: A worker that does not hear SIGTERM itself.
DEAF = 'trap "" TERM; echo up >"$1"; exec sleep 60'

#: Accepts connections on the port (argument 1) and answers each with the rest of its arguments, in turn.
ANSWERING = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
answers = sys.argv[2:]
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(answers[0].encode())
    connection.close()
    answers = answers[1:] or answers
"""
#: Listens on the port and never takes a connection.
LISTENING = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""


def sh(script: str, *args: object) -> list[str]:
    """The command that runs a shell script with `$1`, `$2`, …."""
    return ["/bin/sh", "-c", script, "sh", *map(str, args)]


def python(code: str, *args: object) -> list[str]:
    """The command that runs Python code with `sys.argv[1]`, …; without site, for speed."""
    return [sys.executable, "-S", "-c", code, *map(str, args)]


def until(look: Callable[[], T], what: str = "it", seconds: float = PATIENCE) -> T:
    """Wait until `look` returns something true, and return that."""
    give_up = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < give_up, f"{what} has not happened within {seconds:.0f} s"
        time.sleep(0.005)
    return found


def content(path: Path) -> str:
    """What a stand-in has written there, once there is a whole line of it."""
    return until(lambda: path.exists() and path.read_text().endswith("\n") and path.read_text(), f"{path}").strip()


def is_living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lives(pid: int) -> bool:
    """Whether somebody lives under this pid; asked in one step, since between two he may have gone."""
    try:
        return is_living(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all that descends from it, by identity, to look at them when they should be gone."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def standing(pid: int) -> list[psutil.Process]:
    """The same, once everyone in it has become the program that he was forked for."""

    def look() -> list[psutil.Process]:
        tree = tree_of(pid)
        try:
            commands = {process.pid: process.cmdline() for process in tree}
        except psutil.NoSuchProcess:  # a child that has ended meanwhile
            return []
        forked = any(commands[process.pid] == commands.get(process.ppid()) for process in tree)
        return [] if forked else tree

    return until(look, "the tree")


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if is_living(process)]


class Server(Manager):
    """A subclass as a user writes it: `start` spawns, `health` asks."""

    def __init__(self, argv: list[str], *, ask: Callable[[], object] | None = None, **options: Any) -> None:
        super().__init__("stand-in")
        self.argv = argv
        self.ask = ask
        self.options = options

    def start(self, wait: bool = True, timeout: float | None = PATIENCE) -> None:
        self.spawn(self.argv, **self.options)
        if wait:
            self.ready_wait(timeout)

    def health(self) -> object:
        if self.ask is None:
            raise NotImplementedError
        return self.ask()

    def started(self, ready: Path | None = None) -> list[psutil.Process]:
        """Start it, wait for its ready file, and return its tree."""
        self.start()
        if ready is not None:
            content(ready)
        return standing(self.process.pid)


def run_script(
    code: str, *args: object, interpreter: str = sys.executable, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run an owner of its own: a program that uses the package; its output is returned."""
    settings: dict[str, Any] = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "timeout": 40.0, "check": False}
    settings |= {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True} | options
    return subprocess.run([interpreter, "-c", code, *map(str, args)], **settings)  # noqa: PLW1510  # it is in settings


def script_output(code: str, *args: object, **options: Any) -> str:
    """The same, for an owner that must end well."""
    done = run_script(code, *args, **options)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert not done.stderr, done.stderr
    return str(done.stdout)


def campaign(module: str, folder: Path, *more: object) -> tuple[int, dict[str, Any]]:
    """Exit status and document of a campaign, `torture` or `soak`; what it says goes on to the captured output."""
    document = folder / f"{module}.json"
    command = [sys.executable, "-m", f"benchmarks.{module}", "--json", document, *more]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, stdin=subprocess.DEVNULL, timeout=100, check=False)
    return done.returncode, json.loads(document.read_text())


def as_nobody() -> tuple[str, dict[str, Any]]:
    """A Python that an ordinary user may run with this package, and the options that make `subprocess` that user.

    One that is installed in root's home he may not run. Skips where there is none, or this is not root.
    """
    if getattr(os, "geteuid", lambda: 1)() != 0:
        pytest.skip("only root can become an ordinary user")
    packages = os.pathsep.join((str(ROOT), str(Path(psutil.__file__).parent.parent)))
    env = os.environ | {"PYTHONPATH": packages, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    options = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/", "env": env}
    for interpreter in (sys.executable, "/usr/bin/python3"):
        try:
            run_script("import servermgr.base", interpreter=interpreter, check=True, **options)
        except (OSError, subprocess.CalledProcessError):
            continue
        return interpreter, options
    pytest.skip("an ordinary user cannot run this Python, or cannot read this package")
