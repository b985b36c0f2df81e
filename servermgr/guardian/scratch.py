"""A directory that a program and its trees share, and that goes with the last of them.

Each holds a shared lock on it (flock(2)) as long as it lives; the kernel takes the lock of whoever is killed.
Who leaves tries for the lock alone. Of several who leave at once the last one gets it, since a failed try gives up
one's own.
"""

from __future__ import annotations

import fcntl
import os

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """A share in a directory, which is held until `leave`.

    Args:
        path: The directory. Where there is none, nothing is held, and nothing will be removed.
    """

    def __init__(self, path: str | bytes) -> None:
        self._path = os.fsencode(path)
        self._fd = -1
        try:
            self._fd = os.open(self._path, _FLAGS)
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # gone, or a file system without locks: then nobody ever gets the lock alone, either
            self.close()

    def leave(self) -> None:
        """Give up the share; remove the directory with all that is in it, if nobody else has one."""
        if self._fd < 0:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(self._fd)
            os.rmdir(self._path)
        except OSError:
            pass  # somebody is there still, or not all of it may be removed by this user
        self.close()

    def close(self) -> None:
        """Give up the share, and leave the directory as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _empty(folder: int) -> None:
    """Remove all that is in a directory; never through a link."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            _remove_directory(folder, name)
        else:
            os.unlink(name, dir_fd=folder)


def _remove_directory(folder: int, name: str) -> None:
    inner = os.open(name, _FLAGS, dir_fd=folder)
    try:
        _empty(inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
