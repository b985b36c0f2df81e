"""A process tree as an owner sees it: what to launch, who is in it, how it ended.

Three kinds of tree keep the promises of `Tree`: one below a guardian (`guarded`), one in a job object (`job`, Windows),
and one that was started by other means and adopted (`adopted`).
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from servermgr import platform
from servermgr.errors import LaunchError
from servermgr.stopping import KILL_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from socket import socket

    from servermgr._trace_story import Story
    from servermgr.output import Output

#: In the environment of every process of a tree; its value tells one tree from another.
MARKER_VARIABLE = "SERVERMGR_TREE"
#: Seconds from the polite to the forced signal, unless told otherwise.
GRACE_PERIOD = 10.0
#: The same after the owner has died.
CRASH_GRACE = 3.0


class ProcessInfo(NamedTuple):
    """One process of a tree.

    Attributes:
        pid: Its pid.
        ppid: Its parent's pid.
        name: The system's name of it.
        depth: 0 for whoever stands directly below the guardian, 1 for its children, ….
    """

    pid: int
    ppid: int
    name: str
    depth: int


class Ended(NamedTuple):
    """A process that ended during a stop. `name` is empty where it was not looked up."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name})" if self.name else str(self.pid)


class Survivor(NamedTuple):
    """A process of the tree that is alive after `stop`, and why."""

    pid: int
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name}): {self.why}"


class StopOutcome(NamedTuple):
    """How a tree ended.

    Attributes:
        polite: Who was asked and went by himself.
        killed: Who had to be killed.
        survivors: Who is alive still.
        status: The worker's exit status as `Popen.returncode` (below 0: the signal that ended it; 255: nobody
            could read it). None if there was no worker, or it has not ended yet.
        seconds: How long the stop took.
        finished: False if `stop(wait=False)` returned while the work goes on; then the rest is empty.
    """

    polite: tuple[Ended, ...] = ()
    killed: tuple[Ended, ...] = ()
    survivors: tuple[Survivor, ...] = ()
    status: int | None = None
    seconds: float = 0.0
    finished: bool = True

    def __str__(self) -> str:
        if not self.finished:
            return "stopping"
        parts = [f"{len(self.polite)} went politely", f"{len(self.killed)} killed"]
        if self.survivors:
            parts.append(f"{len(self.survivors)} alive")
        return f"{', '.join(parts)} in {self.seconds:.3f} s"


class LaunchSpec:
    """What a tree is made of.

    Args:
        argv: The command and its arguments. A command without a slash is looked up in the PATH of `env`.
        env: The whole environment, or None for this process's own.
        cwd: The directory to start in, or None for this process's own.
        pidfile: Where a daemonizing server writes its pid, relative to `cwd`; None for one that stays in the
            foreground.
        output: Where standard output and error go.
        stop_signal: The polite signal; None for SIGTERM.
        grace_period: Seconds from the polite signal to the forced one.
        crash_grace: The same once the owner has died.
        keep: Whether the tree outlives its owner, to be ended by name later.
        removes: Files that the guardian removes once the tree is gone.
        sockets: Listening sockets that the command takes over, as its descriptors 3, 4, …, announced by
            `LISTEN_FDS` and `LISTEN_PID` (sd_listen_fds(3)). They stay the caller's to close.
        scratch: A directory that goes with the last who shares it; see `guardian.scratch`. None for none.
        story: Where the guardian's events go; None for no trace.

    Attributes:
        marker: Stands in the tree's environment, to know it by.
        cgroup: The directory of a control group to be made for the tree; empty for none.

    Raises:
        LaunchError: Something of it cannot be handed to a process, such as a NUL byte.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        output: Output,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        pidfile: str | os.PathLike[str] | None = None,
        stop_signal: int | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        keep: bool = False,
        removes: Sequence[str | os.PathLike[str]] = (),
        sockets: Sequence[socket] = (),
        scratch: str | os.PathLike[str] | None = None,
        story: Story | None = None,
    ) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            raise LaunchError(None, f"argv must be a list of words, such as ['nginx', '-c', 'x.conf'], not {argv!r}")
        self.argv = [os.fspath(word) for word in argv]
        self.env = dict(os.environ if env is None else env)
        self.cwd = os.path.abspath(cwd if cwd is not None else os.curdir)
        self.pidfile = None if pidfile is None else os.path.join(self.cwd, os.fspath(pidfile))
        self.output = output
        self.stop_signal = int(signal.SIGTERM if stop_signal is None else stop_signal)
        self.grace_period = _seconds("grace_period", grace_period)
        self.crash_grace = _seconds("crash_grace", crash_grace)
        self.keep = keep
        self.removes = [os.path.abspath(path) for path in removes]
        self.sockets = tuple(sockets)
        self.scratch = None if scratch is None else os.path.abspath(scratch)
        self.story = story
        self.marker = os.urandom(16).hex()  # 128 bits that nobody can guess
        self.cgroup = platform.group_for(self.marker)
        self.removes += [self.cgroup] if self.cgroup else []
        self._check()
        self.env[MARKER_VARIABLE] = self.marker

    def _check(self) -> None:
        words = [*self.argv, *self.env, *self.env.values(), self.cwd, self.pidfile or ""]
        for word in words:
            if not isinstance(word, str):
                raise LaunchError(None, f"{word!r} in the command or its environment is not a text")
            if "\0" in word:
                raise LaunchError(None, f"{word!r} in the command or its environment holds a NUL byte")
        if any("=" in name or not name for name in self.env):
            raise LaunchError(None, "a name in the environment is empty or holds '='")

    def files_to_remove(self) -> list[str]:
        """What goes with the tree: the run's own log, and what the caller has named."""
        private = [self.output.path] if self.output.removes and self.output.path is not None else []
        return [*private, *self.removes]

    def programs(self) -> list[str]:
        """Where the program may be, in the order in which to try."""
        program = self.argv[0]
        if os.path.dirname(program):
            return [program]
        return [os.path.join(folder, program) for folder in os.get_exec_path(self.env)]


def _seconds(name: str, value: float) -> float:
    if not value >= 0:  # also refuses NaN
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    return float(value)


class Tree(Protocol):
    """A worker and all that descends from it. In a fork of the process that holds it, it means nothing."""

    @property
    def pid(self) -> int | None:
        """The worker's pid; None while it is not known yet (a daemon that has not written its pidfile)."""

    @property
    def status(self) -> int | None:
        """The worker's status as `Popen.returncode`; None while it runs."""

    def wait_worker(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds (None: for ever) for the worker to end. Returns whether it has."""

    def wait_known(self, timeout: float | None) -> bool:
        """Wait until the worker is known or has ended. Returns whether it is known or has ended."""

    def send_signal(self, number: int) -> None:
        """Signal the worker; nothing happens once it has ended."""

    def ask_stop(self, number: int, grace: float, *, confirm: bool = False) -> None:
        """Begin to end the tree, whatever becomes of us; again: only shortens the grace period.

        On true return with `confirm` the first signal is out.
        """

    def wait_gone(self, timeout: float | None) -> StopOutcome | None:
        """Wait for the tree to be gone, or given up on. None: not yet."""

    def processes(self) -> list[ProcessInfo]:
        """Who lives in the tree at this moment, parents before their children."""


class LaunchedTree(Tree, Protocol):
    """One that was launched, by what its `spec` says."""

    spec: LaunchSpec


def stop_all(trees: Iterable[LaunchedTree]) -> None:
    """At the end of the interpreter: ask all of them that are not kept, then wait until they are gone."""
    ending = [tree for tree in trees if not tree.spec.keep]
    for tree in ending:
        tree.ask_stop(tree.spec.stop_signal, tree.spec.crash_grace)
    for tree in ending:
        tree.wait_gone(tree.spec.crash_grace + KILL_PATIENCE + 1.0)


def infos(parents: Mapping[int, int]) -> list[ProcessInfo]:
    """A listing (pid → parent) with names, in the order of a printed tree; the dead are left out."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent if parent in parents else 0, []).append(pid)
    found: list[ProcessInfo] = []
    front = [(pid, 0) for pid in reversed(children.get(0, []))]
    while front:
        pid, depth = front.pop()
        stat = platform.read_stat(pid)
        if stat is not None and (stat.state not in "ZX" or platform.is_alive(pid)):
            found.append(ProcessInfo(pid, stat.ppid, stat.name, depth))
        front += [(child, depth + 1) for child in reversed(children.get(pid, []))]
    return found


def format_tree(processes: Sequence[ProcessInfo]) -> str:
    """A process tree as text for people: one line for each process, `name [pid]`, indented by depth.

    Args:
        processes: As `Manager.processes` lists them.
    """
    return "\n".join(f"{'   ' * info.depth}{'└─ ' if info.depth else ''}{info.name} [{info.pid}]" for info in processes)
