"""What happens in a tree, told for a trace; only for an owner who has asked for it."""

from __future__ import annotations

import os
import time

from servermgr import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from servermgr.guardian.protocol import Message
    from servermgr.platform.stat import ProcessStat

#: Seconds between two looks at who is there.
_LOOK = 0.05
#: Share of its time that looking may take, however large the tree is.
_LOOK_SHARE = 0.1


class Events:
    """Tells who appears in a tree, what he is sent, and that he is gone.

    A process is seen when it is looked at, within some 50 ms, or when it comes to this process to be reaped; one that
    lives shorter, and is reaped by its own parent, is not seen at all.

    Args:
        tell: Called with each event, a message of `protocol`.
    """

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self._tell = tell
        self._known: dict[int, tuple[int, str]] = {}
        self._killed: set[int] = set()
        self._next = 0.0

    def say(self, what: str, pid: int, **facts: Any) -> None:
        """Something has happened to a process, now."""
        self._tell({"is": "event", "what": what, "pid": pid, "at": time.monotonic(), **facts})

    # --- who is there -------------------------------------------------------------------------------------------

    def spawned(self, pid: int, what: str = "spawn") -> None:
        """The command runs."""
        stat = platform.read_stat(pid)
        if stat is not None:
            self._known[pid] = (stat.start, stat.name)
        self.say(what, pid, name="" if stat is None else stat.name)

    def step(self, members: Callable[[], Iterable[int]]) -> float:
        """Look at everyone of the tree when it is time to. Returns the seconds until the next time."""
        began = time.monotonic()
        if began >= self._next:
            self.look(members())
            now = time.monotonic()
            self._next = now + max(_LOOK, (now - began) / _LOOK_SHARE)
        return max(0.0, self._next - time.monotonic())

    def look(self, pids: Iterable[int]) -> None:
        """Look at those, who are all that can be found of the tree at this moment."""
        listed = set(pids)
        for pid in [*self._known, *(listed - set(self._known))]:
            stat = platform.read_stat(pid)
            known = self._known.get(pid)
            if known is not None and (stat is None or stat.start != known[0]):
                self.exited(pid, None)
                known = None
            if stat is None or (known is None and pid not in listed):
                continue
            if stat.state in "ZX" and not platform.is_alive(pid):
                self._meet_dead(pid, stat)
            else:
                self._meet(pid, stat)

    def _meet(self, pid: int, stat: ProcessStat) -> None:
        known = self._known.get(pid)
        self._known[pid] = (stat.start, stat.name)
        if known is None:
            self.say("seen", pid, name=stat.name, parent=stat.ppid)
        elif known[1] != stat.name:
            self.say("named", pid, name=stat.name)

    def _meet_dead(self, pid: int, stat: ProcessStat) -> None:
        # Our own child: its status comes with the reaping. Another's: who knows when he reaps it.
        if pid in self._known and stat.ppid != os.getpid():
            self.exited(pid, None)

    def exited(self, pid: int, status: int | None) -> None:
        """A process has ended; its status as `Popen.returncode`, None where nobody here can read it."""
        self._known.pop(pid, None)
        self._killed.discard(pid)
        self.say("exit", pid, status=status)

    # --- what they are sent -------------------------------------------------------------------------------------

    def signalled(self, pid: int, number: int) -> None:
        """A process is sent a signal."""
        if number == platform.SIGCONT:  # goes with each polite one, so that a stopped process hears it
            return
        if number == platform.SIGKILL:  # is repeated until it has worked
            if pid in self._killed:
                return
            self._killed.add(pid)
        self.say("signal", pid, signal=int(number))

    def group_killed(self, leader: int) -> None:
        """The process group of a process is about to be killed."""
        for pid in [leader, *(pid for pid in self._known if pid != leader)]:
            stat = platform.read_stat(pid)
            if stat is not None and stat.pgrp == leader and stat.state not in "ZX":
                self.signalled(pid, platform.SIGKILL)
