"""Ports for servers that are started with `port=0`: leased, so that no two runs draw the same one.

Where a server can take over a bound socket, the system's own port 0 is the better way: bind, and hand the socket to
`Manager.spawn(sockets=…)`. A server that can only be told a number gets a leased one::

    with ports.drawn(host, port) as lease:  # port 0: one that is free; else that very port
        command = ["my-server", "--port", str(lease.port)]
        self.spawn(command, address=(host, lease.port), removes=lease.removes)

A lease belongs to the process that drew it, by identity, and goes from it to the server: the guardian frees it when
the server's tree is gone, whoever has ended that. What neither frees (the owner was killed before he started
anything) the next sweep does. All programs of one user on one machine see each other's leases; against strangers
there are two more nets: the port must be one that nobody listens on, and it is outside the range from which the
system itself gives ports away (`platform.ephemeral`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import os
from typing import TYPE_CHECKING

from servermgr import _ports_claims
from servermgr._trying import bind_refusal
from servermgr.addresses import resolve
from servermgr.errors import WorkerError
from servermgr.platform import ephemeral

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from servermgr.addresses import Address

__all__ = ["Lease", "drawn", "lease"]

#: Below it are the ports that well-known servers are registered for, and that people choose by themselves.
_FIRST = 10_000
_UNPRIVILEGED = 1024
#: With less room than this, two draws in a row meet too often.
_ROOM = 1_000
#: What a bind says of an address that this machine does not have (`localhost` by IPv6, where that is switched off).
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_log = logging.getLogger("servermgr")


class Lease:
    """A port that nobody else of this user draws as long as it is held.

    As a context manager it is released at the end of the block. In a fork of the process that drew it, it stays the
    parent's: the fork draws its own.

    Attributes:
        port: The port.
        path: The file that holds it. Whoever removes that file frees the port; once another has drawn the port, this
            file is not that one's. Where no lease can be written (which is said once) it is a file that does not
            exist; empty for a port that was not drawn.
    """

    __slots__ = ("_owner", "path", "port")

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path
        self._owner = os.getpid()

    @property
    def removes(self) -> tuple[str, ...]:
        """What to hand to `Manager.spawn(removes=…)`, so that the guardian frees the port with the tree."""
        # The folder, too, which goes only while it is empty: else each port that was ever drawn would leave one.
        return (self.path, os.path.dirname(self.path)) if self.path else ()

    def release(self) -> None:
        """Free the port. Again, or when the guardian has freed it: nothing happens."""
        if self.path and self._owner == os.getpid():
            _ports_claims.free(self.path)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.Lease of port {self.port}>"


def lease(host: str = "127.0.0.1") -> Lease:
    """Draw a port on which nobody listens at `host`, and that nobody else draws until the lease is released.

    Args:
        host: Where the server will listen: an address or a name of this machine; an empty text or `::` is every
            address, `0.0.0.0` every one by IPv4.

    Raises:
        WorkerError: `host` cannot be resolved or is no address of this machine, or no port is free.
        ValueError: `host` is not text.
    """
    addresses = resolve("" if host == "::" else host, _FIRST)  # a server on `::` takes IPv4 as well, unless told not to
    candidates = _candidates(ephemeral.kept_ports())
    with _ports_claims.Claimant() as claimant:
        for port in _shuffled(candidates):
            # Taken first, then tried: no two of us try one port at a time, and take each other for a stranger.
            path = claimant.take(port)
            if path is not None and _can_bind(host, addresses, port):
                claimant.keep()
                return Lease(port, path)
    raise WorkerError(None, f"no port is free at {host or '*'}: all {len(candidates)} are leased or in use", host=host)


@contextlib.contextmanager
def drawn(host: str, port: int) -> Iterator[Lease]:
    """The port to start a server on, while it is started.

    Args:
        host: As for `lease`.
        port: 0 for a leased one, which is released if the block fails; any other is taken as it is.
    """
    if port:
        yield Lease(port, "")
        return
    found = lease(host)
    try:
        yield found
    except BaseException:
        found.release()
        raise


def _can_bind(host: str, addresses: Sequence[Address], port: int) -> bool:
    refusals = [bind_refusal(address, port, shared=False) for address in addresses]
    if all(refusal in _NOT_HERE for refusal in refusals):
        raise WorkerError(
            None, f"{host!r} is no address of this machine, so that no server can listen there", host=host
        )
    for refusal in refusals:
        if refusal not in (None, errno.EADDRINUSE, errno.EACCES, *_NOT_HERE):
            cause = OSError(refusal, os.strerror(refusal or 0))
            raise WorkerError(cause, f"no port can be tried at {host or '*'}", host=host)
    return not any(refusal in (errno.EADDRINUSE, errno.EACCES) for refusal in refusals)


@functools.lru_cache(maxsize=1)
def _candidates(kept: tuple[range, ...]) -> Sequence[int]:
    for first in (_FIRST, _UNPRIVILEGED):
        outside = _outside(kept, first)
        if len(outside) >= _ROOM:
            return outside
    _log.warning(
        "this system gives away nearly every port by itself, so that a drawn one can be given to somebody else before "
        "the server listens: make the range smaller (sysctl net.ipv4.ip_local_port_range)"
    )
    return range(_FIRST, 65536)


def _outside(kept: Sequence[range], first: int) -> list[int]:
    outside: list[int] = []
    for span in sorted(kept, key=lambda span: span.start):
        outside += range(first, span.start)
        first = max(first, span.stop)
    return [*outside, *range(first, 65536)]


def _shuffled(numbers: Sequence[int]) -> Iterator[int]:
    """Each number once, from anywhere on in strides of any length: a shuffle without the work of one.

    Not by `random`: forks go on from one state, and programs that set the seed would all draw alike.
    """
    count = len(numbers)
    position, stride = _below(count), _below(count)
    while math.gcd(stride, count) != 1:
        stride = (stride + 1) % count
    for _ in range(count):
        yield numbers[position]
        position = (position + stride) % count


def _below(count: int) -> int:
    return int.from_bytes(os.urandom(8), "little") % count  # as `secrets` has it, which takes 7 ms to import
