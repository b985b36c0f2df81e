"""A tree whose guardian is no subreaper: its orphans go to init, so they are remembered, and looked for.

| who is in it | why that is proof |
|---|---|
| whoever descends from the guardian, or from one who is in it | parents, as one reading of the process table has them |
| whoever was in it | remembered with the creation time, and let go when another has the number |
| whoever is in the session of one who is in it | it is left, never joined; its number is taken while one is in it |
| whoever carries the marker | 128 random bits in the environment, looked for at an end |
| whom the pidfile names | written since the launch, by our user; born between launch and that; an orphan; new to us |

The first three are read again and again while the tree lives, at a pace that follows its age, for a link that is gone
leaves no trace. What cuts all of them between two readings gets away.
"""

from __future__ import annotations

import os
import time

from servermgr import platform
from servermgr.guardian.brood import Brood

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from servermgr.guardian.events import Events
    from servermgr.guardian.slate import Slate
    from servermgr.platform.stat import ProcessStat

#: Seconds between two readings: a share of the tree's age, and bounds.
_PACE, _SHORTEST, _LONGEST = 0.05, 0.02, 1.0
#: A reading costs no more than this share of one processor.
_COST = 0.1
#: The pause between two looks at an end, as a multiple of what one takes.
_REST = 2.0
#: Seconds for which a reading is the truth about a creation time.
_LATEST = 0.05
#: Seconds for a daemon to write its pidfile, after its launcher has left in order and nobody else is known.
_PIDFILE_PATIENCE = 4.0
#: Readings in a row that must show nobody.
_QUIET = 2


class Flock(Brood):
    """Everyone who is known to belong to the tree of this process.

    Args:
        worker: As for `Brood`.
        on_exit: As for `Brood`.
        marker: The words in the tree's environment.
        slate: Where it is kept who is in it, for whoever has to go on in our place.
        events: As for `Brood`.
        awaits_pidfile: Whether a pidfile will name one who may have left no other trace.
    """

    glance = 1.0

    def __init__(
        self,
        worker: Callable[[], int | None],
        on_exit: Callable[[int, int], None],
        marker: bytes,
        slate: Slate,
        events: Events | None = None,
        *,
        awaits_pidfile: bool = False,
    ) -> None:
        super().__init__(worker, on_exit, events)
        self._awaits_pidfile = awaits_pidfile
        self._until = 0.0
        self._marker = marker
        self._slate = slate
        self._members = slate.read()
        self._former: set[int] = set()
        self._table: dict[int, ProcessStat] = {}
        self._since = time.monotonic()
        self._read_at = self._since - _LONGEST
        self._cost = 0.0
        self._quiet = 0
        self._born = self._launcher = 0

    # --- looking ------------------------------------------------------------------------------------------------

    def watch(self) -> float | None:
        """Take a look if one is due; returns the seconds until the next one."""
        if self._quiet >= _QUIET:
            return None
        pause = max(_SHORTEST, min(_LONGEST, (time.monotonic() - self._since) * _PACE), self._cost / _COST)
        due = self._read_at + pause - time.monotonic()
        if due > 0:
            return due
        self._look(marks=False)
        return pause

    def ending(self) -> None:
        self._since = time.monotonic()  # as often as in the beginning, for an end that nobody tells us

    def _look(self, *, marks: bool) -> None:
        began = time.monotonic()
        if not self._read():
            return
        table, before = self._table, self._members
        known = {pid: seen for pid, seen in before.items() if pid in table and table[pid].start == seen[0]}
        self._grow(known, platform.marked(self._marker, set()) if marks else ())
        self._members = {pid: seen for pid, seen in known.items() if self._lives(pid)}
        if self._awaits_pidfile:
            self._former.update(pid for pid in before if pid not in self._members)
        self._quiet = 0 if self._members else self._quiet + marks
        self._slate.write(self._members)
        self._cost = time.monotonic() - began

    def _read(self) -> bool:
        table = {stat.pid: stat for stat in platform.processes()}
        if os.getpid() not in table:  # nothing was read (no process or descriptor left), which says nothing of anyone
            return False
        self._table = table
        self._read_at = time.monotonic()
        return True

    def _lives(self, pid: int) -> bool:
        return self._table[pid].state not in "ZX" or platform.is_alive(pid)

    def _grow(self, known: dict[int, tuple[int, int]], marked: Iterable[int]) -> None:
        """Add whoever is linked to those we know, until there is nobody more."""
        children: dict[int, list[int]] = {}
        sessions: dict[int, list[int]] = {}
        for pid, listed in self._table.items():
            children.setdefault(listed.ppid, []).append(pid)
            sessions.setdefault(listed.session, []).append(pid)
        front = [*known, *self._roots(children), *marked]
        apart = {0, platform.session(os.getpid()), platform.session(os.getppid())}
        while front:
            pid = front.pop()
            stat = self._table.get(pid)
            if stat is None or self._is_alien(pid):
                continue
            # Of one that has ended the system may not tell it; one that lives may have left the one that is remembered.
            session = stat.session or known.get(pid, (0, 0))[1]
            known[pid] = (stat.start, session)
            linked = children.get(pid, []) + ([] if session in apart else sessions.get(session, []))
            front += [other for other in linked if other not in known]

    def _roots(self, children: dict[int, list[int]]) -> list[int]:
        return children.get(self._self, [])

    def _is_alien(self, pid: int) -> bool:
        return pid == os.getpid()

    # --- members ------------------------------------------------------------------------------------------------

    def members(self) -> dict[int, int]:
        """Who is in it, as pid → parent's pid, 0 for a parent that is not in it."""
        self._look(marks=False)
        parents = {pid: self._table[pid].ppid for pid in self._members if pid in self._table}
        return {pid: parent if parent in parents else 0 for pid, parent in parents.items()}

    def listing(self) -> Iterable[int]:
        # ps(1) is a child of ours, whose end wakes us: without a pause each look would provoke the next one.
        if time.monotonic() - self._read_at >= max(_SHORTEST, self._cost * _REST):
            self._look(marks=True)
        return list(self._members)

    def name_of(self, pid: int) -> str | None:
        # As the last reading has it: another one for each name would take longer than they live.
        return self._table[pid].name if pid in self._members and pid in self._table else None

    def holds(self, pid: int) -> bool:
        if pid in self._members and self._is_fresh():
            return True
        self._look(marks=False)
        if pid not in self._members:
            self._look(marks=True)
        return pid in self._members

    def accepts(self, pid: int, written: int, uid: int) -> bool:
        # Once: whoever follows the first one descends from him.
        if self.holds(pid) or (self._awaits_pidfile and self._takes(pid, written, uid)):
            self._awaits_pidfile = False
            return True
        return False

    def _takes(self, pid: int, written: int, uid: int) -> bool:
        stat, launched = self._table.get(pid), self._born
        if stat is None or pid in self._former or self._is_alien(pid) or uid != os.geteuid() or not self._lives(pid):
            return False
        if not (launched and launched <= stat.start <= written and stat.ppid == self._foster_parent()):
            return False
        self._members[pid] = (stat.start, stat.session)
        self._look(marks=False)
        return pid in self._members

    def launched(self, pid: int) -> None:
        self._look(marks=False)
        stat = self._table.get(pid)
        self._born = 0 if stat is None else stat.start
        self._launcher = pid

    def _foster_parent(self) -> int:
        """To whom orphans go here: our own nursery is one."""
        nursery = self._table.get(os.getppid())
        return os.getppid() if nursery is None or os.getppid() == 1 else nursery.ppid

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._read_at < _LATEST

    # --- signals ------------------------------------------------------------------------------------------------

    def signal(self, pid: int, number: int) -> None:
        seen = self._members.get(pid)
        if seen is None:
            return
        pidfd = self._open(pid)
        try:
            if not self._is_itself(pid, seen[0]):
                return
            if self._events is not None:
                self._events.signalled(pid, number)
            if pidfd >= 0:
                platform.signal_pidfd(pidfd, number)
            else:
                self._signal_child(pid, number)
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _is_itself(self, pid: int, start: int) -> bool:
        if not self._is_fresh() and not self._read():  # one reading for all who are signalled in a row
            return False
        stat = self._table.get(pid)
        return stat is not None and stat.start == start

    def kill_groups(self) -> None:
        # Who dies of it is nobody's of ours to reap: whoever lives now is killed now.
        self.listing()
        slain = {pid: self._table[pid].name for pid in self._members if pid in self._table}
        self._strike().slain = slain

    def reap(self) -> int:
        if not self._childless and self._has_dead():
            # While the dead is not reaped, his session is still provably his: who is in it is taken note of first.
            self._look(marks=True)
        return super().reap()

    def _reaped(self, pid: int, status: int) -> None:
        if pid == self._launcher and status == 0:
            self._until = time.monotonic() + _PIDFILE_PATIENCE
        super()._reaped(pid, status)

    def _has_dead(self) -> bool:
        waitid = getattr(os, "waitid", None)
        if waitid is None:  # macOS before Python 3.13
            return not self._is_fresh()
        try:
            return waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    def _reap_one(self) -> tuple[int, int]:
        return os.waitpid(-1, os.WNOHANG)

    def empty(self) -> bool:
        # Nobody says "that was the last" here: some readings in a row with nobody in them have to do.
        if not self._childless or self._quiet >= _QUIET:
            return self._childless
        if (self._members and self._is_fresh()) or (self._awaits_pidfile and time.monotonic() < self._until):
            return False
        while self._quiet < _QUIET:
            quiet = self._quiet
            self._look(marks=True)
            if self._quiet <= quiet:
                return False
        return True
