"""The way of messages, and of events, to an owner who may not be listening."""

from __future__ import annotations

import time

from servermgr.guardian import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    from servermgr.guardian.protocol import Message

#: Events under way that the owner has not said to have heard. They fill a small part of the socket's room, so that
#: what he must hear, the end of a tree above all, goes out at once whether he listens or not.
MOST_UNHEARD = 32
#: Events kept for an owner who does not listen; what comes after them is lost, and that is told.
MOST_KEPT = 10_000


class Messages:
    """What an owner must hear, in one piece for each turn of the guardian's loop: it wakes him once.

    Args:
        sock: The socket to the owner.
    """

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._waiting: list[Message] = []

    def put(self, message: Message) -> None:
        """Have it sent with the next `send`."""
        self._waiting.append(message)

    def send(self, fds: Sequence[int] = ()) -> None:
        """Send what there is, with descriptors; an owner who is gone, or takes nothing, is no reason to stop."""
        messages, self._waiting = self._waiting, []
        try:
            if messages:
                protocol.send_all(self._socket, messages, fds)
        except (protocol.Closed, TimeoutError):
            pass  # nobody hears it any more; the tree is ended all the same


class Outbox:
    """Sends events to an owner without ever waiting for him: a guardian that waits guards nobody.

    Args:
        sock: The socket to the owner.
    """

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._unheard = 0
        self._kept: list[Message] = []
        self._lost = 0

    @property
    def is_empty(self) -> bool:
        """Whether all has been sent."""
        return not self._kept

    def put(self, event: Message) -> None:
        """Send the event, or keep it until the owner has heard others."""
        if len(self._kept) < MOST_KEPT:
            self._kept.append(event)
        else:
            self._lost += 1
        self._flush()

    def heard(self, count: int) -> None:
        """The owner has heard so many more."""
        self._unheard -= count
        self._flush()

    def _flush(self) -> None:
        while self._kept and self._unheard < MOST_UNHEARD:
            try:
                protocol.send(self._socket, self._kept[0])
            except (protocol.Closed, TimeoutError):
                self._kept.clear()  # nobody hears it any more
                return
            self._unheard += 1
            del self._kept[0]
            if not self._kept and self._lost:
                self._kept.append(
                    {"is": "event", "what": "lost", "pid": 0, "at": time.monotonic(), "count": self._lost}
                )
                self._lost = 0
