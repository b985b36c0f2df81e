"""POSIX without Linux's means: the process table by ps(1), no pidfd, no subreaper.

The guardian holds what stays its descendant here; a daemon that forks twice leaves it. See `linux` for what
each function promises where it can.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from servermgr.platform.stat import ProcessStat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

assert sys.platform != "win32"  # chosen by platform/__init__.py alone

NAME = "posix"
#: The module that holds process trees here.
HOLDER: str | None = "servermgr.guarded"
#: The module that runs a command in the place of this process, for `servermgr run`.
STEP = "servermgr._cli_step"
SIGKILL: int = signal.SIGKILL
SIGCONT: int = signal.SIGCONT


def _ps(*selection: str) -> list[ProcessStat]:
    import subprocess  # noqa: PLC0415  # 9 ms that no other system's guardian pays

    command = ["ps", *selection, "-o", "pid=,ppid=,pgid=,state=,lstart=,comm="]
    answer = subprocess.run(  # no shell, constant words and numbers
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return [_parse(line) for line in answer.stdout.splitlines() if line.strip()]


def _parse(line: str) -> ProcessStat:
    pid, ppid, pgrp, state, *rest = line.split(None, 9)
    start = int(time.mktime(time.strptime(" ".join(rest[:5]), "%a %b %d %H:%M:%S %Y")))
    return ProcessStat(int(pid), os.path.basename(rest[5]), state[0], int(ppid), int(pgrp), 0, start)


def read_stat(pid: int) -> ProcessStat | None:
    """What ps(1) says of the process, or None if there is no such process. `start` is whole seconds."""
    found = _ps("-p", str(pid))
    return found[0] if found else None


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie counts as gone."""
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


def descendants(root: int, skip: Container[int] = ()) -> dict[int, int]:
    """All that descends from `root` at this moment, as pid → parent's pid, parents first."""
    table: dict[int, list[int]] = {}
    for stat in _ps("-A"):
        table.setdefault(stat.ppid, []).append(stat.pid)
    found: dict[int, int] = {}
    front = [root]
    while front:
        parent = front.pop()
        for pid in table.get(parent, ()):
            if pid not in found and pid != root and pid not in skip:
                found[pid] = parent
                front.append(pid)
    return found


def open_pidfd(pid: int) -> int:
    """There are none: -1.

    Raises:
        ProcessLookupError: There is no such process.
    """
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    return -1


def signal_pidfd(pidfd: int, number: int) -> None:
    """Never called: there is no pidfd to call it with."""
    raise OSError(f"no pidfd {pidfd} to send signal {number} to on this system")


def become_subreaper() -> bool:
    """Not to be had: False."""
    return False


def set_process_name(name: str) -> None:
    """Not to be had; the command line says who it is."""


def process_facts() -> tuple[object, ...]:
    """What a child inherits and cannot be told otherwise, as far as it can be read without changing it."""
    import resource  # noqa: PLC0415  # owner only

    limits = tuple(resource.getrlimit(number) for number in range(resource.RLIMIT_NOFILE + 1))
    return os.getuid(), os.geteuid(), os.getgid(), os.getegid(), tuple(os.getgroups()), limits


def boot_id() -> str:
    """No text that every such system has: empty."""
    return ""


def socket_inodes(pid: int) -> set[int] | None:
    """Not to be had without psutil: None, for "unknown"."""
    return None


def all_pids() -> list[int]:
    """Every process of the machine that this user can see."""
    return [stat.pid for stat in _ps("-A")]


def pid_namespace() -> str:
    """There are none, or none that can be told apart: empty."""
    return ""


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment, as ps(1) shows it."""
    import subprocess  # noqa: PLC0415

    command = ["ps", "eww", "-p", str(pid), "-o", "command="]
    answer = subprocess.run(command, capture_output=True, check=False)
    return entry in answer.stdout.split()


def process_serial(pid: int) -> int:
    """There are none: 0."""
    return 0


def children(pid: int) -> list[int]:
    """The children of a process at this moment."""
    return [child for child, parent in descendants(pid).items() if parent == pid]
