"""A Windows in memory: processes, job objects and handles, as far as a tree of ours needs them. No mock of a call
answers by rote: what a call does changes what the next one sees.
"""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass, field

from servermgr.platform._kernel32 import JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO


@dataclass
class Process:
    """A process; `heeds_break` is the status with which it ends when CTRL_BREAK comes, None to ignore it."""

    pid: int
    name: str = "server.exe"
    heeds_break: int | None = None
    immortal: bool = False
    protected: bool = False
    suspended: bool = False
    group: int = 0
    status: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class Job:
    flags: int = 0
    members: list[Process] = field(default_factory=list)
    port: queue.Queue[int] | None = None
    handles: int = 1


class FakeKernel:
    """The calls of `Kernel32`, on processes that a test has made.

    Args:
        console: Whether CTRL_BREAK can be sent.
        tells: Whether a job says that nobody is left in it.
        assigns: Whether a process can be put into a job.
    """

    def __init__(self, *, console: bool = True, tells: bool = True, assigns: bool = True) -> None:
        self.console = console
        self.tells = tells
        self.assigns = assigns
        self.processes: dict[int, Process] = {}
        self.breaks: list[int] = []
        self.lent: list[int] = []
        self.job_names: list[str] = []
        self.waits: list[int] = []
        self._handles: dict[int, object] = {}
        self._numbers = itertools.count(1000, 4)
        self._lock = threading.RLock()

    def add(self, process: Process) -> Process:
        self.processes[process.pid] = process
        return process

    def end(self, process: Process, status: int) -> None:
        with self._lock:
            if process.status is not None:
                return
            process.status = status
            for job in {id(one): one for one in self._handles.values() if isinstance(one, Job)}.values():
                if process in job.members:
                    job.members.remove(process)
                    if not job.members and job.port is not None and self.tells:
                        job.port.put(JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO)
            process.ended.set()

    def open_handles(self) -> int:
        return len(self._handles)

    def job_flags(self) -> list[int]:
        return [thing.flags for thing in self._handles.values() if isinstance(thing, Job)]

    # --- the calls ----------------------------------------------------------------------------------------------

    def _new(self, thing: object) -> int:
        number = next(self._numbers)
        self._handles[number] = thing
        return number

    def _job(self, handle: int) -> Job:
        job = self._handles[handle]
        assert isinstance(job, Job)
        return job

    def _process(self, handle: int) -> Process:
        process = self._handles[handle]
        assert isinstance(process, Process)
        return process

    def create_job(self, name: str) -> int:
        self.job_names.append(name)
        return self._new(Job())

    def limit_job(self, job: int, flags: int) -> None:
        self._job(job).flags = flags

    def tell_job_events(self, job: int, port: int) -> None:
        its = self._handles[port]
        assert isinstance(its, queue.Queue)
        self._job(job).port = its

    def assign(self, job: int, process: int) -> None:
        if not self.assigns:
            raise PermissionError("AssignProcessToJobObject")
        self._job(job).members.append(self._process(process))

    def job_pids(self, job: int) -> list[int]:
        with self._lock:
            return [process.pid for process in self._job(job).members]

    def job_active(self, job: int) -> int:
        return len(self.job_pids(job))

    def terminate_job(self, job: int, status: int) -> None:
        members = list(self._job(job).members)
        if any(process.protected for process in members):
            raise PermissionError("TerminateJobObject")
        for process in members:
            if not process.immortal:
                self.end(process, status)

    def create_port(self) -> int:
        return self._new(queue.Queue())

    def next_message(self, port: int, milliseconds: int) -> int | None:
        self.waits.append(milliseconds)
        its = self._handles[port]
        assert isinstance(its, queue.Queue)
        try:
            return int(its.get(timeout=milliseconds / 1000) if milliseconds else its.get_nowait())
        except queue.Empty:
            return None

    def post_message(self, port: int, number: int) -> None:
        its = self._handles[port]
        assert isinstance(its, queue.Queue)
        its.put(number)

    def open_process(self, pid: int, access: int) -> int:
        process = self.processes.get(pid)
        if process is None:
            raise OSError("OpenProcess")
        if process.protected and access & 1:
            raise PermissionError("OpenProcess")
        return self._new(process)

    def creation_time(self, process: int) -> int:
        return self._process(process).pid * 10

    def parent(self, process: int) -> int:
        return 0

    def image_name(self, process: int) -> str:
        return f"C:\\programs\\{self._process(process).name}"

    def exit_code(self, process: int) -> int:
        status = self._process(process).status
        return 259 if status is None else status

    def terminate(self, process: int, status: int) -> None:
        its = self._process(process)
        if not its.immortal:
            self.end(its, status)

    def wait(self, handles: list[int], milliseconds: int) -> bool:
        (handle,) = handles
        return self._process(handle).ended.wait(milliseconds / 1000)

    def send_break(self, group: int) -> None:
        if not self.console:
            raise OSError("GenerateConsoleCtrlEvent")
        self.breaks.append(group)
        for process in list(self.processes.values()):
            if process.group == group and process.heeds_break is not None:
                self.end(process, process.heeds_break)

    def resume(self, pid: int) -> None:
        self.processes[pid].suspended = False

    def duplicate(self, handle: int, into: int | None = None) -> int:
        if into is not None:
            self.lent.append(self._process(into).pid)
            self._job(handle).handles += 1
            return 0
        return self._new(self._handles[handle])

    def close(self, handle: int) -> None:
        thing = self._handles.pop(handle)
        if isinstance(thing, Job):
            thing.handles -= 1
            if not thing.handles and thing.flags & JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE:
                for process in list(thing.members):
                    self.end(process, 0)
