"""Where a server's output goes: to a file, never into a pipe that nobody reads.

A server whose pipe is full stops in the middle of a write, and a grandchild that holds the pipe keeps its
reader waiting for ever. A file does neither, and its last lines can be shown when something fails.
"""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.errors import LaunchError
from servermgr.identity import Identity
from servermgr.losses import say_lost

if TYPE_CHECKING:
    from typing import IO, TypeAlias

    Target: TypeAlias = int | str | os.PathLike[str] | IO[bytes] | IO[str] | None

# Python's descriptors are not inherited anyway (PEP 446); the flag closes the gap to another thread's fork. Windows
# has none, and would turn line ends into others while it reads.
_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
_BINARY: int = getattr(os, "O_BINARY", 0)
#: How much of the end of the output is kept in memory once the server is gone, in bytes.
TAIL_BYTES = 16384
TAIL_LINES = 20
_REMEDY = "output must be None, a path, an open file or descriptor, or subprocess.DEVNULL"


class Output:
    """The output of one run.

    Args:
        target: None for a private file of the run, removed with the tree; a path, appended to and kept;
            an open file or descriptor, handed on as it is; or `subprocess.DEVNULL`.

    Attributes:
        path: The file, or None where there is none that can be read.
        start: Where the output of this run begins in the file, in bytes.
        fd: What the command is to write to; -1 once it has been launched.

    Raises:
        LaunchError: The target cannot be written to, or is a pipe in the making (`subprocess.PIPE`).
    """

    def __init__(self, target: Target, *, name: str = "") -> None:
        self.path: str | None = None
        self.removes = False
        self.start = 0
        self._kept = b""
        self._reader = -1
        self._lock = threading.RLock()  # several threads may stop one manager, and each closes its output
        self._owned = True
        try:
            self.fd = self._open(target, name)
        except OSError as error:
            raise LaunchError(error, f"cannot write the output to {target}") from error

    def _open(self, target: Target, name: str) -> int:
        if target is None:
            return self._open_private(name)
        if target == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR | _CLOEXEC)
        if isinstance(target, int):
            return self._borrow(target)
        if isinstance(target, (str, os.PathLike)):
            return self._open_path(os.path.abspath(target), create=True)
        return self._borrow_file(target)

    def _borrow_file(self, file: IO[bytes] | IO[str]) -> int:
        try:
            file.flush()
            return self._borrow(file.fileno())
        except (AttributeError, ValueError) as error:  # no file at all; closed, or without a descriptor
            raise LaunchError(error, _REMEDY) from error

    def _borrow(self, fd: int) -> int:
        if fd < 0:
            raise LaunchError(None, f"{_REMEDY}; a pipe would fill up and stop the server: give a path and read that")
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):  # a datagram socket would send an empty message
            os.write(fd, b"")  # says now whether it was opened for writing
        self._owned = False
        return fd

    def _open_private(self, name: str) -> int:
        # mkstemp: an unpredictable name, mode 0600, never through a link somebody has planted.
        plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[:40]
        # Whose it is stands in the name: an owner that is killed before its guardian has a record leaves a log that
        # no record names.
        try:
            import tempfile  # noqa: PLC0415  # loads while the helper of the first start does, and takes 3 ms

            fd, path = tempfile.mkstemp(prefix=f"servermgr-{plain}-{owner_stamp()}-", suffix=".log")
        except OSError as error:
            return self._open_in_memory(error)
        os.close(fd)
        self.removes = True
        try:
            return self._open_path(path, create=False)
        except BaseException:  # such as: no descriptor left
            os.unlink(path)
            raise

    def _open_in_memory(self, why: OSError) -> int:
        """Where no file can be made (read-only, full, forbidden): a server should not fail for want of a log."""
        fd = platform.memory_file("servermgr.log")
        if fd < 0:
            raise why
        say_lost(f"no file can be made for a server's output ({why}): it is kept in memory, and goes with this process")
        self._reader = os.dup(fd)
        link = f"/proc/{os.getpid()}/fd/{self._reader}"
        self.path = link if os.path.exists(link) else None
        return fd

    def _open_path(self, path: str, *, create: bool) -> int:
        if _is_fifo(path):  # opening it would wait for a reader, for ever
            raise LaunchError(None, f"cannot write the output to {path}: it is a FIFO")
        fd = platform.open_append(path, create=create)  # the tree shares it, and none may write over another's lines
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):  # what a device was told cannot be read again
                self._reader = os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC)
                self.path = path
                self.start = found.st_size
        except BaseException:
            os.close(fd)
            raise
        return fd

    def launched(self) -> None:
        """The command has the writing end now; ours is closed."""
        with self._lock:
            if self._owned and self.fd >= 0:
                os.close(self.fd)
            self.fd = -1

    def read(self, position: int = 0, size: int = TAIL_BYTES) -> bytes:
        """Up to `size` bytes of this run's output, from `position` bytes behind its beginning."""
        with self._lock:
            if self._reader < 0:
                return self._kept[position : position + size]
            return self._read_at(self.start + position, size)

    def tail(self, lines: int = TAIL_LINES) -> list[str]:
        """The last lines of this run's output, also after the tree is gone; empty where it cannot be read."""
        with self._lock:
            text = self._end() if self._reader >= 0 else self._kept
        return text.decode(errors="replace").splitlines()[-lines:]

    def _end(self) -> bytes:
        size = os.fstat(self._reader).st_size
        return self._read_at(max(self.start, size - TAIL_BYTES), TAIL_BYTES)

    def _read_at(self, position: int, size: int) -> bytes:
        os.lseek(self._reader, position, os.SEEK_SET)  # os.pread would do in one step, but Windows has none
        return os.read(self._reader, size)

    def close(self) -> None:
        """Keep the last lines in memory and let go of the file; remove it if it is the run's own."""
        with self._lock:
            if self._reader >= 0:
                self._kept = self._end()
                os.close(self._reader)
                self._reader = -1
            self.launched()
        if self.removes and self.path is not None:
            try:
                os.unlink(self.path)
            except (FileNotFoundError, PermissionError):
                pass  # the guardian has done it; somebody reads it (Windows), and a later sweep removes it


def owner_stamp() -> str:
    """This process by numbers, for the name of a file: `namespace.pid.start`."""
    me = Identity.of(os.getpid()) or Identity(os.getpid(), 0)
    namespace = "".join(letter for letter in platform.pid_namespace() if letter.isdigit())
    return f"{namespace or 0}.{me.pid}.{me.start}"


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False  # not there yet, or not to be had: opening it says so
