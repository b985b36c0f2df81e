"""Killing a tree from its top: the children of a subreaper, and whoever comes to it as they die.

Whoever loses his parent comes to the subreaper as a child of its own, whose number is taken until it reaps him. So it
takes no look at the whole tree, and no pidfd, to kill it: one reading of the own children, a signal for each, and the
same again for those who came to us when these have died. What cannot be killed this way (a child of a process that this
user may not signal, of one in uninterruptible sleep) is left to the rounds of `stopping`.
"""

from __future__ import annotations

import os
import signal
import time

from servermgr import platform
from servermgr.deadline import sleep
from servermgr.stopping import MOST_NAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from servermgr.guardian.events import Events

#: macOS lacks the one before Python 3.13, and the other: there the rounds of `stopping` do all of it.
_waitid = getattr(os, "waitid", None)
_sigtimedwait = getattr(signal, "sigtimedwait", None)
CAN_PURSUE = _waitid is not None and _sigtimedwait is not None
#: Seconds without a death after which another way has to be tried.
_STALL = 0.002
#: With more than so many dying there is a pause between two looks: who looks at each death holds up the next one.
_FEW, _PAUSE_EACH, _LONGEST_PAUSE = 8, 0.00002, 0.005
#: Seconds until whoever kills has to see what else there is for him.
_TURN = 0.02


class Killing:
    """Kills children of this process, which is a subreaper, and knows who has died of it.

    Args:
        children: Lists them, as far as they are to be killed.
        events: Hears of each signal; None where nobody has asked for a trace.

    Attributes:
        slain: Names by pid of those who have died of SIGKILL; of those after `MOST_NAMED`, nothing.
    """

    def __init__(self, children: Callable[[], Iterable[int]], events: Events | None) -> None:
        self._children = children
        self._events = events
        self._struck: set[int] = set()
        self._groups: set[int] = set()
        self.slain: dict[int, str] = {}

    def strike(self) -> int:
        """Kill each child that has not been yet; returns how many."""
        children = set(self._children())
        fresh = children - self._struck
        for pid in fresh:
            self.kill(pid)
        self._struck = children
        return len(fresh)

    def kill(self, pid: int) -> None:
        """Kill a child that has not been reaped, with its group if it leads one.

        The number of a group is taken as long as its leader is not reaped, and nobody from outside his session can be
        in it. Who is in a group that has been killed has been killed with it.
        """
        try:
            group = os.getpgid(pid)
            if group in self._groups:
                return
            if group == pid:
                self._groups.add(group)
                if self._events is not None:
                    self._events.group_killed(pid)
                os.killpg(pid, platform.SIGKILL)
            else:
                if self._events is not None:
                    self._events.signalled(pid, platform.SIGKILL)
                os.kill(pid, platform.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or somebody else's: the rounds of listing and killing say which

    def reap_one(self) -> tuple[int, int]:
        """As `os.waitpid(-1, os.WNOHANG)`, with a note of who has died of SIGKILL."""
        if len(self.slain) >= MOST_NAMED or _waitid is None:
            pid, status = os.waitpid(-1, os.WNOHANG)
        else:  # look before reaping: the name of the dead goes with it
            dead = _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return 0, 0
            if dead.si_status == platform.SIGKILL and dead.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                self.slain[dead.si_pid] = platform.process_name(dead.si_pid)
            pid, status = os.waitpid(dead.si_pid, 0)
        self._struck.discard(pid)
        return pid, status

    def pursue(self, reap: Callable[[], int], is_over: Callable[[], bool]) -> bool:
        """Reap, and kill whoever comes to us, as long as one death follows upon another.

        Args:
            reap: Collects all who are dead, by `reap_one`; returns how many.
            is_over: Whether nobody is left, as of the last reaping.

        Returns:
            Whether this goes on: it was left only so that the caller can see what else there is for him.
        """
        turn = time.monotonic() + _TURN
        # Nobody's handler runs for each of the dead meanwhile, nor does the caller's loop.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        try:
            while time.monotonic() < turn:
                reap()
                if is_over():
                    return False
                if not self._struck:
                    self.strike()
                if len(self._struck) > _FEW:
                    sleep(min(_LONGEST_PAUSE, len(self._struck) * _PAUSE_EACH))
                heard = _sigtimedwait is not None and _sigtimedwait((signal.SIGCHLD,), _STALL) is not None
                if not (heard or reap() or self.strike() or self._await_processors()):
                    return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True

    def _await_processors(self) -> bool:
        """Whether some that were killed only wait for their turn to die, where many die at once."""
        seen = [platform.read_stat(pid) for pid in list(self._struck)[:_FEW]]
        return any(stat is not None and stat.state == "R" for stat in seen)
