"""A guardian as its owner holds it: by the pidfd that it has sent, else by pid and creation time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.identity import Identity
from servermgr.pinned import pin
from servermgr.stopping import KILL_PATIENCE

if TYPE_CHECKING:
    from servermgr.guardian.protocol import Message


class Guardian:
    """The process between us and a tree.

    Args:
        message: What it has said of itself.
        pidfds: The descriptors that came with that; its pidfd is taken out of them, if it is there.
    """

    def __init__(self, message: Message, pidfds: list[int]) -> None:
        self.pid: int = message["guardian"]
        self._identity = Identity(self.pid, message["start"])
        self._pidfd = pidfds.pop(0) if pidfds else -1

    def signal(self, number: int) -> None:
        """Signal it; nothing happens once it is gone."""
        if self._pidfd >= 0:
            platform.signal_pidfd(self._pidfd, number)
            return
        held = pin(self.pid)
        if held is None:
            return
        try:
            if held.identity._replace(serial=0) == self._identity:
                held.signal(number)
        finally:
            held.close()

    def end_event(self, otherwise: int) -> int:
        """A copy of a descriptor that is readable when it has ended; -1 if there is none any more.

        Args:
            otherwise: The socket to it, which tells without a pidfd: the nursery closes the last copy of its other end
                when it has reaped the guardian.
        """
        fd = self._pidfd if self._pidfd >= 0 else otherwise
        return os.dup(fd) if fd >= 0 else -1

    def close(self) -> None:
        """Let go of it."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def wait_end(fd: int) -> None:
    """Wait until what `end_event` has told of has ended, for as long as a kill may take; closes the descriptor."""
    if fd >= 0:
        platform.wait_readable([fd], KILL_PATIENCE)
        os.close(fd)
