"""A connection to a server whose protocol is spoken here by hand."""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Connection:
    """A connection, closed at the end of a `with` block.

    Args:
        where: The path of a Unix socket, or host and port.
        timeout: Seconds for the connection and for each answer; None waits for ever.

    Raises:
        OSError: Nobody answers there.
    """

    def __init__(self, where: str | tuple[str, int], timeout: float | None) -> None:
        self._connection = socket.create_connection(where, timeout) if isinstance(where, tuple) else _unix_socket()
        self._stream = self._connection.makefile("rb")
        try:
            if not isinstance(where, tuple):
                self._connection.settimeout(timeout)
                self._connection.connect(where)
            self._greet()
        except BaseException:
            self._close()
            raise

    def _greet(self) -> None:
        """What is said first; the connection is closed if that fails."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._stream.close()  # the socket stays open as long as this is
        self._connection.close()


def _unix_socket() -> socket.socket:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise NotImplementedError("this system has no Unix sockets")
    return socket.socket(family, socket.SOCK_STREAM)
