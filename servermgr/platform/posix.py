"""POSIX without Linux's means: the process table by ps(1), no pidfd, and only on FreeBSD a reaper.

See `linux` for what each function promises where it can. Run for real on Linux with `SERVERMGR_PLATFORM=posix`, which
has neither kqueue(2) nor procctl(2): those lines are written from the manuals of macOS and FreeBSD alone.

Sources: ps(1) of macOS, FreeBSD and procps, kqueue(2) EVFILT_PROC, procctl(2) PROC_REAP_ACQUIRE.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from servermgr.platform import abilities
from servermgr.platform.stat import ProcessStat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

assert sys.platform != "win32"  # chosen by platform/__init__.py alone

NAME = "posix"
#: The module that holds process trees here.
HOLDER: str | None = "servermgr.guarded"
#: The module that runs a command in the place of this process, for `servermgr run`.
STEP = "servermgr._cli_step"
SIGKILL: int = signal.SIGKILL
SIGCONT: int = signal.SIGCONT
#: See `abilities`. Not `DAEMONS` and `STORMS`: their links to the tree are gone before anyone can have read them.
ABILITIES = frozenset(abilities.MEANING) - {abilities.DAEMONS, abilities.STORMS}
#: Nobody stands above an adopted process, so who has left his parent before anyone looked has left the tree.
ADOPTED_ABILITIES = frozenset(
    {abilities.CHILDREN, abilities.STOPPED, abilities.STUBBORN, abilities.POLITE, abilities.PORT_OWNER}
)

_COLUMNS = "pid=,ppid=,pgid=,state=,lstart=,comm="
#: `e` shows the environment, but on macOS, where it would mean "everyone".
_WITH_ENVIRONMENT = "-Eww" if sys.platform == "darwin" else "eww"
#: How often ps(1) is asked that could not be started or has said nothing.
_ATTEMPTS = 3
#: Seconds for which a reading is taken for the present. A number is not used again so soon after its process.
_LATEST = 0.02
_P_PID, _PROC_REAP_ACQUIRE = 0, 2


def _ask(*arguments: str) -> tuple[int, bytes]:
    """What ps(1) says to this, and the pid that it had; nothing where it cannot be run (no process, no descriptor).

    Not by `subprocess`, which takes 9 ms to import, and no guardian of another system pays for it.
    """
    program = next((path for path in ("/bin/ps", "/usr/bin/ps") if os.access(path, os.X_OK)), "ps")
    try:
        told, tell = os.pipe()
    except OSError:
        return 0, b""
    actions = [(os.POSIX_SPAWN_DUP2, tell, 1)]
    with open(told, "rb") as pipe:
        try:
            env = {**os.environ, "LC_ALL": "C"}
            pid = os.posix_spawnp(program, ["ps", *arguments], env, file_actions=actions)
        except OSError:
            return 0, b""
        finally:
            os.close(tell)
        text = pipe.read()
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # another thread of an owner waits for everyone, or SIGCHLD is ignored
        pass
    return pid, text


def _ps(*selection: str) -> dict[int, ProcessStat]:
    pid, text = _ask(*selection, "-o", _COLUMNS)
    found = [_parse(line) for line in text.decode(errors="replace").splitlines() if line.strip()]
    return {stat.pid: stat for stat in found if stat.pid != pid}


def _parse(line: str) -> ProcessStat:
    pid, ppid, pgrp, state, *rest = line.split(None, 9)
    start = int(time.mktime(time.strptime(" ".join(rest[:5]), "%a %b %d %H:%M:%S %Y")))
    name = os.path.basename(rest[5].strip()) if len(rest) > 5 else ""
    return ProcessStat(int(pid), name, state[0], int(ppid), int(pgrp), session(int(pid)), start)


#: The last reading of the process table, and when it came.
_last: tuple[float, dict[int, ProcessStat]] = (-1.0, {})


def processes() -> list[ProcessStat]:
    """The process table in one reading; empty where it could not be read, for this process itself is always in it."""
    global _last  # noqa: PLW0603  # one reading serves the questions about single processes that follow it
    for _ in range(_ATTEMPTS):
        table = _ps("-A")
        if os.getpid() in table:
            _last = (time.monotonic(), table)
            return list(table.values())
    return []


def read_stat(pid: int) -> ProcessStat | None:
    """What ps(1) says of the process, or has said a moment ago; None if there is no such process.

    `start` is whole seconds.
    """
    read_at, table = _last
    if pid in table and time.monotonic() - read_at < _LATEST:
        return table[pid]
    for _ in range(_ATTEMPTS):  # all of them, which takes no longer than one, and serves the next question as well
        found = {stat.pid: stat for stat in processes()}
        if pid in found or (found and not _exists(pid)):
            break
    return found.get(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def session(pid: int) -> int:
    """The session that the process is in; 0 where it is gone or not told."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie counts as gone."""
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


def descendants(root: int, skip: Container[int] = ()) -> dict[int, int]:
    """All that descends from `root` at this moment, as pid → parent's pid, parents first."""
    table: dict[int, list[int]] = {}
    for stat in processes():
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


_queues: list[object] = []


def exit_event(pid: int) -> int:
    """A descriptor that is readable once the process has ended, which need be no child; -1 where there is none.

    Raises:
        ProcessLookupError: There is no such process.
    """
    if sys.platform == "linux":  # by choice: see platform/__init__.py
        return -1
    queue = select.kqueue()
    ended = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    queue.control([ended], 0)
    _queues.append(queue)  # closed with the process: there is one for each guardian
    return queue.fileno()


def become_subreaper() -> bool:
    """Make orphans among our descendants come to this process: FreeBSD can; elsewhere False."""
    if not sys.platform.startswith("freebsd"):
        return False
    import ctypes  # noqa: PLC0415  # only the guardian needs it

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        identity = ctypes.c_int64(os.getpid())
        return bool(libc.procctl(_P_PID, identity, _PROC_REAP_ACQUIRE, None) == 0)
    except (OSError, AttributeError):
        return False


def start_now() -> int:
    """Not to be had: 0."""
    return 0


def process_name(pid: int) -> str:
    """What it is called; empty where that is not told."""
    stat = read_stat(pid)
    return "" if stat is None else stat.name


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


def losses() -> Iterator[str]:
    """What this system should be able to and is not, and what that costs."""
    if not processes():
        yield "ps(1) cannot be run: of a server's processes only the first can be seen and ended"


def socket_inodes(pid: int) -> set[int] | None:
    """Not to be had without psutil: None, for "unknown"."""
    return None


def all_pids() -> list[int]:
    """Every process of the machine that this user can see."""
    return [stat.pid for stat in processes()]


def memory_file(name: str) -> int:
    """There are none: -1."""
    return -1


def pid_namespace() -> str:
    """There are none, or none that can be told apart: empty."""
    return ""


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment, as ps(1) shows it."""
    return bool(_in_environment(entry, "-p", str(pid)))


def marked(entry: bytes, strangers: set[int]) -> Iterator[int]:
    """Who was started with exactly this `NAME=value` in the environment; see `linux.marked`."""
    yield from sorted(_in_environment(entry, "-A"), reverse=True)


def _in_environment(entry: bytes, *selection: str) -> set[int]:
    # Arguments and environment are shown as one text, and `grep NAME=value` has the words as an argument: so once more
    # without the environment, if anyone has them at all.
    found = _saying(entry, _WITH_ENVIRONMENT, *selection)
    return found - _saying(entry, "-ww", *selection) if found else found


def _saying(entry: bytes, *arguments: str) -> set[int]:
    _, text = _ask(*arguments, "-o", "pid=,command=")
    rows = (line.split() for line in text.splitlines() if entry in line)
    return {int(words[0]) for words in rows if entry in words[1:] and words[0].isdigit()}


def process_serial(pid: int) -> int:
    """There are none: 0."""
    return 0


def children(pid: int) -> list[int]:
    """The children of a process at this moment."""
    return [stat.pid for stat in processes() if stat.ppid == pid]
