"""Ctrl-C in a real terminal, and the end of a program that still has servers.

Each test runs an owner of its own in a pseudo-terminal, presses keys, and reads what it says.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from stand_ins import PATIENCE, ROOT, is_living, run_script, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")

CTRL_C = b"\x03"

#: The server: writes down every signal that it hears, and what it does then.
DIARY = """
import os, signal, sys, time
diary, stays = sys.argv[1], sys.argv[2] == "stays"

def note(text):
    with open(diary, "a") as file:
        file.write(text + "\\n")

def hear(number, frame):
    note(signal.Signals(number).name)
    if number == signal.SIGTERM and not stays:
        time.sleep(0.2)
        note("went politely")
        os._exit(0)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, hear)
note("up")
for _ in range(600):
    time.sleep(0.1)
"""

#: The owner, with its terminal. What it does with its server is put in.
OWNER = """
import os, sys, time
os.open(os.ttyname(0), os.O_RDWR)  # the first terminal that the leader of a session opens is its own
from servermgr.command import CommandManager

diary, stays, grace, program = sys.argv[1:]

def is_up():
    return os.path.exists(diary) and os.path.getsize(diary) > 0

def pause():
    print("RUNNING", server.process.pid, flush=True)
    for _ in range(600):
        time.sleep(0.1)

server = CommandManager(
    [sys.executable, "-S", "-c", program, diary, stays],
    grace_period=float(grace),
    crash_grace=float(grace),
    ready=is_up,
)
try:
    ACT
except KeyboardInterrupt:
    left = [info.pid for info in server.processes()]
    print("INTERRUPTED", *open(diary).read().split(), server.process, left, flush=True)
    sys.exit(130)
print("ENDED", flush=True)
"""

# What it does:
WAITS = """
server.start(timeout=50)
print("RUNNING", server.process.pid, flush=True)
server.wait()
"""
STOPS = """
server.start(timeout=50)
print("RUNNING", server.process.pid, flush=True)
server.stop()
"""
WITH = """
with server:
    pause()
"""
STARTS = """
server.probe.function = lambda: is_up() and print("RUNNING", server.process.pid, flush=True)
server.start(timeout=50)
"""


class Terminal:
    """An owner in a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self.keyboard, screen = os.openpty()
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *argv],
                stdin=screen,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
                env=env,
            )
        finally:
            os.close(screen)
        self.text = ""

    def press(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def read_until(self, word: str) -> str:
        """Wait until the word stands on the screen; returns its line from there on (^C is echoed before it)."""
        return until(lambda: self._line(word), f"a line {word!r} on the screen")

    def _line(self, word: str) -> str:
        self._read()
        *lines, _ = self.text.split("\r\n")
        return next((line[line.index(word) :] for line in lines if word in line), "")

    def _read(self) -> None:
        if select.select([self.keyboard], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
                self.text += os.read(self.keyboard, 4096).decode()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.keyboard)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`owner(act)` is a program in a terminal that does so with its server; the terminal is closed with the test."""
    terminals: list[Terminal] = []

    def run(act: str, *, stays: bool = False, grace: float = 50.0) -> Terminal:
        code = OWNER.replace("    ACT\n", textwrap.indent(act, "    "))
        terminals.append(Terminal(code, str(tmp_path / "diary"), "stays" if stays else "goes", str(grace), DIARY))
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def worker_of(terminal: Terminal) -> psutil.Process:
    return psutil.Process(int(terminal.read_until("RUNNING ").split()[1]))


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [WAITS, WITH, STARTS], ids=["wait", "with", "start"])
def test_ctrl_c_ends_the_tree_politely_and_is_raised_then(
    owner: Callable[..., Terminal], diary: Path, act: str
) -> None:
    """The server hears SIGTERM alone, never the terminal's SIGINT, and is gone when KeyboardInterrupt is raised."""
    terminal = owner(act)
    worker = worker_of(terminal)
    time.sleep(0.3)  # between its last word and the waiting, a Ctrl-C would be the program's own to handle
    terminal.press(CTRL_C)
    assert terminal.read_until("INTERRUPTED") == "INTERRUPTED up SIGTERM went politely None []"
    assert not is_living(worker)
    assert terminal.wait() == 130
    assert diary.read_text().splitlines() == ["up", "SIGTERM", "went politely"]


@pytest.mark.parametrize("act", [WAITS, WITH, STARTS], ids=["wait", "with", "start"])
def test_a_second_ctrl_c_kills_at_once(owner: Callable[..., Terminal], diary: Path, act: str) -> None:
    """However long the grace period is; the program goes on when the tree is gone."""
    terminal = owner(act, stays=True)
    worker = worker_of(terminal)
    time.sleep(0.3)  # as above
    began = time.monotonic()
    terminal.press(CTRL_C)
    until(lambda: "SIGTERM" in diary.read_text(), "the polite signal")
    assert is_living(worker)
    terminal.press(CTRL_C)
    assert terminal.read_until("INTERRUPTED") == "INTERRUPTED up SIGTERM None []"
    assert not is_living(worker)
    assert terminal.wait() == 130
    assert time.monotonic() - began < 25.0


def test_ctrl_c_during_a_stop_kills_at_once(owner: Callable[..., Terminal], diary: Path) -> None:
    """`stop` has asked already: the first Ctrl-C is the second word."""
    terminal = owner(STOPS, stays=True)
    worker = worker_of(terminal)
    until(lambda: "SIGTERM" in diary.read_text(), "the polite signal")
    began = time.monotonic()
    terminal.press(CTRL_C)
    assert terminal.read_until("INTERRUPTED") == "INTERRUPTED up SIGTERM None []"
    assert not is_living(worker)
    assert time.monotonic() - began < 25.0


def test_keys_of_the_terminal_do_not_reach_the_server(owner: Callable[..., Terminal], diary: Path) -> None:
    """A program that ignores Ctrl-C keeps its server, whatever is pressed; when it ends, the server ends politely."""
    act = """
import signal
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"HEARD\\n"))  # while a print goes on, another one is an error
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
server.start(timeout=50)
print("RUNNING", server.process.pid, flush=True)
sys.stdin.readline()
"""
    terminal = owner(act)
    worker = worker_of(terminal)
    terminal.press(CTRL_C)
    terminal.read_until("HEARD")
    terminal.press(b"\x1c")  # Ctrl-\; not before, for the terminal throws away with it what has not been read yet
    assert is_living(worker)
    terminal.press(b"\n")
    assert terminal.wait() == 0
    assert diary.read_text().splitlines() == ["up", "SIGTERM", "went politely"]
    assert not is_living(worker)


def test_closing_the_terminal_ends_the_server(owner: Callable[..., Terminal], diary: Path) -> None:
    """SIGHUP ends the program, and the server is ended politely; it does not hear the SIGHUP itself."""
    terminal = owner(WAITS)
    worker = worker_of(terminal)
    master, terminal.keyboard = terminal.keyboard, os.open(os.devnull, os.O_RDWR)
    os.close(master)
    assert terminal.wait() == -signal.SIGHUP
    until(lambda: not is_living(worker), "the end of the server")
    assert diary.read_text().splitlines() == ["up", "SIGTERM", "went politely"]


# ---- the end of the program -----------------------------------------------------------------------------------

#: An owner without a terminal, which starts its server and ends in one way or another.
ENDS = """
import os, sys, threading
from servermgr.command import CommandManager
server = CommandManager(
    [sys.executable, "-S", "-c", sys.argv[2], sys.argv[1], sys.argv[3]], crash_grace=float(sys.argv[4]),
    ready=lambda: os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1]) > 0,
)
server.start(timeout=50)
print(server.process.pid, server.log_path, flush=True)
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("1 / 0", 1),
        ("server.stop(wait=False)", 0),
        ("del server", 0),
        ("threading.Thread(target=server.process.poll).start()", 0),
        ("import signal; signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_a_program_that_ends_leaves_nothing(diary: Path, end: str, status: int) -> None:
    """A script that starts a server and simply ends: by the time it has ended, the server has, too, politely."""
    done = run_script(ENDS + end, diary, DIARY, "goes", 20.0)
    pid, log = done.stdout.split()
    assert not os.path.exists(f"/proc/{pid}") if sys.platform == "linux" else not psutil.pid_exists(int(pid))
    assert not os.path.exists(log)
    assert done.returncode == status, done.stderr
    assert diary.read_text().splitlines() == ["up", "SIGTERM", "went politely"]


def test_a_program_that_ends_waits_no_longer_than_it_said(diary: Path) -> None:
    """A server that does not hear is killed when `crash_grace` is over."""
    done = run_script(ENDS, diary, DIARY, "stays", 0.3)
    assert done.returncode == 0, done.stderr
    assert not psutil.pid_exists(int(done.stdout.split()[0]))
    assert diary.read_text().splitlines() == ["up", "SIGTERM"]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_program_that_ends_at_once_leaves_nothing_for_long(diary: Path, end: str) -> None:
    """Where nothing runs at its exit, the guardian ends the server, politely."""
    done = run_script(ENDS + end, diary, DIARY, "goes", 20.0)
    pid, log = done.stdout.split()
    until(lambda: not psutil.pid_exists(int(pid)) and not os.path.exists(log), "the end of the server")
    assert diary.read_text().splitlines() == ["up", "SIGTERM", "went politely"]


def test_a_program_in_development_mode_hears_no_complaint(diary: Path) -> None:
    """With `python -X dev` nothing of ours is left unclosed at the end, with and without a stop."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "1"}
    for end in ("", "server.stop()"):
        done = run_script(ENDS + end, diary, DIARY, "goes", 20.0, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        diary.unlink()
