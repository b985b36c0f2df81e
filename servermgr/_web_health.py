"""One HTTP question to a web server."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from typing import BinaryIO

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LONGEST_LINE = 4096
_LONGEST_BODY = 1 << 20


def ask(address: tuple[str, int], url: str, path: str | None, host: str, limit: float) -> None:
    """Raise unless the server answers.

    The connection alone would prove nothing: where the server was handed a listening socket, the kernel accepts
    it while the application is still being imported.

    Args:
        address: Host and port to connect to.
        url: For the text of an error.
        path: Asked for by GET, and the status must be 200 to 399. None: `/`, and every status is good.
        host: The Host header.
        limit: Seconds for the connection, and for each wait for an answer.

    Raises:
        OSError: No connection, or no answer in time.
        WorkerError: Not an answer that is good.
    """
    status = _status(address, path or "/", host, limit)
    if status is None:
        raise WorkerError(None, f"what answers at {url} does not speak HTTP")
    if path is not None and not 200 <= status < 400:
        raise WorkerError(None, f"{url.rstrip('/')}{path} answers with status {status}")


def _status(address: tuple[str, int], path: str, host: str, limit: float) -> int | None:
    # By hand: Python's HTTP client would cost the owner more to import than an answer takes.
    # No HEAD: gunicorn complains of applications that send a body all the same, as Django does with errors.
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: servermgr\r\n\r\n"
    with socket.create_connection(address, timeout=max(limit, 0.01)) as connection:
        if connection.getsockname() == connection.getpeername():
            # On a free port of the ephemeral range a connection can meet itself (TCP simultaneous open).
            raise WorkerError(None, f"nobody listens on port {address[1]}")
        connection.sendall(request.encode())
        with connection.makefile("rb") as stream:
            found = _STATUS_LINE.match(stream.readline(_LONGEST_LINE))
            _drain(stream)
    return int(found[1]) if found else None


def _drain(stream: BinaryIO) -> None:
    """Read the rest: if it were closed upon that, the server would log a broken pipe."""
    try:
        stream.read(_LONGEST_BODY)
    except OSError:  # the status has come; that the body is slow, or never ends, says nothing against it
        pass
