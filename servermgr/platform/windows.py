"""Windows: what can be asked of it so far.

Process trees are not held on Windows yet (`HOLDER` is None), so a manager
refuses to start a command there, loudly. Addresses, probes, output files and errors work.
"""

from __future__ import annotations

from servermgr.deadline import sleep
from servermgr.platform.stat import ProcessStat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

NAME = "windows"
#: The module that holds process trees here.
HOLDER: str | None = None
SIGKILL = 9
SIGCONT = 18
#: See `abilities`; none yet.
ABILITIES: frozenset[str] = frozenset()
#: The same for adopted processes.
ADOPTED_ABILITIES: frozenset[str] = frozenset()


def read_stat(pid: int) -> ProcessStat | None:
    """What psutil says of the process, or None if there is no such process."""
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        start = int(process.create_time() * 1000)
        return ProcessStat(pid, process.name(), "R", process.ppid(), 0, 0, start)
    except psutil.Error:
        return None


def is_alive(pid: int) -> bool:
    """Whether the process runs."""
    return read_stat(pid) is not None


def descendants(root: int, skip: Container[int] = ()) -> dict[int, int]:
    """All that descends from `root` at this moment, as pid → parent's pid."""
    import psutil  # noqa: PLC0415

    try:
        children = psutil.Process(root).children(recursive=True)
        return {child.pid: child.ppid() for child in children if child.pid not in skip}
    except psutil.Error:
        return {}


def session(pid: int) -> int:
    """There are none: 0."""
    return 0


def open_pidfd(pid: int) -> int:
    """There are none: -1."""
    return -1 if pid else 0


def signal_pidfd(pidfd: int, number: int) -> None:
    """Never called: there is no pidfd to call it with."""
    raise OSError(f"no pidfd {pidfd} to send signal {number} to on this system")


def become_subreaper() -> bool:
    """Not to be had: False."""
    return False


def set_process_name(name: str) -> None:
    """Not to be had."""


def process_facts() -> tuple[object, ...]:
    """Nothing of the kind."""
    return ()


def boot_id() -> str:
    """Not read yet: empty."""
    return ""


def socket_inodes(pid: int) -> set[int] | None:
    """Sockets have no inodes here: None, for "unknown"."""
    return None


def all_pids() -> list[int]:
    """Every process of the machine that this user can see."""
    import psutil  # noqa: PLC0415

    return psutil.pids()


def memory_file(name: str) -> int:
    """There are none: -1."""
    return -1


def pid_namespace() -> str:
    """There are none: empty."""
    return ""


def environment_holds(pid: int, entry: bytes) -> bool:
    """Whether the process was started with exactly this `NAME=value` in its environment."""
    import psutil  # noqa: PLC0415

    name, _, value = entry.decode().partition("=")
    try:
        return psutil.Process(pid).environ().get(name) == value
    except psutil.Error:
        return False


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


def process_serial(pid: int) -> int:
    """There are none: 0."""
    return 0


def wait_readable(fds: list[int], timeout: float | None) -> bool:
    """Descriptors cannot be waited for here: a short sleep, and the caller looks for himself."""
    sleep(0.01 if timeout is None else min(timeout, 0.01))
    return bool(fds)


def children(pid: int) -> list[int]:
    """The children of a process at this moment."""
    return [child for child, parent in descendants(pid).items() if parent == pid]
