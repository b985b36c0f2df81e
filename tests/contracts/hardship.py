"""Linux with something taken away: `python hardship.py NAME… -- COMMAND…` takes it from itself, and becomes COMMAND.

Nothing is pretended: seccomp filters make the kernel refuse system calls, and mounts and namespaces are real ones. All
of it goes with the process; nobody else on the machine notices.

Sources: seccomp(2), linux/filter.h, linux/seccomp.h, namespaces(7), mount(2), proc(5) hidepid.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import time
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

NOBODY = 65534
#: Exit status where this host does not allow it; the reason is on standard error.
IMPOSSIBLE = 77
PRCTL = {"x86_64": 157, "aarch64": 167}
PIDFD_OPEN, PIDFD_SEND_SIGNAL = 434, 424  # on every machine
SET_CHILD_SUBREAPER = 36
NEW_MOUNTS, NEW_PIDS = 0x00020000, 0x20000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        impossible(f"{what}: {os.strerror(code)}")


def impossible(reason: str) -> NoReturn:
    print(reason, file=sys.stderr, flush=True)  # noqa: T201  # whoever has started this is told by it
    os._exit(IMPOSSIBLE)


# --- system calls that are refused -------------------------------------------------------------------------------


class Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


def refuse(number: int, code: int, first: int | None = None) -> None:
    """Have the kernel refuse a system call from now on, to this process and all that descends from it.

    Args:
        number: Of the system call.
        code: The errno that it answers.
        first: The first argument for which it refuses; None: for any.
    """
    allow, deny = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | code)
    load, equal = 0x20, 0x15
    steps = [(load, 0, 0, 0), (equal, 0, 1 if first is None else 3, number)]
    if first is not None:
        steps += [(load, 0, 0, 16), (equal, 0, 1, first)]  # the lower half of args[0]: both machines are little-endian
    steps += [deny, allow]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    checked(libc.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    checked(libc.prctl(22, 2, ctypes.byref(Filter(len(steps), program)), 0, 0), "PR_SET_SECCOMP")


def refuse_pidfds(code: int) -> None:
    refuse(PIDFD_OPEN, code)
    refuse(PIDFD_SEND_SIGNAL, code)


def refuse_subreaper() -> None:
    machine = os.uname().machine
    if machine not in PRCTL:
        impossible(f"the number of prctl(2) on {machine} is not known here")
    refuse(PRCTL[machine], errno.EPERM, SET_CHILD_SUBREAPER)


# --- mounts and namespaces ---------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), "unshare")
    if flags & NEW_MOUNTS:
        mount(None, "/", None, RECURSIVE | PRIVATE)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    checked(libc.mount(*words, flags, None if data is None else data.encode()), f"mount {target}")


def without_proc() -> None:
    unshare(NEW_MOUNTS)
    mount("none", "/proc", "tmpfs", READ_ONLY)


def read_only() -> None:
    """Everything but the directories that `$HARDSHIP_WRITABLE` names."""
    unshare(NEW_MOUNTS)
    for folder in os.environ["HARDSHIP_WRITABLE"].split(os.pathsep):
        mount(folder, folder, None, BIND)
    with open("/proc/self/mounts") as file:  # each mount has its own flag
        points = {line.split()[1] for line in file}
    for point in points & {"/", "/tmp", "/var", "/var/tmp", "/dev/shm", "/home", "/root"}:
        mount(None, point, None, REMOUNT | BIND | READ_ONLY)


def in_new_pids() -> None:
    """Go on as PID 1 of a new pid namespace; whoever has started this waits for that one's end."""
    unshare(NEW_MOUNTS | NEW_PIDS)
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    mount("proc", "/proc", "proc")


def below_an_init() -> None:
    """Go on as a process below a PID 1 that does nothing but reap, as in a container with a small init."""
    in_new_pids()
    if os.fork() == 0:
        return
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        try:
            os.wait()
        except ChildProcessError:
            break
    os._exit(0)


def below_a_user_manager() -> None:
    """Go on below a subreaper that is nobody's of ours, as in a session that `systemd --user` holds."""
    checked(libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")
    if os.fork() == 0:
        return
    while True:  # its last child ends as the test does
        try:
            os.wait()
        except ChildProcessError:
            os._exit(0)


def with_hidden_processes() -> None:
    """An ordinary user, to whom the processes of others are hidden."""
    in_new_pids()
    mount("proc", "/proc", "proc", 0, "hidepid=2")
    if os.fork():
        while True:  # a process of another user, and the namespace's init: it reaps
            try:
                os.wait()
            except ChildProcessError:
                os._exit(0)
    become_nobody()


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


HARDSHIPS: dict[str, Callable[[], None]] = {
    "no-pidfd-kernel": partial(refuse_pidfds, errno.ENOSYS),
    "no-pidfd-profile": partial(refuse_pidfds, errno.EPERM),
    "no-subreaper": refuse_subreaper,
    "no-proc": without_proc,
    "read-only": read_only,
    "init": in_new_pids,
    "container": below_an_init,
    "user-manager": below_a_user_manager,
    "hidepid": with_hidden_processes,
    "nobody": become_nobody,
}


def main() -> None:
    split = sys.argv.index("--")
    for name in sys.argv[1:split]:
        HARDSHIPS[name]()
    os.execv(sys.argv[split + 1], sys.argv[split + 1 :])


if __name__ == "__main__":
    main()
