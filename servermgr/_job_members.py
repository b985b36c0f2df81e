"""The processes of a job, as `Stopping` wants to see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.platform.job_object import facts
from servermgr.stopping import MOST_NAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from servermgr.platform.job_object import Job


class JobMembers:
    """Keeps the promises of `stopping.Members` for a job.

    Args:
        job: The job.
        group: The worker's pid, which is the number of its process group. It must not be used again meanwhile: a
            handle of the worker is kept open.
        running: Whether the worker runs.
    """

    def __init__(self, job: Job, group: int, running: Callable[[], bool]) -> None:
        self._job = job
        self._group = group
        self._running = running
        self._asked = False
        self._slain: dict[int, str] = {}

    def worker(self) -> int | None:
        return self._group if self._running() else None

    def listing(self) -> Iterable[int]:
        return self._job.pids()

    def name_of(self, pid: int) -> str | None:
        stat = facts(self._job.kernel, pid)
        return None if stat is None or stat.state == "Z" else stat.name

    def signal(self, pid: int, number: int) -> None:
        """Kill one, or ask all of the worker's group: CTRL_BREAK goes to groups only, and once is enough.

        Python's own way (os.kill, Popen.send_signal) goes on to kill the process where this fails.
        """
        if number == platform.SIGKILL:
            self._job.kill(pid)
        elif number != platform.SIGCONT and not self._asked:
            self.ask_group()
            self._asked = True

    def ask_group(self) -> None:
        """Send CTRL_BREAK to the worker's group. Raises Unheard where there is no console that they share with us."""
        try:
            self._job.kernel.send_break(self._group)
        except OSError as error:
            raise platform.Unheard(str(error)) from error

    def kill_groups(self) -> Callable[[], bool] | None:
        for pid in self._job.pids():
            name = self.name_of(pid) if len(self._slain) < MOST_NAMED else ""
            if name is not None:
                self._slain[pid] = name
        try:
            self._job.terminate()
        except OSError:  # one of them is protected from us: the others are killed one by one
            self._slain.clear()
            return None
        return lambda: False  # the kernel ends them all, and needs no help

    def slain(self) -> dict[int, str]:
        return dict(self._slain)

    def reap(self) -> int:
        return 0  # nobody has to be collected

    def empty(self) -> bool:
        return self._job.is_empty()

    def why_alive(self, pid: int) -> str:
        return "it was terminated and has not ended: it waits for a device or a driver"
