"""Who of a zoo tree lives, and whether innocents were harmed: an oracle that shares nothing with servermgr.

It trusts what the processes wrote into the roster themselves, the kernel's start times, heartbeats, and, as a second
means, command lines that name the roster. Linux only; importable everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo_kit import CONFIRM, process_stat

HERE = Path(__file__).resolve().parent
ZOO = HERE / "zoo.py"
#: Programs whose processes belong to the tree of the roster on their command line.
PROGRAMS = ("zoo.py", "zoo_kit.py")
#: Seconds in which a chain that forks each millisecond must be seen to beat, also on a busy machine.
BEAT = 0.3
DEAD = "ZXx"


class Impossible(Exception):
    """This host does not allow the scenario; the text says why."""


@dataclass(frozen=True)
class Entry:
    """One process of a tree.

    Attributes:
        pid: As seen from here, also for a process in a pid namespace.
        start: Start time in clock ticks since boot: with the pid, its identity.
        role: What it is in its tree.
    """

    pid: int
    start: int
    role: str

    @property
    def state(self) -> str | None:
        """The kernel's letter for its main thread; None when the process is gone, or the pid is another's."""
        stat = process_stat(self.pid)
        return stat[0] if stat and stat[1] == self.start else None

    @property
    def alive(self) -> bool:
        """Whether any thread of it lives. A zombie is dead, unless only its main thread is one."""
        state = self.state
        return state is not None and (state not in DEAD or _has_living_thread(self.pid))


def _has_living_thread(pid: int) -> bool:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return False
    stats = (process_stat(f"{pid}/task/{task}") for task in tasks)
    return any(stat is not None and stat[0] not in DEAD for stat in stats)


def command(scenario: str, roster: Path, *more: str) -> list[str]:
    """The command that builds a tree."""
    return [sys.executable, str(ZOO), scenario, "--roster", str(roster), *more]


def wait_ready(roster: Path, timeout: float = 20.0, *, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until the whole tree stands.

    Args:
        roster: Directory of the roster.
        timeout: Seconds.
        process: The first process; if it fails, the wait ends at once. None: only the time ends it.

    Raises:
        Impossible: This host does not allow the scenario.
        AssertionError: It did not come up.
    """
    end = time.monotonic() + timeout
    while not (roster / "ready").exists():
        if (roster / "impossible").exists():
            raise Impossible((roster / "impossible").read_text())
        if process is not None and process.poll():
            # Some roots fail on purpose as soon as the tree stands: look again, in this order.
            assert _spoken(roster), f"the zoo exited with {process.returncode} before its tree stood"
        assert time.monotonic() < end, f"the zoo's tree does not stand after {timeout} s: {entries(roster)}"
        time.sleep(0.005)


def _spoken(roster: Path) -> bool:
    return (roster / "ready").exists() or (roster / "impossible").exists()


def entries(roster: Path) -> list[Entry]:
    """Every process that ever registered, dead or alive."""
    found = []
    for path in roster.iterdir():
        if path.name.isdigit():
            pid, start, role = path.read_text().split(maxsplit=2)
            found.append(Entry(int(pid), int(start), role))
    return found


def ended_by_itself(roster: Path) -> list[str]:
    """What says that a storm reached its own end. If so, nobody being left proves nothing."""
    return [path.read_text() for path in roster.glob("ended-?")]


def living(roster: Path) -> list[Entry]:
    """Every process of the tree that is alive.

    Takes 0.3 s longer for a tree with a storm whose heartbeat has ceased, for only time shows that it has.
    """
    found = {entry.pid: entry for entry in _beating(roster)}
    # The scan comes last: whoever was forked by one of those that were seen dead just now is in it.
    found |= {entry.pid: entry for entry in entries(roster) if entry.alive}
    for entry in scan(roster):
        found.setdefault(entry.pid, entry)
    return list(found.values())


def heartbeats(roster: Path) -> dict[str, str]:
    """What each storm wrote last: pid, start time, generation."""
    return {path.name: path.read_text().strip() for path in roster.glob("beat-?")}


def _beating(roster: Path) -> list[Entry]:
    first = now = heartbeats(roster)
    end = time.monotonic() + BEAT
    while first and first == now and time.monotonic() < end:
        time.sleep(0.01)
        now = heartbeats(roster)
    last = {name: Entry(int(pid), int(start), name) for name, (pid, start, _) in _split(now)}
    return [entry for name, entry in last.items() if now[name] != first.get(name) or entry.alive]


def _split(beats: dict[str, str]) -> list[tuple[str, list[str]]]:
    return [(name, words) for name, text in beats.items() if len(words := text.split()) == 3]


def scan(roster: Path) -> list[Entry]:
    """Living processes whose command line is a zoo's with this roster, registered or not yet."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = [(pid, process_stat(pid)) for pid in pids if _is_of(pid, roster)]
    return [Entry(pid, stat[1], "unregistered") for pid, stat in found if stat and stat[0] not in DEAD]


def _is_of(pid: int, roster: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:  # gone, or hidden from us
        return False
    # The zoo must be the program, not an argument: a guardian or an owner is told about the zoo, and is none of it.
    program = next((word for word in words[1:] if not word.startswith("-")), "")
    return os.path.basename(program) in PROGRAMS and str(roster) in words


def wait_gone(roster: Path, timeout: float) -> list[Entry]:
    """Wait until nobody of the tree lives; who does after `timeout` seconds (0: now)."""
    end = time.monotonic() + timeout
    while (left := living(roster)) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def kill(entry: Entry) -> None:
    """SIGKILL that process, and no other one that has its pid by now."""
    _send(entry, signal.SIGKILL)


def _send(entry: Entry, number: int) -> None:
    try:
        handle = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return
    try:
        if entry.alive:  # looked at after the handle was opened: they are the same process
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _reap(entry: Entry) -> None:
    """Reap it if it is our child and no `Popen` will: a sibling that `clone_parent` gave us."""
    if entry.role != "root" and entry.state is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(entry.pid, os.WNOHANG)


def cleanup(roster: Path, seconds: float = 20.0) -> None:
    """End whatever lives of the tree, storms and re-spawning masters included.

    Raises:
        AssertionError: Somebody still lives after so many seconds.
    """
    (roster / "stop").touch()
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < 2:  # once is no proof: somebody may have been forked by the dying and not have registered
        left = living(roster)
        quiet = 0 if left else quiet + 1
        assert not left or time.monotonic() < end, f"still alive after {seconds} s of killing: {left}"
        for entry in left:
            kill(entry)
        time.sleep(0.01)
    for entry in entries(roster):
        _reap(entry)


class Crowd(list[Entry]):
    """Bystanders that nobody may touch."""

    def __init__(self, directory: Path) -> None:
        super().__init__(sorted(entries(directory), key=lambda entry: entry.role))
        self._directory = directory

    def harmed(self) -> list[str]:
        """What was done to them until now, a text for each; empty: nothing."""
        for entry in self:
            self._hear(entry)
        found = [f"{entry.role} is dead" for entry in self if not entry.alive]
        found += [f"{entry.role} is stopped" for entry in self if entry.state in ("T", "t")]
        roles = {str(entry.pid): entry.role for entry in self}
        notes = [(path.name.split("-")[1], path.read_text()) for path in self._directory.glob("harm-*-*[0-9]")]
        return found + [f"{roles.get(pid, pid)} got {text}" for pid, text in notes]

    def _hear(self, entry: Entry) -> None:
        """Have it take note of every signal that it was sent before; who is dead or stopped will not."""
        heard = self._directory / f"heard-{entry.pid}"
        heard.unlink(missing_ok=True)
        _send(entry, CONFIRM)
        end = time.monotonic() + 20.0
        while not heard.exists() and entry.alive and entry.state not in ("T", "t"):
            assert time.monotonic() < end, f"{entry.role} does not answer"
            time.sleep(0.002)


@contextlib.contextmanager
def innocents(scenario: str = "plain") -> Iterator[Crowd]:
    """Bystanders for the time of a `with`: same program and arguments as the root of a tree, but for the roster.

    One is a child of this process, in a session of its own; one is in this process's group, its parent gone; one
    is a daemon in a session of its own.

    Raises:
        AssertionError: On a normal exit, if one of them died, was stopped, or got a signal.
    """
    directory = Path(tempfile.mkdtemp(prefix="innocents-"))
    starters = []
    try:
        for kind in ("child", "group", "daemon"):
            argv = command(scenario, directory, "--innocent", kind)
            starters.append(subprocess.Popen(argv, start_new_session=kind != "group"))
        end = time.monotonic() + 20.0
        while len(crowd := Crowd(directory)) < len(starters):
            assert time.monotonic() < end, f"the bystanders did not come up: {crowd}"
            time.sleep(0.005)
        yield crowd
        harmed = crowd.harmed()
        assert not harmed, "; ".join(harmed)
    finally:
        cleanup(directory)
        for starter in starters:
            starter.wait(10.0)
        shutil.rmtree(directory)
