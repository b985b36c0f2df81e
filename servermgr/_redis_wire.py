"""The protocol of Redis, as far as asking one question needs it.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import os
import socket

from servermgr.errors import WorkerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    Reply = str | int | None | list["Reply"]

#: The longest answer that is taken for one, in bytes or in parts.
_LONGEST = 1 << 29


class ReplyError(WorkerError):
    """What the server says against a command; its first word is the kind, such as `WRONGTYPE`."""


class Session:
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
        if isinstance(where, tuple):
            self._connection = socket.create_connection(where, timeout)
        else:
            family = getattr(socket, "AF_UNIX", None)
            if family is None:
                raise NotImplementedError("this system has no Unix sockets")
            self._connection = socket.socket(family, socket.SOCK_STREAM)
        self._stream = self._connection.makefile("rb")
        try:
            self._connection.settimeout(timeout)
            if not isinstance(where, tuple):
                self._connection.connect(where)
            if password is not None:
                self.ask("AUTH", password)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._stream.close()  # the socket stays open as long as this is
        self._connection.close()

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
