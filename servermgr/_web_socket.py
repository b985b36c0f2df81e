"""The socket that a web server takes over: bound by the owner, so that nobody can come in between."""

from __future__ import annotations

import errno
import socket

from servermgr.addresses import address_free_check, endpoint
from servermgr.errors import AddressInUseError, LaunchError

#: Connections that may wait to be accepted. The servers set their own when they take over.
_BACKLOG = 512
#: How often the system may give a port that somebody else has just begun to listen on.
_MOST_DRAWS = 10


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: An address, a name, or `""` for every address of this machine.
        port: 0 for one that the system chooses.

    Raises:
        AddressInUseError: Somebody else has the address.
        LaunchError: It is no address of this machine, or this user may not have it.
    """
    if port:
        address_free_check(host, port)
    for _ in range(1 if port else _MOST_DRAWS):
        try:
            return _bound(host, port)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                raise LaunchError(error, f"cannot listen on {endpoint(host, port)}") from error
    text = f"{endpoint(host, port)} is in use: another process has just taken it, or has it bound"
    raise AddressInUseError(failure, text, host=host, port=port, holders=[])


def _bound(host: str, port: int) -> socket.socket:
    family, address = socket.AF_INET, (host or "0.0.0.0", port)  # noqa: S104  # asked for
    if not host and socket.has_dualstack_ipv6():
        family, address = socket.AF_INET6, ("::", port)
    elif host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4][:2]  # type: ignore[assignment]
    listener = socket.create_server(
        address, family=family, backlog=_BACKLOG, dualstack_ipv6=not host and family == socket.AF_INET6
    )
    # Connections inherit it. A server that believes this to be a Unix socket (uvicorn) would not ask for it, and
    # answer in two packets, of which the second waits 40 ms for the first to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
