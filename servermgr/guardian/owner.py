"""Whether the owner lives: told by his pidfd, by kqueue(2), or by looking.

Our socket to him ends with him, too, unless a fork of his that is not Python's own keeps it open.
"""

from __future__ import annotations

import os
import time

from servermgr import platform

#: Seconds between two looks, where no event tells.
_PAUSE = 1.0


class OwnerWatch:
    """Tells once that the owner has ended.

    Args:
        pidfd: His pidfd; -1 where there is none.
        identity: His pid and creation time, for those who must look; None for those who need not.

    Attributes:
        fd: Readable once he has ended; -1 where no descriptor tells.
    """

    def __init__(self, pidfd: int, identity: tuple[int, int] | None) -> None:
        self._identity = identity
        self._look_at = time.monotonic() + _PAUSE
        self._gone = False
        self.fd = pidfd
        if pidfd < 0 and identity is not None:
            try:
                self.fd = platform.exit_event(identity[0])
            except ProcessLookupError:
                self._gone = True

    def ended(self, ready: set[int]) -> bool:
        """Whether he has, with what poll(2) has just said; never again after the first time."""
        if self._identity is None and self.fd < 0:
            return False
        if self._gone or (self.fd >= 0 and self.fd in ready) or self._is_seen_gone():
            self.close()
            return True
        return False

    def due(self) -> float | None:
        """Seconds until the next look; None where an event tells, or there is nothing more to tell."""
        if self._identity is None or self.fd >= 0:
            return None
        return 0.0 if self._gone else max(0.0, self._look_at - time.monotonic())

    def _is_seen_gone(self) -> bool:
        if self.fd >= 0 or self._identity is None or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _PAUSE
        pid, start = self._identity
        stat = platform.read_stat(pid)
        return stat is None or stat.start != start or stat.state in "ZX"

    def close(self) -> None:
        """There is nothing more to tell."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self._identity, self._gone = -1, None, False
