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

from servermgr.platform.stat import ProcessStat

assert sys.platform == "linux"  # chosen by platform/__init__.py alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

NAME = "linux"
#: The module that holds process trees here.
HOLDER: str | None = "servermgr.guarded"
#: The module that runs a command in the place of this process, for `servermgr run`.
STEP = "servermgr._cli_step"
SIGKILL: int = signal.SIGKILL
SIGCONT: int = signal.SIGCONT

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def _read(path: str) -> bytes:
    """A small file of /proc, whole; empty where it is gone or may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        text = chunk = os.read(fd, 65536)
        while chunk:  # a children list longer than one read
            chunk = os.read(fd, 65536)
            text += chunk
    except OSError:  # ESRCH: the process ended between open and read
        return b""
    else:
        return text
    finally:
        os.close(fd)


def read_stat(pid: int) -> ProcessStat | None:
    """What /proc says of the process, or None if there is no such process."""
    text = _read(f"/proc/{pid}/stat")
    try:
        return _parse_stat(text) if text else None
    except (ValueError, IndexError):  # cut short while the process went away
        return None


def _parse_stat(text: bytes) -> ProcessStat:
    head, _, tail = text.rpartition(b")")  # the name may hold spaces and parentheses
    pid, _, name = head.partition(b"(")
    state, ppid, pgrp, session, *rest = tail.split()
    return ProcessStat(int(pid), os.fsdecode(name), state.decode(), int(ppid), int(pgrp), int(session), int(rest[15]))


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie counts as gone, unless other threads of it live.

    A process whose main thread has called pthread_exit(3) is shown as a zombie while it goes on running.
    """
    stat = read_stat(pid)
    if stat is None:
        return False
    return stat.state not in "ZX" or len(_threads(pid)) > 1


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _children_by_thread(pid: int) -> list[int]:
    """Children of every thread: those of a thread are listed under that thread alone."""
    try:
        threads = os.stat(f"/proc/{pid}/task").st_nlink - 2  # a directory for each, and `.` and `..`
    except OSError:
        return []
    if threads == 1:
        return list(map(int, _read(f"/proc/{pid}/task/{pid}/children").split()))
    found: list[int] = []
    for thread in _threads(pid):
        found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def children(pid: int) -> list[int]:
    """The children of a process at this moment; see `descendants` on how far to trust one reading."""
    return list(_children_lookup()(pid))


def _children_lookup() -> Callable[[int], Iterable[int]]:
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children_by_thread
    # A kernel without CONFIG_PROC_CHILDREN: one pass over the machine, then look-ups.
    table: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        stat = read_stat(int(entry)) if entry.isdigit() else None
        if stat is not None:
            table.setdefault(stat.ppid, []).append(stat.pid)
    return lambda pid: table.get(pid, ())


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


def set_process_name(name: str) -> None:
    """Give this process a name for `ps`; 15 bytes of it are shown."""
    _prctl(_PR_SET_NAME, os.fsencode(name)[:15] + b"\0")


def _prctl(option: int, argument: int | bytes) -> bool:
    import ctypes  # noqa: PLC0415  # only the guardian needs it; it costs an owner 2 ms

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(option, argument, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # a libc that cannot be opened by ctypes
        return False


def process_facts() -> tuple[object, ...]:
    """What a child inherits from this process and cannot be told otherwise.

    Two equal answers mean that a helper started at the first still hands on the right things at the second.
    """
    import resource  # noqa: PLC0415  # owner only

    limits = tuple(resource.getrlimit(number) for number in range(16))
    return (
        os.getresuid(),
        os.getresgid(),
        tuple(os.getgroups()),
        os.getpriority(os.PRIO_PROCESS, 0),
        frozenset(os.sched_getaffinity(0)),
        limits,
        _umask(),
        _read("/proc/self/cgroup"),
        _links("ns/mnt", "ns/net", "ns/pid_for_children", "ns/uts", "ns/ipc", "root"),
    )


def _links(*names: str) -> tuple[str, ...]:
    found = []
    for name in names:
        try:
            found.append(os.readlink(f"/proc/self/{name}"))
        except OSError:
            found.append("")
    return tuple(found)


def _umask() -> bytes:
    # os.umask() can only be read by setting it, which another thread would see.
    for line in _read("/proc/self/status").splitlines():
        if line.startswith(b"Umask:"):
            return line
    return b""


def boot_id() -> str:
    """A text that changes with each boot; empty where the system has none."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def socket_inodes(pid: int) -> set[int] | None:
    """Inodes of the sockets that the process holds; None where this user may not look."""
    found: set[int] = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return found
    except OSError:
        return None
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def all_pids() -> list[int]:
    """Every process of the machine that this user can see."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def pid_namespace() -> str:
    """A text that is the same for all who see the same pids; empty where it cannot be told."""
    return _links("ns/pid")[0]


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment.

    False where this user may not look, and where the process has overwritten its environment (nginx, redis).
    """
    environ = _read(f"/proc/{pid}/environ")
    if environ:
        return entry in environ.split(b"\0")
    # Where the main thread has left, the environment is to be had from the others alone.
    return any(entry in _read(f"/proc/{pid}/task/{thread}/environ").split(b"\0") for thread in _threads(pid))


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
