"""Pidfiles, read with suspicion.

A pidfile is a hint, never a proof: it may be stale, half-written, planted, or name an innocent. Whoever
reads one here must prove that the process belongs to the tree before doing anything to it.
"""

from __future__ import annotations

import os
import stat

# O_NONBLOCK: opening a FIFO that nobody writes to would hang for ever. Windows has neither flags nor FIFOs.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_LONGEST = 4096  # postmaster.pid holds several lines; nobody's pidfile holds a page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    #: What stands in the file, and which file that is.
    Reading: TypeAlias = tuple[bytes, tuple[int, ...]]


class PidfileError(Exception):
    """Why a pidfile says nothing: its text is one clause that fits behind "pidfile PATH"."""


class Pidfile:
    """A pidfile as it is before the server starts, and the changes to it afterwards.

    What stood in the file before the start is stale by definition, so a pid is taken only from a file
    that has changed since; and a pid without a newline behind it only once two readings agree, since it
    may be half of a longer number.

    Args:
        path: Where the server writes its pid. A symbolic link is followed when reading.

    Attributes:
        written: When the file was written that was read last, in seconds of the wall clock, and the uid it belongs to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stale = _look(path)
        self._last: bytes | None = None
        self.written = (0, -1)

    def fresh_pid(self) -> int | None:
        """The pid that the server has written since the start, or None while there is none yet.

        Raises:
            PidfileError: There is something there that cannot become a pidfile by waiting a moment, such
                as a FIFO, a directory, or a file that may not be read.
        """
        try:
            reading = _read(self.path)
        except FileNotFoundError:
            self._last = None
            return None
        except OSError as error:
            raise PidfileError(f"cannot be read: {error.strerror}") from error
        if reading == self._stale:
            return None
        content, seen = reading
        self.written = (seen[2] // 10**9, seen[4])
        settled = b"\n" in content or content == self._last
        self._last = content
        return parse_pid(content) if settled else None

    def names(self, pid: int) -> bool:
        """Whether `pid` is what stands in the file now, fresh or not."""
        reading = _look(self.path)
        return reading is not None and parse_pid(reading[0]) == pid

    def remove_if_names(self, pid: int) -> None:
        """Remove the file if it still names `pid`, a process that has ended and left it behind.

        Of a symbolic link the link is removed, as by the server itself, never what it points to.
        """
        try:
            if self.names(pid):
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or not ours to remove: a stale pidfile does no harm, it is never trusted


def read_pid(path: str) -> int | None:
    """The pid in the file at `path`; None if there is no file or no number in it (yet).

    Raises:
        PidfileError: Not a regular file, or not readable.
    """
    try:
        return parse_pid(_read(path)[0])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PidfileError(f"cannot be read: {error.strerror}") from error


def parse_pid(content: bytes) -> int | None:
    """The number on the first line, or None if that is no pid."""
    first = content.strip().split(b"\n", 1)[0].strip()
    if not first.isdigit() or len(first) > 10:
        return None
    number = int(first)
    return number if 0 < number < 2**31 else None  # what no pid_t can be


def _read(path: str) -> Reading:
    # Everything through one descriptor: a server that renames a new file into place must not lend its newness
    # to the old one's content.
    fd = os.open(path, _FLAGS)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise PidfileError("is not a regular file")
        return os.read(fd, _LONGEST), (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_uid)
    finally:
        os.close(fd)


def _look(path: str) -> Reading | None:
    try:
        return _read(path)
    except (OSError, PidfileError):
        return None
