"""The tree of a step, in the hands of the one process that is the subreaper above it: its guard, as a rule."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32"  # see _cli_step_signals

from servermgr import platform
from servermgr.deadline import Deadline
from servermgr.guardian.brood import Brood
from servermgr.guardian.events import Events
from servermgr.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.guardian.protocol import Message

#: Seconds for helpers of the command to notice that it has ended, before they count as left behind.
SETTLE = 0.5
#: So many of those left behind are named; a storm of them is no reason to fill the disk.
MOST_NAMED = 100


class StepTree:
    """Follows the command to its end, and then ends what it has left.

    Args:
        pid: The command, a child of this process.
        tell: Called with what happens.
        limits: Seconds until all of it is ended (None: no limit), and seconds from the polite signal to the forced one.
        on_job: Called when the command was stopped (True) or goes on (False).
        trace: Whether to tell of each signal and each end of a process.

    Attributes:
        status: The command's, as `Popen.returncode`; None while it runs.
        finished: Whether nothing is left to be done.
    """

    def __init__(
        self,
        pid: int,
        tell: Callable[[Message], None],
        *,
        limits: tuple[float | None, float],
        on_job: Callable[[bool], None] = lambda _: None,
        trace: bool = False,
    ) -> None:
        self._pid = pid
        self._tell = tell
        self._limit = Deadline(limits[0])
        self._grace = limits[1]
        self._on_job = on_job
        self._settle: Deadline | None = None
        self._stopping: Stopping | None = None
        self._events = Events(tell) if trace else None
        self._brood = Brood(lambda: self._pid if self.status is None else None, self._on_exit, self._events)
        self.status: int | None = None
        self.finished = False

    def _on_exit(self, pid: int, status: int) -> None:
        if pid == self._pid and self.status is None:
            self.status = status
            self._tell({"is": "ended", "status": status})

    def signal(self, number: int) -> None:
        """Pass a signal on to the command."""
        if self.status is not None:
            return
        try:
            self._brood.signal(self._pid, number)
        except PermissionError:
            pass  # a set-uid command: whoever has sent it may not signal that either

    def stop(self, grace: float) -> None:
        """End all of it; again: only shortens what is left of the grace period."""
        if self._events is not None:
            self._events.look(self._brood.listing())  # whoever is ended now has been seen
            self._events.say("stop", os.getpid(), grace=grace)
        if self._stopping is None:
            self._stopping = Stopping(self._brood, signal.SIGTERM, grace)
        else:
            self._stopping.hurry(grace)

    def advance(self) -> float | None:
        """Do what is due. Returns the seconds until the next step, or None where only an event can change something."""
        self._look_at_command()
        self._brood.reap()
        if self.finished:
            return None
        dues = [self._watch() if self._stopping is None else self._step(self._stopping)]
        if self._events is not None and not self.finished:
            dues.append(self._events.step(self._brood.members))
        return min((due for due in dues if due is not None), default=None)

    def _look_at_command(self) -> None:
        if self.status is not None:
            return
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:  # taken over, and gone before
            return
        if pid and (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
            self._on_job(os.WIFSTOPPED(status))
        elif pid:
            if self._events is not None:
                self._events.exited(pid, os.waitstatus_to_exitcode(status))
            self._on_exit(pid, os.waitstatus_to_exitcode(status))

    def _watch(self) -> float | None:
        if self.status is None and not self._brood.empty():
            if not self._limit.expired:
                return self._limit.remaining()
            self._tell({"is": "timeout", "processes": self._named()})
        elif self._brood.empty():
            self._finish({"polite": [], "killed": [], "survivors": [], "seconds": 0.0})
            return None
        else:
            self._settle = self._settle or Deadline(SETTLE)
            if not self._settle.expired:
                return self._settle.remaining()
            self._tell({"is": "left", "processes": self._named()})
        self.stop(self._grace)
        return 0.0

    def _step(self, stopping: Stopping) -> float | None:
        due = stopping.step()
        if stopping.finished:
            self._finish(stopping.report())
        return due

    def _finish(self, report: Message) -> None:
        self.finished = True
        self._tell({**report, "is": "done", "status": self.status})

    def _named(self) -> list[tuple[int, str, str]]:
        """Who lives in the tree: pid, name and command line."""
        found: list[tuple[int, str, str]] = []
        for pid in self._brood.listing():
            name = self._brood.name_of(pid)
            if name is not None and len(found) < MOST_NAMED:
                found.append((pid, name, _command_line(pid)))
        return found


def _command_line(pid: int) -> str:
    import psutil  # noqa: PLC0415  # only where something was left behind

    try:
        return " ".join(psutil.Process(pid).cmdline())[:200]
    except psutil.Error:  # it has ended meanwhile
        return ""


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped by a signal."""
    stat = platform.read_stat(pid)
    return stat is not None and stat.state == "T"
