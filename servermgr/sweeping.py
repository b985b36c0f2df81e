"""Removal of what dead owners left behind.

`sweep()` reads the ledger and ends every tree that has no living owner. The servers of a living owner are
never touched, and neither are those that were started with `keep=True`. It runs by itself at the first start
of a process, where it costs one look at the ledger's directory unless a record there has a dead owner;
`SERVERMGR_SWEEP=off` in the environment turns that off.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from servermgr import _sweeping_files, _sweeping_unreadable, ledger, platform
from servermgr._sweeping_unreadable import Unreadable
from servermgr.deadline import Deadline, sleep
from servermgr.errors import WorkerError
from servermgr.identity import realm
from servermgr.leftovers import Leftovers
from servermgr.pinned import LONGEST_WAIT, end, pin
from servermgr.stopping import KILL_PATIENCE
from servermgr.tree import StopOutcome

if TYPE_CHECKING:
    from servermgr.identity import Held
    from servermgr.ledger import Record

_log = logging.getLogger("servermgr")

#: Set to `off`, it keeps a process from sweeping at its first start.
SWITCH_VARIABLE = "SERVERMGR_SWEEP"
#: Readings of a tree before its end begins, if it keeps growing.
_MOST_READINGS = 10
#: Seconds that a living guardian has beyond its grace period to end the tree by itself.
_GUARDIAN_PATIENCE = KILL_PATIENCE + 1.0


class Swept(NamedTuple):
    """One process that a sweep has found.

    Attributes:
        pid, name: Which process.
        evidence: What claimed it: `identity`, `marker`, `pidfile`, `containment`, `descent`; see
            `servermgr.leftovers`.
        done: `went` (politely), `killed`, `alive` (with the reason), or `found` in a dry run.
    """

    pid: int
    name: str
    evidence: str
    done: str


class SweptTree(NamedTuple):
    """One tree that a sweep has dealt with.

    Attributes:
        name: The manager's name.
        argv: Its command.
        owner: The pid of the dead owner.
        verdict: `swept`, `would sweep` (a dry run), `ended by its guardian`, `nothing left`, `survivors`.
        processes: Who was found.
        seconds: How long it took.
    """

    name: str
    argv: tuple[str, ...]
    owner: int
    verdict: str
    processes: tuple[Swept, ...]
    seconds: float


def sweep(*, dry_run: bool = False) -> list[SweptTree]:
    """End every recorded tree whose owner is dead.

    On true return, without `dry_run`, nothing of them is left that can be proven to be ours, except what the
    verdict `survivors` names. Bounded: a tree takes its `crash_grace` and some seconds more at most.

    Args:
        dry_run: Only say what would be done.

    Returns:
        One entry for each tree that has no living owner, oldest first.
    """
    swept = [_dry(record) if dry_run else _sweep(record) for record in recorded() if is_left_over(record)]
    if not dry_run:
        _sweeping_files.tidy(realm())
    return swept


def recorded() -> list[Record]:
    """The recorded trees of this user on this machine, live and left over, oldest first.

    Nothing is changed by that. A tree may have ended since its record was read.
    """
    here = realm()
    return [record for record in ledger.records() if record.realm == here]


def unreadable() -> list[Unreadable]:
    """Records that cannot be read, with what can be said of them; see `Unreadable`. A sweep removes the outlived."""
    return _sweeping_unreadable.unreadable()


def is_left_over(record: Record) -> bool:
    """Whether the tree has nobody any more: its owner is dead, and it was not meant to outlive him.

    A kept server whose guardian is gone is left over, too: nobody holds its tree.
    """
    return not record.owner.is_alive() and not (record.keep and record.guardian.is_alive())


def stop(name: str) -> list[SweptTree]:
    """End the recorded trees of that name, whoever owns them: kept servers above all.

    On true return they are gone, except what the verdict `survivors` names.

    Args:
        name: The manager's name, exactly.

    Raises:
        WorkerError: No server of that name is recorded; the text says which are.
    """
    there = recorded()
    wanted = [record for record in there if record.name == name]
    if not wanted:
        known = ", ".join(sorted({record.name for record in there})) or "none at all"
        raise WorkerError(None, f"no running server is called {name!r}; there are: {known}")
    return [_sweep(record, ask=True) for record in wanted]


def end_leftovers(record: Record) -> tuple[StopOutcome, tuple[Swept, ...]]:
    """End what is left of a tree that no guardian holds; remove its record if all of it is gone."""
    leftovers = Leftovers(record)
    try:
        _see_all(leftovers)
        outcome = end(leftovers, record.stop_signal, record.crash_grace)
        if not outcome.survivors and leftovers.empty():
            _sweeping_files.remove_pidfile(record, outcome)
            _sweeping_files.remove(record)
    finally:
        leftovers.close()
    return outcome, _processes(outcome, leftovers)


def _dry(record: Record) -> SweptTree:
    leftovers = Leftovers(record)
    try:
        pids = list(leftovers.listing())
        found = [Swept(pid, leftovers.name_of(pid) or "", leftovers.evidence.get(pid, ""), "found") for pid in pids]
    finally:
        leftovers.close()
    return SweptTree(record.name, record.argv, record.owner.pid, "would sweep", tuple(found), 0.0)


def _see_all(leftovers: Leftovers) -> None:
    """Read until two readings agree, before anyone is ended: with its parent a process may lose its only evidence.

    One reading can miss the living, while others of the tree die (proc(5), /proc/PID/task/TID/children).
    """
    seen: set[int] = set()
    for _ in range(_MOST_READINGS):
        now = set(leftovers.listing())
        if now <= seen:
            return
        seen = now


def _sweep(record: Record, *, ask: bool = False) -> SweptTree:
    deadline = Deadline(None)
    guarded = _let_guardian_work(record, ask=ask)
    outcome, processes = end_leftovers(record)
    verdict = _verdict(outcome, processes, guarded)
    return SweptTree(record.name, record.argv, record.owner.pid, verdict, processes, deadline.elapsed)


def _let_guardian_work(record: Record, *, ask: bool) -> bool:
    """A guardian that lives ends its tree better than anyone: wait for it, wake it, and only then replace it."""
    if not record.is_guarded or record.guardian.pid == os.getpid():
        return False
    guardian = pin(record.guardian.pid)
    if guardian is None:
        return False
    try:
        if guardian.identity != record.guardian or not guardian.is_alive():
            return False
        if ask:
            guardian.signal(signal.SIGTERM)
        guardian.signal(platform.SIGCONT)
        patience = record.grace_period if ask else record.crash_grace
        _wait_for(guardian, patience + _GUARDIAN_PATIENCE)
        if guardian.is_alive():  # hung: what it held goes to the nursery or to us
            guardian.signal(platform.SIGKILL)
            _wait_for(guardian, KILL_PATIENCE)
    finally:
        guardian.close()
    return True


def _wait_for(held: Held, seconds: float) -> None:
    deadline = Deadline(seconds)
    while held.is_alive() and not deadline.expired:
        if held.pidfd >= 0:
            platform.wait_readable([held.pidfd], deadline.within(LONGEST_WAIT))
        else:
            sleep(deadline.within(LONGEST_WAIT))


def _processes(outcome: StopOutcome, leftovers: Leftovers) -> tuple[Swept, ...]:
    evidence = leftovers.evidence
    found = [Swept(pid, name, evidence.get(pid, "descent"), "went") for pid, name in outcome.polite]
    found += [Swept(pid, name, evidence.get(pid, "descent"), "killed") for pid, name in outcome.killed]
    found += [Swept(pid, name, evidence.get(pid, "descent"), f"alive: {why}") for pid, name, why in outcome.survivors]
    return tuple(found)


def _verdict(outcome: StopOutcome, processes: tuple[Swept, ...], guarded: bool) -> str:
    if outcome.survivors:
        return "survivors"
    if processes:
        return "swept"
    return "ended by its guardian" if guarded else "nothing left"


_swept_once = False


def sweep_once() -> None:
    """What the first start of a process does; nothing where `SERVERMGR_SWEEP` is `off`."""
    global _swept_once  # noqa: PLW0603  # once for each process
    if _swept_once:
        return
    _swept_once = True
    if os.environ.get(SWITCH_VARIABLE, "").lower() not in ("off", "0", "no", "false"):
        for tree in sweep():
            if tree.processes:
                _log.warning("%s was left over by process %d, which is dead: %s", tree.name, tree.owner, tree.verdict)
