"""Is an address in use? Found out by trying: a bind and, only if that fails, a connection.

For systems that refuse the connection listing to an ordinary user, and for what a listing does not tell.
"""

from __future__ import annotations

import errno
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared with; bound only to see whether that fails
#: Seconds until a connection that is neither accepted nor refused counts as "somebody is there". Longer than the
#: two seconds for which Windows repeats a refused connection.
CONNECT_PATIENCE = 3.0


class Address:
    """One IP address that a host stands for.

    Attributes:
        text: The address, IPv4-mapped ones as IPv4; `0.0.0.0` or `::` for all.
        scope: Number of the network interface of a link-local address, else `0`.
    """

    __slots__ = ("scope", "text")

    def __init__(self, text: str, scope: int = 0) -> None:
        self.text = unmapped(text)
        self.scope = scope

    @property
    def family(self) -> socket.AddressFamily:
        """`AF_INET` or `AF_INET6`."""
        return socket.AF_INET6 if ":" in self.text else socket.AF_INET

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of its family."""
        return self.text in WILDCARDS


def unmapped(text: str) -> str:
    """An IPv4-mapped IPv6 address as the IPv4 address that it means; any other as it is."""
    tail = text.removeprefix("::ffff:")
    return tail if "." in tail else text


def by_trying(addresses: Sequence[Address], port: int) -> bool:
    """Answer by binding and, only if that fails, by connecting: the listener then sees one empty connection.

    What it cannot see: an address that is not of this machine counts as free. For a wildcard, a socket that blocks the
    port without listening (bound, a client's, TIME_WAIT of a server without `SO_REUSEADDR`) counts as a listener
    on Linux, and a listener on one address other than loopback is missed where the system would let both bind
    (macOS, BSD, Windows). A listener whose backlog is full for `CONNECT_PATIENCE` counts as one.
    """
    return any(_answers(address, port) for address in addresses)


def _answers(address: Address, port: int) -> bool:
    refusal = bind_refusal(address, port, shared=False)
    if refusal in (None, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return False  # nobody holds it; or it is not an address of this machine, and no other machine is asked
    accepted = _accepts(address, port)
    if accepted or not address.is_wildcard:
        return accepted
    # Loopback does not answer: what is left is a listener on some other address, TIME_WAIT, or a mere connection.
    return bind_refusal(address, port, shared=True) == errno.EADDRINUSE


def bind_refusal(address: Address, port: int, *, shared: bool) -> int | None:
    """The error number with which a bind fails, or None if it works.

    Where `shared`, `SO_REUSEADDR` is set, which ignores TIME_WAIT on POSIX. Else the bind is as strict as the
    system offers, so that success proves that nobody is there.
    """
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows: a plain bind may succeed beside a listener
    option = socket.SO_REUSEADDR if shared else exclusive
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as probe:
            if option is not None:
                probe.setsockopt(socket.SOL_SOCKET, option, 1)
            if address.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(_sockaddr(address.text, address, port))
    except OSError as refusal:
        return refusal.errno
    return None


def _accepts(address: Address, port: int) -> bool:
    """Whether a connection is not refused. Of a wildcard, loopback is asked."""
    text = address.text
    if address.is_wildcard:
        text = "::1" if address.family == socket.AF_INET6 else "127.0.0.1"
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_PATIENCE)
            probe.connect(_sockaddr(text, address, port))
            # A port of the ephemeral range may be given to the probe itself, which then meets itself.
            return bool(probe.getsockname() != probe.getpeername())
    except TimeoutError:
        return True  # neither accepted nor refused: a full backlog or a filter, and so no proof that it is free
    except OSError:
        return False


def _sockaddr(text: str, address: Address, port: int) -> tuple[Any, ...]:
    return (text, port, 0, address.scope) if address.family == socket.AF_INET6 else (text, port)
