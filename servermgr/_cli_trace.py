"""What happened, as a trace that Chrome (about:tracing) and Perfetto (ui.perfetto.dev) show.

Each process has a lane of its own. The file is written as things happen, so that one of a run that was killed can be
looked at, too: both programs take an array that is not closed.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.errors import WorkerError, describe_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TextIO


@contextlib.contextmanager
def to_file(path: str | None) -> Iterator[Trace | None]:
    """A trace that is written while the block runs; None without a path."""
    if path is None:
        yield None
        return
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise WorkerError(error, f"cannot write the trace to {path}") from error
    with file:
        trace = Trace(file)
        try:
            yield trace
        finally:
            trace.close()


class Trace:
    """Writes events. Times are seconds on the monotonic clock; None means now."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = time.monotonic()
        self._since: dict[int, tuple[float, str]] = {}
        self._first = True
        self._killed: dict[int, int] = {}
        file.write("[")

    # --- in general ---------------------------------------------------------------------------------------------

    def begin(self, pid: int, name: str, at: float | None = None) -> None:
        """A process begins, or is seen for the first time."""
        if pid not in self._since:
            self._since[pid] = (self._now(at), name)
            self._write({"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}})

    def instant(self, pid: int, name: str, at: float | None = None, **facts: Any) -> None:
        """Something happens to a process."""
        self._write({"ph": "i", "s": "p", "name": name, "pid": pid, "tid": pid, "ts": self._us(at), "args": facts})

    def span(self, pid: int, name: str, begin: float, end: float | None = None, **facts: Any) -> None:
        """Something takes its time."""
        length = self._us(end) - self._us(begin)
        place = {"pid": pid, "tid": pid, "ts": self._us(begin), "dur": length}
        self._write({"ph": "X", "name": name, **place, "args": facts})

    def end(self, pid: int, how: str, at: float | None = None) -> None:
        """A process ends."""
        self.begin(pid, f"process {pid}", at)
        began, name = self._since.pop(pid)
        self.span(pid, name, began, at, how=how)
        self.instant(pid, how, at)

    def stopping(self, pids: Iterable[int]) -> None:
        """Servers are told to stop."""
        for pid in pids:
            self.instant(pid, "stop")

    def stopped(self, pids: Iterable[int]) -> None:
        """And are gone."""
        for pid in pids:
            self.end(pid, "gone")

    def close(self) -> None:
        """Whoever has not ended is shown until now."""
        for pid in list(self._since):
            self.end(pid, "end of the trace")
        self._file.write("\n]\n")

    # --- of a step ----------------------------------------------------------------------------------------------

    def hear(self, message: dict[str, Any], name: str) -> None:
        """Take what the guard of a step says.

        Args:
            message: See `_cli_step_tree`.
            name: The command's.
        """
        kind, at = message["is"], message.get("at")
        if kind == "launched":
            self.begin(message["guard"], "guard", at)
            self.begin(message["pid"], name, at)
            self.instant(message["pid"], "spawn", at)
        elif kind == "signal":
            self._signal(message["pid"], message["signal"], at)
        elif kind == "exit":
            self.end(message["pid"], describe_status(message["status"]), at)
        elif kind in ("left", "timeout"):
            for pid, process, command in message["processes"]:
                self.begin(pid, process, at)
                self.instant(pid, kind, at, command=command)

    def _signal(self, pid: int, number: int, at: float | None) -> None:
        if number == platform.SIGCONT:  # goes with each polite one, so that a stopped process hears it
            return
        if self._killed.get(pid) != number:  # kills are repeated until they have worked
            self._killed[pid] = number
            self.instant(pid, f"sent {describe_status(-number).split()[-1]}", at)

    # --- writing ------------------------------------------------------------------------------------------------

    def _now(self, at: float | None) -> float:
        return time.monotonic() if at is None else at

    def _us(self, at: float | None) -> int:
        return round((self._now(at) - self._began) * 1e6)

    def _write(self, event: dict[str, Any]) -> None:
        self._file.write(("\n" if self._first else ",\n") + json.dumps(event))
        self._file.flush()
        self._first = False
