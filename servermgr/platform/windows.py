"""Windows: processes by handles, which keep a pid from meaning another process, and trees by job objects.

A handle does here what a pidfd does on Linux; see `linux` for what each function promises where it can.
"""

from __future__ import annotations

import os
import sys

from servermgr.deadline import Deadline
from servermgr.platform import _kernel32, abilities, job_object
from servermgr.platform.job_object import SLICE, Job
from servermgr.platform.stat import ProcessStat
from servermgr.platform.unheard import Unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

assert sys.platform == "win32"  # chosen by platform/__init__.py alone

import msvcrt  # noqa: E402  # nobody else has it

NAME = "windows"
#: The module that holds process trees here.
HOLDER: str | None = "servermgr.job"
#: The module that runs a command in the place of this process, for `servermgr run`.
STEP = "servermgr._cli_step_job"
#: Numbers that no call of Windows knows: they only say here what is meant.
SIGKILL = 9
SIGCONT = 18
#: See `abilities`. Not claimed, since no test has seen it: that a worker is asked (CTRL_BREAK), and that psutil tells
#: who listens; under Wine neither can be. There are no daemons with pidfiles and no guardians, and a dead owner asks
#: nobody.
ABILITIES = frozenset(abilities.MEANING) - {
    abilities.POLITE,
    abilities.PIDFILES,
    abilities.OWNER_DEATH_POLITE,
    abilities.GUARDIAN_DEATH,
    abilities.PORT_OWNER,
}
#: Whoever left his parent before the adoption was not in the job, and is not found.
ADOPTED_ABILITIES = frozenset({abilities.CHILDREN, abilities.STOPPED, abilities.STUBBORN, abilities.OWNER_DEATH})

_FILE_APPEND_DATA, _FILE_READ_ATTRIBUTES = 0x4, 0x80
_SHARE_ALL = 0x7
_OPEN_EXISTING, _OPEN_ALWAYS = 3, 4


def read_stat(pid: int) -> ProcessStat | None:
    """What Windows says of the process, or None if there is no such process."""
    return job_object.facts(_kernel32.load(), pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs. One that has ended counts as gone, though somebody may still hold it."""
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


def descendants(root: int, skip: Container[int] = ()) -> dict[int, int]:
    """All that descends from `root` at this moment, as pid → parent's pid, parents first; orphans are not seen."""
    found: dict[int, int] = {}
    for pid, parent in job_object.descendants(_kernel32.load(), root).items():
        if pid not in skip and (parent == root or parent in found):
            found[pid] = parent
    return found


def children(pid: int) -> list[int]:
    """The children of a process at this moment."""
    return [child for child, parent in descendants(pid).items() if parent == pid]


def session(pid: int) -> int:
    """There are none: 0."""
    return 0


def open_pidfd(pid: int) -> int:
    """A handle of the process; -1 where this user may not have one. To be closed by `close_pidfd` alone.

    Raises:
        ProcessLookupError: There is no such process.
    """
    kernel = _kernel32.load()
    for access in (_kernel32.PROCESS_LOOK | _kernel32.PROCESS_TERMINATE, _kernel32.PROCESS_LOOK):
        try:
            return kernel.open_process(pid, access)
        except PermissionError:
            continue
        except OSError as error:
            raise ProcessLookupError(pid) from error
    return -1


def close_pidfd(pidfd: int) -> None:
    """Close what `open_pidfd` has given."""
    _kernel32.load().close(pidfd)


def signal_pidfd(pidfd: int, number: int) -> None:
    """Kill the process behind a handle, if that is what the signal means. One that is gone is no error.

    Raises:
        PermissionError: It belongs to somebody else.
        Unheard: The signal is a polite one. Only the tree that has started a process knows how to ask it.
    """
    kernel = _kernel32.load()
    if number == SIGCONT or kernel.wait([pidfd], 0):
        return
    if number != SIGKILL:
        raise Unheard(f"signal {number} cannot be sent on Windows")
    try:
        kernel.terminate(pidfd, job_object.KILLED)
    except PermissionError:  # also what is said of one that is ending already
        if not kernel.wait([pidfd], int(SLICE * 1000)):
            raise


def wait_readable(fds: list[int], timeout: float | None) -> bool:
    """Wait until one of the processes behind these handles has ended, `timeout` seconds at most (None: for ever).

    In slices, since no Ctrl-C is heard in the middle of one; of very many handles the first 64 are waited for.
    """
    kernel, deadline = _kernel32.load(), Deadline(timeout)
    while True:
        try:
            if kernel.wait(fds[: _kernel32.MOST_HANDLES], int(deadline.within(SLICE) * 1000)):
                return True
        except OSError:  # another thread has let go of one: whoever waits looks for himself
            return True
        if deadline.expired or len(fds) > _kernel32.MOST_HANDLES:
            return False


def become_subreaper() -> bool:
    """Nobody inherits orphans here: False."""
    return False


def start_now() -> int:
    """Not to be had: 0."""
    return 0


def process_name(pid: int) -> str:
    """What it is called; empty where that is not told."""
    stat = read_stat(pid)
    return "" if stat is None else stat.name


def set_process_name(name: str) -> None:
    """Not to be had."""


def process_facts() -> tuple[object, ...]:
    """Empty: every command is created by this very process."""
    return ()


def boot_id() -> str:
    """Empty: creation times are absolute here, and those of an earlier boot are nobody's any more."""
    return ""


def pid_namespace() -> str:
    """There are none: empty."""
    return ""


def socket_inodes(pid: int) -> set[int] | None:
    """Sockets have no inodes here: None, for "unknown"."""
    return None


def process_serial(pid: int) -> int:
    """0: creation times, of 100 ns each, tell a pid's users apart."""
    return 0


def all_pids() -> list[int]:
    """Every process of the machine."""
    return [pid for pid, _ in _kernel32.load().processes()]


def memory_file(name: str) -> int:
    """There are none: -1."""
    return -1


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment."""
    import psutil  # noqa: PLC0415

    name, _, value = entry.decode().partition("=")
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):  # ended meanwhile; another user's
        return False


def is_group_of(path: str, marker: str) -> bool:
    """There are no control groups: False."""
    return False


def group_for(marker: str) -> str:
    """A job object takes the place of a control group: empty."""
    return ""


def contained(marker: str, removes: Iterable[str]) -> list[int]:
    """Who is in the job of the tree that bears this marker; empty where there is none that this user may open."""
    job = Job.find(_kernel32.load(), job_object.job_name(marker))
    if job is None:
        return []
    try:
        return job.pids()
    finally:
        job.close()


def processes() -> list[ProcessStat]:
    """The process table in one reading."""
    return [stat for stat in map(read_stat, all_pids()) if stat is not None]


def marked(entry: bytes, strangers: set[int]) -> Iterator[int]:
    """Who was started with exactly this `NAME=value` in the environment; see `linux.marked`."""
    strangers &= (pids := set(all_pids()))
    for pid in sorted(pids - strangers, reverse=True):
        if environment_holds(pid, entry):
            yield pid
        else:
            strangers.add(pid)


def exit_event(pid: int) -> int:
    """There are no such descriptors: -1."""
    return -1


def losses() -> Iterator[str]:
    """What this system should be able to and is not, and what that costs."""
    yield from ()


def enclose(pid: int) -> Job | None:
    """Put a child of this process, and its descendants that can be seen, into a job of its own."""
    return job_object.enclose(_kernel32.load(), pid)


def open_append(path: str, *, create: bool) -> int:
    """A descriptor that appends, also when it is inherited, and that does not keep others from removing the file.

    The descriptors of Windows' C library append in this process alone: a child's first line would lie over ours.
    """
    access = _FILE_APPEND_DATA | _FILE_READ_ATTRIBUTES | _kernel32.SYNCHRONIZE
    kernel = _kernel32.load()
    handle = kernel.open_file(path, access, _SHARE_ALL, _OPEN_ALWAYS if create else _OPEN_EXISTING)
    return msvcrt.open_osfhandle(handle, os.O_APPEND | os.O_WRONLY | os.O_NOINHERIT)
