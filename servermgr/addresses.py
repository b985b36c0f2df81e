"""Is a TCP address in use, and by whom?

"In use" means that there is a *listener* which would make a bind to the address fail (a bind as a server does it:
`SO_REUSEADDR` set, an IPv6 socket taking IPv6 only), or which would receive the connections made to it:

- `0.0.0.0` is every IPv4 address, `::` is every IPv6 address, an empty host is both. A listener on one address
  occupies the wildcard of its family, and a listener on the wildcard occupies every address.
- A listener on `::` occupies IPv4 as well, unless it refuses IPv4 (`IPV6_V6ONLY`).
- An IPv4-mapped address (`::ffff:127.0.0.1`) is the IPv4 address in it.
- A host name is in use if one of its addresses is.
- Neither a connection, nor `TIME_WAIT`, nor a socket that is bound and does not listen is a listener, although a bind
  can fail on them. A listener that shares its port (`SO_REUSEPORT`) is one.
- A listener on a wildcard occupies addresses which this machine does not have (yet) as well.

Three ways to know, tried in this order; each answers None where it cannot know:

`by_kernel`
    The kernel's list of listeners (Linux). Well below a millisecond, whatever else the machine does.
`by_psutil`
    psutil's connection listing: the reference, slow on busy machines. It does not tell whether a listener on `::`
    takes IPv4; where the answer hangs on that, `by_trying` settles it for the IPv4 address.
`by_trying`
    Bind, and connect only if that fails: for systems that refuse the listing (macOS without root). What it cannot
    see is written there.
"""

from __future__ import annotations

import socket

from servermgr._holders import Holder, endpoint, holder_of, listing_by_process, pid_of, psutil_listing
from servermgr._trying import WILDCARDS, Address, by_trying, unmapped
from servermgr.errors import AddressInUseError, WorkerError
from servermgr.platform import _sock_diag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from servermgr.platform._sock_diag import Listener

    #: True: in use. False: free. None: this way cannot know.
    Way = Callable[[Sequence[Address], int], bool | None]

__all__ = [
    "WAYS",
    "Address",
    "Holder",
    "address_free_check",
    "address_in_use",
    "by_kernel",
    "by_psutil",
    "by_trying",
    "endpoint",
    "holders",
    "listening_inodes",
    "reached_at",
    "resolve",
]


def by_kernel(addresses: Sequence[Address], port: int) -> bool | None:
    """Answer from the kernel's list of listeners. None where there is no such list."""
    listing = _sock_diag.listeners(port)
    return None if listing is None else bool(_occupying(listing, addresses, port))


def by_psutil(addresses: Sequence[Address], port: int) -> bool | None:
    """Answer from psutil's connection listing. None where the system refuses it to this user."""
    listing = psutil_listing(port)
    return None if listing is None else bool(_occupying(listing, addresses, port))


#: The ways to know, best first.
WAYS: tuple[Way, ...] = (by_kernel, by_psutil, by_trying)


def address_in_use(host: str, port: int, *, ways: Iterable[Way] = WAYS) -> bool:
    """Whether somebody listens on `host:port` (see the module's text for what exactly that means).

    Args:
        host: An IPv4 or IPv6 address, a host name (resolved, which may take as long as the resolver does), or an
            empty text for every address of this machine.
        port: 1 to 65535.
        ways: How to find out; the first one that knows decides.

    Raises:
        ValueError: `host` is not text, or `port` is no port number.
        WorkerError: `host` cannot be resolved; the cause is the resolver's own error, as a rule `socket.gaierror`.
    """
    addresses = resolve(host, port)
    for way in ways:
        answer = way(addresses, port)
        if answer is not None:
            return answer
    raise WorkerError(None, f"no way to tell whether {endpoint(host, port)} is in use", host=host, port=port)


def address_free_check(host: str, port: int) -> None:
    """Raise if somebody listens on `host:port`. Arguments and other errors as for `address_in_use`.

    Raises:
        AddressInUseError: It is in use; the text says by whom, `details` has `host`, `port` and `holders`.
    """
    if not address_in_use(host, port):
        return
    who = [str(holder) for holder in holders(host, port)]
    by = "; ".join(who) or "a process that is hidden from this user, or has just ended"
    text = f"{endpoint(host, port)} is in use by {by}: stop that, or choose another port"
    raise AddressInUseError(None, text, host=host, port=port, holders=who)


def holders(host: str, port: int) -> list[Holder]:
    """Who listens on `host:port`: one entry for each listening socket. Arguments and errors as for `address_in_use`.

    Processes of other users may be hidden from this one: their entry then has no pid, or (macOS) is missing, so
    an empty list does not prove that the address is free.
    """
    addresses = resolve(host, port)
    seen = psutil_listing(port)
    if seen is None:
        seen = listing_by_process(port)
    sockets = _sock_diag.listeners(port)
    if sockets is None:
        return [holder_of(listener) for listener in _occupying(seen, addresses, port)]
    for listener in sockets:
        listener.pid = pid_of(listener, seen)
    return [holder_of(listener) for listener in _occupying(sockets, addresses, port)]


def listening_inodes(host: str, port: int) -> set[int] | None:
    """Inodes of the sockets that listen on `host:port`. None where the system does not tell them.

    Arguments and errors as for `address_in_use`.
    """
    addresses = resolve(host, port)
    listing = _sock_diag.listeners(port)
    if listing is None:
        return None
    return {listener.inode for listener in _occupying(listing, addresses, port) if listener.inode is not None}


# What a host means


def resolve(host: str, port: int) -> list[Address]:
    """The addresses that a host stands for. Arguments and errors as for `address_in_use`."""
    _check(host, port)
    if not host:
        return [Address(text) for text in WILDCARDS]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as cause:  # ValueError: a label too long for DNS, a NUL
        text = f"host {host!r} cannot be resolved: correct the name, or write an IP address (without brackets)"
        raise WorkerError(cause, text, host=host, port=port) from cause
    return [_address(sockaddr) for family, *_, sockaddr in found if family in (socket.AF_INET, socket.AF_INET6)]


def _address(sockaddr: tuple[Any, ...]) -> Address:
    return Address(sockaddr[0].partition("%")[0], sockaddr[3] if len(sockaddr) == 4 else 0)


def _check(host: object, port: object) -> None:
    if not isinstance(host, str):
        raise ValueError(f"host must be text (an IP address, a host name, or '' for all), not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise ValueError(f"port must be a whole number from 1 to 65535, not {port!r}")
    if port == 0:
        raise ValueError("port 0 is never in use: it asks the system for any free port and is no address")
    if not 0 < port <= 65535:
        raise ValueError(f"port must be from 1 to 65535, not {port}")


# Which listener occupies which address


def _occupying(listing: Iterable[Listener], addresses: Sequence[Address], port: int) -> list[Listener]:
    return [listener for listener in listing if any(_occupies(listener, address, port) for address in addresses)]


def _occupies(listener: Listener, address: Address, port: int) -> bool:
    there, here = unmapped(listener.address), address.text
    if listener.device and address.scope and listener.device != address.scope:
        return False  # link-local addresses repeat on every interface
    if (":" in there) == (":" in here):
        return there == here or there in WILDCARDS or here in WILDCARDS
    if there != "::":
        return False
    if listener.v6only is None:  # the listing does not say whether it takes IPv4
        return by_trying([address], port)
    return not listener.v6only


def reached_at(host: str) -> str:
    """Where a server that listens on `host` is reached from this machine: a wildcard's answer is loopback's."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
