"""What one process tree has to tell to a trace: the events of its guardian, as lanes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from servermgr.errors import describe_status

if TYPE_CHECKING:
    from typing import Any

    from servermgr.trace import Trace


class Story:
    """What one process tree has to tell to a trace.

    Args:
        trace: Where to.
        name: What the lane of the worker is called.
        command: The command, to be shown with it.
        launches: Whether the command is only the launcher of a daemonizing server.
    """

    def __init__(self, trace: Trace, name: str, command: str = "", *, launches: bool = False) -> None:
        self._trace = trace
        self._name = name
        self._facts = {"command": command} if command else {}
        self._launcher = f"{name} (launcher)" if launches else name
        self._worker: int | None = None
        self._began: float | None = None
        self._guardian: int | None = None
        self._stopping = False
        self._pids: dict[int, None] = {}  # in their order

    def hear(self, event: dict[str, Any]) -> None:
        """Take an event of the guardian's; see `servermgr.guardian.events`. What is not known is passed over."""
        tell = getattr(self, f"_hear_{event['what']}", None)
        if tell is not None:
            tell(event, event["pid"], event["at"])

    def begin(self, pid: int, name: str, at: float | None = None, **facts: Any) -> None:
        """A process of the tree begins, or is seen for the first time."""
        self._pids[pid] = None
        self._trace.begin(pid, name, at, **facts)

    def happen(self, pid: int, what: str, at: float | None = None, **facts: Any) -> None:
        """Something happens to a process of the tree."""
        self._trace.instant(pid, what, at, **facts)

    def ready(self, pid: int | None) -> None:
        """The server has answered; its worker is that process."""
        now = time.monotonic()
        pid = pid or self._worker
        if pid in self._pids and self._began is not None:
            self._trace.span(pid, "starting", self._began, now)
            self._trace.instant(pid, "ready", now)
            self._began = None

    def note(self, what: str, **facts: Any) -> None:
        """Something has happened to the tree as a whole."""
        pid = self._guardian or self._worker
        if pid is not None:
            self._trace.instant(pid, what, **facts)

    def over(self, how: str = "gone", *, survivors: bool = False) -> None:
        """A stop is finished. With survivors only their lanes stay open, and which those are nobody has to say."""
        if self._stopping and self._guardian is not None:
            self._trace.leave(self._guardian)
        self._stopping = False
        if not survivors:
            for pid in list(self._pids):
                self._end(pid, how)

    def _end(self, pid: int, how: str, at: float | None = None) -> None:
        self._pids.pop(pid, None)
        self._trace.end(pid, how, at)

    # --- events -------------------------------------------------------------------------------------------------

    def _hear_guardian(self, _: dict[str, Any], pid: int, at: float) -> None:
        self._guardian = pid
        self.begin(pid, f"guardian of {self._name}", at)

    def _hear_spawn(self, event: dict[str, Any], pid: int, at: float) -> None:
        self._worker, self._began = pid, at
        self.begin(pid, self._launcher, at, program=event["name"], **self._facts)
        self._trace.instant(pid, event["what"], at)

    _hear_adopted = _hear_spawn

    def _hear_seen(self, event: dict[str, Any], pid: int, at: float) -> None:
        self.begin(pid, event["name"], at, parent=event["parent"])

    def _hear_named(self, event: dict[str, Any], pid: int, at: float) -> None:
        if pid != self._worker:
            self._trace.rename(pid, event["name"])
        self._trace.instant(pid, f"became {event['name']}", at)

    def _hear_worker(self, _: dict[str, Any], pid: int, at: float) -> None:
        self._worker = pid
        self.begin(pid, self._name, at)
        self._trace.rename(pid, self._name)
        self._began = at if self._began is None else max(self._began, at)
        self._trace.instant(pid, "worker", at)

    def _hear_signal(self, event: dict[str, Any], pid: int, at: float) -> None:
        self._trace.instant(pid, f"sent {describe_status(-event['signal']).split()[-1]}", at)

    def _hear_stop(self, event: dict[str, Any], pid: int, at: float) -> None:
        lane = self._guardian or pid  # of a guardian that was killed the work is done by another process
        if not self._stopping:
            self._stopping = True
            self._trace.enter(lane, "stopping", at, grace=event["grace"])
        self._trace.instant(lane, "stop", at, grace=event["grace"])

    def _hear_exit(self, event: dict[str, Any], pid: int, at: float) -> None:
        status = event["status"]
        self._end(pid, "gone" if status is None else describe_status(status), at)

    def _hear_lost(self, event: dict[str, Any], _: int, __: float) -> None:
        self.note("events lost", count=event["count"])
