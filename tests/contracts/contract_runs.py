"""One run of a contract scenario: an owner in a process of its own, its server's tree, and who of that lives.

The oracle shares nothing with servermgr: psutil, by pid and creation time, over the processes that registered, and over
all whose command line names the run's directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "contract_programs.py"
OWNER = HERE / "contract_owner.py"
#: Seconds in which what takes milliseconds must happen, on a busy machine.
PATIENCE = 30.0
#: A relay's generation takes some ten milliseconds: no beat for so many seconds, and it has ended.
BEAT = 1.5


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


class Process:
    """One process of the tree, by identity."""

    def __init__(self, pid: int, role: str) -> None:
        self.process = psutil.Process(pid)
        self.role = role

    @property
    def alive(self) -> bool:
        return is_alive(self.process)

    def kill(self) -> None:
        try:
            self.process.kill()  # psutil compares the creation time first
        except psutil.NoSuchProcess:
            pass


class Run:
    """A tree, and where it registers.

    Args:
        folder: An empty directory of its own.
        program: Which program of `contract_programs` is the server.
        environment: Goes to the owner on top of this process's own: chooses the backend.
        port: What the server listens on, if it does.
    """

    def __init__(self, folder: Path, program: str, environment: dict[str, str], port: int) -> None:
        self.folder = folder
        self.roster = folder / "roster"
        self.roster.mkdir()
        self.port = port
        self.environment = {**os.environ, "SERVERMGR_LEDGER": str(folder / "ledger"), **environment}
        self.argv = [sys.executable, "-I", "-S", str(PROGRAMS), program, "--roster", str(self.roster)]
        self.argv += ["--port", str(port)] if program == "listener" else []
        self.command = [sys.executable, str(OWNER)]
        self.order: dict[str, Any] = {}
        self.errors: Path | None = None
        self.told: dict[str, Any] = {}
        self.owners: list[Owner] = []
        self.processes: list[Process] = []

    # --- the owner ----------------------------------------------------------------------------------------------

    def start(self, way: str | None, **options: Any) -> Owner:
        """Start the server in an owner of its own; returns when the whole tree stands. None: only an owner."""
        if "pidfile" in options:
            options["pidfile"] = str(self.roster / options["pidfile"])
        order = {"way": way, "argv": self.argv, "port": self.port, "options": options, **self.order}
        owner = Owner(self.command, order, self.environment, self.errors)
        self.owners.append(owner)
        if way is not None:
            self.told = owner.heard()
            self.wait_ready()
        return owner

    def start_bare(self) -> subprocess.Popen[bytes]:
        """Start the server as a program does that knows nothing of trees; returns when the whole tree stands."""
        session = {"start_new_session": True} if hasattr(os, "setsid") else {}
        process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, env=self.environment, **session)
        self.wait_ready()
        return process

    def wait_ready(self) -> None:
        self.wait_until(self.has, "ready")
        self.processes = []
        for path in sorted(self.roster.glob("*.pid")):
            if path.name != "server.pid":
                with contextlib.suppress(psutil.NoSuchProcess):  # one that was to leave, and has left
                    self.processes.append(Process(int(path.read_text()), path.stem))

    def has(self, name: str) -> bool:
        return (self.roster / name).exists()

    def wait_until(self, condition: Any, *arguments: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not condition(*arguments):
            assert time.monotonic() < end, f"not within {PATIENCE} s: {condition.__name__} {arguments}"
            time.sleep(0.01)

    def role(self, name: str) -> Process:
        return next(process for process in self.processes if process.role == name)

    # --- who lives ----------------------------------------------------------------------------------------------

    def living(self) -> dict[int, str]:
        """Every process of the tree that lives, by pid, with its role."""
        found = {process.process.pid: process.role for process in self.processes if process.alive}
        for process in psutil.process_iter(["cmdline"]):
            if self._is_of_tree(process.info["cmdline"] or []) and is_alive(process):
                found.setdefault(process.pid, "unregistered")
        return found

    def _is_of_tree(self, words: list[str]) -> bool:
        # The programs, not the owner, whose own command line names them in the middle of a word.
        return str(PROGRAMS) in words and str(self.roster) in words

    def settled(self, seconds: float = 0.0) -> dict[int, str]:
        """Who still lives after so many seconds; at once, when nobody does."""
        end = time.monotonic() + seconds
        while (found := self._living_or_beating()) and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def _living_or_beating(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for _ in range(3 if self.has("beat") else 1):  # one scan can miss a process that hands over meanwhile
            found |= self.living()
        if not found and self.has("beat"):
            before = self._beat()
            time.sleep(BEAT)
            found = self.living() if self._beat() == before else {0: "the relay"}
        return found

    def _beat(self) -> str:
        return (self.roster / "beat").read_text()

    def close(self) -> None:
        """End all of it, whatever became of the run."""
        for name in ("over", "leave"):
            (self.roster / name).touch()
        for owner in self.owners:
            owner.close()
        end = time.monotonic() + PATIENCE
        while (left := self.living()) and time.monotonic() < end:
            for pid in left:
                try:
                    Process(pid, "").kill()
                except psutil.NoSuchProcess:
                    pass
            time.sleep(0.02)


class Owner:
    """The process that owns the server.

    Args:
        command: What starts it.
        order: See `contract_owner`.
        environment: Its environment.
        errors: Where its standard error goes; None: where ours goes.
    """

    def __init__(
        self, command: list[str], order: dict[str, Any], environment: dict[str, str], errors: Path | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            file = None if errors is None else stack.enter_context(errors.open("ab"))
            self.process = subprocess.Popen(
                [*command, json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
            )

    def heard(self) -> Any:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the owner has ended with status {self.process.wait(PATIENCE)}"
        return json.loads(line)

    def say(self, word: str) -> Any:
        """Give it an order; returns its answer."""
        self.give(word)
        return self.heard()

    def give(self, word: str) -> None:
        """Give it an order, and do not wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, on Windows TerminateProcess; and reap."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def leave(self) -> None:
        """Let it end in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass
