"""What a guardian leaves that is killed before its tree: its orphans come to the nursery, which ends them."""

from __future__ import annotations

import _socket
import functools
import os

from servermgr import platform
from servermgr.guardian import protocol
from servermgr.guardian.brood import Brood
from servermgr.guardian.record import recorded_worker, unlink
from servermgr.guardian.scratch import Scratch
from servermgr.guardian.worker import UNKNOWN_STATUS
from servermgr.pidfile import Pidfile
from servermgr.stopping import MOST_NAMED, Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from servermgr.guardian.slate import Slate


#: Seconds between two looks at processes that are not our children.
_GLANCE = 0.05


class Orphans(Brood):
    """Everyone below the nursery who is not a guardian, nor below one.

    Args:
        guardians: The pids of the guardians that live.
        reap: Collects the nursery's dead, guardians among them; returns how many.
        worker: The pid of the worker that one of the guardians had; 0 where it is not known.
    """

    def __init__(self, guardians: Container[int], reap: Callable[[], int], worker: int = 0) -> None:
        super().__init__(worker=self._living_worker, on_exit=lambda *_: None)
        self._guardians = guardians
        self._reap_all = reap
        self._worker = worker

    def with_worker(self, worker: int) -> Orphans:
        """The same processes, with one to be asked before the others."""
        return Orphans(self._guardians, self._reap_all, worker)

    def _living_worker(self) -> int | None:
        # The number was read from a file: only as that of an orphan does it mean anything.
        return self._worker if self._worker in self.listing() and platform.is_alive(self._worker) else None

    def listing(self) -> list[int]:
        self._self = os.getpid()
        self._parents = platform.descendants(self._self, skip=self._guardians)
        return list(self._parents)

    def _is_ours(self, parent: int) -> bool:
        # Not whoever has come below a living guardian meanwhile.
        return parent == self._self or parent in self._parents or parent in self.listing()

    def reap(self) -> int:
        self._listed = False
        return self._reap_all()

    def kill_groups(self) -> None:
        # The nursery reaps, and does not take down names: whoever lives now is killed now.
        listed = self.listing()
        living = [(pid, self.name_of(pid)) for pid in listed[:MOST_NAMED]] + [(pid, "") for pid in listed[MOST_NAMED:]]
        self._strike().slain = {pid: name for pid, name in living if name is not None}

    def _children(self) -> Iterable[int]:
        self.listing()
        return [pid for pid, parent in self._parents.items() if parent == self._self]

    def empty(self) -> bool:
        # Guardians are children, too, so waitpid cannot say "none left"; and one reading can miss the living
        # while others die. Three readings in a row with nobody in them have to do.
        return all(not (self.reap() or self.listing()) for _ in range(3))


class StandIn:
    """What the nursery keeps of a guardian, to end the tree in its place.

    Args:
        spec: What the guardian was given, packed.
        socket: The guardian's socket to the owner, which thus hears of the end although its guardian is gone.
        pid: The guardian's pid.
        orphans: Who comes to the nursery.
        slate: Where the guardian has written down who is in its tree; None where the orphans come to the nursery.
    """

    def __init__(self, spec: bytes, socket: int, pid: int, orphans: Orphans, slate: Slate | None = None) -> None:
        self._packed = spec
        self._owner = _socket.socket(fileno=socket)
        self._pid = pid
        self._orphans = orphans
        self._slate = slate
        self._worker = 0
        self._stopping: Stopping | None = None
        self.finished = False

    @functools.cached_property
    def _spec(self) -> protocol.Message:
        return protocol.unpack(self._packed)

    def step(self) -> float | None:
        """The next step of ending the orphans; see `Stopping.step`."""
        if self._stopping is None:
            self._worker = recorded_worker(self._spec["record"])
            self._stopping = Stopping(self._left(), self._spec["stop_signal"], self._spec["crash_grace"])
        due = self._stopping.step()
        if self._stopping.finished:
            self._finish(self._stopping)
        # Whoever did not come to us ends without a word.
        return due if due is None or self._slate is None else min(due, _GLANCE)

    def _left(self) -> Brood:
        """Who is left of the tree."""
        if self._slate is None:
            orphans = self._orphans.with_worker(self._worker)
            orphans.cgroup = self._spec["cgroup"]
            return orphans
        from servermgr.guardian.strays import Strays  # noqa: PLC0415  # only where there are no subreapers

        return Strays(self._orphans.reap, self._worker, self._spec["marker"], self._slate)

    def _finish(self, stopping: Stopping) -> None:
        if not stopping.survivors:
            self._remove_pidfile(stopping)
            for path in (*self._spec["remove"], self._spec["record"]):
                unlink(path)
            if self._spec["scratch"]:
                Scratch(self._spec["scratch"]).leave()
        unlink(self._spec["record"] + b".partial-%d" % self._pid)
        message = stopping.report()
        message["status"] = UNKNOWN_STATUS
        message["note"] = f"its guardian (pid {self._pid}) was killed, and the tree was ended for that reason"
        self._owner.settimeout(1.0)
        try:
            protocol.send(self._owner, message)
        except (protocol.Closed, TimeoutError):
            pass  # the owner is gone, too
        self.close()
        self.finished = True

    def _remove_pidfile(self, stopping: Stopping) -> None:
        """Remove the pidfile if it still names one of those who have ended, as the guardian would have done."""
        if self._spec["pidfile"] is None:
            return
        pidfile = Pidfile(os.fsdecode(self._spec["pidfile"]))
        for pid in {self._worker, *(pid for pid, _ in (*stopping.polite, *stopping.killed))}:
            if pid and not platform.is_alive(pid):  # else it has been given to another process
                pidfile.remove_if_names(pid)

    def close(self) -> None:
        """The guardian ended with its tree, as it should."""
        self._owner.close()
        if self._slate is not None:
            self._slate.close()
