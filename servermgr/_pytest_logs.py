"""What servers have written during one test, for the report of its failure."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

from servermgr.base import Manager

if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

#: The most that is shown of one server: that many of its last lines, and no more bytes than that.
MOST_LINES = 100
MOST_BYTES = 16384


class LogMark:
    """Where the output of a server stood when a test began.

    Args:
        server: Has `log_path` and `output_tail(lines)`.
        started_now: Whether the test has started it, so that all of it belongs to the test.
    """

    def __init__(self, server: Any, *, started_now: bool) -> None:
        self._server = server
        self._path: str | None = None
        self._position = 0
        if not started_now:
            self._path = server.log_path
            self._position = _size(self._path) if self._path else 0

    def written(self) -> str:
        """What was written since, the last of it where it is much; empty if nothing was or none can be read."""
        if self._path is None:
            return _cut("\n".join(self._server.output_tail(MOST_LINES + 1)), 0, self._server.log_path)
        try:
            return self._read(self._path)
        except OSError:  # the server was stopped, and its log went with it
            return _cut("\n".join(self._server.output_tail(MOST_LINES + 1)), 0, None)

    def _read(self, path: str) -> str:
        size = _size(path)
        # A log that has become shorter was emptied or replaced: what is there is new.
        position = self._position if size >= self._position else 0
        start = max(position, size - MOST_BYTES)
        with open(path, "rb") as file:
            file.seek(start)
            text = file.read(MOST_BYTES).decode(errors="replace")
        return _cut(text, start - position, path)


def title_of(name: object) -> str:
    """What the section of a report is called that shows a server's output."""
    return f"servermgr: output of {name} during this test"


def of_frames(failure: BaseException, shown: Container[int]) -> list[tuple[str, str]]:
    """Title and text for the managers that the functions in a failure's traceback have in their variables.

    That is how the logs of servers are found that a test has started by itself, also when they are stopped by now.

    Args:
        failure: What was raised.
        shown: Managers, by their `id`, that have been dealt with. What a `WorkerError` says of its own server is not
            said again either.
    """
    found: dict[int, Manager] = {}
    for frame, _ in traceback.walk_tb(failure.__traceback__):
        for value in list(frame.f_locals.values()):
            if isinstance(value, Manager) and value.name != getattr(failure, "name", None):
                found[id(value)] = value
    new = [manager for number, manager in found.items() if number not in shown]
    sections = [(title_of(manager.name), LogMark(manager, started_now=True).written()) for manager in new]
    return [(title, text) for title, text in sections if text]


def _cut(text: str, missing: int, path: str | None) -> str:
    lines = text.splitlines()
    if missing or len(lines) > MOST_LINES:
        where = f": {path}" if path else ""
        lines = [f"(the last of it; there was more before{where})", *lines[-MOST_LINES:]]
    return "\n".join(lines)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
