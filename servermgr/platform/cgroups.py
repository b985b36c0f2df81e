"""Linux: control groups (cgroups(7), version 2), where this user may make them, as one more net.

Whoever is in a group stays in it whatever it does, and so do its descendants; only who may write to another group
leaves it. It is asked for by `SERVERMGR_CGROUP=on`: for each start the kernel moves a process between groups, which
takes it some ten milliseconds, and holds up every fork of the machine meanwhile.
"""

from __future__ import annotations

import os
import sys

from servermgr.platform.procfs import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

assert sys.platform == "linux"  # chosen by platform/__init__.py alone

_SWITCH = "SERVERMGR_CGROUP"
_ON = ("1", "on", "true", "yes")
_PREFIX = "servermgr-"


def group_for(marker: str) -> str:
    """Where the group of a tree is to be made; empty if it was not asked for, or this user may not make any."""
    if os.environ.get(_SWITCH, "").lower() not in _ON:
        return ""
    home = _home()
    return os.path.join(home, _PREFIX + marker) if home else ""


def is_group_of(path: str, marker: str) -> bool:
    """Whether a directory is, by its name, the group of the tree that bears this marker."""
    return os.path.basename(path) == _PREFIX + marker


def contained(marker: str, removes: Iterable[str]) -> list[int]:
    """Who is in the group of the tree that bears this marker, as the kernel says of each process.

    Args:
        marker: The marker.
        removes: What goes with the tree. Where its group is not among that there is none, and nobody is looked at: a
            sweep asks at each of its looks, and what is fast enough to flee must be looked at often.
    """
    if not any(is_group_of(path, marker) for path in removes):
        return []
    name = (_PREFIX + marker).encode()
    pids = [int(entry) for entry in _listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if name in _path_in(read(f"/proc/{pid}/cgroup")).split(b"/")]


def _home() -> str:
    """The group of this process, as a directory to make others in; empty where that is not allowed."""
    path = os.fsdecode(_path_in(read("/proc/self/cgroup")))
    for mount in _mounts():
        folder = os.path.join(mount, path.lstrip("/"))
        procs = os.path.join(folder, "cgroup.procs")
        # To move a process one must be allowed to write where it comes from, too.
        if (
            os.access(folder, os.W_OK)
            and os.access(procs, os.W_OK)
            and str(os.getpid()).encode() in read(procs).split()
        ):
            return folder
    return ""


def _path_in(text: bytes) -> bytes:
    """The line of version 2 is the one with number 0 and without names of controllers."""
    return next((line[3:] for line in text.splitlines() if line.startswith(b"0::")), b"")


def _mounts() -> list[str]:
    rows = [row.split(b" ") for row in read("/proc/self/mounts").splitlines()]
    return [os.fsdecode(row[1]) for row in rows if len(row) > 2 and row[2] == b"cgroup2"]


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
