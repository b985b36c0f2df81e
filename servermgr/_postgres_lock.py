"""`postmaster.pid`: who runs on a data directory, what it says of itself, and whether that is still true.

A server that was killed leaves the file behind. PostgreSQL removes it by itself unless the pid in it lives, which
it then takes for a server's, whoever that is by now. The file itself is never touched here: with it PostgreSQL also
finds out whether children of the dead server live on and write. It is only told which pid is an innocent's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

from servermgr.deadline import Deadline, pace, sleep
from servermgr.errors import WorkerError

LOCK_FILE = "postmaster.pid"
#: Seconds to wait for a server that is going down already, as after the death of its owner; and for one to say that
#: it is, for the signal may be on its way.
STOPPING_PATIENCE = 10.0
RUNNING_PATIENCE = 0.5


class Lock(NamedTuple):
    """The lines of `postmaster.pid` that matter here.

    Attributes:
        pid: The postmaster, or who has its number by now.
        port: Where it listens; empty while it is not written yet.
        memory: The number of its segment of System V shared memory; empty where there is none.
        status: `starting`, `ready`, `standby`, `stopping`, or empty.
    """

    pid: int
    port: str
    memory: str
    status: str


def read(db_dir: str) -> Lock | None:
    """What the file says; None where there is none, or no server could have written it."""
    return _parse(os.path.join(db_dir, LOCK_FILE))


def _parse(path: str) -> Lock | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.read(4096).splitlines()] + [""] * 8
        pid = abs(int(lines[0]))  # a single-user server writes its pid as a negative number
    except (OSError, ValueError):
        return None
    return Lock(pid, lines[3], "".join(lines[6].split()[1:2]), lines[7])


def innocent(db_dir: str, socket_lock: str) -> int | None:
    """Refuse a data directory that a server runs on; wait for one that is stopping.

    Args:
        db_dir: The data directory.
        socket_lock: The lock file beside the socket; removed if it is stale and would be misread, too.

    Returns:
        A living process that only has the number of a server that is gone; None if there is none.

    Raises:
        WorkerError: A server runs there.
    """
    deadline = Deadline(STOPPING_PATIENCE)
    while (lock := read(db_dir)) is not None and _is_postmaster(lock.pid, db_dir):
        if deadline.elapsed > RUNNING_PATIENCE and (lock.status != "stopping" or deadline.expired):
            where = f" and listens on port {lock.port}" if lock.port else ""
            doing = "is stopping" if lock.status == "stopping" else "runs"
            raise WorkerError(None, f"a PostgreSQL {doing} on {db_dir} already: pid {lock.pid}{where}")
        sleep(pace(deadline.elapsed))
    at_socket = _parse(socket_lock)
    if at_socket is not None and _lives(at_socket.pid) and not _is_postmaster(at_socket.pid, db_dir):
        os.unlink(socket_lock)
    return lock.pid if lock is not None and _lives(lock.pid) else None


def free_memory(db_dir: str, pid: int) -> None:
    """Free the shared memory of a server that was killed and so could not do it: else only the next start would.

    Args:
        db_dir: The data directory.
        pid: The server's; its whole tree is gone.
    """
    lock = read(db_dir)
    if lock is None or lock.pid != pid or not lock.memory.isdigit() or _lives(pid):
        return  # it ended in order; or this is a fork of the process that owns it, and it runs
    program = shutil.which("ipcrm")
    if program is not None:
        subprocess.run([program, "-m", lock.memory], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _lives(pid: int) -> bool:
    import psutil  # noqa: PLC0415  # only where a lock file was left

    return bool(pid and psutil.pid_exists(pid))


def _is_postmaster(pid: int, db_dir: str) -> bool:
    """Whether a process is a server on this directory: every process of one has it as its working directory.

    Where that cannot be seen, the process is another user's, and PostgreSQL does not take it for a server either.
    """
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and os.path.samefile(process.cwd(), db_dir)
    except (psutil.Error, OSError):
        return False
