"""The files that a sweep removes: records, logs, pidfiles and leases of trees that are gone."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import TYPE_CHECKING

from servermgr import _ports_claims, ledger, platform
from servermgr.identity import Identity, is_of_earlier_boot
from servermgr.output import owner_stamp
from servermgr.pidfile import Pidfile

if TYPE_CHECKING:
    from servermgr.ledger import Record
    from servermgr.tree import StopOutcome


def remove_pidfile(record: Record, outcome: StopOutcome) -> None:
    """Remove the pidfile if it still names one of those who have ended, as the guardian would have done."""
    if record.pidfile is None:
        return
    ended = {pid for pid, _ in (*outcome.polite, *outcome.killed)}
    ended |= set() if record.worker is None else {record.worker.pid}
    for pid in ended:
        if not platform.is_alive(pid):  # else another process has the number by now, and may have written the file
            Pidfile(record.pidfile).remove_if_names(pid)


def remove(record: Record) -> None:
    """Remove the record and the run's own log, if they are still there."""
    if record.removes_log and record.log is not None and _is_run_log(record.log):
        _unlink(record.log)
    _unlink(record.path)


def _is_run_log(path: str) -> bool:
    """A record could name any file; only what `output` makes is removed on its word."""
    folder, name = os.path.split(path)
    if not (name.startswith("servermgr-") and name.endswith(".log")):
        return False
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    # Windows shows no modes: its access lists say who may write there.
    closed = stat.S_IMODE(seen.st_mode) == 0o600 or not hasattr(os, "getuid")
    private = stat.S_ISREG(seen.st_mode) and closed and not ledger.distrust(seen)
    return private and os.path.realpath(folder) == os.path.realpath(tempfile.gettempdir())


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or in a directory that is read-only by now: it is looked at again next time


def tidy(here: str) -> None:
    """Remove records of earlier boots of this machine, half-written ones whose writer is gone, and stale leases."""
    for path, record in ledger.entries():
        if record is not None and is_of_earlier_boot(record.realm, here):
            remove(record)
        elif record is None and _is_abandoned(path):
            _unlink(path)
    _tidy_logs()
    _ports_claims.tidy()


def _tidy_logs() -> None:
    """Remove logs whose owner died before a guardian had written the record that would name them."""
    named = {record.log for _, record in ledger.entries() if record is not None}
    namespace, _, _ = owner_stamp().partition(".")
    try:
        folder = tempfile.gettempdir()
        names = os.listdir(folder)
    except OSError:  # none that can be written to, where a file system is read-only
        return
    for path in (os.path.join(folder, name) for name in names if _is_of_dead_owner(name, namespace)):
        if path not in named and _is_run_log(path):
            _unlink(path)


def _is_of_dead_owner(name: str, namespace: str) -> bool:
    numbers = name.rpartition("-")[0].rpartition("-")[2].split(".")
    if not name.startswith("servermgr-") or len(numbers) != 3 or not "".join(numbers).isdecimal():
        return False
    where, pid, start = numbers
    return where == namespace and not Identity(int(pid or 0), int(start or 0)).is_alive()


def _is_abandoned(path: str) -> bool:
    _, partial, writer = os.path.basename(path).rpartition(ledger.PARTIAL)
    return bool(partial) and writer.isascii() and writer.isdigit() and not platform.is_alive(int(writer))
