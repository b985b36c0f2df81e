"""The guardian's end of the ledger: writes the record of its tree, and removes it with the tree.

The first line of the file is the whole record, put there by rename(2). What changes later, the worker and the session,
is appended as a line: who reads it finds that line whole or not at all, for a file grows once the data is there. (A
rename over the old file would have the new one written to the disk at once, and its blocks given back at the end.)

A full disk, a read-only directory or a vanished one costs the record, never the server: the tree is held all
the same, and only the net below the net is missing.
"""

from __future__ import annotations

import errno
import os
import time

from servermgr import platform

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
#: Changes that are appended until the file is written anew: some servers replace their worker again and again.
_MOST_LINES = 100


class Record:
    """The record of one tree.

    Args:
        path: Where it goes; empty for none.
        draft: Its beginning, as `ledger.draft` makes it.

    Attributes:
        start: The guardian's own creation time.
        failure: Why it could not be written; empty if it was, or was not wanted.
    """

    #: Whether what `platform.start_now` says is what is read of a process.
    _knows_start = False

    @classmethod
    def compare_clocks(cls, before: int) -> None:
        """See whether they agree, for this process and its forks, of which it was made when it was `before`."""
        own = platform.read_stat(os.getpid())
        cls._knows_start = own is not None and 0 < before <= own.start <= platform.start_now()

    def __init__(self, path: bytes, draft: bytes) -> None:
        self._path = path
        self._draft = draft
        own = platform.read_stat(os.getpid())
        self.start = 0 if own is None else own.start
        self._guardian = f"[{os.getpid()}, {self.start}, {platform.process_serial(os.getpid())}]"
        self._started = time.monotonic()
        self._written: tuple[int, int] | None = None
        self._lines = 0
        self.failure = ""

    def write(self, worker: int, session: int, *, start: int = 0) -> None:
        """Put there what is known, whole or not at all.

        Args:
            worker: Its pid; 0 while it is not known.
            session: The session that the command was started in; 0 before.
            start: The worker's creation time by `platform.start_now`, if it is known; 0 has it read.
        """
        if not self._path or self.failure or self._written == (worker, session):
            return
        entries = f'"worker": {_identity(worker, start if self._knows_start else 0)}, "session": {session}'
        try:
            if not (0 < self._lines < _MOST_LINES and self._append(f"{{{entries}}}\n".encode())):
                rest = f'"guardian": {self._guardian}, {entries}, "started": {self._started:.3f}}}\n'
                self._put(self._draft + rest.encode())
            self._written = (worker, session)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def _put(self, content: bytes) -> None:
        partial = self._path + b".partial-%d" % os.getpid()
        # O_EXCL: a name that is there already, as a link above all, is nobody's of ours.
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            _write(fd, content)
            os.rename(partial, self._path)
        except OSError:
            unlink(partial)
            raise
        finally:
            os.close(fd)
        self._lines = 1

    def _append(self, line: bytes) -> bool:
        """Write on; False if somebody has removed the file."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | _FLAGS)
        except FileNotFoundError:
            return False
        size = os.fstat(fd).st_size
        try:
            _write(fd, line)
        except OSError:
            os.ftruncate(fd, size)
            raise
        finally:
            os.close(fd)
        self._lines += 1
        return True

    def remove(self) -> None:
        """The tree is gone."""
        if self._path and self._written is not None:
            unlink(self._path)
            self._written = None


def _write(fd: int, content: bytes) -> None:
    if os.write(fd, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _identity(pid: int, start: int) -> str:
    if not pid:
        return "null"
    if not start:
        stat = platform.read_stat(pid)
        if stat is None:
            return "null"
        start = stat.start
    return f"[{pid}, {start}, {platform.process_serial(pid)}]"


def recorded_worker(path: bytes) -> int:
    """The worker's pid in a record of this module's; 0 where there is no record or no worker in it.

    Not by `json`, which takes as long to import as the rest of the guardian. A text in a record cannot look like
    the entry, since its quotation marks are escaped.
    """
    complete, _, _ = _read(path).rpartition(b"\n")
    _, _, entry = complete.rpartition(b'"worker": [')
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
