"""What owner and guardian say to each other: length-prefixed marshal over a Unix stream socket.

Both ends run the same interpreter and trust each other (the socket is inherited, never bound to a name),
which is what makes `marshal` fit: it is built in, while `json` or `pickle` would double the start-up time.

To the nursery, with descriptors attached::

    {"fds": n, "spec": b}                    see `tree.LaunchSpec`, `pack`; becomes a guardian by fork

To a guardian::

    {"do": "stop", "signal": n, "grace": s, "confirm": b}   terminate, grace period, kill; again: only shortens it
    {"do": "signal", "signal": n}            to the worker
    {"do": "heard", "count": n}              so many more events were heard
    {"do": "list"}                           who is in the tree?

From a guardian::

    {"is": "launched", "pid": n, "guardian": n, "start": n, "adopts": b}
                                   with the guardian's pidfd attached, where there are pidfds
    {"is": "members", "parents": {…}}             pid → parent's pid
    {"is": "failed", "stage": s, "errno": n}      the command did not start; nothing is left
    {"is": "worker", "pid": n}                    the pidfile named it and it was found in the tree
    {"is": "ended", "status": n}                  the worker ended
    {"is": "crashed", "text": s}             a fault of the guardian's own
    {"is": "asked"}                               the first signal is out, for one who wanted that confirmed
    {"is": "event", "what": w, "pid": n, "at": s, …}   for a trace, where the spec asks for one; see `events`, `trace`
    {"is": "done", "polite": […], "killed": […], "survivors": […], "status": n, "seconds": s,
     "note": s}                              said by the nursery where the guardian itself was killed
"""

from __future__ import annotations

import _socket
import array
import marshal
import os
from _socket import CMSG_SPACE, MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Message: TypeAlias = dict[str, Any]

_HEADER = 4
_MOST_FDS = 64
#: So much is read at once: a buffer that is larger is mapped and unmapped for each message.
_PIECE = 65536
# Atomically, where the system can: another thread of the owner may fork and exec at any moment.
_CLOEXEC: int = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


def pack(message: Message) -> bytes:
    """A message that is handed on as it is by whoever does not read it; see `unpack`."""
    return marshal.dumps(message)


def unpack(packed: bytes) -> Message:
    """What `pack` has packed."""
    message: Message = marshal.loads(packed)  # noqa: S302  # see the module's docstring
    return message


class Closed(Exception):
    """The other end is gone."""


def send(sock: socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send a message whole, with descriptors on its first byte.

    Raises:
        Closed: The other end is gone.
    """
    send_all(sock, (message,), fds)


def send_all(sock: socket, messages: Sequence[Message], fds: Sequence[int] = ()) -> None:
    """Send messages in one piece, which wakes the other end once; see `send`."""
    data = b""
    for message in messages:
        body = pack(message)
        data += len(body).to_bytes(_HEADER, "big") + body
    attached = [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        sent = sock.sendmsg([data], attached)
        if sent < len(data):
            sock.sendall(data[sent:])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed from error


class Reader:
    """Puts messages together from what a socket brings.

    Attributes:
        fds: Descriptors that came with the messages, in order, not inherited by children. Theirs is whoever
            takes them out of this list.
    """

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self._buffer = b""
        self.fds: list[int] = []

    def receive(self, flags: int = 0) -> list[Message]:
        """Read once and return the messages that are complete by now, perhaps none.

        Raises:
            Closed: The other end is gone, and all that it said has been returned before.
            BlockingIOError: Nothing there now (with `MSG_DONTWAIT`).
        """
        try:
            data, attached, answer, _ = self._sock.recvmsg(_PIECE, CMSG_SPACE(_MOST_FDS * 4), flags | _CLOEXEC)
        except ConnectionResetError as error:
            raise Closed from error
        self._take(attached)
        if answer & MSG_CTRUNC:
            raise OSError("descriptors were lost: too many open files")
        if not data:
            raise Closed
        self._buffer += data
        return list(self._complete())

    def _take(self, attached: list[Any]) -> None:
        for level, kind, payload in attached:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                for number in numbers if not _CLOEXEC else ():
                    os.set_inheritable(number, False)
                self.fds += numbers

    def _complete(self) -> list[Message]:
        messages = []
        while len(self._buffer) >= _HEADER:
            end = _HEADER + int.from_bytes(self._buffer[:_HEADER], "big")
            if len(self._buffer) < end:
                break
            messages.append(unpack(self._buffer[_HEADER:end]))
            self._buffer = self._buffer[end:]
        return messages
