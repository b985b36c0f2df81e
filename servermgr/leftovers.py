"""What is left of a tree whose owner, guardian and nursery are all gone: found by evidence, ended by identity.

| evidence | why it is proof |
|---|---|
| identity | the record's worker, by pid, creation time and serial number |
| marker | exactly our 128 random bits in the environment it was started with |
| pidfile | the pidfile names it, and it carries one of the two above |
| containment | it is in the control group or (Windows) the job object that is called by our 128 random bits |
| descent | its parents lead to one of those |

What carries none of it is not touched: a daemon that has left its parents, cleared its environment and was
never the worker cannot be told from a stranger's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.deadline import Deadline
from servermgr.pidfile import PidfileError, read_pid
from servermgr.pinned import Pinned, pin
from servermgr.tree import MARKER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from servermgr.identity import Held
    from servermgr.ledger import Record


#: Seconds for which nobody of a tree must have been seen. In the middle of an exec a process has no environment to
#: read, for as long as the exec takes: some milliseconds, on a machine that is busy.
_SETTLED = 0.05
#: Looks at whoever is new, before everyone is looked at again and it is said that nobody is there.
_QUICK_LOOKS = 10


class Leftovers(Pinned):
    """The processes of a recorded tree, as far as they can be proven to belong to it.

    Args:
        record: What is known of the tree.

    Attributes:
        evidence: What claimed each process that was found, by pid.
    """

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record
        self._marker = f"{MARKER_VARIABLE}={record.marker}".encode()
        self.evidence: dict[int, str] = {}
        self._strangers: set[int] = set()
        self._unseen: Deadline | None = None

    def worker(self) -> int | None:
        worker = self._record.worker
        return worker.pid if worker is not None and worker.pid in self._held and worker.is_alive() else None

    def empty(self) -> bool:
        # A storm (fork and exit, each millisecond) shows itself to whoever looks often, and only at the new.
        if any(self.listing() for _ in range(_QUICK_LOOKS)):
            self._unseen = None
            return False
        self._strangers.clear()
        if not super().empty():
            self._unseen = None if self._held else self._unseen
            return False
        if not self.evidence:  # nobody was there from the beginning, so nobody can have started another
            return True
        self._unseen = self._unseen or Deadline(_SETTLED)
        return self._unseen.expired

    def find(self) -> Iterable[Held]:
        yield from self._recorded()
        yield from self._named_by_pidfile()
        yield from self._contained()
        yield from self._marked()
        for held in self.descendants_of(self.known()):
            self.evidence.setdefault(held.pid, "descent")
            yield held

    def _recorded(self) -> Iterator[Held]:
        worker = self._record.worker
        held = None if worker is None else self._pin_if(worker.pid, lambda held: held.identity == worker)
        if held is not None:
            self.evidence[held.pid] = "identity"
            yield held

    def _named_by_pidfile(self) -> Iterator[Held]:
        """Whom the pidfile names: a hint where to look first, and part of the story, but no proof of its own."""
        try:
            pid = read_pid(self._record.pidfile) if self._record.pidfile else None
        except PidfileError:
            pid = None
        held = None if pid is None else self._pin_if(pid, self._is_marked)
        if held is not None:
            self.evidence.setdefault(held.pid, "pidfile")
            yield held

    def _marked(self) -> Iterator[Held]:
        for pid in platform.marked(self._marker, self._strangers):
            held = self._pin_if(pid, self._is_marked)
            if held is not None:
                self.evidence.setdefault(held.pid, "marker")
                yield held

    def _contained(self) -> Iterator[Held]:
        record = self._record
        for pid in platform.contained(record.marker, record.removes):
            held = self._pin_if(pid, lambda held: held.pid in platform.contained(record.marker, record.removes))
            if held is not None:
                self.evidence.setdefault(held.pid, "containment")
                yield held

    def _is_marked(self, held: Held) -> bool:
        return platform.environment_holds(held.pid, self._marker)

    def _pin_if(self, pid: int, proves: Callable[[Held], bool]) -> Held | None:
        """Hold the process, then look: what is read behind a held identity is its own."""
        held = None if pid == os.getpid() else pin(pid)
        if held is None:
            return None
        if proves(held) and held.is_alive():
            return held
        held.close()
        return None
