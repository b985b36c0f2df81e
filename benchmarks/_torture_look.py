"""What the fault campaign sees: the zoo's census, and a look at /proc of its own. Nothing here asks servermgr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.processes import ROOT

sys.path.append(str(ROOT / "tests"))  # the hostile trees and their oracle live there

import census
import zoo
from zoo_kit import process_stat

__all__ = ["census", "children", "helpers", "is_marked", "process_stat", "proven", "strays", "zoo"]

_NURSERY = b"servermgr.guardian.nursery"
_MARKER = re.compile(rb"(?:^|\0)SERVERMGR_TREE=[0-9a-f]{32}(?:\0|$)")


def helpers(home: Path) -> dict[int, tuple[int, census.Entry]]:
    """Nurseries and guardians of the owner with that HOME, by pid, each with its parent's pid.

    HOME is among the few variables that helpers are given, so it tells whose they are.
    """
    found = {}
    for pid in _pids():
        if f"HOME={home}".encode() in _read(pid, "environ").split(b"\0") and _NURSERY in _read(pid, "cmdline"):
            stat = process_stat(pid)
            entry = None if stat is None else census.Entry(pid, stat[1], "helper")
            if stat is not None and entry is not None and entry.alive:
                found[pid] = (int(stat[2][1]), entry)
    return found


def children(pid: int) -> list[int]:
    """Children of its main thread, the eldest first."""
    return [int(word) for word in _read(pid, f"task/{pid}/children").split()]


def is_marked(pid: int) -> bool:
    """Whether it has the marker of a tree in the environment it was started with."""
    if environ := _read(pid, "environ"):
        return bool(_MARKER.search(environ))
    # Where the main thread has left, the environment is to be had from the others alone.
    return any(_MARKER.search(_read(pid, f"task/{thread}/environ")) for thread in _threads(pid))


def proven(living: Collection[census.Entry], ledger: Path) -> set[int]:
    """Pids of those with evidence on them: the marker, the word of a record, or a parent that has either."""
    pids = {entry.pid for entry in living}
    found = {pid for pid in pids if is_marked(pid)} | (pids & _recorded(ledger))
    for _ in range(len(pids)):
        found |= {pid for pid in pids if (stat := process_stat(pid)) and int(stat[2][1]) in found}
    return found


def _recorded(ledger: Path) -> set[int]:
    found = set()
    for path in ledger.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # gone; being written; no worker yet
            found.add(int(json.loads(path.read_text())["worker"][0]))
    return found


def strays(folder: Path) -> list[str]:
    """Living processes that have anything below `folder` in their environment or on their command line."""
    word = f"{folder}{os.sep}".encode()
    texts = [(pid, _read(pid, "cmdline"), _read(pid, "environ")) for pid in _pids() if pid != os.getpid()]
    found = [(pid, cmdline) for pid, cmdline, environ in texts if word in cmdline or word in environ]
    return [
        f"{pid}: {cmdline.decode(errors='replace').replace(chr(0), ' ')}"
        for pid, cmdline in found
        if (stat := process_stat(pid)) and stat[0] not in census.DEAD
    ]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or hidden from this user
        return b""
