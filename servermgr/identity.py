"""Whose process is it? A held pidfd where the system has one, else pid, creation time and serial number.

A bare pid never is an identity: it is reused. Creation time is one clock tick (10 ms on Linux) coarse, and a
pid that is reused within it looks the same; a pidfd that is held since the process was seen is the proof, and
the inode number of a pidfd is the same proof in a form that can be written down (Linux 6.9 and later).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from servermgr import platform


class Identity(NamedTuple):
    """A process by numbers, good within one realm: for records, where no pidfd can be kept.

    Attributes:
        pid: Its pid.
        start: Its creation time, in a unit of the system's own; see `platform.stat.ProcessStat`.
        serial: A number that no other process of the realm has or will have; 0 where the system has none
            (Linux before 6.9), and then a pid reused within the tick of `start` looks the same.
    """

    pid: int
    start: int
    serial: int = 0

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of whoever has this pid now, or None."""
        stat = platform.read_stat(pid)
        return None if stat is None else cls(pid, stat.start, platform.process_serial(pid))

    def is_alive(self) -> bool:
        """Whether this very process runs; a zombie counts as gone, unless other threads of it live."""
        return self.exists() and platform.is_alive(self.pid)

    def exists(self) -> bool:
        """Whether the number still means this process, alive or not yet reaped."""
        stat = platform.read_stat(self.pid)
        if stat is None or stat.start != self.start:
            return False
        return not self.serial or platform.process_serial(self.pid) in (0, self.serial)


class Held:
    """A process that cannot be mistaken for another while it is held.

    Args:
        pid: Who has this pid now.

    Raises:
        ProcessLookupError: Nobody has.
    """

    def __init__(self, pid: int) -> None:
        self.pidfd = platform.open_pidfd(pid)
        identity = Identity.of(pid)  # read behind the open pidfd, so it is the same process
        if identity is None:
            self.close()
            raise ProcessLookupError(pid)
        self.identity = identity

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.identity.pid

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.identity.is_alive()

    def signal(self, number: int) -> None:
        """Signal it; nothing happens once it is gone.

        Raises:
            PermissionError: It belongs to somebody else.
        """
        if self.pidfd >= 0:
            platform.signal_pidfd(self.pidfd, number)
            return
        try:
            self._signal_again_identified(number)
        except ProcessLookupError:
            pass

    def _signal_again_identified(self, number: int) -> None:
        pidfd = platform.open_pidfd(self.pid)
        try:
            if not self.identity.exists():  # read behind the open pidfd, as at the first time
                return
            if pidfd >= 0:
                platform.signal_pidfd(pidfd, number)
            else:
                os.kill(self.pid, number)
        finally:
            if pidfd >= 0:
                platform.close_pidfd(pidfd)

    def close(self) -> None:
        """Let go of it. Calling it again is fine; what is signalled afterwards is identified anew."""
        if self.pidfd >= 0:
            platform.close_pidfd(self.pidfd)
            self.pidfd = -1


def realm() -> str:
    """Where pids and creation times mean the same: one boot of one machine, one pid namespace.

    A record written elsewhere (before a reboot, in a container that shares the directory) must not be read as
    if its numbers were ours.
    """
    return "/".join((_hostname(), platform.boot_id(), platform.pid_namespace()))


def is_of_earlier_boot(where: str, here: str) -> bool:
    """Whether the realm `where` was this machine before its last boot, so that nobody of it can be alive.

    False for another machine, which may share the directory: what it has written is its own business.
    """
    its_host, _, rest = where.partition("/")
    host, boot, _ = here.split("/", 2)
    return bool(boot) and its_host == host and rest.partition("/")[0] not in ("", boot)


def _hostname() -> str:
    import socket  # noqa: PLC0415

    return socket.gethostname()
