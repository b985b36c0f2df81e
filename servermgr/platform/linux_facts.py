"""Linux: what a process hands on to its children, where it stands, and which sockets it holds."""

from __future__ import annotations

import fcntl
import os
import sys

from servermgr.platform.procfs import links, read

assert sys.platform == "linux"  # chosen by platform/__init__.py alone


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
        read("/proc/self/cgroup"),
        links("ns/mnt", "ns/net", "ns/pid_for_children", "ns/uts", "ns/ipc", "root"),
    )


def _umask() -> bytes:
    # os.umask() can only be read by setting it, which another thread would see.
    for line in read("/proc/self/status").splitlines():
        if line.startswith(b"Umask:"):
            return line
    return b""


def boot_id() -> str:
    """A text that changes with each boot; empty where the system has none."""
    return read("/proc/sys/kernel/random/boot_id").decode().strip()


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


def pid_namespace() -> str:
    """A text that is the same for all who see the same pids; empty where it cannot be told."""
    return links("ns/pid")[0]


def memory_file(name: str) -> int:
    """A file without a place in any file system, which is always written at its end; -1 where there is none."""
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    except (OSError, AttributeError):  # before Linux 3.17; a seccomp profile; no descriptor left
        return -1
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd
