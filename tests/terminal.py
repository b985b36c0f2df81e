"""A real pseudo-terminal with a program on it, as the leader of a session whose terminal it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

from stand_ins import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Becomes the leader of a session, takes the terminal that is its standard input, and turns into the command.
_LEADER = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
CTRL_C, CTRL_Z, CTRL_BACKSLASH = b"\x03", b"\x1a", b"\x1c"


class Terminal:
    """What a person has before him.

    Attributes:
        process: The program.
        seen: All that it has shown so far.
    """

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str, *, times: int = 1) -> str:
        """Read until the text has been shown so many times; returns all that was."""
        give_up = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            assert time.monotonic() < give_up, f"{text!r} was not shown:\n{self.seen}"
            if not self._read(0.1) and self.process.poll() is not None and not self._read(0.1):
                raise AssertionError(f"it ended ({self.process.returncode}) without {text!r}:\n{self.seen}")
        return self.seen

    def wait(self) -> int:
        """Read until the program ends; returns its status as `Popen.returncode`."""
        give_up = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < give_up, f"it does not end:\n{self.seen}"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def terminal(*argv: str, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    """Run a program on a terminal of its own; it is killed at the end of the block if it still runs."""
    master, slave = pty.openpty()
    options: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, "env": os.environ | (env or {})}
    with subprocess.Popen([sys.executable, "-IS", "-c", _LEADER, *argv], **options) as process:
        os.close(slave)
        shown = Terminal(master, process)
        shown.resize(24, 100)
        try:
            yield shown
        finally:
            process.kill()
            os.close(master)
