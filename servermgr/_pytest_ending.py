"""The end of what tests have left behind."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.deadline import Deadline, sleep
from servermgr.pinned import LONGEST_WAIT, Pinned, end, pin
from servermgr.stopping import KILL_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from servermgr._pytest_census import Known
    from servermgr.identity import Held
    from servermgr.tree import StopOutcome

#: Seconds from the polite signal to the forced one, for a process that a test has left behind.
GRACE = 1.0


class LeftBehind(Pinned):
    """Processes that were left behind, and all that descends from them.

    Args:
        known: Those that were found.
    """

    def __init__(self, known: Iterable[Known]) -> None:
        super().__init__()
        self._found = list(known)

    def find(self) -> Iterator[Held]:
        while self._found:
            held = held_if_same(self._found.pop())
            if held is not None:
                yield held
        yield from self.descendants_of(self.known())


def held_if_same(known: Known) -> Held | None:
    """Hold a known process; None if it is gone."""
    held = pin(known.pid)
    if held is not None and held.identity != known.identity:
        held.close()
        return None
    return held


def end_processes(known: Iterable[Known]) -> StopOutcome:
    """End processes and what descends from them: politely, then by force."""
    members = LeftBehind(known)
    try:
        return end(members, signal.SIGTERM, GRACE)
    finally:
        members.close()


def end_server(known: Known) -> None:
    """End a server by its guardian, which does it in the server's own manner."""
    held = held_if_same(known)
    if held is None:
        return
    try:
        held.signal(signal.SIGTERM)
        held.signal(platform.SIGCONT)
        patience = 0.0 if known.record is None else known.record.grace_period
        wait_for([held], Deadline(patience + KILL_PATIENCE + 1.0))
        if held.is_alive():  # then what it holds comes to its helper, which ends it
            held.signal(platform.SIGKILL)
            wait_for([held], Deadline(KILL_PATIENCE))
    finally:
        held.close()


def wait_for(held: list[Held], deadline: Deadline) -> None:
    """Wait until all of them have ended, or the deadline has passed."""
    while any(process.is_alive() for process in held) and not deadline.expired:
        pidfds = [process.pidfd for process in held if process.pidfd >= 0 and process.is_alive()]
        if pidfds:
            platform.wait_readable(pidfds, deadline.within(LONGEST_WAIT))
        else:
            sleep(deadline.within(LONGEST_WAIT))
