"""The guardian's end of the ledger: writes the record of its tree, and removes it with the tree.

A full disk, a read-only directory or a vanished one costs the record, never the server: the tree is held all
the same, and only the net below the net is missing.
"""

from __future__ import annotations

import os
import time

from servermgr import platform


class Record:
    """The record of one tree.

    Args:
        path: Where it goes; empty for none.
        draft: Its beginning, as `ledger.draft` makes it.

    Attributes:
        start: The guardian's own creation time.
        failure: Why it could not be written; empty if it was, or was not wanted.
    """

    def __init__(self, path: bytes, draft: bytes) -> None:
        self._path = path
        self._draft = draft
        own = platform.read_stat(os.getpid())
        self.start = 0 if own is None else own.start
        self._guardian = f"[{os.getpid()}, {self.start}, {platform.process_serial(os.getpid())}]"
        self._started = time.monotonic()
        self._written: tuple[int, int] | None = None
        self.failure = ""

    def write(self, worker: int, session: int) -> None:
        """Put the record there, whole or not at all. `worker` is 0 while it is not known."""
        if not self._path or self.failure or self._written == (worker, session):
            return
        text = f'"guardian": {self._guardian}, "worker": {_identity(worker)}, "session": {session}, '
        text += f'"started": {self._started:.3f}}}\n'
        partial = self._path + b".partial-%d" % os.getpid()
        try:
            self._replace(partial, self._draft + text.encode())
            self._written = (worker, session)
        except OSError as error:
            self.failure = error.strerror or str(error)
            unlink(partial)

    def _replace(self, partial: bytes, content: bytes) -> None:
        # O_EXCL: a name that is there already, as a link above all, is nobody's of ours.
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, content) != len(content):
                raise OSError(0, "the disk is full")
        finally:
            os.close(fd)
        os.rename(partial, self._path)

    def remove(self) -> None:
        """The tree is gone."""
        if self._path and self._written is not None:
            unlink(self._path)
            self._written = None


def _identity(pid: int) -> str:
    stat = platform.read_stat(pid) if pid else None
    return "null" if stat is None else f"[{pid}, {stat.start}, {platform.process_serial(pid)}]"


def recorded_worker(path: bytes) -> int:
    """The worker's pid in a record of this module's; 0 where there is no record or no worker in it.

    Not by `json`, which takes as long to import as the rest of the guardian. A text in a record cannot look like
    the entry, since its quotation marks are escaped.
    """
    _, _, entry = _read(path).rpartition(b'"worker": [')
    number = entry.partition(b",")[0]
    return int(number) if number.isdigit() else 0


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no path, no record
        return b""
    with open(fd, "rb") as file:
        return file.read()


def unlink(path: bytes) -> None:
    """Remove a file or an empty directory, if there is a path and something at it."""
    try:
        if path:
            _remove(path)
    except OSError:
        pass  # gone, or not to be removed by this user: either way nothing more can be done here


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):  # POSIX allows EPERM for a directory
        os.rmdir(path)
