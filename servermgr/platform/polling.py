"""Waiting for descriptors by poll(2), where there is one."""

from __future__ import annotations

import select
import sys

assert sys.platform != "win32"


def wait_readable(fds: list[int], timeout: float | None) -> bool:
    """Wait until one of the descriptors can be read, `timeout` seconds at most (None: for ever)."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
