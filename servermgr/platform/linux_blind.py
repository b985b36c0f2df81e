"""Linux where no /proc is mounted: what the bare system calls tell.

A process can ask of any number whether it is a child of its own (waitid(2) without reaping), and so a guardian finds
those directly below it, its orphans among them. Nobody else's parent can be read, and no names.
"""

from __future__ import annotations

import _thread
import os
import select
import sys

from servermgr.platform.stat import ProcessStat

assert sys.platform == "linux"  # imported by platform/linux.py alone

_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT
#: One above the largest pid that Linux can be told to use, and that of small machines, where it begins anew.
_MOST_PIDS, _USUAL_PIDS = 2**22, 2**15 + 1


def is_blind() -> bool:
    """Whether there is no /proc to read."""
    return not os.path.exists("/proc/self/stat")


def children(pid: int) -> list[int]:
    """The children of this process; of any other none can be found."""
    return [] if pid != os.getpid() else [number for number in _candidates() if _state(number) == "S"]


def _candidates() -> list[int]:
    # Numbers are given in ascending order and begin again at the top: who was started by one of ours has one between
    # our own and that which is next in turn.
    own, newest = os.getpid(), _next_number()
    if own < newest:
        return [*range(own + 1, newest)]
    return [*range(own + 1, _USUAL_PIDS if own < _USUAL_PIDS else _MOST_PIDS), *range(2, newest)]


def _next_number() -> int:
    """A thread's number is drawn with those of processes; and no SIGCHLD follows it, which would have us look again."""
    seen: list[int] = []
    done = _thread.allocate_lock()
    done.acquire()

    def look() -> None:
        seen.append(_thread.get_native_id())
        done.release()

    try:
        _thread.start_new_thread(look, ())
    except RuntimeError:  # no process may be started any more
        return 0
    done.acquire()
    return seen[0]


def _state(pid: int) -> str:
    """`S` for a child that runs, `Z` for one that has ended; empty for whoever is no child."""
    try:
        return "S" if os.waitid(os.P_PID, pid, _LOOK) is None else "Z"
    except ChildProcessError:
        return ""


def read_stat(pid: int, *, serial: int) -> ProcessStat | None:
    """What can be known of the process: a child, this process itself, or one whose serial number proves who it is.

    Anyone else is None: his bare number would be all that there is to know him by.
    """
    own = os.getpid()
    state = "R" if pid == own else _state(pid)
    parent = own if state in ("S", "Z") else 0
    if not state and serial:
        state = _state_by_pidfd(pid)
    if not state:
        return None
    try:
        return ProcessStat(pid, "", state, parent, os.getpgid(pid), os.getsid(pid), 0)
    except OSError:  # gone this very moment; or of another session, where a security module forbids the question
        return None


def _state_by_pidfd(pid: int) -> str:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return ""
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return "Z" if poll.poll(0) else "S"
    finally:
        os.close(pidfd)
