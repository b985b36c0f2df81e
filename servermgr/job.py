"""A tree held by a job object (Windows), with the interface of `guarded`.

There is no guardian: the job is held by a handle of this process, and the system itself kills who is in it when the
last handle is closed, however this process ends. Then nobody is asked politely, and the record and the log of the
run stay until the next sweep. While this process lives, a thread for each tree does what a guardian would: it
notices the end, carries out a stop, and removes the files of the run.

A kept tree (`keep=True`) does not die with this process. Its worker holds the job for it, without knowing, so that
`servermgr stop` finds the job by name; once the worker has ended, the rest is found by the marker alone.
"""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING

from servermgr import _job_launch, _job_record
from servermgr._job_members import JobMembers
from servermgr.deadline import Deadline, sleep
from servermgr.errors import LaunchError
from servermgr.pinned import outcome_of
from servermgr.platform._kernel32 import load
from servermgr.platform.job_object import KILLED, SLICE, Job, facts, job_name
from servermgr.stopping import KILL_PATIENCE, Stopping
from servermgr.tree import LaunchSpec, ProcessInfo, StopOutcome, infos, stop_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.platform._kernel32 import Kernel32

#: Seconds between two looks at a job that says nothing: its messages are not guaranteed.
_IDLE = 1.0
#: The same while a stop is under way, for the notices that Windows may leave out.
_BUSY = 0.05
#: The numbers that ask: CTRL_C_EVENT, CTRL_BREAK_EVENT, SIGINT, SIGBREAK. The others end a process, as in `subprocess`.
_POLITE = (0, 1, 2, 21)
#: Seconds for somebody to be done with a file that is to be removed; after them it is left to the next sweep.
_IN_USE = 2.0
#: Of a worker that has left its job and does not end, as the guardian has it.
_UNKNOWN_STATUS = 255
_alive: set[JobTree] = set()
_log = logging.getLogger("servermgr")


class JobTree:
    """A command launched into a job of its own.

    Args:
        spec: What to launch.
        name: The manager's name, for the ledger.
        ports: What it will listen on, for the ledger.
        kernel: Windows' calls.
        start: Starts the command in the job; returns its pid and a handle.

    Raises:
        LaunchError: It could not be started; nothing is left.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        *,
        name: str = "",
        ports: tuple[str, ...] = (),
        kernel: Kernel32 | None = None,
        start: Callable[[LaunchSpec, Job], tuple[int, int]] = _job_launch.start,
    ) -> None:
        _job_launch.refuse(spec)
        self.spec = spec
        self._kernel = load() if kernel is None else kernel
        self._lock = threading.RLock()
        self._gone = threading.Event()
        self._status: int | None = None
        self._outcome: StopOutcome | None = None
        self._stopping: Stopping | None = None
        self._worker = 0
        self._record: str | None = None
        self._files: list[str] = []
        self._job = self._make_job()
        try:
            self._launch(start)
            self._record = _job_record.write(spec, self.pid, name=name, ports=ports)
            _alive.add(self)
            threading.Thread(target=self._tend, name=f"servermgr-job-{self.pid}", daemon=True).start()
        except BaseException:
            self._job.terminate()  # a kept one would outlive the handle
            self._let_go()
            raise

    def _make_job(self) -> Job:
        try:
            job = Job.make(self._kernel, job_name(self.spec.marker), ends_with_owner=not self.spec.keep)
        except OSError as error:
            raise LaunchError(error, "no job object can be had to hold its tree") from error
        try:
            job.listen()
        except BaseException:
            job.close()
            raise
        return job

    def _launch(self, start: Callable[[LaunchSpec, Job], tuple[int, int]]) -> None:
        self.pid, self._worker = start(self.spec, self._job)
        if self.spec.keep:
            self._job.lend(self._worker)

    # --- what an owner asks -------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        with self._lock:
            if self._status is None and self._worker and self._kernel.wait([self._worker], 0):
                self._status = self._kernel.exit_code(self._worker)
            return self._status

    def wait_worker(self, timeout: float | None) -> bool:
        deadline = Deadline(timeout)
        with self._lock:
            if self.status is not None:
                return True
            worker = self._kernel.duplicate(self._worker)  # the other one is closed with the tree
        try:
            while not self._kernel.wait([worker], int(deadline.within(SLICE) * 1000)):
                if deadline.expired:
                    return False
        finally:
            self._kernel.close(worker)
        return self.status is not None

    def wait_known(self, timeout: float | None) -> bool:
        return True  # from the start

    def send_signal(self, number: int) -> None:
        """As in `subprocess`: CTRL_BREAK and its like ask, and every other signal ends the worker."""
        with self._lock:
            if self.status is not None:
                return
            if number in _POLITE:
                self._members().ask_group()
            else:
                self._kernel.terminate(self._worker, KILLED)

    def ask_stop(self, number: int, grace: float, *, confirm: bool = False) -> None:  # with or without
        with self._lock:
            if self._outcome is not None and not self._outcome.survivors:
                return
            if self._stopping is None:
                self._stopping = Stopping(self._members(), number, grace)
            elif self._stopping.finished:  # with survivors: once more
                self._stopping, self._outcome = Stopping(self._members(), number, grace), None
                self._gone.clear()
            else:
                self._stopping.hurry(grace)
            self._wake()

    def _members(self) -> JobMembers:
        return JobMembers(self._job, self.pid, lambda: self.status is None)

    def _wake(self) -> None:
        if self._job.handle:
            self._job.wake()

    def wait_gone(self, timeout: float | None) -> StopOutcome | None:
        deadline = Deadline(timeout)
        with self._lock:
            if self._stopping is None and self._job.handle:
                self._step()  # it may have ended just now
                self._wake()
        while not self._gone.wait(deadline.within(SLICE)) and not deadline.expired:
            pass
        if not self._gone.is_set():
            return None
        self._remove_files(deadline.within(_IN_USE))
        return self._outcome

    def processes(self) -> list[ProcessInfo]:
        with self._lock:
            pids = [] if self._job.handle == 0 else self._job.pids()
        stats = {pid: facts(self._kernel, pid) for pid in pids}
        return infos({pid: stat.ppid for pid, stat in stats.items() if stat is not None})

    # --- tending ------------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """What a guardian would do, until the tree is gone. Nobody else closes what this thread waits for."""
        try:
            while not self._is_gone():
                with self._lock:
                    due = self._step()
                if not self._is_gone():
                    self._job.wait_message(due)
        except OSError:
            _log.exception("%s: its tree cannot be looked after any more, and is ended", self.spec.argv[0])
        finally:
            with self._lock:
                self._let_go()
                self._outcome = self._outcome or StopOutcome(status=self._status)
                self._gone.set()
        self._remove_files(_IN_USE)

    def _is_gone(self) -> bool:
        return self._outcome is not None and not self._outcome.survivors

    def _step(self) -> float:
        """Do what is due; returns the seconds until something is due again. With the lock held."""
        if self._outcome is not None:
            return _IDLE  # survivors, until somebody asks again
        if self._stopping is None:
            if self._job.is_empty():
                self._conclude(StopOutcome(status=self._last_status()))
            return _IDLE
        due = self._stopping.step()
        if self._stopping.finished:
            status = self.status if self._stopping.survivors else self._last_status()
            self._conclude(outcome_of(self._stopping, status))
        return _BUSY if due is None else max(0.0, min(due, _BUSY))

    def _last_status(self) -> int | None:
        """Of a worker that has left the job, and so is about to end."""
        self._kernel.wait([self._worker], int(KILL_PATIENCE * 1000))
        if self.status is None:
            self._status = _UNKNOWN_STATUS
        return self._status

    def _conclude(self, outcome: StopOutcome) -> None:
        """The last word. Who has heard "gone" finds nothing left: files first, then the word."""
        self._outcome = outcome
        if not outcome.survivors:
            self.spec.output.close()
            self._files = [*self.spec.files_to_remove(), *([self._record] if self._record else [])]
            self._remove_files(0.0)
        self._gone.set()

    def _remove_files(self, seconds: float) -> None:
        """Remove what goes with the tree. Windows removes nothing that is being read: by a probe, a virus scanner."""
        deadline = Deadline(seconds)
        while True:
            self._files = [path for path in self._files if not _job_record.remove(path)]
            if not self._files or deadline.expired:
                return
            sleep(deadline.within(_BUSY))

    def _let_go(self) -> None:
        """Close the handles, with which the system ends whoever is there still."""
        _alive.discard(self)
        if self._worker:
            self._kernel.close(self._worker)
            self._worker = 0
        self._job.close()


def warm_up() -> None:
    """Nothing has to be warm here."""


def settle() -> None:
    """Finish what `warm_up` has begun: nothing."""


def launch(spec: LaunchSpec, *, name: str, ports: tuple[str, ...]) -> JobTree:
    """Launch a command into a job; see `JobTree`."""
    return JobTree(spec, name=name, ports=ports)


@atexit.register
def _stop_all() -> None:
    """At the end of the interpreter: ask politely, which the system does not when it closes the handles."""
    stop_all(_alive)
