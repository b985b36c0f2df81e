"""The shapes of Windows' own calls: structures, and the prototypes of the functions.

All widths are fixed, so that the layout is the same on every 64-bit system and can be checked there:
`wintypes.DWORD` is a C long, which has eight bytes on 64-bit POSIX.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BasicLimit(Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = (
        ("per_process_user_time", c_int64),
        ("per_job_user_time", c_int64),
        ("flags", c_uint32),
        ("minimum_working_set", c_size_t),
        ("maximum_working_set", c_size_t),
        ("active_processes", c_uint32),
        ("affinity", c_size_t),
        ("priority_class", c_uint32),
        ("scheduling_class", c_uint32),
    )


class IoCounters(Structure):
    """IO_COUNTERS."""

    _fields_ = tuple((f"counter_{number}", c_uint64) for number in range(6))


class ExtendedLimit(Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("basic", BasicLimit),
        ("io", IoCounters),
        ("process_memory", c_size_t),
        ("job_memory", c_size_t),
        ("peak_process_memory", c_size_t),
        ("peak_job_memory", c_size_t),
    )


class Accounting(Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION."""

    _fields_ = (
        *((f"time_{number}", c_int64) for number in range(4)),
        ("page_faults", c_uint32),
        ("total", c_uint32),
        ("active", c_uint32),
        ("terminated", c_uint32),
    )


class ProcessIdList(Structure):
    """JOBOBJECT_BASIC_PROCESS_ID_LIST, with room for one."""

    _fields_ = (("assigned", c_uint32), ("in_list", c_uint32), ("pids", c_size_t * 1))


class CompletionPort(Structure):
    """JOBOBJECT_ASSOCIATE_COMPLETION_PORT."""

    _fields_ = (("key", c_void_p), ("port", c_void_p))


class ThreadEntry(Structure):
    """THREADENTRY32."""

    _fields_ = (
        ("size", c_uint32),
        ("usage", c_uint32),
        ("thread", c_uint32),
        ("owner", c_uint32),
        ("base_priority", c_int32),
        ("delta_priority", c_int32),
        ("flags", c_uint32),
    )


class ProcessEntry(Structure):
    """PROCESSENTRY32W; the name as UTF-16, for Windows' characters have two bytes everywhere."""

    _fields_ = (
        ("size", c_uint32),
        ("usage", c_uint32),
        ("pid", c_uint32),
        ("heap", c_size_t),
        ("module", c_uint32),
        ("threads", c_uint32),
        ("parent", c_uint32),
        ("base_priority", c_int32),
        ("flags", c_uint32),
        ("name", c_uint16 * 260),
    )


class ProcessBasic(Structure):
    """PROCESS_BASIC_INFORMATION."""

    _fields_ = (
        ("exit_status", c_uint32),
        ("environment_block", c_size_t),
        ("affinity", c_size_t),
        ("base_priority", c_int32),
        ("pid", c_size_t),
        ("parent", c_size_t),
    )


_HANDLE, _BOOL, _DWORD, _TEXT = c_void_p, c_int32, c_uint32, ctypes.c_wchar_p
#: Result and arguments of each call. None of it may be left to ctypes, which takes a handle for a 32-bit number.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "AssignProcessToJobObject": (_BOOL, _HANDLE, _HANDLE),
    "CloseHandle": (_BOOL, _HANDLE),
    "CreateFileW": (_HANDLE, _TEXT, _DWORD, _DWORD, c_void_p, _DWORD, _DWORD, _HANDLE),
    "CreateIoCompletionPort": (_HANDLE, _HANDLE, _HANDLE, c_size_t, _DWORD),
    "CreateJobObjectW": (_HANDLE, c_void_p, _TEXT),
    "CreateToolhelp32Snapshot": (_HANDLE, _DWORD, _DWORD),
    "DuplicateHandle": (_BOOL, _HANDLE, _HANDLE, _HANDLE, POINTER(c_void_p), _DWORD, _BOOL, _DWORD),
    "GenerateConsoleCtrlEvent": (_BOOL, _DWORD, _DWORD),
    "GetCurrentProcess": (_HANDLE,),
    "GetExitCodeProcess": (_BOOL, _HANDLE, POINTER(_DWORD)),
    "GetProcessTimes": (_BOOL, _HANDLE, *[POINTER(c_uint64)] * 4),
    "GetQueuedCompletionStatus": (_BOOL, _HANDLE, POINTER(_DWORD), POINTER(c_size_t), POINTER(c_void_p), _DWORD),
    "OpenJobObjectW": (_HANDLE, _DWORD, _BOOL, _TEXT),
    "OpenProcess": (_HANDLE, _DWORD, _BOOL, _DWORD),
    "OpenThread": (_HANDLE, _DWORD, _BOOL, _DWORD),
    "PostQueuedCompletionStatus": (_BOOL, _HANDLE, _DWORD, c_size_t, c_void_p),
    "Process32FirstW": (_BOOL, _HANDLE, POINTER(ProcessEntry)),
    "Process32NextW": (_BOOL, _HANDLE, POINTER(ProcessEntry)),
    "QueryFullProcessImageNameW": (_BOOL, _HANDLE, _DWORD, _TEXT, POINTER(_DWORD)),
    "QueryInformationJobObject": (_BOOL, _HANDLE, c_int32, c_void_p, _DWORD, c_void_p),
    "ResumeThread": (_DWORD, _HANDLE),
    "SetInformationJobObject": (_BOOL, _HANDLE, c_int32, c_void_p, _DWORD),
    "TerminateJobObject": (_BOOL, _HANDLE, _DWORD),
    "TerminateProcess": (_BOOL, _HANDLE, _DWORD),
    "Thread32First": (_BOOL, _HANDLE, POINTER(ThreadEntry)),
    "Thread32Next": (_BOOL, _HANDLE, POINTER(ThreadEntry)),
    "WaitForMultipleObjects": (_DWORD, _DWORD, POINTER(c_void_p), _BOOL, _DWORD),
}
#: The one of ntdll, which says who created a process without a look at all the others.
NATIVE_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "NtQueryInformationProcess": (c_int32, _HANDLE, c_int32, c_void_p, _DWORD, c_void_p)
}
