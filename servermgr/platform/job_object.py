"""Job objects: what holds a process tree on Windows. A child of a process in a job is born into the job.

The job's own list is the tree, whoever of it has lost his parent. No process may leave it
(`JOB_OBJECT_LIMIT_BREAKAWAY_OK` is not set): one that asks for that at the creation of a child is refused. What a
system service starts on somebody's behalf (the task scheduler, WMI, a COM server) is the service's child, and never
was in the job.

Sources: Microsoft's documentation of job objects and of JOBOBJECT_ASSOCIATE_COMPLETION_PORT.
"""

from __future__ import annotations

from servermgr.platform._kernel32 import (
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    PROCESS_DUP_HANDLE,
    PROCESS_HOLD,
    PROCESS_LOOK,
    PROCESS_TERMINATE,
)
from servermgr.platform.stat import ProcessStat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.platform._kernel32 import Kernel32

#: The status of whoever is killed, as `subprocess` has it on Windows.
KILLED = 1
#: The longest wait in one piece: Ctrl-C is not heard by a thread that waits for a handle.
SLICE = 0.1
_WOKEN = 0
_NEVER_SEEN = 0


def facts(kernel: Kernel32, pid: int) -> ProcessStat | None:
    """What Windows says of a process; None if there is none. One that has ended and is still held is a zombie.

    `start` is its creation time in units of 100 ns since 1601, and 0 for one that this user may not look at.
    """
    try:
        handle = kernel.open_process(pid, PROCESS_LOOK)
    except PermissionError:
        return ProcessStat(pid, "", "R", 0, 0, 0, _NEVER_SEEN)
    except OSError:
        return None
    try:
        name = kernel.image_name(handle).rpartition("\\")[2]
        state = "Z" if kernel.wait([handle], 0) else "R"
        return ProcessStat(pid, name, state, kernel.parent(handle), 0, 0, kernel.creation_time(handle))
    finally:
        kernel.close(handle)


def job_name(marker: str) -> str:
    """What the job of a tree is called, so that other processes of the session find it by the tree's record."""
    return f"servermgr-{marker}"


class Job:
    """A job object.

    Args:
        kernel: Windows' calls.
        handle: Of the job.

    The processes in it die with the last handle of it, if it was made so.
    """

    def __init__(self, kernel: Kernel32, handle: int) -> None:
        self.kernel = kernel
        self.handle = handle
        self._port = 0

    @classmethod
    def make(cls, kernel: Kernel32, name: str, *, ends_with_owner: bool) -> Job:
        """A new one.

        Args:
            kernel: Windows' calls.
            name: Empty for none.
            ends_with_owner: Whether its processes die when this process does, however it does.
        """
        job = cls(kernel, kernel.create_job(name))
        try:
            kernel.limit_job(job.handle, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE if ends_with_owner else 0)
        except BaseException:
            job.close()
            raise
        return job

    @classmethod
    def find(cls, kernel: Kernel32, name: str) -> Job | None:
        """The one of that name, or None: it is gone, or of another session, or not this user's."""
        try:
            return cls(kernel, kernel.open_job(name))
        except OSError:
            return None

    def pids(self) -> list[int]:
        """Who is in it."""
        return self.kernel.job_pids(self.handle)

    def is_empty(self) -> bool:
        """Whether nobody is in it, by both of the answers that there are."""
        return not self.kernel.job_active(self.handle) and not self.pids()

    def terminate(self) -> None:
        """Kill everyone in it, in one stroke."""
        self.kernel.terminate_job(self.handle, KILLED)

    def kill(self, pid: int) -> None:
        """Kill one of its processes; nothing happens if the pid is another's by now.

        Raises:
            PermissionError: This user may not.
        """
        try:
            handle = self.kernel.open_process(pid, PROCESS_LOOK | PROCESS_TERMINATE)
        except PermissionError:
            raise
        except OSError:  # it is gone
            return
        try:
            # Read behind the open handle, so it is the same process.
            if pid in self.pids() and not self.kernel.wait([handle], 0):
                self._terminate_process(handle)
        finally:
            self.kernel.close(handle)

    def _terminate_process(self, handle: int) -> None:
        try:
            self.kernel.terminate(handle, KILLED)
        except PermissionError:  # also what is said of one that is ending already
            if not self.kernel.wait([handle], 0):
                raise

    def take(self, process: int) -> None:
        """Put a process into it, by handle. Its children to come are born into it; those it has stay outside."""
        self.kernel.assign(self.handle, process)

    def release(self) -> None:
        """From now on its processes live on without it."""
        self.kernel.limit_job(self.handle, 0)

    def lend(self, process: int) -> None:
        """Give the process a handle of the job, which it knows nothing of: the job's name lives as long as it does."""
        self.kernel.duplicate(self.handle, into=process)

    # --- waiting ------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Have its messages kept for `wait_message`. Before the first process, so that none is missed."""
        self._port = self.kernel.create_port()
        self.kernel.tell_job_events(self.handle, self._port)

    def wait_message(self, seconds: float) -> bool:
        """Wait for a message (one has ended, all have, `wake`). They are hints: Windows may lose some."""
        return self.kernel.next_message(self._port, int(seconds * 1000)) is not None

    def wake(self) -> None:
        """End the wait of another thread."""
        self.kernel.post_message(self._port, _WOKEN)

    def close(self) -> None:
        """Let go of it. Who is in it dies, if it was made so and nobody else holds it."""
        for handle in (self.handle, self._port):
            if handle:
                self.kernel.close(handle)
        self.handle = self._port = 0


def start_in(job: Job, create: Callable[[], int]) -> tuple[int, int]:
    """Create a process suspended, put it into the job, and let it run: whoever it starts is in the job, too.

    If anything fails in between, the process is ended before the error is raised. Should this very process be
    killed in between, which takes less than a millisecond, a suspended process stays, that has run nothing.

    Args:
        job: Where it goes.
        create: Creates it with `CREATE_SUSPENDED` and returns its pid, which no other process may have before
            this function has returned (its handle is kept somewhere).

    Returns:
        Its pid, and a handle of it.
    """
    kernel = job.kernel
    pid = create()
    handle = kernel.open_process(pid, PROCESS_HOLD | PROCESS_DUP_HANDLE)
    try:
        job.take(handle)
        kernel.resume(pid)
    except BaseException:
        kernel.terminate(handle, KILLED)
        kernel.wait([handle], 5000)
        kernel.close(handle)
        raise
    return pid, handle


def enclose(kernel: Kernel32, pid: int) -> Job | None:
    """Put a process that runs already into a job that dies with this process; None where that cannot be done.

    Those of its descendants that can be seen are put there, too. One whose parent has ended by now is not seen, and
    one that is being created meanwhile may be missed.
    """
    try:
        job = Job.make(kernel, "", ends_with_owner=True)
    except OSError:
        return None
    if not _take_if(job, pid, lambda _: True):
        job.close()
        return None
    for child, parent in descendants(kernel, pid).items():
        _take_if(job, child, lambda stat, parent=parent: stat.ppid == parent)  # type: ignore[misc]
    return job


def _take_if(job: Job, pid: int, proves: Callable[[ProcessStat], bool]) -> bool:
    """Hold the process, look whether it is the right one, and put it into the job."""
    try:
        handle = job.kernel.open_process(pid, PROCESS_HOLD)
    except OSError:
        return False
    try:
        stat = facts(job.kernel, pid)
        if stat is None or stat.state == "Z" or not proves(stat):
            return False
        if pid not in job.pids():
            job.take(handle)
    except OSError:  # it is in a job that cannot be nested
        return False
    else:
        return True
    finally:
        job.kernel.close(handle)


def descendants(kernel: Kernel32, root: int) -> dict[int, int]:
    """All that descends from a living process, as pid → parent's pid, parents first. Orphans are not seen.

    Windows keeps the parent's number after the parent is gone, and may use it again: a child is older than no parent.
    """
    table: dict[int, list[int]] = {}
    for pid, parent in kernel.processes():
        table.setdefault(parent, []).append(pid)
    first = facts(kernel, root)
    found: dict[int, int] = {}
    front = [] if first is None else [(root, first.start)]
    while front:
        parent, since = front.pop()
        for pid in table.get(parent, ()):
            stat = None if pid in found or pid == root else facts(kernel, pid)
            if stat is not None and stat.start >= since:
                found[pid] = parent
                front.append((pid, stat.start))
    return found
