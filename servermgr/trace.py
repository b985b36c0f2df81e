"""What happened to servers, as a trace that ui.perfetto.dev and chrome://tracing show: a lane for each process.

::

    with Trace("trace.json") as trace, CommandManager(["sleep", "60"], trace=trace):
        ...

Times are those of the system's monotonic clock, in microseconds, so that traces of several programs can be laid side
by side. The file is a whole JSON document after each event, also when the program that writes it is killed.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self

#: What a manager's `trace` may be: a trace, the path of a file for one, or None.
Traced: TypeAlias = "Trace | str | os.PathLike[str] | None"

_END = b"\n]\n"
_log = logging.getLogger("servermgr")


class Trace:
    """Writes what happens to a file. Fit for many managers and threads at once; in a fork it writes nothing.

    As a context manager it is closed at the end.

    Args:
        path: The file; what was in it is gone.

    Attributes:
        path: As given, absolute.

    Raises:
        WorkerError: It cannot be written. Later on that costs the trace, and nothing else: it is logged, once.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._open: dict[int, list[str]] = {}
        self._working = True
        try:
            with open(self.path, "wb") as file:
                file.write(b"[" + _END)
        except OSError as error:
            raise WorkerError(error, f"cannot write the trace to {self.path}") from error
        self._length = 1

    # --- lanes --------------------------------------------------------------------------------------------------

    def begin(self, pid: int, name: str, at: float | None = None, **facts: Any) -> None:
        """A process begins, or is seen for the first time. Nothing happens for one that has a lane already.

        Args:
            pid: Its pid.
            name: What its lane is called.
            at: When, in seconds on the monotonic clock; None for now.
            **facts: What else is to be shown of it.
        """
        with self._held():
            if pid not in self._open:
                self.rename(pid, name)
                self._open[pid] = []
                self.enter(pid, name, at, **facts)

    def rename(self, pid: int, name: str) -> None:
        """Give a lane another name."""
        self._write({"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}})

    def instant(self, pid: int, name: str, at: float | None = None, **facts: Any) -> None:
        """Something happens to a process. The arguments are those of `begin`."""
        self._write({"ph": "i", "s": "p", "name": name, **_place(pid, at), "args": facts})

    def span(self, pid: int, name: str, begin: float, end: float | None = None, **facts: Any) -> None:
        """Something has taken its time, from `begin` to `end` (None: now), in seconds on the monotonic clock."""
        place = _place(pid, begin)
        self._write({"ph": "X", "name": name, **place, "dur": _microseconds(end) - place["ts"], "args": facts})

    def enter(self, pid: int, name: str, at: float | None = None, **facts: Any) -> None:
        """Something begins in a lane, inside what has begun there before and not ended."""
        with self._held():
            if pid in self._open:
                self._open[pid].append(name)
                self._write({"ph": "B", "name": name, **_place(pid, at), "args": facts})

    def leave(self, pid: int, at: float | None = None, **facts: Any) -> None:
        """What has begun last in a lane ends."""
        with self._held():
            if self._open.get(pid):
                name = self._open[pid].pop()
                self._write({"ph": "E", "name": name, **_place(pid, at), "args": facts})

    def end(self, pid: int, how: str, at: float | None = None) -> None:
        """A process ends; `how` says in which way."""
        with self._held():
            self.begin(pid, f"process {pid}", at)
            self.instant(pid, how, at)
            while self._open[pid]:
                self.leave(pid, at, how=how)
            del self._open[pid]

    def close(self) -> None:
        """Show whoever has not ended until now, and write nothing any more. Calling it again is fine."""
        with self._held():
            for pid in list(self._open):
                self.end(pid, "end of the trace")
            self._working = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def _held(self) -> threading.RLock:
        """The lock. In a fork it is a new one, for another thread of the parent may have held the old one for ever."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._lock = threading.RLock()
            self._working = False
        return self._lock

    def _write(self, event: dict[str, Any]) -> None:
        data = json.dumps(event).encode()
        with self._held():
            if not self._working:
                return
            data = (b"\n" if self._length == 1 else b",\n") + data
            try:
                self._put(data)
            except OSError as error:
                self._working = False
                _log.warning("the trace %s ends here: %s", self.path, error)

    def _put(self, data: bytes) -> None:
        # Over the end of the document, in one step: whenever this process is killed the file is whole.
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(self._length)
            if file.write(data + _END) != len(data) + len(_END):
                raise OSError("the disk is full")
        self._length += len(data)


def _place(pid: int, at: float | None) -> dict[str, int]:
    return {"pid": pid, "tid": pid, "ts": _microseconds(at)}


def _microseconds(at: float | None) -> int:
    return round((time.monotonic() if at is None else at) * 1e6)


_lock = threading.Lock()
_of_path: dict[str, Trace] = {}


def trace_of(traced: Traced) -> Trace | None:
    """The trace that is meant. One for each path in a program: begun with the first start, continued by the later."""
    if traced is None or isinstance(traced, Trace):
        return traced
    path = os.path.abspath(traced)
    with _lock:
        known = _of_path.get(path)
        if known is None or not os.path.exists(path):
            known = _of_path[path] = Trace(path)
        return known
