"""The shapes of Windows' structures and constants, against what a C compiler for x86-64 Windows prints.

They run everywhere: with fixed widths the layout is the same on each 64-bit system.
"""

from __future__ import annotations

import ctypes
from ctypes import sizeof, wintypes

import pytest

from servermgr.platform import _kernel32, _kernel32_types
from servermgr.platform._kernel32_types import (
    Accounting,
    BasicLimit,
    CompletionPort,
    ExtendedLimit,
    IoCounters,
    ProcessBasic,
    ProcessEntry,
    ProcessIdList,
    ThreadEntry,
)

pytestmark = pytest.mark.skipif(sizeof(ctypes.c_void_p) != 8, reason="the figures are those of 64-bit systems")

FIGURES = [
    (BasicLimit, 64, {"flags": 16, "minimum_working_set": 24, "maximum_working_set": 32, "active_processes": 40}),
    (BasicLimit, 64, {"affinity": 48, "priority_class": 56, "scheduling_class": 60}),
    (IoCounters, 48, {}),
    (ExtendedLimit, 144, {"io": 64, "process_memory": 112, "job_memory": 120}),
    (ExtendedLimit, 144, {"peak_process_memory": 128, "peak_job_memory": 136}),
    (Accounting, 48, {"total": 36, "active": 40, "terminated": 44}),
    (ProcessIdList, 16, {"in_list": 4, "pids": 8}),
    (CompletionPort, 16, {"port": 8}),
    (ThreadEntry, 28, {"thread": 8, "owner": 12}),
    (ProcessEntry, 568, {"pid": 8, "parent": 32, "name": 44}),
    (ProcessBasic, 48, {"pid": 32, "parent": 40}),
]


@pytest.mark.parametrize(("structure", "size", "offsets"), FIGURES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_structure_has_the_layout_that_windows_expects(
    structure: type[ctypes.Structure], size: int, offsets: dict[str, int]
) -> None:
    """Size and offsets are those that a C compiler gives it."""
    assert sizeof(structure) == size
    assert {name: getattr(structure, name).offset for name in offsets} == offsets


def test_a_structure_of_wintypes_would_have_another_layout_here() -> None:
    """The control: the check above can fail, and on 64-bit POSIX it does so for the usual spelling."""

    class Usual(ctypes.Structure):
        _fields_ = (("key", wintypes.DWORD), ("other", wintypes.DWORD))

    assert (sizeof(Usual) == 8) == (sizeof(wintypes.DWORD) == 4)
    assert sizeof(wintypes.DWORD) == sizeof(ctypes.c_long), "wintypes.DWORD is a C long, of 4 or 8 bytes"


def test_no_width_is_left_to_the_system() -> None:
    """No argument, result or field is a C long, which differs between systems."""
    longs = {ctypes.c_long, ctypes.c_ulong} - {ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64}
    prototypes = {**_kernel32_types.PROTOTYPES, **_kernel32_types.NATIVE_PROTOTYPES}
    assert not [name for name, kinds in prototypes.items() if longs & set(kinds)]


def test_the_constants_are_those_of_the_headers() -> None:
    """Numbers as winnt.h and winbase.h have them."""
    found = {
        name: getattr(_kernel32, name)
        for name in (
            "CREATE_SUSPENDED",
            "CREATE_NEW_PROCESS_GROUP",
            "JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE",
            "JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO",
            "_BASIC_ACCOUNTING",
            "_PROCESS_ID_LIST",
            "_COMPLETION_PORT",
            "_EXTENDED_LIMIT",
            "_SNAP_THREAD",
            "_THREAD_SUSPEND_RESUME",
            "ERROR_ALREADY_EXISTS",
        )
    }
    assert list(found.values()) == [4, 0x200, 0x2000, 4, 1, 3, 7, 9, 4, 2, 183]


def test_every_call_is_declared_in_full() -> None:
    """A call without declared arguments would cut handles to 32 bits: `Kernel32` declares each before it is used."""

    class Call:
        restype: object = None
        argtypes: object = None

    class Library:
        def __init__(self) -> None:
            self.calls: dict[str, Call] = {}

        def __getattr__(self, name: str) -> Call:
            return self.calls.setdefault(name, Call())

    library, native = Library(), Library()
    _kernel32.Kernel32(library, native, lambda: 0)
    with open(_kernel32.__file__, encoding="utf-8") as file:
        text = file.read()
    used = {name for name in _kernel32_types.PROTOTYPES if f"_call.{name}(" in text or f'"{name}"' in text}
    unused = set(_kernel32_types.PROTOTYPES) - used
    assert {name for name in unused if "32First" not in name and "32Next" not in name} == set()
    assert all(call.argtypes is not None and call.restype is not None for call in library.calls.values())
    assert set(library.calls) == set(_kernel32_types.PROTOTYPES)
    assert set(native.calls) == {"NtQueryInformationProcess"}
