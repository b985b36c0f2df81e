"""Windows' own calls, through ctypes: constants, and `Kernel32`, which turns failures into OSError.

No policy, and nothing that needs Windows before `load`.

Sources: Microsoft's documentation of job objects, of the process and thread functions, and of Toolhelp.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_size_t, c_uint32, c_uint64, c_void_p, sizeof

from servermgr.platform._kernel32_types import (
    NATIVE_PROTOTYPES,
    PROTOTYPES,
    Accounting,
    CompletionPort,
    ExtendedLimit,
    ProcessBasic,
    ProcessEntry,
    ProcessIdList,
    ThreadEntry,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from ctypes import Structure
    from typing import Any

CREATE_SUSPENDED = 0x4
CREATE_NEW_PROCESS_GROUP = 0x200
JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE = 0x2000
JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO = 4

#: Rights: TERMINATE, SET_QUOTA (both needed to assign), DUP_HANDLE, QUERY_LIMITED_INFORMATION, SYNCHRONIZE.
PROCESS_TERMINATE, PROCESS_SET_QUOTA, PROCESS_DUP_HANDLE = 0x1, 0x100, 0x40
PROCESS_QUERY_LIMITED_INFORMATION, SYNCHRONIZE = 0x1000, 0x100000
PROCESS_LOOK = PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE
PROCESS_HOLD = PROCESS_LOOK | PROCESS_TERMINATE | PROCESS_SET_QUOTA
#: ASSIGN_PROCESS, SET_ATTRIBUTES, QUERY, TERMINATE.
JOB_OBJECT_USE = 0x1 | 0x2 | 0x4 | 0x8

ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_MORE_DATA = 5, 183, 234

_BASIC_ACCOUNTING, _PROCESS_ID_LIST, _COMPLETION_PORT, _EXTENDED_LIMIT = 1, 3, 7, 9
_SNAP_PROCESS, _SNAP_THREAD = 2, 4
_THREAD_SUSPEND_RESUME = 2
_DUPLICATE_SAME_ACCESS = 2
_CTRL_BREAK_EVENT = 1
_WAIT_TIMEOUT = 258
_INVALID = c_void_p(-1).value
#: Most handles of one WaitForMultipleObjects.
MOST_HANDLES = 64


class Kernel32:
    """The calls. Handles are whole numbers; every failure is an OSError that names the call.

    Args:
        library: kernel32.dll, loaded so that it keeps the last error.
        native: ntdll.dll.
        last_error: Gives the last error.
        describe: Turns its number into a text.
    """

    def __init__(
        self, library: Any, native: Any, last_error: Callable[[], int], describe: Callable[[int], str] = str
    ) -> None:
        self._call = library
        self._native = native
        self._last_error = last_error
        self._describe = describe
        for dll, prototypes in ((library, PROTOTYPES), (native, NATIVE_PROTOTYPES)):
            for name, (result, *arguments) in prototypes.items():
                function = getattr(dll, name)
                function.restype, function.argtypes = result, arguments

    def _done(self, result: Any, name: str) -> int:
        if not result or result == _INVALID:
            raise self._failure(name)
        return int(result)

    def _failure(self, name: str) -> OSError:
        number = self._last_error()
        # The fourth argument is Windows' number, from which OSError there takes its subclass.
        return OSError(0, f"{name}: {self._describe(number)}", None, number)

    # --- job objects --------------------------------------------------------------------------------------------

    def create_job(self, name: str) -> int:
        """A new job object. Raises FileExistsError if there is one of that name."""
        handle = self._done(self._call.CreateJobObjectW(None, name or None), "CreateJobObject")
        if name and self._last_error() == ERROR_ALREADY_EXISTS:
            self.close(handle)
            raise FileExistsError(f"there is a job object called {name}")
        return handle

    def open_job(self, name: str) -> int:
        """An existing job object."""
        return self._done(self._call.OpenJobObjectW(JOB_OBJECT_USE, 0, name), "OpenJobObject")

    def limit_job(self, job: int, flags: int) -> None:
        """Set the job's limits to these flags alone."""
        limits = ExtendedLimit()
        limits.basic.flags = flags
        self._set_job(job, _EXTENDED_LIMIT, limits)

    def tell_job_events(self, job: int, port: int) -> None:
        """Have the job's messages sent to a completion port."""
        self._set_job(job, _COMPLETION_PORT, CompletionPort(job, port))

    def _set_job(self, job: int, kind: int, value: Structure) -> None:
        done = self._call.SetInformationJobObject(job, kind, byref(value), sizeof(value))
        self._done(done, "SetInformationJobObject")

    def assign(self, job: int, process: int) -> None:
        """Put a process into a job; its later children are born into it."""
        self._done(self._call.AssignProcessToJobObject(job, process), "AssignProcessToJobObject")

    def job_pids(self, job: int) -> list[int]:
        """Who is in the job, those of nested jobs included."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(sizeof(ProcessIdList) + sizeof(c_size_t) * room)
            done = self._call.QueryInformationJobObject(job, _PROCESS_ID_LIST, buffer, sizeof(buffer), None)
            head = ProcessIdList.from_buffer(buffer)
            if not done and self._last_error() != ERROR_MORE_DATA:
                raise self._failure("QueryInformationJobObject")
            if done and head.in_list >= head.assigned:
                return list((c_size_t * head.in_list).from_buffer(buffer, ProcessIdList.pids.offset))
            room = max(2 * room, head.assigned)

    def job_active(self, job: int) -> int:
        """How many processes of the job live."""
        seen = Accounting()
        done = self._call.QueryInformationJobObject(job, _BASIC_ACCOUNTING, byref(seen), sizeof(seen), None)
        self._done(done, "QueryInformationJobObject")
        return int(seen.active)

    def terminate_job(self, job: int, status: int) -> None:
        """End everyone in the job, in one stroke."""
        self._done(self._call.TerminateJobObject(job, status), "TerminateJobObject")

    # --- completion ports ---------------------------------------------------------------------------------------

    def create_port(self) -> int:
        """A completion port that no file belongs to."""
        return self._done(self._call.CreateIoCompletionPort(_INVALID, None, 0, 1), "CreateIoCompletionPort")

    def next_message(self, port: int, milliseconds: int) -> int | None:
        """The number of the next message; None if none came in time."""
        number, key, process = c_uint32(), c_size_t(), c_void_p()
        done = self._call.GetQueuedCompletionStatus(port, byref(number), byref(key), byref(process), milliseconds)
        if not done:
            if self._last_error() == _WAIT_TIMEOUT:
                return None
            raise self._failure("GetQueuedCompletionStatus")
        return number.value

    def post_message(self, port: int, number: int) -> None:
        """Send a message of our own."""
        self._done(self._call.PostQueuedCompletionStatus(port, number, 0, None), "PostQueuedCompletionStatus")

    # --- processes ----------------------------------------------------------------------------------------------

    def open_process(self, pid: int, access: int) -> int:
        """A handle, which keeps the pid from being used again. PermissionError: another user's, or protected."""
        return self._done(self._call.OpenProcess(access, 0, pid), "OpenProcess")

    def creation_time(self, process: int) -> int:
        """When it was created, in units of 100 ns since 1601."""
        times = [c_uint64() for _ in range(4)]
        self._done(self._call.GetProcessTimes(process, *map(byref, times)), "GetProcessTimes")
        return times[0].value

    def parent(self, process: int) -> int:
        """Who has created it, by a pid that may be another's by now; 0 where that is not told."""
        seen = ProcessBasic()
        failed = self._native.NtQueryInformationProcess(process, 0, byref(seen), sizeof(seen), None)
        return 0 if failed else int(seen.parent)

    def image_name(self, process: int) -> str:
        """The path of its program; empty once it has ended."""
        buffer, length = ctypes.create_unicode_buffer(32768), c_uint32(32768)
        found = self._call.QueryFullProcessImageNameW(process, 0, buffer, byref(length))
        return buffer.value if found else ""

    def exit_code(self, process: int) -> int:
        """With what it has ended; 259 also means that it has not."""
        status = c_uint32()
        self._done(self._call.GetExitCodeProcess(process, byref(status)), "GetExitCodeProcess")
        return status.value

    def terminate(self, process: int, status: int) -> None:
        """End the process; it may be ending when this returns."""
        self._done(self._call.TerminateProcess(process, status), "TerminateProcess")

    def wait(self, handles: Sequence[int], milliseconds: int) -> bool:
        """Whether one of them, 64 at most, is signalled (a process: has ended) in time."""
        array = (c_void_p * len(handles))(*handles)
        answer = self._call.WaitForMultipleObjects(len(handles), array, 0, milliseconds)
        if answer == 0xFFFFFFFF:
            raise self._failure("WaitForMultipleObjects")
        return bool(answer != _WAIT_TIMEOUT)

    def send_break(self, group: int) -> None:
        """Send CTRL_BREAK to a process group of this console, named by its first process.

        Never for a process that did not begin a group: the whole console may hear it then.
        """
        self._done(self._call.GenerateConsoleCtrlEvent(_CTRL_BREAK_EVENT, group), "GenerateConsoleCtrlEvent")

    def resume(self, pid: int) -> None:
        """Let every thread of a suspended process run. It is an error if none is listed: it would never run."""
        threads = [entry.thread for entry in self._snapshot(_SNAP_THREAD) if entry.owner == pid]
        if not threads:
            raise OSError(f"no thread of the suspended process {pid} is listed")
        for thread in threads:
            handle = self._done(self._call.OpenThread(_THREAD_SUSPEND_RESUME, 0, thread), "OpenThread")
            try:
                if self._call.ResumeThread(handle) == 0xFFFFFFFF:
                    raise self._failure("ResumeThread")
            finally:
                self.close(handle)

    def processes(self) -> list[tuple[int, int]]:
        """Every process of the machine with the one that has created it, which may have ended since."""
        return [(entry.pid, entry.parent) for entry in self._snapshot(_SNAP_PROCESS)]

    def _snapshot(self, kind: int) -> Iterator[Any]:
        snapshot = self._done(self._call.CreateToolhelp32Snapshot(kind, 0), "CreateToolhelp32Snapshot")
        what, entry = ("Process32{}W", ProcessEntry()) if kind == _SNAP_PROCESS else ("Thread32{}", ThreadEntry())
        try:
            entry.size = sizeof(entry)
            more = getattr(self._call, what.format("First"))(snapshot, byref(entry))
            while more:
                yield entry
                more = getattr(self._call, what.format("Next"))(snapshot, byref(entry))
        finally:
            self.close(snapshot)

    # --- handles and files --------------------------------------------------------------------------------------

    def close(self, handle: int) -> None:
        """Let go of a handle."""
        self._done(self._call.CloseHandle(handle), "CloseHandle")

    def duplicate(self, handle: int, into: int | None = None) -> int:
        """A second handle of the same thing, in this process or in another one."""
        copy, me = c_void_p(), self._call.GetCurrentProcess()
        target = me if into is None else into
        done = self._call.DuplicateHandle(me, handle, target, byref(copy), 0, 0, _DUPLICATE_SAME_ACCESS)
        self._done(done, "DuplicateHandle")
        return copy.value or 0

    def open_file(self, path: str, access: int, sharing: int, disposition: int) -> int:
        """A handle of a file that is not inherited; see CreateFileW."""
        return self._done(self._call.CreateFileW(path, access, sharing, None, disposition, 0x80, None), "CreateFile")


@functools.lru_cache(maxsize=1)
def load() -> Kernel32:
    """The real ones. Raises AttributeError anywhere but on Windows."""
    library: Any = getattr(ctypes, "WinDLL")  # noqa: B009  # type checkers know these names on Windows only
    last_error: Any = getattr(ctypes, "get_last_error")  # noqa: B009
    describe: Any = getattr(ctypes, "FormatError")  # noqa: B009
    return Kernel32(library("kernel32", use_last_error=True), library("ntdll"), last_error, describe)
