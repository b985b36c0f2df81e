"""Linux: process trees through /proc, pidfds and the child subreaper.

Only the standard library, and only its quick modules: the guardian runs this file.

Sources: proc(5), prctl(2) PR_SET_CHILD_SUBREAPER, pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import time

from servermgr.platform import abilities, linux_blind
from servermgr.platform.procfs import read, threads
from servermgr.platform.stat import ProcessStat

assert sys.platform == "linux"  # chosen by platform/__init__.py alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import Any

NAME = "linux"
#: The module that holds process trees here.
HOLDER: str | None = "servermgr.guarded"
#: The module that runs a command in the place of this process, for `servermgr run`.
STEP = "servermgr._cli_step"
SIGKILL: int = signal.SIGKILL
SIGCONT: int = signal.SIGCONT
#: See `abilities`. Launched: all of them.
ABILITIES = frozenset(abilities.MEANING)
#: Nobody stands above an adopted process, so who has left his parent before anyone looked has left the tree.
ADOPTED_ABILITIES = frozenset(
    {abilities.CHILDREN, abilities.STOPPED, abilities.STUBBORN, abilities.POLITE, abilities.PORT_OWNER}
)

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def read_stat(pid: int) -> ProcessStat | None:
    """What /proc says of the process, or None if there is no such process."""
    text = read(f"/proc/{pid}/stat")
    if not text and linux_blind.is_blind():
        return linux_blind.read_stat(pid, serial=process_serial(pid))
    try:
        return _parse_stat(text) if text else None
    except (ValueError, IndexError):  # cut short while the process went away
        return None


def _parse_stat(text: bytes) -> ProcessStat:
    head, _, tail = text.rpartition(b")")  # the name may hold spaces and parentheses
    pid, _, name = head.partition(b"(")
    state, ppid, pgrp, session, *rest = tail.split()
    return ProcessStat(int(pid), os.fsdecode(name), state.decode(), int(ppid), int(pgrp), int(session), int(rest[15]))


def start_now() -> int:
    """The `start` that a process has which is made at this moment; 0 where it is to be read alone.

    Reading it of a process in exec(2) waits until that is complete, which takes longer than all else at a start.
    """
    # Both come from the same clock of the kernel, and are cut down to whole ticks (fs/proc/array.c).
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 10_000_000 if _TICKS == 100 else 0


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie counts as gone, unless other threads of it live.

    A process whose main thread has called pthread_exit(3) is shown as a zombie while it goes on running.
    """
    stat = read_stat(pid)
    if stat is None:
        return False
    return stat.state not in "ZX" or len(threads(pid)) > 1


def _children_by_thread(pid: int) -> list[int]:
    """Children of every thread: those of a thread are listed under that thread alone."""
    try:
        count = os.stat(f"/proc/{pid}/task").st_nlink - 2  # a directory for each, and `.` and `..`
    except OSError:
        return []
    if count == 1:
        return list(map(int, read(f"/proc/{pid}/task/{pid}/children").split()))
    found: list[int] = []
    for thread in threads(pid):
        found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def children(pid: int) -> list[int]:
    """The children of a process at this moment; see `descendants` on how far to trust one reading."""
    return list(_children_lookup()(pid))


def _children_lookup() -> Callable[[int], Iterable[int]]:
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children_by_thread
    if linux_blind.is_blind():
        return linux_blind.children
    # A kernel without CONFIG_PROC_CHILDREN: one pass over the machine, then look-ups.
    table: dict[int, list[int]] = {}
    for stat in processes():
        table.setdefault(stat.ppid, []).append(stat.pid)
    return lambda pid: table.get(pid, ())


def processes() -> list[ProcessStat]:
    """The process table in one reading; empty where it cannot be read, for this process itself is always in it."""
    return [stat for stat in map(read_stat, all_pids()) if stat is not None]


def descendants(root: int, skip: Container[int] = ()) -> dict[int, int]:
    """All that descends from `root`, as pid → parent's pid, parents before their children.

    Processes in `skip` are left out with all that descends from them.

    The cost follows the size of the tree, not of the machine. One reading is never proof: while siblings
    die, the kernel's list can miss the living. Repeat it, and finish on `waitpid` saying that no child is left.
    """
    lookup = _children_lookup()
    found: dict[int, int] = {}
    front = [root]
    while front:
        parent = front.pop()
        for pid in lookup(parent):
            if pid not in found and pid != root and pid not in skip:
                found[pid] = parent
                front.append(pid)
    return found


def session(pid: int) -> int:
    """The session that the process is in; 0 where it is gone or not told."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def open_pidfd(pid: int) -> int:
    """A descriptor that means this process and no later one of the same number; -1 where there are none.

    Raises:
        ProcessLookupError: There is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):  # a kernel before 5.3, a seccomp filter, no descriptor left
        return -1


def signal_pidfd(pidfd: int, number: int) -> None:
    """Send a signal to the process behind a pidfd. A process that is gone is no error.

    Raises:
        PermissionError: It belongs to somebody else.
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def become_subreaper() -> bool:
    """Make orphans among our descendants come to this process; False where the kernel refuses."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def process_name(pid: int) -> str:
    """What it is called, also once it is dead and not reaped; empty where that is not told. Half of a `read_stat`."""
    return os.fsdecode(read(f"/proc/{pid}/comm")[:-1])


def set_process_name(name: str) -> None:
    """Give this process a name for `ps`; 15 bytes of it are shown."""
    _prctl(_PR_SET_NAME, os.fsencode(name)[:15] + b"\0")


def _prctl(option: int, argument: int | bytes) -> bool:
    try:
        return bool(_libc().prctl(option, argument, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # a libc that cannot be opened by ctypes
        return False


@functools.lru_cache(maxsize=1)  # made once by the nursery, and not once more by each of its forks
def _libc() -> Any:
    import ctypes  # noqa: PLC0415  # only the guardian needs it; it costs an owner 2 ms

    return ctypes.CDLL(None, use_errno=True)


def all_pids() -> list[int]:
    """Every process of the machine that this user can see."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment.

    False where this user may not look, and where the process has overwritten its environment (nginx, redis).
    """
    environ = read(f"/proc/{pid}/environ")
    if environ:
        return entry in environ.split(b"\0")
    # Where the main thread has left, the environment is to be had from the others alone.
    return any(entry in read(f"/proc/{pid}/task/{thread}/environ").split(b"\0") for thread in threads(pid))


def marked(entry: bytes, strangers: set[int]) -> Iterator[int]:
    """Who was started with exactly this `NAME=value` in the environment, the newest first.

    Args:
        entry: The words.
        strangers: Whoever was seen not to be, and need not be looked at again; what is seen now goes there, too.
    """
    # The newest first, and nobody twice: of a storm nobody lives until all the others have been read.
    pids = set(all_pids())
    strangers &= pids
    for pid in sorted(pids - strangers, reverse=True):
        if environment_holds(pid, entry):
            yield pid
        else:
            strangers.add(pid)


def exit_event(pid: int) -> int:
    """A descriptor that is readable once the process has ended, which need be no child; -1 where there is none.

    Raises:
        ProcessLookupError: There is no such process.
    """
    return open_pidfd(pid)


def losses() -> Iterator[str]:
    """What this system should be able to and is not, and what that costs."""
    if linux_blind.is_blind():
        yield "no /proc is mounted: who is deeper in a tree than the first generation is neither shown nor asked to end"
    elif not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        yield "the kernel lists no children (CONFIG_PROC_CHILDREN): each look at a tree reads the whole process table"
    elif os.geteuid() != 0 and not os.path.exists("/proc/1"):
        yield "processes of other users are hidden (hidepid): one that changes its user leaves the listings"
    pidfd = open_pidfd(os.getpid())
    if pidfd < 0:
        yield "no pidfd_open(2) (Linux before 5.3, or a seccomp profile): processes are told by pid and creation time"
    else:
        os.close(pidfd)


def process_serial(pid: int) -> int:
    """A number that no other process of this boot has or will have; 0 where the kernel gives none.

    It is the inode number of the process's pidfd, unique since pidfds have a file system of their own (6.9).
    """
    try:
        pidfd = open_pidfd(pid)
    except ProcessLookupError:
        return 0
    if pidfd < 0:
        return 0
    try:
        seen = os.fstat(pidfd)
        return 0 if seen.st_dev == _anonymous_device() else seen.st_ino
    finally:
        os.close(pidfd)


@functools.lru_cache(maxsize=1)
def _anonymous_device() -> int:
    """The device of anonymous inodes, one of which all pidfds shared before they had a file system of their own."""
    pipe = select.epoll()
    try:
        return os.fstat(pipe.fileno()).st_dev
    finally:
        pipe.close()
