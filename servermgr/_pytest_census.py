"""Who descends from this process, and which test or fixture has started whom.

Readings are taken whenever pytest passes from one thing to another; whoever is new was started by what went on since
the last one. What a known process starts belongs to whoever started that.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from servermgr import platform
from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from servermgr.ledger import Record
    from servermgr.platform.stat import ProcessStat

#: What the library's own helpers call themselves, and what is in their command line.
_NURSERY, _GUARDIAN = "servermgr", "servermgr-guard"
_HELPER_COMMAND = "servermgr.guardian.nursery"


class Origin(NamedTuple):
    """Who has started a process.

    Attributes:
        key: Tests and fixtures by what they are known by; the same for all that must be gone at the same time.
        text: The same for people.
    """

    key: object
    text: str


#: Was there before, or is none of our business.
BASELINE = Origin("baseline", "")
#: Keeps the library or Python going, and ends with this process.
HELPER = Origin("helper", "")


class Known:
    """A process that was seen.

    Attributes:
        identity: Which one.
        origin: Who has started it.
        parent: Its parent when it was first seen.
        session: Its session then.
        record: Of a guardian: the record of its server.
    """

    __slots__ = ("identity", "origin", "parent", "record", "session")

    def __init__(self, identity: Identity, origin: Origin, stat: ProcessStat, record: Record | None) -> None:
        self.identity = identity
        self.origin = origin
        self.parent = stat.ppid
        self.session = stat.session
        self.record = record

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.identity.pid


class Census:
    """All that descends from this process, orphans included where it is a subreaper.

    Whoever descends from a known process is that one's, so most readings need only look for new children of this
    process and of its helpers: their cost follows what is new, not what is there.

    Args:
        reap: Called with a dead child of this process; collects it if nobody waits for it, and says whether it has.
            None where nobody may be collected.

    Attributes:
        alive: Keys of the fixtures that have been set up and not torn down.
    """

    def __init__(self, reap: Callable[[Known, ProcessStat], bool] | None) -> None:
        self._known: dict[int, Known] = {}
        self._parents: dict[int, int] = {}
        self._servers: dict[tuple[str, tuple[str, ...]], Origin] = {}
        self._reap = reap
        self.alive: set[object] = set()

    def note(self, origin: Origin) -> None:
        """Look for new processes. They belong to `origin`, unless somebody known has started them."""
        known = {pid for pid, known in self._known.items() if known.origin is not HELPER}
        self._take(platform.descendants(os.getpid(), skip=known), origin)

    def note_all(self, origin: Origin) -> None:
        """The same, after a look at everyone: numbers may have gone to others, and the known may have had children."""
        for pid, known in list(self._known.items()):
            stat = platform.read_stat(pid)
            if stat is None or stat.start != known.identity.start or self._is_collected(known, stat):
                del self._known[pid]
        self._parents = {}
        self._take(platform.descendants(os.getpid()), origin)

    def _take(self, parents: dict[int, int], origin: Origin) -> None:
        self._parents.update(parents)
        for pid in parents:
            known = self._known.get(pid)
            stat = platform.read_stat(pid) if known is None or known.origin is HELPER else None
            # A helper that waited for a tree is a guardian once it has one.
            if stat is not None and (known is None or _is_ours(stat, _GUARDIAN)):
                self._add(stat, origin)

    def _is_collected(self, known: Known, stat: ProcessStat) -> bool:
        if self._reap is None or stat.ppid != os.getpid() or platform.is_alive(stat.pid):
            return False
        return self._reap(known, stat)

    def living(self, wanted: Callable[[Origin], bool], covered: Container[int] = ()) -> list[Known]:
        """Those that live and are wanted, without the covered ones and all that descends from these."""
        return [
            known
            for known in self._known.values()
            if wanted(known.origin) and known.identity.is_alive() and not self._is_below(known.pid, covered)
        ]

    def roots(self, found: Iterable[Known]) -> list[tuple[Known, int]]:
        """Those of them that descend from no other of them, each with how many do from it."""
        found = list(found)
        pids = {known.pid for known in found}
        roots = [known for known in found if not self._is_below(self._parents.get(known.pid, 0), pids)]
        return [(root, sum(self._is_below(known.pid, {root.pid}) for known in found) - 1) for root in roots]

    def _is_below(self, pid: int, tops: Container[int]) -> bool:
        for _ in range(len(self._parents) + 1):
            if pid in tops:
                return True
            if pid not in self._parents:
                return False
            pid = self._parents[pid]
        return False

    # --- whose is it --------------------------------------------------------------------------------------------

    def _add(self, stat: ProcessStat, origin: Origin) -> None:
        identity = Identity.of(stat.pid)
        if identity is None or identity.start != stat.start:
            return  # gone already; whoever has its number now is met at the next reading
        record = None
        inherited = self._inherited(stat)
        if inherited is not None:
            origin = inherited
        elif _is_ours(stat, _NURSERY) or stat.pid in _pythons_helpers():
            origin = HELPER
        if inherited is None and _is_ours(stat, _GUARDIAN):
            record = _record_of(identity)
            origin = self._of_server(record, origin)
        self._known[stat.pid] = Known(identity, origin, stat, record)

    def _inherited(self, stat: ProcessStat) -> Origin | None:
        """What it has from its parent, or, as an orphan, from the others of its session."""
        parent = self._known.get(stat.ppid)
        if parent is not None:
            return None if parent.origin is HELPER else parent.origin
        me = platform.read_stat(os.getpid())
        if me is None or stat.session == me.session:
            return None
        for known in self._known.values():
            if known.session == stat.session and known.origin is not HELPER:
                return known.origin
        return None

    def _of_server(self, record: Record | None, origin: Origin) -> Origin:
        """A server that is started anew within a test belongs still to the fixture that started it first."""
        if record is None:
            return origin
        name = (record.name, record.argv)
        before = self._servers.get(name)
        if before is not None and before.key in self.alive:
            return before
        self._servers[name] = origin
        return origin


def _record_of(identity: Identity) -> Record | None:
    from servermgr.sweeping import recorded  # noqa: PLC0415  # with the first server

    return next((record for record in recorded() if record.is_guarded and record.guardian == identity), None)


def _is_ours(stat: ProcessStat, name: str) -> bool:
    if stat.name != name:
        return False
    return any(_HELPER_COMMAND in word for word in command_of(stat.pid))


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty where it cannot be had."""
    import psutil  # noqa: PLC0415

    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def _pythons_helpers() -> set[int]:
    """Processes that multiprocessing keeps for good once it has needed them. It has no public name for them."""
    found = set()
    for module, name, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        pid = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if pid is not None:
            found.add(pid)
    return found
