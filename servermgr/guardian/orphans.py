"""What a guardian leaves that is killed before its tree: its orphans come to the nursery, which ends them."""

from __future__ import annotations

import _socket
import os

from servermgr import platform
from servermgr.guardian import protocol
from servermgr.guardian.brood import Brood
from servermgr.guardian.record import unlink
from servermgr.guardian.worker import UNKNOWN_STATUS
from servermgr.stopping import Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable


class Orphans(Brood):
    """Everyone below the nursery who is not a guardian, nor below one.

    Args:
        guardians: The pids of the guardians that live.
        reap: Collects the nursery's dead, guardians among them; returns how many.
    """

    def __init__(self, guardians: Container[int], reap: Callable[[], int]) -> None:
        super().__init__(worker=lambda: None, on_exit=lambda *_: None)
        self._guardians = guardians
        self._reap_all = reap

    def listing(self) -> Iterable[int]:
        self._self = os.getpid()
        self._parents = platform.descendants(self._self, skip=self._guardians)
        return list(self._parents)

    def reap(self) -> int:
        return self._reap_all()

    def empty(self) -> bool:
        # Guardians are children, too, so waitpid cannot say "none left"; and one reading can miss the living
        # while others die. Three readings in a row with nobody in them have to do.
        return all(not (self.reap() or self.listing()) for _ in range(3))


class StandIn:
    """What the nursery keeps of a guardian, to end the tree in its place.

    Args:
        spec: What the guardian was given.
        socket: The guardian's socket to the owner, which thus hears of the end although its guardian is gone.
        pid: The guardian's pid.
        orphans: Who comes to the nursery.
    """

    def __init__(self, spec: protocol.Message, socket: int, pid: int, orphans: Orphans) -> None:
        self._spec = {name: spec[name] for name in ("stop_signal", "crash_grace", "remove_log", "record")}
        self._owner = _socket.socket(fileno=socket)
        self._pid = pid
        self._orphans = orphans
        self._stopping: Stopping | None = None
        self.finished = False

    def step(self) -> float | None:
        """The next step of ending the orphans; see `Stopping.step`."""
        if self._stopping is None:
            self._stopping = Stopping(self._orphans, self._spec["stop_signal"], self._spec["crash_grace"])
        due = self._stopping.step()
        if self._stopping.finished:
            self._finish(self._stopping)
        return due

    def _finish(self, stopping: Stopping) -> None:
        if not stopping.survivors:
            for path in (self._spec["remove_log"], self._spec["record"]):
                unlink(path)
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

    def close(self) -> None:
        """The guardian ended with its tree, as it should."""
        self._owner.close()
