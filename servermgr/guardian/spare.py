"""A guardian made ahead of its tree: the next start waits neither for a fork nor for the pages that one copies."""

from __future__ import annotations

import _socket
import os
import select

from servermgr import platform
from servermgr.guardian import protocol
from servermgr.guardian.brood import Brood
from servermgr.guardian.record import Record
from servermgr.guardian.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from servermgr.guardian.slate import Slate

    Task = tuple[bytes, list[int]]

#: Seconds for a spare to take what does not fit into the socket; one that is stopped takes nothing.
_PATIENCE = 1.0


class Spare:
    """The nursery's end of a guardian that waits for its tree.

    Args:
        pid: Its pid.
        socket: What it waits at; its end is the spare's end.
        slate: Where it will write down who is in its tree; None where it adopts them.
    """

    def __init__(self, pid: int, socket: _socket.socket, slate: Slate | None) -> None:
        self.pid = pid
        self.slate = slate
        self._socket = socket
        socket.settimeout(_PATIENCE)

    def take(self, spec: bytes, fds: Sequence[int]) -> bool:
        """Hand it a tree; False if it is gone, or does not take it."""
        try:
            protocol.send(self._socket, {"spec": spec}, fds)
        except (protocol.Closed, OSError):
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """There is nothing more for it: it leaves, unless it has a tree."""
        self._socket.close()


def fork(serve: Callable[[Callable[[int], Task | None]], NoReturn], slate: Slate | None) -> Spare | None:
    """Make one; None if there cannot be another process now.

    Args:
        serve: Called in the new process with a function that takes what a guardian is woken by and returns the tree
            that it shall hold, in good time; None if there will be none.
        slate: See `Spare`.
    """
    ours, theirs = _socket.socketpair()
    try:
        pid = os.fork()
    except OSError:  # the limit of processes: the next start will say so, if it is still reached then
        ours.close()
        theirs.close()
        return None
    if pid == 0:
        ours.close()
        serve(lambda wake: _wait(theirs, wake))
    theirs.close()
    return Spare(pid, ours, slate)


def _wait(nursery: _socket.socket, wake: int) -> Task | None:
    reader = protocol.Reader(nursery)
    _rehearse(wake)
    try:
        while not (orders := reader.receive()):
            pass
    except protocol.Closed:
        return None
    nursery.close()
    return orders[0]["spec"], reader.fds


def _rehearse(wake: int) -> None:
    """Do what a guardian does first, without any effect: each page written to now has been copied by then."""
    platform.become_subreaper()
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.poll(0)
    Worker(None)
    Record(b"", b"")
    brood = Brood(lambda: None, lambda *_: None)
    brood.listing()
    brood.reap()
    pidfd = platform.open_pidfd(os.getpid())
    if pidfd >= 0:
        os.close(pidfd)
