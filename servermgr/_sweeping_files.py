"""The files that a sweep removes: records, logs, pidfiles and leases of trees that are gone."""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING

from servermgr import _ports_claims, _sweeping_unreadable, ledger, platform
from servermgr.identity import Identity, is_of_earlier_boot
from servermgr.output import owner_stamp
from servermgr.pidfile import Pidfile

if TYPE_CHECKING:
    from servermgr.guardian.scratch import Scratch
    from servermgr.ledger import Record
    from servermgr.tree import StopOutcome

#: How the names of the directories begin that `servermgr up` makes.
SCRATCH_PREFIX = "servermgr-up-"


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
    """Remove the record, the run's own log and the tree's control group, if they are still there."""
    for path in record.removes:
        if platform.is_group_of(path, record.marker):
            _remove_empty(path)
    if record.removes_log and record.log is not None and _is_run_log(record.log, record.owner):
        _unlink(record.log)
    _unlink(record.path)


def _remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # gone, or somebody is in it still


def _is_run_log(path: str, owner: Identity | None = None) -> bool:
    """A record could name any file; only what `output` makes is removed on its word.

    In another folder for temporary files than ours only what has the owner of the record in its name.
    """
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
    if owner is not None and _stamp(name)[1:] == [str(owner.pid), str(owner.start)]:
        return private
    return private and os.path.realpath(folder) == os.path.realpath(_temporary_folder())


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or in a directory that is read-only by now: it is looked at again next time


def tidy(here: str) -> None:
    """Remove what nobody can be of any more.

    Records of earlier boots of this machine, half-written ones whose writer is gone, unreadable ones that no tree can
    belong to, logs and directories of the dead, stale leases.
    """
    for path, record in ledger.entries():
        if record is not None and is_of_earlier_boot(record.realm, here):
            remove(record)
        elif record is None and (_is_abandoned(path) or _sweeping_unreadable.is_outlived(path, here)):
            _unlink(path)
    _tidy_logs()
    _tidy_scratch()
    _ports_claims.tidy()


def _tidy_logs() -> None:
    """Remove logs whose owner died before a guardian had written the record that would name them."""
    named = {record.log for _, record in ledger.entries() if record is not None}
    namespace, _, _ = owner_stamp().partition(".")
    folder, names = _temporary()
    for path in (os.path.join(folder, name) for name in names if _is_of_dead_owner(name, namespace)):
        if path not in named and _is_run_log(path):
            _unlink(path)


def _tidy_scratch() -> None:
    """Remove directories of `servermgr up` that nobody has any more; a tree that is ending has its share still."""
    namespace, _, _ = owner_stamp().partition(".")
    folder, names = _temporary()
    for name in names:
        if name.startswith(SCRATCH_PREFIX) and _is_of_dead_owner(name, namespace):
            path = os.path.join(folder, name)
            held = share(path) if _is_own(path) else None
            if held is not None:
                held.leave()


def share(path: str) -> Scratch | None:
    """A share in a directory; see `guardian.scratch`. None on a system without guardians."""
    if platform.HOLDER is None:
        return None
    # By name: it imports what another system does not have.
    found: Scratch = import_module("servermgr.guardian.scratch").Scratch(path)
    return found


def _is_own(path: str) -> bool:
    getuid = getattr(os, "getuid", None)
    try:
        return getuid is not None and os.lstat(path).st_uid == getuid()
    except OSError:
        return False


def _temporary() -> tuple[str, list[str]]:
    """The directory of temporary files, and what is in it."""
    try:
        folder = _temporary_folder()
        return folder, os.listdir(folder)
    except OSError:  # none that can be written to, where a file system is read-only
        return "", []


def _temporary_folder() -> str:
    import tempfile  # noqa: PLC0415  # takes 3 ms, and only a sweep that finds something needs it

    return tempfile.gettempdir()


def _is_of_dead_owner(name: str, namespace: str) -> bool:
    numbers = _stamp(name)
    if not name.startswith("servermgr-") or len(numbers) != 3 or not "".join(numbers).isdecimal():
        return False
    where, pid, start = numbers
    return where == namespace and not Identity(int(pid or 0), int(start or 0)).is_alive()


def _stamp(name: str) -> list[str]:
    """Whose it is, as `output.owner_stamp` has written it into a name."""
    return name.rpartition("-")[0].rpartition("-")[2].split(".")


def _is_abandoned(path: str) -> bool:
    _, partial, writer = os.path.basename(path).rpartition(ledger.PARTIAL)
    return bool(partial) and writer.isascii() and writer.isdigit() and not platform.is_alive(int(writer))
