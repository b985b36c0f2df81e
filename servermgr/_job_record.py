"""The record of a tree that a job holds; see `ledger`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from servermgr import ledger
from servermgr.identity import Identity

if TYPE_CHECKING:
    from servermgr.tree import LaunchSpec


def write(spec: LaunchSpec, worker: int, *, name: str, ports: tuple[str, ...]) -> str | None:
    """Record a tree, whole or not at all. Returns where, or None where it could not be, which is said once."""
    folder = ledger.prepare()
    if folder is None:
        return None
    path = ledger.record_path(folder, spec.marker)
    # No guardian stands between: what holds the tree is the owner's handle of the job, or the worker's own.
    its = _entry(worker)
    holder = its if spec.keep else _entry(os.getpid())
    end = f'"guardian": {holder}, "worker": {its}, "session": 0, "started": {time.monotonic():.3f}}}\n'
    partial = f"{path}{ledger.PARTIAL}{os.getpid()}"
    try:
        with open(partial, "xb") as file:
            file.write(ledger.draft(spec, name=name, ports=ports) + end.encode())
        os.replace(partial, path)
    except OSError as error:
        ledger.say_unrecorded(str(error))
        remove(partial)
        return None
    return path


def _entry(pid: int) -> str:
    found = Identity.of(pid)
    return "null" if found is None else f"[{found.pid}, {found.start}, {found.serial}]"


def remove(path: str) -> bool:
    """Remove a file or an empty directory. Returns whether it is gone: not one that somebody has open."""
    try:
        try:
            os.unlink(path)
        except (IsADirectoryError, PermissionError):
            os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
