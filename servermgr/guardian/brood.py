"""The processes below a guardian, as members of a tree to be ended.

The guardian is the subreaper, so everyone who descends from it stays below it whatever he does, and its
direct children keep their pids until it reaps them. That makes a direct child safe to signal by pid; who is
deeper is signalled through a pidfd, after its parent has been read again behind the held pidfd.
"""

from __future__ import annotations

import os

from servermgr import platform
from servermgr.guardian.killing import CAN_PURSUE, Killing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from servermgr.guardian.events import Events


class Brood:
    """Everyone below this process.

    Args:
        worker: Tells the pid of the worker, or None.
        on_exit: Called with pid and status (as `Popen.returncode`) of each process reaped.
        events: Hears of each signal and each end; None where nobody has asked for a trace.

    Attributes:
        cgroup: The directory of the tree's control group; empty for none.
    """

    #: Seconds between two looks at a worker that is no child of ours.
    glance = 0.25

    def __init__(
        self,
        worker: Callable[[], int | None],
        on_exit: Callable[[int, int], None],
        events: Events | None = None,
    ) -> None:
        self.worker = worker
        self._on_exit = on_exit
        self._events = events
        self._self = os.getpid()
        self._parents: dict[int, int] = {}
        self._childless = False
        self._listed = False
        self._killing: Killing | None = None
        self.cgroup = b""

    def listing(self) -> Iterable[int]:
        self._parents = platform.descendants(self._self)
        self._listed = True
        return list(self._parents)

    def name_of(self, pid: int) -> str | None:
        stat = platform.read_stat(pid)
        if stat is None or (stat.state in "ZX" and not platform.is_alive(pid)):
            return None
        return stat.name

    def holds(self, pid: int) -> bool:
        """Whether the process is below this one, read behind a held pidfd."""
        pidfd = self._open(pid)
        try:
            return pid in platform.descendants(self._self)
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def accepts(self, pid: int, written: int, uid: int) -> bool:
        """Whether the process that a fresh pidfile names is in the tree.

        Args:
            pid: Whom it names.
            written: When it was written, in seconds of the wall clock.
            uid: By whom.
        """
        return self.holds(pid)

    def launched(self, pid: int) -> None:
        """The command runs as `pid`."""

    def ending(self) -> None:
        """A stop begins."""

    def watch(self) -> float | None:
        """Do what has to be done from time to time; returns the seconds until the next time. None: nothing has."""
        return None

    def members(self) -> dict[int, int]:
        """Who is in the tree, as pid → parent's pid."""
        return platform.descendants(self._self)

    def is_child(self, pid: int) -> bool:
        """Whether the process is a direct child, whose end this process is told by itself."""
        stat = platform.read_stat(pid)
        return stat is not None and stat.ppid == self._self

    def signal(self, pid: int, number: int) -> None:
        if self._events is not None:
            self._events.signalled(pid, number)
        if self._listed and self._parents.get(pid) == self._self:
            self._signal_child(pid, number)  # listed as our child, and nobody was reaped since
            return
        stat = platform.read_stat(pid)
        if stat is not None and stat.ppid == self._self:
            self._signal_child(pid, number)
        elif stat is not None:
            self._signal_deeper(pid, number)

    def _signal_child(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)  # only this process reaps it, so the number is still its own
        except ProcessLookupError:
            pass

    def _signal_deeper(self, pid: int, number: int) -> None:
        pidfd = self._open(pid)
        try:
            # Behind the open pidfd the number cannot change hands any more, so what is read now is its own.
            stat = platform.read_stat(pid)
            if stat is None or not self._is_ours(stat.ppid):
                return  # reparented this very moment, or reused: the next listing tells
            if pidfd >= 0:
                platform.signal_pidfd(pidfd, number)
            else:
                self._signal_child(pid, number)
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _is_ours(self, parent: int) -> bool:
        return parent == self._self or parent in self._parents or parent in platform.descendants(self._self)

    def _open(self, pid: int) -> int:
        try:
            return platform.open_pidfd(pid)
        except ProcessLookupError:
            return -1

    def kill_groups(self) -> Callable[[], bool] | None:
        killing = self._strike()
        return (lambda: killing.pursue(self.reap, self.empty)) if CAN_PURSUE else None

    def _strike(self) -> Killing:
        self._kill_cgroup()
        self._killing = Killing(self._children, self._events)
        self._killing.strike()
        return self._killing

    def _kill_cgroup(self) -> None:
        """Of all that can be killed here this alone does not ask whether a process has become another user's."""
        try:
            if self.cgroup:
                fd = os.open(self.cgroup + b"/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
                os.write(fd, b"1")
                os.close(fd)
        except OSError:
            pass  # older than Linux 5.14, or the group could not be made

    def _children(self) -> Iterable[int]:
        return platform.children(self._self)

    def slain(self) -> dict[int, str]:
        return {} if self._killing is None else self._killing.slain

    def reap(self) -> int:
        count = 0
        while True:
            try:
                pid, status = self._reap_one()
            except ChildProcessError:
                self._childless = True
                return count
            if pid == 0:
                self._childless = False
                return count
            count += 1
            self._listed = False  # from here on a number of the last listing may mean another process
            self._reaped(pid, os.waitstatus_to_exitcode(status))

    def _reaped(self, pid: int, status: int) -> None:
        if self._events is not None:
            self._events.exited(pid, status)
        self._on_exit(pid, status)

    def _reap_one(self) -> tuple[int, int]:
        return os.waitpid(-1, os.WNOHANG) if self._killing is None else self._killing.reap_one()

    def empty(self) -> bool:
        # waitpid's ECHILD is the proof; no listing is.
        return self._childless

    def why_alive(self, pid: int) -> str:
        stat = platform.read_stat(pid)
        if stat is None:
            return "it ended while this was written"
        if stat.state == "D":
            return "it is in uninterruptible sleep (state D), waiting for a device or a file system"
        return f"it did not die of SIGKILL (state {stat.state})"
