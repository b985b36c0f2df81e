"""What the peers have to hold: hostile trees, and real servers. And who of them lives."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import _matrix_servers as servers
from benchmarks._torture_look import census, process_stat, zoo
from benchmarks.processes import free_port

#: Seconds for a start.
START = 30.0
#: Seconds without any process of a server, after which it will not come.
GONE = 2.0
#: On the command lines of what peers put between owner and server, and of owners: they are nobody's server.
HELPERS = (b"benchmarks.programs.holder", b"servermgr.guardian", b"supervisor.supervisor", b"pidproxy")
INITS = (b"tini", b"dumb-init")
#: Seeds of the mixed trees.
SEEDS = (0, 1, 2)


class Impossible(Exception):
    """It cannot be had here; the text says why."""


class Unheld(Exception):
    """The peer ends it by holding it; the text says how that was seen."""


class Subject(Protocol):
    """One tree to be held and ended."""

    argv: list[str]
    pidfile: str

    def wait_ready(self) -> int:
        """Wait until it stands; returns how many processes it has."""

    def living(self) -> list[str]:
        """Who of it lives, by name."""

    def end(self) -> None:
        """End it, whatever is left of it."""


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Attributes:
        key: How it is asked for: `escape:daemon`, `server:nginx:daemon`.
        title: Heads the row.
        missing: Why it cannot be had here; empty if it can.
    """

    key: str
    title: str
    missing: str = ""

    @property
    def kind(self) -> str:
        return self.key.partition(":")[0]

    def subject(self, folder: Path, fence: Fence) -> Subject:
        """Prepare it, in a folder of its own."""
        words = self.key.split(":")
        return Escape(folder, *words[1:]) if words[0] == "escape" else RealServer(folder, fence, *words[1:])


def rows() -> list[Row]:
    """All rows, the escapes first."""
    found = []
    for name, scenario in zoo.SCENARIOS.items():
        missing = "only root can build it" if scenario.needs_root and os.geteuid() else ""
        for seed in SEEDS if name == "mixed" else ("",):
            key = f"escape:{name}:{seed}".rstrip(":")
            found.append(Row(key, scenario.description.replace("(--seed)", f"(seed {seed})"), missing))
    for server in servers.SERVERS:
        found += [
            Row(f"server:{server.name}:{form}", f"{server.name}, {_FORM[form]}", servers.missing(server))
            for form in servers.FORMS
        ]
    return found


_FORM = {servers.DAEMON: "daemonized", servers.FOREGROUND: "in the foreground"}


class Escape:
    """A hostile tree of the tests' zoo, watched by its roster."""

    pidfile = ""

    def __init__(self, folder: Path, name: str, seed: str = "") -> None:
        self._roster = folder / "roster"
        self._roster.mkdir()
        self.argv = census.command(name, self._roster, *(["--seed", seed] if seed else []))

    def wait_ready(self) -> int:
        try:
            census.wait_ready(self._roster, START)
        except census.Impossible as reason:
            raise Impossible(str(reason)) from None
        return len(census.entries(self._roster))

    def living(self) -> list[str]:
        roles = [entry.role for entry in census.living(self._roster)]
        # The one that a storm has forked just now is none of its own: else a storm would count as one or two by chance.
        beats = any(role.startswith("beat") for role in roles)
        return [role for role in roles if not (beats and role == "unregistered")]

    def end(self) -> None:
        census.cleanup(self._roster)


class RealServer:
    """A real server, watched by who descends from this process, to which its orphans come."""

    def __init__(self, folder: Path, fence: Fence, name: str, form: str) -> None:
        kind = next(server for server in servers.SERVERS if server.name == name)
        home = folder / "home"
        home.mkdir()
        home.chmod(0o777)  # a server that becomes another user writes its pidfile as that one
        self._server = kind(home, free_port(), form)
        self._server.configure()
        self._fence = fence
        self.argv = servers.command(self._server)
        self.pidfile = str(self._server.pidfile) if self._server.is_daemon else ""

    def wait_ready(self) -> int:
        give_up, lived = time.monotonic() + START, time.monotonic()
        while not (self._answers() and (not self.pidfile or _has_number(self.pidfile))):
            now = time.monotonic()
            lived = now if self.living() else lived
            if now - lived > GONE:
                raise Unheld(f"{self._server.name} was gone before it answered")
            if now > give_up:
                raise TimeoutError(f"{self._server.name} does not answer")
            time.sleep(0.02)
        return len(self.living())

    def _answers(self) -> bool:
        try:
            self._server.check()
        except (OSError, AssertionError):
            return False
        return True

    def living(self) -> list[str]:
        return [entry.role for entry in self._fence.inside() if not is_helper(entry.pid)]

    def end(self) -> None:
        """The fence ends it."""


def _has_number(path: str) -> bool:
    try:
        return Path(path).read_bytes().split(b"\n")[0].strip().isdigit()
    except OSError:
        return False


def is_helper(pid: int) -> bool:
    """Whether it belongs to a peer, not to a server."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    programs = {os.path.basename(words[0]), os.path.basename(words[1]) if len(words) > 1 else b""}
    return any(helper in word for word in words[:6] for helper in HELPERS) or bool(programs & set(INITS))


class Fence:
    """Everything that descends from this process, which is a subreaper: no process of a cell can leave it.

    Args:
        spared: Who inside is nobody's server: the bystanders.
    """

    def __init__(self) -> None:
        self.spared: set[int] = set()

    def inside(self) -> list[census.Entry]:
        """Living descendants. Looks again until two looks agree, for a fork may run between two readings."""
        before: set[int] | None = None
        for _ in range(50):
            found = _descendants(os.getpid())
            if before == {entry.pid for entry in found}:
                break
            before = {entry.pid for entry in found}
        return [entry for entry in found if entry.pid not in self.spared and entry.alive]

    def clear(self, seconds: float = 20.0) -> None:
        """End them all but for the spared.

        Raises:
            RuntimeError: Somebody still lives after so many seconds.
        """
        give_up = time.monotonic() + seconds
        quiet = 0
        while quiet < 2:
            left = self.inside()
            quiet = 0 if left else quiet + 1
            if left and time.monotonic() > give_up:
                raise RuntimeError(f"still alive after {seconds} s of killing: {left}")
            for entry in left:
                census.kill(entry)
            time.sleep(0.005)


def _descendants(root: int) -> list[census.Entry]:
    parents: dict[int, int] = {}
    starts: dict[int, int] = {}
    names: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := process_stat(name)):
            pid = int(name)
            parents[pid], starts[pid], names[pid] = int(stat[2][1]), stat[1], name
    below = {root}
    for _ in range(len(parents)):
        more = {pid for pid, parent in parents.items() if parent in below} - below
        if not more:
            break
        below |= more
    return [census.Entry(pid, starts[pid], _name(pid)) for pid in below - {root}]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
