"""The protocol of Redis, as far as asking one question needs it.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import os

from servermgr._server_wire import Connection
from servermgr.errors import WorkerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Reply = str | int | None | list["Reply"]

#: The longest answer that is taken for one, in bytes or in parts.
_LONGEST = 1 << 29


class ReplyError(WorkerError):
    """What the server says against a command; its first word is the kind, such as `WRONGTYPE`."""


class Session(Connection):
    """A connection.

    Args:
        where: The path of a Unix socket, or host and port.
        password: None where none is asked for.
        timeout: Seconds for each answer.

    Raises:
        OSError: Nobody answers there.
        ReplyError: The password is wrong, or one is asked for.
    """

    def __init__(self, where: str | tuple[str, int], password: str | None, timeout: float) -> None:
        self._password = password
        super().__init__(where, timeout)

    def _greet(self) -> None:
        if self._password is not None:
            self.ask("AUTH", self._password)

    def ask(self, *words: object) -> Reply:
        """Send one command and return its answer.

        Raises:
            ReplyError: The server refuses it.
        """
        raw = [os.fsencode(word) if isinstance(word, str) else str(word).encode() for word in words]
        self._connection.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw))
        return self._answer()

    def _answer(self) -> Reply:
        line = self._stream.readline(65536)
        if not line.endswith(b"\r\n"):
            raise WorkerError(None, "the server has closed the connection, or does not speak the protocol of Redis")
        kind, text = line[:1], line[1:-2].decode(errors="surrogateescape")
        if kind == b"+":
            return text
        if kind == b"-":
            raise ReplyError(None, text)
        if kind not in (b":", b"$", b"*"):
            raise WorkerError(None, "what answers does not speak the protocol of Redis")
        return self._sized(kind, int(text))

    def _sized(self, kind: bytes, number: int) -> Reply:
        if kind == b":":
            return number
        if number < 0:
            return None
        if number > _LONGEST:
            raise WorkerError(None, "what answers does not speak the protocol of Redis")
        if kind == b"*":
            return [self._answer() for _ in range(number)]
        return self._stream.read(number + 2)[:-2].decode(errors="surrogateescape")
